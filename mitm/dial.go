package mitm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// target is a host, as a name or an address, and a port.
type dialTarget struct {
	host string
	addr netip.Addr // valid if host is an address
	port uint16
}

func splitTarget(address string) (t dialTarget, err error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return t, fmt.Errorf("dial %s: %w", address, err)
	}
	port, err := parsePort(portText)
	if err != nil {
		return t, fmt.Errorf("dial %s: %w", address, err)
	}
	t = dialTarget{host: host, port: uint16(port)}
	if a, err := netip.ParseAddr(host); err == nil {
		t.addr = a
	}
	return t, nil
}

// at joins addresses with the port.
func (t dialTarget) at(addrs []netip.Addr) []netip.AddrPort {
	all := make([]netip.AddrPort, len(addrs))
	for i, a := range addrs {
		all[i] = netip.AddrPortFrom(a, t.port)
	}
	return all
}

// DialContext opens a connection to address ("host:port") for a tunnel, through a
// parent where policy says so. An address that must not be dialled gives an
// *AddressError.
func (u *Upstream) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	if u.offline.Load() {
		return nil, ErrOffline // before the name is looked up
	}
	if len(u.parents) == 0 {
		return u.dialDirect(ctx, address)
	}
	to, err := splitTarget(address)
	if err != nil {
		return nil, err
	}
	if p := u.parentOf(to.host, int(to.port)); p != nil {
		return u.dialThrough(ctx, p, address, func(c net.Conn) net.Conn { return c })
	}
	return u.dialDirect(ctx, address)
}

// dialDirect dials a target or what stands for it in ConnectTo.
func (u *Upstream) dialDirect(ctx context.Context, address string) (net.Conn, error) {
	target, literal := u.target(address)
	return u.dialAddress(ctx, target, literal)
}

// dialAddress looks a name up and dials its addresses, each of which is judged at
// that moment; named says that the operator wrote this one.
func (u *Upstream) dialAddress(ctx context.Context, address string, named bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, u.options.DialTimeout)
	defer cancel()
	to, err := splitTarget(address)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{ControlContext: func(_ context.Context, _, addr string, _ syscall.RawConn) error {
		return u.control(addr, named)
	}}
	dial := func(ctx context.Context, ap netip.AddrPort) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", ap.String())
	}
	if to.addr.IsValid() {
		return dial(ctx, netip.AddrPortFrom(to.addr, to.port))
	}
	addrs, err := u.resolver.lookup(ctx, to.host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	c, err := race(ctx, to.at(addrs), dial)
	if err != nil && !errors.Is(err, context.Canceled) {
		u.resolver.forget(to.host) // they may have changed
	}
	return c, err
}
