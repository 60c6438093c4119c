package mitm

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/net/http/httpproxy"

	"larder/policy"
)

// parent is a proxy through which some hosts are reached. What comes from files
// is replaced when they are read again.
type parent struct {
	policy.Parent
	credential atomic.Pointer[credential]
	tls        atomic.Pointer[material] // of https
}

// String names the parent in messages, without its credentials.
func (p *parent) String() string { return p.Proxy.String() }

// forwards reports whether requests for http:// go to the parent as they are, in
// absolute form, and not through a tunnel: many parents let tunnels end at port
// 443 alone.
func (p *parent) forwards() bool { return p.Proxy.Scheme != "socks5" }

func (p *parent) read() (secrets, error) {
	var s secrets
	var err error
	if s.credential, err = readCredential(p.CredentialsFile); err != nil {
		return s, fmt.Errorf("credentials_file of parent %s: %w", p, err)
	}
	if s.credential != nil && s.credential.user == "" {
		return s, fmt.Errorf("credentials_file of parent %s: a parent takes basic USER:PASSWORD", p)
	}
	if p.Proxy.Scheme == "https" {
		m, err := readRoots(p.CAFile, p.CAFile == "", nil)
		if err != nil {
			return s, fmt.Errorf("ca_file of parent %s: %w", p, err)
		}
		s.tls = m
	}
	return s, nil
}

// tlsConfig is that of the connection to the parent itself, on which it speaks
// HTTP/1.1.
func (p *parent) tlsConfig() *tls.Config {
	return &tls.Config{
		ServerName:       p.Proxy.Hostname(),
		RootCAs:          p.tls.Load().roots,
		NextProtos:       []string{"http/1.1"},
		MinVersion:       tls.VersionTLS12,
		CipherSuites:     suites(),
		VerifyConnection: verifyConnection,
	}
}

// directMatcher returns what tells the targets of upstream.no_parent, and those on
// loopback, which a parent would look for on its own machine.
func directMatcher(entries []string) func(host string, port int) bool {
	const some = "http://parent.invalid"
	config := httpproxy.Config{HTTPProxy: some, NoProxy: strings.Join(entries, ",")}
	through := config.ProxyFunc()
	return func(host string, port int) bool {
		if strings.HasSuffix(host, ".localhost") { // RFC 6761, Section 6.3
			return true
		}
		u, err := through(&url.URL{Scheme: "http", Host: net.JoinHostPort(host, strconv.Itoa(port))})
		return err == nil && u == nil
	}
}

// absoluteForm is a target as a parent wants it (RFC 9112, Section 3.2.2), with
// the path as it was sent.
func absoluteForm(u *url.URL) *url.URL {
	exact := exactURL(u)
	switch {
	case u.Path == "*": // RFC 9112, Section 3.2.4: no path at all
		exact = new(*u)
		exact.Opaque = "//" + u.Host
	case exact.Opaque != "" && !strings.HasPrefix(exact.Opaque, "//"):
		exact = new(*u)
		exact.Opaque = "//" + u.Host + u.RawPath
	}
	return exact
}

// forwarded is a request as the parent gets it.
func (p *parent) forwarded(r *http.Request) *http.Request {
	out := new(*r)
	out.URL = absoluteForm(r.URL)
	out.Header = r.Header.Clone()
	delete(out.Header, "Proxy-Authorization") // a client's, which never gets here
	if c := p.credential.Load(); c != nil {
		out.Header["Proxy-Authorization"] = []string{c.field}
	}
	return out
}

// digest joins what tells one state of some files from another.
func digest(parts ...[]byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:", len(p))
		_, _ = h.Write(p) // a hash never fails
	}
	h.Sum(sum[:0])
	return sum
}
