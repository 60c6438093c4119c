package mitm

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// authority is the host and port of one origin in the only form in which the
// rest of the package compares, looks up and dials it: a lower-case A-label
// without trailing dot or an IP literal without brackets, and a port that is
// always there.
type authority struct {
	Host string
	Port int
}

// String is host:port with brackets round IPv6, as CONNECT and dialling want it.
func (a authority) String() string { return net.JoinHostPort(a.Host, strconv.Itoa(a.Port)) }

// spelled reports whether s is the usual spelling of the authority in a URI of
// the given scheme. There may be others that mean the same.
func (a authority) spelled(s, scheme string) bool {
	return s == a.Host && a.Port == defaultPort(scheme) && strings.IndexByte(s, ':') < 0
}

// urlHost is the authority as part of a URI of the given scheme: the default
// port is left out (RFC 9110, Section 4.2.3).
func (a authority) urlHost(scheme string) string {
	if a.Port != defaultPort(scheme) {
		return a.String()
	}
	if strings.Contains(a.Host, ":") {
		return "[" + a.Host + "]"
	}
	return a.Host
}

func defaultPort(scheme string) int {
	if scheme == "https" {
		return 443
	}
	return 80
}

// parseAuthority reads `host:port`, `[v6]:port` and, where absent is not zero,
// a host alone. Anything that two readers could take for different targets is
// an error: user information, a path, a zone, empty or signed ports, addresses
// in octal, hexadecimal or with fewer than four parts.
func parseAuthority(s string, absent int) (authority, error) {
	host, port, err := splitAuthority(s)
	if err != nil {
		if strings.ContainsAny(s, credentialSigns) {
			return authority{}, fmt.Errorf("authority: %w", err)
		}
		return authority{}, fmt.Errorf("authority %.260q: %w", s, err)
	}
	a := authority{Port: absent}
	if port != "" {
		if a.Port, err = parsePort(port); err != nil {
			return authority{}, fmt.Errorf("authority %.260q: %w", s, err)
		}
	} else if absent == 0 {
		return authority{}, fmt.Errorf("authority %.260q: the port is missing", s)
	}
	if a.Host, err = normalHost(host); err != nil {
		return authority{}, fmt.Errorf("authority %.260q: %w", s, err)
	}
	return a, nil
}

// credentialSigns are what goes before or after user information, a path with a
// capability in it or a query. A string that holds one is never quoted.
const credentialSigns = "@/\\?#"

// withoutCredentials cuts what may be one off an authority, for logs.
func withoutCredentials(s string) string {
	if i := strings.IndexAny(s, "/\\?#"); i >= 0 {
		s = s[:i]
	}
	return s[strings.LastIndexByte(s, '@')+1:]
}

// splitAuthority keeps the brackets on an IPv6 host so that normalHost can
// tell `[::1]` from a name. A colon with nothing after it is refused: RFC 3986
// allows it, no client sends it, and readers differ.
func splitAuthority(s string) (host, port string, err error) {
	if strings.ContainsAny(s, credentialSigns+" \t\r\n") {
		return "", "", errors.New("only host:port is allowed")
	}
	end := strings.LastIndexByte(s, ']') + 1
	if !strings.HasPrefix(s, "[") && end > 0 {
		return "", "", errors.New("misplaced bracket")
	}
	colon := strings.IndexByte(s[end:], ':')
	if colon < 0 {
		if end > 0 && end != len(s) {
			return "", "", errors.New("only a port may follow the bracket")
		}
		return s, "", nil
	}
	colon += end
	if end > 0 && colon != end {
		return "", "", errors.New("only a port may follow the bracket")
	}
	if colon == len(s)-1 {
		return "", "", errors.New("the port is empty")
	}
	return s[:colon], s[colon+1:], nil
}

func parsePort(s string) (int, error) {
	if len(s) > 5 || strings.Trim(s, "0123456789") != "" {
		return 0, fmt.Errorf("port %.20q is not a number from 1 to 65535", s)
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 65535 {
		return 0, fmt.Errorf("port %.20q is not a number from 1 to 65535", s)
	}
	return n, nil
}

// normalHost brings a name to its lower-case A-label and an address to its
// canonical text.
func normalHost(h string) (string, error) {
	if inner, ok := strings.CutPrefix(h, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		if !ok || err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", errors.New("not an IPv6 address in brackets")
		}
		return addr.Unmap().String(), nil
	}
	if addr, err := netip.ParseAddr(h); err == nil && addr.Is4() {
		return addr.String(), nil
	}
	h = strings.TrimSuffix(h, ".")
	for i := range len(h) {
		if h[i] >= 0x80 {
			a, err := idna.Lookup.ToASCII(h)
			if err != nil {
				return "", fmt.Errorf("not an internationalised host name: %w", err)
			}
			h = a
			break
		}
	}
	h = strings.ToLower(h)
	return h, checkName(h)
}

// checkName accepts what the DNS of the real world holds (underscores too).
// A last label that is a number would be read as an IPv4 address by some
// resolvers ("0x7f.1", "2130706433") and as a name by others.
func checkName(h string) error {
	if h == "" || len(h) > 253 {
		return errors.New("a host name has 1 to 253 characters")
	}
	last := h
	for label := range strings.SplitSeq(h, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' {
			return errors.New("not a host name")
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return errors.New("not a host name")
			}
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" {
		return errors.New("an IPv4 address has four decimal parts")
	}
	if hex, ok := strings.CutPrefix(last, "0x"); ok && strings.Trim(hex, "0123456789abcdef") == "" {
		return errors.New("an IPv4 address has four decimal parts")
	}
	return nil
}
