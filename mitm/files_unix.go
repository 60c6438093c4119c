//go:build unix

package mitm

import "golang.org/x/sys/unix"

// openFiles is how many files the process may have open. The Go runtime has
// raised the soft limit to the hard one.
func openFiles() uint64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return uint64(l.Cur)
}
