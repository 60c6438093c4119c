package mitm

import (
	"errors"
	"fmt"
	"net/netip"
)

// AddressError is the refusal to dial an address that policy does not allow.
type AddressError struct {
	Addr netip.Addr
	Why  string // the kind of address: "private", "loopback", ...
}

// Error names the address, its kind and the setting that would allow it.
func (e *AddressError) Error() string {
	return fmt.Sprintf("refused to dial %s: %s address, not in upstream.allow_addresses", e.Addr, e.Why)
}

// refusedRange is one row of the table of what is never dialled.
type refusedRange struct {
	prefix string
	why    string
}

// refusedRanges follows the IANA special-purpose registries (RFC 6890). Ranges
// for documentation are left out: nothing answers there, and test beds use them.
func refusedRanges() []refusedRange {
	return []refusedRange{
		{"0.0.0.0/8", "unspecified"},
		{"10.0.0.0/8", "private"},
		{"100.64.0.0/10", "shared (carrier NAT)"},
		{"127.0.0.0/8", "loopback"},
		{"168.63.129.16/32", "metadata"}, // Azure's host agent, in a public range
		{"169.254.0.0/16", "link-local"}, // 169.254.169.254: metadata of most clouds
		{"172.16.0.0/12", "private"},
		{"192.0.0.0/24", "protocol-assignment"}, // 192.0.0.192: metadata of Oracle's cloud
		{"192.88.99.0/24", "6to4 relay"},        // RFC 7526
		{"192.168.0.0/16", "private"},
		{"198.18.0.0/15", "benchmarking"},
		{"224.0.0.0/4", "multicast"},
		{"240.0.0.0/4", "reserved or broadcast"},

		{"::/128", "unspecified"},
		{"::1/128", "loopback"},
		{"64:ff9b:1::/48", "local NAT64"},
		{"100::/64", "discard-only"},
		{"100:0:0:1::/64", "dummy"}, // RFC 9780
		{"2001::/32", "Teredo"},
		{"5f00::/16", "segment-routing"}, // RFC 9602
		{"fc00::/7", "private"},          // fd00:ec2::254: metadata
		{"fe80::/10", "link-local"},
		{"fec0::/10", "site-local"},
		{"ff00::/8", "multicast"},
	}
}

// guard decides whether an address may be dialled.
type guard struct {
	refused []guardRow
	allowed []netip.Prefix
	local   *localAddrs
}

type guardRow struct {
	prefix netip.Prefix
	why    string
}

func newGuard(allowed []netip.Prefix) *guard {
	g := &guard{local: newLocalAddrs()}
	for _, r := range refusedRanges() {
		g.refused = append(g.refused, guardRow{netip.MustParsePrefix(r.prefix), r.why})
	}
	for _, p := range allowed {
		// An IPv4-mapped prefix means the IPv4 one.
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		g.allowed = append(g.allowed, p.Masked())
	}
	return g
}

// check returns an *AddressError for an address that must not be dialled. An
// IPv6 address that carries an IPv4 one is judged by both.
func (g *guard) check(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	for _, p := range g.allowed {
		if p.Contains(a) {
			return nil
		}
	}
	for _, r := range g.refused {
		if r.prefix.Contains(a) {
			return &AddressError{Addr: a, Why: r.why}
		}
	}
	// Services of this machine that listen on a public address of its own, or on
	// all, often trust what comes from itself.
	if g.local.contains(a) {
		return &AddressError{Addr: a, Why: "this machine's own"}
	}
	if v4, how, ok := embedded(a); ok {
		if inner, refused := errors.AsType[*AddressError](g.check(v4)); refused {
			return &AddressError{Addr: a, Why: fmt.Sprintf("%s to %s, %s", how, v4, inner.Why)}
		}
	}
	return nil
}

// embedded finds the IPv4 address that an IPv6 address leads to.
func embedded(a netip.Addr) (v4 netip.Addr, how string, ok bool) {
	if !a.Is6() {
		return v4, "", false
	}
	b := a.As16()
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(b[i : i+4])) }
	switch {
	case b[0] == 0x20 && b[1] == 0x02:
		return at(2), "6to4", true // RFC 3056
	case [12]byte(b[:12]) == [12]byte{0, 0x64, 0xff, 0x9b}:
		return at(12), "NAT64", true // RFC 6052
	case [12]byte(b[:12]) == [12]byte{8: 0xff, 9: 0xff}:
		return at(12), "IPv4-translated", true // RFC 2765, Section 2.1
	case [12]byte(b[:12]) == [12]byte{}:
		return at(12), "IPv4-compatible", true // RFC 4291, Section 2.5.5.1
	case b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe:
		return at(12), "ISATAP", true // RFC 5214
	}
	return v4, "", false
}
