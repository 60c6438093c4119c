package mitm

import (
	"context"
	"net"
	"net/netip"

	"larder/policy"
)

// Listen opens the socket of a listener in a mode. TPROXY's must be allowed to
// have connections to addresses of others (CAP_NET_ADMIN).
func Listen(ctx context.Context, address string, mode policy.ListenMode) (net.Listener, error) {
	var config net.ListenConfig
	if mode.Transparent() {
		// The kernel answers where a connection was going for TCP alone.
		config.SetMultipathTCP(false)
	}
	if mode == policy.ListenTProxy {
		config.Control = allowForeign
	}
	return config.Listen(ctx, "tcp", address)
}

// isHere reports whether a destination is this machine, and so larder itself as
// far as redirected connections go: whoever calls on the listener directly, or
// has larder's own connections redirected, would be served in circles.
func (u *Upstream) isHere(dst netip.AddrPort) bool {
	return u.isOwn(dst) || u.guard.local.contains(dst.Addr())
}

// resolvesTo reports whether addr is among the addresses that connections for a
// would be dialled at. What the client was told may be newer than what is
// remembered here, so a no is asked for twice.
func (u *Upstream) resolvesTo(ctx context.Context, a authority, addr netip.Addr) (bool, error) {
	target, _ := u.target(a.String())
	to, err := splitTarget(target)
	if err != nil {
		return false, err
	}
	if to.addr.IsValid() {
		return to.addr.Unmap() == addr, nil
	}
	for range 2 {
		addrs, err := u.resolver.lookup(ctx, to.host)
		if err != nil {
			return false, err
		}
		for _, found := range addrs {
			if found.Unmap().WithZone("") == addr {
				return true, nil
			}
		}
		u.resolver.forget(to.host)
	}
	return false, nil
}
