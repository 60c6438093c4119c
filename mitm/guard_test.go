package mitm

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
)

func TestGuard(t *testing.T) {
	g := newGuard([]netip.Prefix{
		netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd01::/16"), netip.MustParsePrefix("::ffff:172.20.0.0/112"),
	})
	for _, c := range []struct {
		addr string
		ok   bool
	}{
		{"1.1.1.1", true},
		{"203.0.113.80", true}, // TEST-NET-3
		{"192.0.2.1", true},
		{"2606:4700::1111", true},
		{"10.1.2.3", true},         // allowed
		{"::ffff:10.1.2.3", true},  // the same, mapped
		{"fd01::1", true},          // allowed
		{"172.20.5.5", true},       // allowed by a mapped prefix
		{"64:ff9b::8.8.8.8", true}, // NAT64 of a public one
		{"2002:808:808::1", true},  // 6to4 of a public one
		{"64:ff9b::10.1.0.1", true},

		{"0.0.0.0", false},
		{"0.1.2.3", false},
		{"10.0.0.1", false},
		{"10.255.255.255", false},
		{"100.64.0.1", false},
		{"100.100.100.200", false}, // metadata of Alibaba's cloud
		{"100.127.255.255", false},
		{"127.0.0.1", false},
		{"127.255.255.254", false},
		{"168.63.129.16", false},
		{"169.254.169.254", false},
		{"172.16.0.1", false},
		{"172.31.255.255", false},
		{"192.0.0.192", false},
		{"192.168.1.1", false},
		{"198.18.0.1", false},
		{"224.0.0.1", false},
		{"239.255.255.255", false},
		{"240.0.0.1", false},
		{"255.255.255.255", false},
		{"::", false},
		{"::1", false},
		{"fe80::1", false},
		{"fe80::1%eth0", false},
		{"fec0::1", false},
		{"fc00::1", false},
		{"fd00:ec2::254", false},
		{"ff02::1", false},
		{"100::1", false},
		{"::ffff:127.0.0.1", false},
		{"::ffff:169.254.169.254", false},
		{"::127.0.0.1", false},
		{"64:ff9b::10.0.0.1", false},
		{"64:ff9b::169.254.169.254", false},
		{"64:ff9b:1::1", false},
		{"2002:7f00:1::1", false},
		{"2002:a9fe:a9fe::1", false},
		{"2001:0:4136:e378:8000:63bf:3fff:fdd2", false}, // Teredo
		{"2606:4700::5efe:10.0.0.1", false},             // ISATAP
	} {
		err := g.check(netip.MustParseAddr(c.addr))
		if (err == nil) != c.ok {
			t.Errorf("%s: got %v, want allowed=%v", c.addr, err, c.ok)
		}
		if err != nil {
			if _, ok := errors.AsType[*AddressError](err); !ok {
				t.Errorf("%s: %T is not an AddressError", c.addr, err)
			}
		}
	}
}

func TestDialIsRefusedAfterResolution(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	u, err := NewUpstream(UpstreamOptions{
		ConnectTo: redirections(t, map[string]string{"alias.test:80": "localhost:" + port, "literal.test:80": l.Addr().String()}),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{l.Addr().String(), "localhost:" + port, "alias.test:80"} {
		c, err := u.DialContext(context.Background(), "tcp", name)
		if err == nil {
			_ = c.Close()
		}
		if _, ok := errors.AsType[*AddressError](err); !ok {
			t.Errorf("dial %s: got %v, want an AddressError", name, err)
		}
	}
	c, err := u.DialContext(context.Background(), "tcp", "literal.test:80")
	if err != nil {
		t.Fatalf("an address the operator wrote is dialled: %v", err)
	}
	_ = c.Close()
	u.Refuse(l.Addr())
	if _, err := u.DialContext(context.Background(), "tcp", "literal.test:80"); !errors.Is(err, ErrLoop) {
		t.Errorf("dial an own listener: got %v, want ErrLoop", err)
	}
	u.unrefuse(l.Addr())
	u.Refuse(&net.TCPAddr{IP: net.IPv6unspecified, Port: l.Addr().(*net.TCPAddr).Port})
	if _, err := u.DialContext(context.Background(), "tcp", "literal.test:80"); !errors.Is(err, ErrLoop) {
		t.Errorf("dial an own listener on every address: got %v, want ErrLoop", err)
	}
}
