//go:build !linux

package mitm

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

var errNoRedirect = errors.New("redirected connections are known to Linux only")

func originalDestination(net.Conn) (netip.AddrPort, error) { return netip.AddrPort{}, errNoRedirect }

func allowForeign(string, string, syscall.RawConn) error { return errNoRedirect }
