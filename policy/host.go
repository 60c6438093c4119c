package policy

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// HostPattern is a compiled host pattern of a policy file. It is immutable and
// safe for concurrent use.
//
//	files.example.org     this host
//	*.example.org         any host below, at any depth, not example.org itself
//	.example.org          example.org and any host below
//	art*.example.org      * inside a label stands for any run of characters without a dot
//	ftp.*.example.org     * as a whole label in the middle stands for exactly one label
//	{a,b}.example.org     a.example.org and b.example.org; braces nest
//	10.0.0.0/8, ::1       IP literals in such a network
//	*                     every host and address
//
// Letter case and a trailing dot mean nothing. Names outside of ASCII are
// matched by their A-labels (RFC 5890), so either form may be written.
type HostPattern struct {
	text     string
	globs    []hostGlob
	networks []netip.Prefix
}

// lead says what may stand before the labels that a glob spells out.
type lead uint8

const (
	leadNone   lead = iota // nothing
	leadLabels             // one or more labels: "*.x"
	leadAny                // nothing, or one or more labels: ".x"
)

// hostGlob is one alternative of a pattern, cut so that it can be found by
// suffix: labels with a * are in middle, those to the right of them in suffix.
type hostGlob struct {
	lead   lead
	middle []string // left to right; the last one, if any, holds a *
	suffix string   // without leading dot; "" when the rightmost label holds a *
}

// ParseHostPattern compiles a host pattern.
func ParseHostPattern(text string) (*HostPattern, error) {
	p, err := parseHostPattern(text)
	if err != nil {
		return nil, fmt.Errorf("parse host pattern: %w", err)
	}
	return p, nil
}

func parseHostPattern(text string) (*HostPattern, *valueError) {
	p := &HostPattern{text: text}
	if text == "" {
		return nil, badValue("", "host pattern is empty")
	}
	alternatives, err := expandBraces(text)
	if err != nil {
		return nil, err
	}
	for _, a := range alternatives {
		if network, ok, err := parseNetwork(a); err != nil {
			return nil, err
		} else if ok {
			p.networks = append(p.networks, network)
			continue
		}
		g, err := parseHostGlob(a)
		if err != nil {
			return nil, err
		}
		p.globs = append(p.globs, g)
	}
	return p, nil
}

// String returns the pattern as written.
func (p *HostPattern) String() string { return p.text }

// Match reports whether a host, name or IP literal, falls under the pattern.
func (p *HostPattern) Match(host string) bool {
	h := normalizeHost(host)
	if h.isIP {
		for _, n := range p.networks {
			if n.Contains(h.addr) {
				return true
			}
		}
	}
	for i := range p.globs {
		if p.globs[i].match(h) {
			return true
		}
	}
	return false
}

// everything reports whether the pattern is exactly "*".
func (p *HostPattern) everything() bool { return p.text == "*" }

// boundless reports whether an alternative names no domain at its right end,
// such as "*" or "registry.*".
func (p *HostPattern) boundless() bool {
	for _, g := range p.globs {
		if g.suffix == "" {
			return true
		}
	}
	return false
}

