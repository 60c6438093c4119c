package daemon

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// fileLock is an flock(2) on a file that is never removed.
type fileLock struct {
	f *os.File
}

// tryLock takes the lock on path and writes this process into the file. It
// returns nil and no error if somebody else has it.
func tryLock(path string) (*fileLock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, folderError(path, err)
		}
		switch err := flock(f); {
		case errors.Is(err, unix.EWOULDBLOCK):
			return nil, f.Close()
		case err != nil:
			f.Close()
			return nil, hinted("name a folder on a local disk with --state", "lock %s: %w", path, err)
		}
		l := &fileLock{f: f}
		if !l.current() {
			// Somebody removed the file between open and flock.
			l.release()
			continue
		}
		if err := l.sign(); err != nil {
			l.release()
			return nil, err
		}
		return l, nil
	}
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// sign writes who holds the lock, for people and for error messages. The name of
// the machine matters on a shared file system.
func (l *fileLock) sign() error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	if err := l.f.Truncate(0); err != nil {
		return fmt.Errorf("write lock %s: %w", l.f.Name(), err)
	}
	if _, err := l.f.WriteAt(fmt.Appendf(nil, "%d\n%s\n", os.Getpid(), host), 0); err != nil {
		return fmt.Errorf("write lock %s: %w", l.f.Name(), err)
	}
	return nil
}

// current tells whether the file of the lock is still the one at its path.
func (l *fileLock) current() bool {
	held, err := l.f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(l.f.Name())
	return err == nil && os.SameFile(held, there)
}

func (l *fileLock) release() {
	// The lock goes with the last descriptor, even if truncating failed.
	_ = l.f.Truncate(0)
	_ = l.f.Close()
}

// lockHolder says who wrote themselves into the lock file.
func lockHolder(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "an unknown process"
	}
	pid, rest, _ := strings.Cut(string(b), "\n")
	if pid == "" {
		return "an unknown process"
	}
	who := "pid " + pid
	host := strings.TrimSpace(rest)
	if here, err := os.Hostname(); err == nil && host != "" && host != here {
		who += " on " + host
	}
	return who
}
