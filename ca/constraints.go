package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/cloudflare/cfssl/config"
	"github.com/cloudflare/cfssl/signer"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// nameConstraintsOID is id-ce-nameConstraints (RFC 5280, Section 4.2.1.10).
const nameConstraintsOID = "2.5.29.30"

// constraints are the names that an intermediate may sign for.
type constraints struct {
	unbounded bool           // every name; the rest is empty
	dns       []string       // each stands for itself and all names below it; sorted, none below another
	ips       []netip.Prefix // masked, sorted, none inside another
}

// newConstraints normalises what an operator's policy permits. A nil dns means
// every name. Entries of dns may be written with a leading "." or "*."; those
// that are IP addresses or prefixes are taken as such.
func newConstraints(dns []string, ips []netip.Prefix) (constraints, error) {
	if dns == nil {
		return constraints{unbounded: true}, nil
	}
	var c constraints
	for _, entry := range dns {
		if prefix, ok := parsePrefix(entry); ok {
			c.ips = append(c.ips, prefix)
			continue
		}
		name, err := parseName(strings.TrimPrefix(strings.TrimPrefix(entry, "*"), "."))
		if err != nil {
			return constraints{}, fmt.Errorf("permit names below %q: %w", entry, err)
		}
		c.dns = append(c.dns, name.dns)
	}
	for _, prefix := range ips {
		if !prefix.IsValid() || prefix.Addr().Zone() != "" || prefix.Addr().Is4In6() {
			return constraints{}, fmt.Errorf("permit addresses in %v: not an IPv4 or IPv6 prefix", prefix)
		}
		c.ips = append(c.ips, prefix.Masked())
	}
	c.minimise()
	return c, nil
}

// and returns constraints that allow more names.
func (c constraints) and(dns []string) (constraints, error) {
	if c.unbounded || len(dns) == 0 {
		return c, nil
	}
	more, err := newConstraints(dns, c.ips)
	if err != nil {
		return constraints{}, err
	}
	more.dns = append(more.dns, c.dns...)
	more.minimise()
	return more, nil
}

func parsePrefix(s string) (netip.Prefix, bool) {
	if prefix, err := netip.ParsePrefix(s); err == nil && !prefix.Addr().Is4In6() {
		return prefix.Masked(), true
	}
	if addr, ok, _ := parseAddr(s); ok {
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	return netip.Prefix{}, false
}

// minimise sorts, and drops what another entry covers or nobody can have.
func (c *constraints) minimise() {
	c.dns = slices.DeleteFunc(c.dns, func(d string) bool { return d == nobodyDNS })
	c.ips = slices.DeleteFunc(c.ips, func(p netip.Prefix) bool { return slices.Contains(nobodyIPs(), p) })
	slices.Sort(c.dns)
	c.dns = slices.Compact(c.dns)
	all := slices.Clone(c.dns)
	c.dns = slices.DeleteFunc(c.dns, func(d string) bool {
		return slices.ContainsFunc(all, func(o string) bool { return o != d && isBelow(d, o) })
	})
	slices.SortFunc(c.ips, netip.Prefix.Compare)
	c.ips = slices.Compact(c.ips)
	prefixes := slices.Clone(c.ips)
	c.ips = slices.DeleteFunc(c.ips, func(p netip.Prefix) bool {
		return slices.ContainsFunc(prefixes, func(o netip.Prefix) bool { return o != p && contains(o, p) })
	})
}

// isBelow reports whether name is domain or a name below it.
func isBelow(name, domain string) bool {
	head, ok := strings.CutSuffix(name, domain)
	return ok && (head == "" || strings.HasSuffix(head, "."))
}

func contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// allows reports whether a leaf for the name passes verification.
func (c constraints) allows(n hostName) bool {
	switch {
	case c.unbounded:
		return true
	case n.addr.IsValid():
		return slices.ContainsFunc(c.ips, func(p netip.Prefix) bool { return p.Contains(n.addr) })
	}
	return slices.ContainsFunc(c.dns, func(d string) bool { return isBelow(n.dns, d) })
}

// covers reports whether everything that o allows is allowed by c.
func (c constraints) covers(o constraints) bool {
	if c.unbounded || o.unbounded {
		return c.unbounded
	}
	for _, d := range o.dns {
		if !c.allows(hostName{dns: d}) {
			return false
		}
	}
	for _, p := range o.ips {
		if !slices.ContainsFunc(c.ips, func(q netip.Prefix) bool { return contains(q, p) }) {
			return false
		}
	}
	return true
}

// A list of permitted names that is empty permits everything of its kind. So
// where nothing is to be permitted stands what nothing can have: a name that
// never exists (RFC 6761, Section 6.4), and the last address of each family.
const nobodyDNS = "invalid"

func nobodyIPs() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("255.255.255.255/32"),
		netip.MustParsePrefix("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"),
	}
}

// list returns the names and prefixes; nil if every name is permitted.
func (c constraints) list() []string {
	if c.unbounded {
		return nil
	}
	list := slices.Clone(c.dns)
	for _, p := range c.ips {
		list = append(list, p.String())
	}
	if list == nil {
		list = []string{}
	}
	return list
}

