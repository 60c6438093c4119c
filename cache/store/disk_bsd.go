//go:build darwin || freebsd

package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// freeSpace returns the bytes that an unprivileged process may still write on
// dir's file system; a file system mounted read-only has none.
func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if st.Flags&unix.MNT_RDONLY != 0 {
		return 0, nil
	}
	// Beyond what is left to root, FreeBSD counts below zero.
	return max(int64(st.Bavail), 0) * int64(st.Bsize), nil
}

// preallocate does nothing: neither APFS (F_PREALLOCATE extends a file and fills no
// hole) nor ZFS (posix_fallocate is EINVAL) reserves blocks inside a sparse file. On
// these systems the free-space reserve alone stands between a disk that others
// fill and a SIGBUS; see space.go.
func preallocate(*os.File, int64, int64) error { return nil }
