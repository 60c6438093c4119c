package mitm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// originalDestination asks the kernel's connection tracking where a connection
// was going before it was redirected (SO_ORIGINAL_DST, and its like for IPv6).
func originalDestination(c net.Conn) (dst netip.AddrPort, err error) {
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return dst, fmt.Errorf("ask where the connection was going: %w", err)
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return dst, errors.New("ask where the connection was going: not a socket")
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return dst, fmt.Errorf("ask where the connection was going: %w", err)
	}
	ask := originalIPv6
	if local.Addr().Unmap().Is4() {
		ask = originalIPv4
	}
	var askErr error
	err = raw.Control(func(fd uintptr) { dst, askErr = ask(int(fd)) })
	if err := errors.Join(err, askErr); err != nil {
		return dst, fmt.Errorf("ask where the connection was going, which only connections that nftables has redirected know: %w", err)
	}
	return dst, nil
}

// originalIPv4 has no function of its own in x/sys; this one is for an option
// whose value is longer than a sockaddr_in, of which it is given the bytes:
// family, port, address.
func originalIPv4(fd int) (netip.AddrPort, error) {
	v, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, unix.SO_ORIGINAL_DST)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b := v.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
}

// originalIPv6 borrows, for the sockaddr_in6 at its beginning, a value too. The
// option has the number of its IPv4 like (IP6T_SO_ORIGINAL_DST).
func originalIPv6(fd int) (netip.AddrPort, error) {
	v, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, unix.SO_ORIGINAL_DST)
	if err != nil {
		return netip.AddrPort{}, err
	}
	// The port is in network order whatever the machine's is.
	port := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, v.Addr.Port))
	return netip.AddrPortFrom(netip.AddrFrom16(v.Addr.Addr), port), nil
}

// allowForeign lets a socket have connections to addresses that are not this
// machine's (IP_TRANSPARENT).
func allowForeign(network, _ string, raw syscall.RawConn) error {
	var optErr error
	err := raw.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1)
		if optErr == nil && strings.HasSuffix(network, "6") {
			optErr = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
		}
	})
	if err == nil && optErr != nil {
		err = fmt.Errorf("set IP_TRANSPARENT: %w", optErr)
	}
	return err
}
