package kit

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// A Target is how a node has reached the kit, and which proxy it is told to use.
// Host holds nothing but letters, digits, dots, hyphens and underscores, or is an IP
// address without a zone: it needs no quoting in a shell, in HTML or in JSON.
type Target struct {
	Scheme string // http, or https on a listener of mode tls-proxy
	Host   string // lower case; IPv6 without brackets
	Port   uint16
	// Proxy is the URL of the proxy for nodes: Settings.Proxy, else URL.
	Proxy string
}

// URL is scheme, host and port, always with the port: clients take different ones
// where it is missing.
func (t Target) URL() string {
	return t.Scheme + "://" + net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
}

// Target reads how a request has reached the kit. What it returns goes into scripts,
// so that everything in Host but a host and a port is an error.
func (k *Kit) Target(r *http.Request) (Target, error) {
	t := Target{Scheme: "http", Port: 80}
	if r.TLS != nil {
		t.Scheme, t.Port = "https", 443
	}
	var err error
	if t.Host, err = t.parse(r.Host); err != nil {
		return Target{}, &hostError{err}
	}
	t.Proxy = t.URL()
	if proxy := k.settings.Load().Proxy; proxy != "" {
		t.Proxy = proxy
	}
	return t, nil
}

// hostError is a Host field that is no host and port.
type hostError struct{ err error }

func (e *hostError) Error() string { return "the Host of the request: " + e.err.Error() }
func (e *hostError) Unwrap() error { return e.err }

// parse reads HOST or HOST:PORT, of which it keeps the port.
func (t *Target) parse(s string) (host string, err error) {
	host = s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host = s[:i]
		port, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil || port == 0 || s[i+1:] != strconv.FormatUint(port, 10) {
			return "", fmt.Errorf("port %.20q is no number from 1 to 65535", s[i+1:])
		}
		t.Port = uint16(port)
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		if !ok || err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", errors.New("not an IPv6 address in brackets")
		}
		return addr.Unmap().String(), nil
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is4() {
		return addr.String(), nil
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host, checkName(host)
}

func checkName(host string) error {
	if host == "" || len(host) > 253 {
		return errors.New("a host name has 1 to 253 characters")
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' {
			return errors.New("not a host name")
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return errors.New("not a host name")
			}
		}
	}
	return nil
}