// parseNetwork reads an IP literal or a CIDR; ok is false for anything else.
func parseNetwork(s string) (network netip.Prefix, ok bool, err *valueError) {
	bare := s
	if strings.HasPrefix(bare, "[") && strings.HasSuffix(bare, "]") {
		bare = bare[1 : len(bare)-1]
	}
	if addr, err := netip.ParseAddr(bare); err == nil {
		if addr.Zone() != "" {
			return network, false, badValue("", "address %q has a zone, which policy cannot match", s)
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true, nil
	}
	if !strings.Contains(s, "/") {
		return network, false, nil
	}
	network, parseErr := netip.ParsePrefix(s)
	if parseErr != nil {
		hint := "write a network such as 10.0.0.0/8; paths belong into paths"
		if strings.Contains(s, "://") {
			hint = "write the host alone, without scheme and path"
		}
		return network, false, badValue(hint, "%q is neither a host nor a network", s)
	}
	if network.Masked() != network {
		return network, false, badValue(fmt.Sprintf("did you mean %q?", network.Masked()), "network %q has bits set behind its mask", s)
	}
	return network, true, nil
}

func parseHostGlob(s string) (hostGlob, *valueError) {
	var g hostGlob
	rest := strings.TrimSuffix(strings.ToLower(s), ".")
	switch {
	case s == "*":
		return hostGlob{lead: leadLabels}, nil
	case rest == "*":
		return g, badValue(`write "*" for every host`, "host pattern %q has an empty label", s)
	case strings.HasPrefix(rest, "*."):
		g.lead, rest = leadLabels, rest[2:]
	case strings.HasPrefix(rest, "."):
		g.lead, rest = leadAny, rest[1:]
	}
	labels := strings.Split(rest, ".")
	if looksLikeAddress(labels) {
		return g, badValue("write an address, or a network such as 10.0.0.0/8", "host pattern %q looks like an address but is none", s)
	}
	last := -1 // index of the rightmost label with a *
	for i, label := range labels {
		ascii, err := patternLabel(s, label)
		if err != nil {
			return g, err
		}
		labels[i] = ascii
		if strings.Contains(ascii, "*") {
			last = i
		}
	}
	g.middle = labels[:last+1]
	g.suffix = strings.Join(labels[last+1:], ".")
	if len(rest) > 253 {
		return g, badValue("", "host pattern %q is longer than a host name can be", s)
	}
	return g, nil
}

// looksLikeAddress reports whether all labels are numbers or *, one at least
// being a number: "10.0.*" can match no host, since addresses are matched as
// such. The last label of a host name is never a number (RFC 1123, section 2.1).
func looksLikeAddress(labels []string) bool {
	numbers := 0
	for i, label := range labels {
		number := strings.Trim(label, "0123456789") == "" && label != ""
		if number {
			numbers++
			if i == len(labels)-1 {
				return true
			}
		} else if label != "*" {
			return false
		}
	}
	return numbers > 0
}

// patternLabel checks one label of a pattern and returns its A-label.
func patternLabel(pattern, label string) (string, *valueError) {
	if label == "" {
		return "", badValue("", "host pattern %q has an empty label", pattern)
	}
	if strings.Contains(label, "**") {
		return "", badValue("a leading * already stands for any number of labels", "host pattern %q has a **", pattern)
	}
	if !isASCII(label) {
		if strings.Contains(label, "*") {
			return "", badValue("write the label in its xn-- form", "host pattern %q mixes * and characters outside of ASCII in one label", pattern)
		}
		ascii, err := idna.Lookup.ToASCII(label)
		if err != nil {
			return "", badValue("", "host pattern %q has a label that is not valid in a host name: %q", pattern, label)
		}
		label = ascii
	}
	for i := range len(label) {
		c := label[i]
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '*' {
			continue
		}
		hint := ""
		switch c {
		case ':':
			hint = "ports belong into ports"
		case '?', '[', ']':
			hint = "host patterns know * and {a,b} only"
		}
		return "", badValue(hint, "host pattern %q has a character that no host name has: %q", pattern, c)
	}
	if len(label) > 63 {
		return "", badValue("", "host pattern %q has a label longer than 63 characters", pattern)
	}
	return label, nil
}

// match reports whether the glob covers a normalised host.
func (g *hostGlob) match(h host) bool {
	if h.isIP {
		return g.suffix == "" && len(g.middle) == 0 // "*" alone
	}
	return g.matchName(h.name)
}

// matchName reports whether the glob covers a normalised name.
func (g *hostGlob) matchName(name string) bool {
	if name == "" {
		return false
	}
	head := name
	if g.suffix != "" {
		if !strings.HasSuffix(name, g.suffix) {
			return false
		}
		head = name[:len(name)-len(g.suffix)]
		if head == "" {
			return g.lead != leadLabels && len(g.middle) == 0
		}
		if head[len(head)-1] != '.' {
			return false
		}
		head = head[:len(head)-1]
	}
	for i := len(g.middle) - 1; i >= 0; i-- {
		if head == "" {
			return false
		}
		dot := strings.LastIndexByte(head, '.')
		if !matchLabel(g.middle[i], head[dot+1:]) {
			return false
		}
		head = head[:max(dot, 0)]
	}
	switch g.lead {
	case leadLabels:
		return head != ""
	case leadAny:
		return true
	default:
		return head == ""
	}
}

// matchLabel matches one label against a pattern in which * stands for any run
// of characters. It is linear in all but hostile patterns, and quadratic there.
func matchLabel(pattern, label string) bool {
	p, l := 0, 0
	star, mark := -1, 0
	for l < len(label) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, l
			p++
		case p < len(pattern) && pattern[p] == label[l]:
			p++
			l++
		case star >= 0:
			mark++
			p, l = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// host is a host as it is matched: an address, or a lower-case A-label name
// without trailing dot.
type host struct {
	name string
	addr netip.Addr
	isIP bool
}

// normalizeHost prepares a host of a request. What cannot be a host name comes
// back as it is, and matches at most "*".
func normalizeHost(s string) host {
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		s = s[1 : len(s)-1]
	}
	if maybeIP(s) {
		if addr, err := netip.ParseAddr(s); err == nil {
			return host{addr: addr.Unmap().WithZone(""), isIP: true}
		}
	}
	s = strings.TrimSuffix(s, ".")
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 0x80:
			if ascii, err := idna.Lookup.ToASCII(s); err == nil {
				return host{name: ascii}
			}
			return host{name: strings.ToLower(s)}
		case 'A' <= c && c <= 'Z':
			if isASCII(s) {
				return host{name: strings.ToLower(s)}
			}
		}
	}
	return host{name: s}
}

// maybeIP is a cheap test that spares host names the attempt to parse them.
func maybeIP(s string) bool {
	if s == "" {
		return false
	}
	last := s[len(s)-1]
	return '0' <= last && last <= '9' || strings.IndexByte(s, ':') >= 0
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
