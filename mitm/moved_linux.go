package mitm

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// kernelTimes: sinceMoved knows of every TCP connection.
const kernelTimes = true

// sinceMoved asks the kernel how long ago data last came or went on a TCP
// connection; other connections do not know.
func sinceMoved(c net.Conn) (time.Duration, bool) {
	t, ok := c.(syscall.Conn)
	if !ok {
		return 0, false
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return 0, false
	}
	var info *unix.TCPInfo
	var infoErr error
	err = raw.Control(func(fd uintptr) {
		info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if err != nil || infoErr != nil {
		return 0, false
	}
	return time.Duration(min(info.Last_data_sent, info.Last_data_recv)) * time.Millisecond, true
}
