package ca

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// A hostName is a name that a leaf can carry: either an IP address or a DNS
// name in the form in which clients compare it.
type hostName struct {
	dns  string     // lower-case A-labels without trailing dot; "" for an address
	addr netip.Addr // unmapped, without zone; invalid for a DNS name
}

// String returns the one spelling by which the name is cached and put into a
// certificate.
func (n hostName) String() string {
	if n.addr.IsValid() {
		return n.addr.String()
	}
	return n.dns
}

// parseName brings a host, as found in a CONNECT request or in a server name
// indication, into its one spelling, or says why no certificate can carry it.
// cfssl checks nothing of a name and sorts strings by what they resemble (an
// e-mail address, a URI), so nothing may reach it that has not passed here.
func parseName(host string) (hostName, error) {
	refuse := func(reason string) (hostName, error) {
		return hostName{}, &NameError{Name: host, Reason: reason}
	}
	if host == "" {
		return refuse("it is empty")
	}
	if addr, ok, reason := parseAddr(host); reason != "" {
		return refuse(reason)
	} else if ok {
		return hostName{addr: addr}, nil
	}
	name := strings.TrimSuffix(host, ".")
	if len(name) > 4*maxName { // before spending time on the tables of idna
		return refuse("it is longer than 253 octets")
	}
	if !utf8.ValidString(name) {
		return refuse("it is not UTF-8")
	}
	name, err := toASCII(name)
	if err != nil {
		return refuse("it is no valid internationalised name (" + err.Error() + ")")
	}
	if reason := checkDNS(name); reason != "" {
		return refuse(reason)
	}
	return hostName{dns: name}, nil
}

// maxName is the longest DNS name in text without the trailing dot: 255 octets
// on the wire (RFC 1035, Section 2.3.4).
const maxName = 253

// parseAddr recognises an IP literal, in brackets or without. It returns a
// reason if the host can only be meant as an address but is none that a
// certificate can carry.
func parseAddr(host string) (addr netip.Addr, ok bool, reason string) {
	literal := host
	if inner, found := strings.CutPrefix(host, "["); found {
		if literal, found = strings.CutSuffix(inner, "]"); !found {
			return netip.Addr{}, false, "its bracket is not closed"
		}
	}
	addr, err := netip.ParseAddr(literal)
	switch {
	case err != nil && (literal != host || strings.Contains(host, ":")):
		return netip.Addr{}, false, "it is neither a host name nor an IP address (a port does not belong here)"
	case err != nil:
		return netip.Addr{}, false, ""
	case literal != host && !addr.Is6():
		return netip.Addr{}, false, "brackets are for IPv6 addresses only"
	case addr.Zone() != "":
		return netip.Addr{}, false, "a certificate cannot carry the zone of an IPv6 address"
	}
	return addr.Unmap(), true, ""
}

// toASCII returns the name in lower-case A-labels. What is ASCII already is
// not held against the tables of IDNA: names with two hyphens in third place
// that are no A-labels exist, and clients compare them octet by octet.
func toASCII(name string) (string, error) {
	for i := range len(name) {
		if name[i] >= 0x80 {
			ascii, err := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false),
				idna.StrictDomainName(false), idna.CheckHyphens(false)).ToASCII(name)
			// MapForLookup maps the ideographic full stop and its like, so
			// that a trailing dot may appear only now.
			return strings.ToLower(strings.TrimSuffix(ascii, ".")), err
		}
	}
	name = strings.ToLower(name)
	if strings.Contains(name, "xn--") {
		if _, err := idna.Punycode.ToUnicode(name); err != nil {
			return "", err
		}
	}
	return name, nil
}

// checkDNS returns why the name is no host name, or "": letters, digits,
// hyphens inside a label (RFC 1123, Section 2.1), and the underscore, which no
// standard allows and some hosts have.
func checkDNS(name string) string {
	if len(name) > maxName {
		return "it is longer than 253 octets"
	}
	var last string
	for label := range strings.SplitSeq(name, ".") {
		if reason := checkLabel(label); reason != "" {
			return reason
		}
		last = label
	}
	// What ends in a number is an IPv4 address to many clients, which then
	// look for an address in the certificate ("127.1", "0x7f.1").
	if strings.Trim(last, "0123456789") == "" {
		return "its last label is a number, but it is no IP address"
	}
	if hex, ok := strings.CutPrefix(last, "0x"); ok && strings.Trim(hex, "0123456789abcdef") == "" {
		return "its last label is a number, but it is no IP address"
	}
	return ""
}

func checkLabel(label string) string {
	switch {
	case label == "":
		return "it has an empty label"
	case label == "*":
		return "certificates are made for single hosts, not for wildcards"
	case len(label) > 63:
		return "it has a label longer than 63 octets"
	case label[0] == '-' || label[len(label)-1] == '-':
		return "it has a label that begins or ends with a hyphen"
	}
	for i := range len(label) {
		switch c := label[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return "it has a character that no host name may contain"
		}
	}
	return ""
}
