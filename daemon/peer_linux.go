package daemon

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerOf says which user and process are at the other end, as of its connect or
// listen (unix(7), SO_PEERCRED). pid is 0 for one that this process cannot see.
func peerOf(c *net.UnixConn) (uid, pid int, ok bool, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, false, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil {
		return 0, 0, false, err
	}
	if credErr != nil {
		return 0, 0, false, credErr
	}
	return int(cred.Uid), int(cred.Pid), true, nil
}
