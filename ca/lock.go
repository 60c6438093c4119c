package ca

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// errLockHeld is returned after waiting lockPatience in vain.
var errLockHeld = errors.New("waited 30 s for the lock")

// lockPatience is far longer than anybody holds the lock: for as long as it
// takes to sign a certificate and to write four files.
const lockPatience = 30 * time.Second

// lockFile waits for the exclusive use of a file in root, which it makes at
// need. The lock ends when the file is closed, or with the process. It is a
// file of its own, not the folder, since NFS locks only what is open for
// writing.
func lockFile(root *os.Root, name string) (*os.File, error) {
	file, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(5 * time.Millisecond) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return file, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			file.Close()
			return nil, os.NewSyscallError("flock", err)
		case time.Now().After(deadline):
			file.Close()
			return nil, errLockHeld
		}
	}
}
