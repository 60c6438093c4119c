//go:build !linux

package daemon

import "net"

// ownerOfPeer does not know: no other system tells it of a loopback connection
// without privileges. There every user of the machine can use a run's port, as
// the package's documentation says.
func ownerOfPeer(*net.TCPConn) (o owner, ok bool, err error) { return owner{}, false, nil }

func descends(uint64, int) bool { return false }