// extensions returns what the constraints ask of a certificate: nothing, or one
// critical extension, as cfssl takes it.
func (c constraints) extensions() ([]signer.Extension, error) {
	if c.unbounded {
		return nil, nil
	}
	der, err := c.encode()
	if err != nil {
		return nil, err
	}
	return []signer.Extension{{ID: config.OID(nameConstraints()), Critical: true, Value: hex.EncodeToString(der)}}, nil
}

func nameConstraints() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, 30} }

// encode returns the value of the extension (RFC 5280, Section 4.2.1.10).
func (c constraints) encode() ([]byte, error) {
	dns := c.dns
	if len(dns) == 0 {
		dns = []string{nobodyDNS}
	}
	ips, excluded := c.addresses()
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			addDNS(b, dns)
			addIPs(b, ips)
		})
		if len(excluded) > 0 {
			b.AddASN1(cbasn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				addIPs(b, excluded)
			})
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode name constraints: %w", err)
	}
	return der, nil
}

// addresses returns which addresses the extension permits and which it
// excludes. Without any permitted, all are excluded. With some, a family of
// which none is permitted is permitted for nobody: GnuTLS would otherwise take
// the whole of it for permitted, and to exclude it makes Java's verifier fail on
// addresses of the other family (it reads an IPv4 address beyond its end).
func (c constraints) addresses() (permitted, excluded []netip.Prefix) {
	if len(c.ips) == 0 {
		return nil, []netip.Prefix{
			netip.PrefixFrom(netip.IPv4Unspecified(), 0),
			netip.PrefixFrom(netip.IPv6Unspecified(), 0),
		}
	}
	permitted = slices.Clone(c.ips)
	for _, nobody := range nobodyIPs() {
		sameFamily := func(p netip.Prefix) bool { return p.Addr().BitLen() == nobody.Addr().BitLen() }
		if !slices.ContainsFunc(c.ips, sameFamily) {
			permitted = append(permitted, nobody)
		}
	}
	return permitted, nil
}

func addDNS(b *cryptobyte.Builder, names []string) {
	for _, name := range names {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.Tag(2).ContextSpecific(), func(b *cryptobyte.Builder) {
				b.AddBytes([]byte(name))
			})
		})
	}
}

// addIPs adds each prefix as address and mask, as RFC 4632 has it.
func addIPs(b *cryptobyte.Builder, prefixes []netip.Prefix) {
	for _, p := range prefixes {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.Tag(7).ContextSpecific(), func(b *cryptobyte.Builder) {
				b.AddBytes(p.Addr().AsSlice())
				b.AddBytes(mask(p))
			})
		})
	}
}

func mask(p netip.Prefix) []byte {
	ones := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		ones[i/8] |= 0x80 >> (i % 8)
	}
	return ones
}

// constraintsOf reads back what an intermediate may sign for.
func constraintsOf(cert *x509.Certificate) constraints {
	if len(cert.PermittedDNSDomains) == 0 {
		return constraints{unbounded: true}
	}
	c := constraints{dns: slices.Clone(cert.PermittedDNSDomains)}
	for _, n := range cert.PermittedIPRanges {
		addr, ok := netip.AddrFromSlice(n.IP)
		if ones, _ := n.Mask.Size(); ok {
			c.ips = append(c.ips, netip.PrefixFrom(addr.Unmap(), ones))
		}
	}
	c.minimise()
	return c
}

var errConstraints = errors.New("name constraints of another form than larder asks for: permitted names and prefixes")

// decodeConstraints reads the value of an extension that encode has written, as
// it stands in a request for a certificate. Nothing is guessed: any other form
// is an error.
func decodeConstraints(der []byte) (constraints, error) {
	var c constraints
	input := cryptobyte.String(der)
	var sequence, permitted cryptobyte.String
	if !input.ReadASN1(&sequence, cbasn1.SEQUENCE) || !input.Empty() ||
		!sequence.ReadASN1(&permitted, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return c, errConstraints
	}
	for !permitted.Empty() {
		if err := c.readSubtree(&permitted); err != nil {
			return constraints{}, err
		}
	}
	c.minimise()
	// What it excludes follows from what it permits.
	if again, err := c.encode(); err != nil || !bytes.Equal(again, der) {
		return constraints{}, errConstraints
	}
	return c, nil
}

func (c *constraints) readSubtree(subtrees *cryptobyte.String) error {
	var subtree, value cryptobyte.String
	var tag cbasn1.Tag
	if !subtrees.ReadASN1(&subtree, cbasn1.SEQUENCE) || !subtree.ReadAnyASN1(&value, &tag) || !subtree.Empty() {
		return errConstraints
	}
	switch tag {
	case cbasn1.Tag(2).ContextSpecific():
		name, err := parseName(string(value))
		if err != nil || name.dns == "" {
			return errConstraints
		}
		c.dns = append(c.dns, name.dns)
		return nil
	case cbasn1.Tag(7).ContextSpecific():
		addr, ok := netip.AddrFromSlice(value[:len(value)/2])
		ones, bits := net.IPMask(value[len(value)/2:]).Size()
		if !ok || bits != addr.BitLen() || addr.Is4In6() {
			return errConstraints
		}
		c.ips = append(c.ips, netip.PrefixFrom(addr, ones).Masked())
		return nil
	}
	return errConstraints
}
