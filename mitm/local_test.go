package mitm

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestThisMachinesAddressesAreRefused(t *testing.T) {
	g := newGuard([]netip.Prefix{netip.MustParsePrefix("203.0.113.8/32")})
	g.local.list = func() ([]net.Addr, error) {
		var list []net.Addr
		for _, s := range []string{"203.0.113.7/24", "203.0.113.8/24", "2606:4700::7/64"} {
			ip, network, err := net.ParseCIDR(s)
			if err != nil {
				return nil, err
			}
			list = append(list, &net.IPNet{IP: ip, Mask: network.Mask})
		}
		return list, nil
	}
	for addr, ok := range map[string]bool{
		"203.0.113.7": false, "::ffff:203.0.113.7": false, "2606:4700::7": false,
		"64:ff9b::203.0.113.7": false, "2002:cb00:7107::1": false,
		"203.0.113.8": true, // allowed
		"203.0.113.9": true, "2606:4700::8": true, "1.1.1.1": true,
	} {
		err := g.check(netip.MustParseAddr(addr))
		if (err == nil) != ok {
			t.Errorf("%s: got %v, want allowed=%v", addr, err, ok)
		}
		if e, is := errors.AsType[*AddressError](err); err != nil && (!is || !strings.HasSuffix(e.Why, "this machine's own")) {
			t.Errorf("%s: got %v", addr, err)
		}
	}
}

func TestLocalAddressesAreListedEverySoOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listed := 0
		l := newLocalAddrs()
		l.list = func() ([]net.Addr, error) {
			listed++
			return []net.Addr{&net.IPNet{IP: net.IPv4(203, 0, 113, byte(listed)), Mask: net.CIDRMask(24, 32)}}, nil
		}
		first, second := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
		if !l.contains(first) || l.contains(second) || listed != 1 {
			t.Errorf("listed %d times, %v", listed, l.known)
		}
		time.Sleep(localFor)
		if l.contains(first) || !l.contains(second) || listed != 2 {
			t.Errorf("listed %d times, %v", listed, l.known)
		}
	})
}

// TestLocalAddressesWithoutAList is what a sandbox without netlink leaves.
func TestLocalAddressesWithoutAList(t *testing.T) {
	l := newLocalAddrs()
	l.list = func() ([]net.Addr, error) { return nil, errors.New("no netlink") }
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().IsLinkLocalUnicast() { // cannot be bound without its zone, and is refused anyway
			continue
		}
		if !l.contains(p.Addr()) {
			t.Errorf("%s is not taken for local", p.Addr())
		}
	}
	if l.contains(netip.MustParseAddr("192.0.2.1")) {
		t.Error("192.0.2.1 is taken for local")
	}
}
