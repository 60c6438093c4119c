package mitm

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// localFor is how long the list of this machine's addresses holds: listing them
// costs tens of microseconds, and addresses change rarely.
const localFor = 5 * time.Second

// localAddrs knows this machine's addresses. It is safe for concurrent use.
type localAddrs struct {
	list func() ([]net.Addr, error)
	bind func(netip.Addr) bool

	mu     sync.Mutex // guards the rest
	until  time.Time
	known  map[netip.Addr]struct{}
	listed bool
}

func newLocalAddrs() *localAddrs {
	return &localAddrs{list: net.InterfaceAddrs, bind: canBind}
}

// contains reports whether an address is one of this machine's.
func (l *localAddrs) contains(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	known, listed := l.addresses()
	if !listed {
		return l.bind(a)
	}
	_, ok := known[a]
	return ok
}

// addresses returns a map that nobody changes.
func (l *localAddrs) addresses() (known map[netip.Addr]struct{}, listed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Before(l.until) {
		return l.known, l.listed
	}
	l.until = now.Add(localFor)
	addrs, err := l.list()
	l.known, l.listed = make(map[netip.Addr]struct{}, len(addrs)), err == nil
	for _, i := range addrs {
		if p, err := netip.ParsePrefix(i.String()); err == nil {
			l.known[p.Addr().Unmap().WithZone("")] = struct{}{}
		}
	}
	return l.known, l.listed
}

// canBind asks the kernel by way of a socket that sends nothing. It serves where
// a sandbox allows no netlink (systemd's RestrictAddressFamilies). It comes
// second because net.ipv4.ip_nonlocal_bind makes it true of every address.
func canBind(a netip.Addr) bool {
	var config net.ListenConfig
	c, err := config.ListenPacket(context.Background(), "udp", netip.AddrPortFrom(a, 0).String())
	if err != nil {
		return false
	}
	_ = c.Close() // nothing was sent
	return true
}
