package mitm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"larder/policy"
)

// enter serves one more listener of the world's proxy and returns its address.
func (w *world) enter(e Entrance) string {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := w.server.ServeEntrance(l, e, w.note); err != nil {
			w.t.Errorf("ServeEntrance: %v", err)
		}
	})
	w.t.Cleanup(func() {
		_ = l.Close()
		_ = w.server.Shutdown(w.t.Context()) // which has ended: it cuts
		serving.Wait()
	})
	return l.Addr().String()
}

// dialAt opens a connection to an entrance.
func dialAt(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

// proxyHeader formats a PROXY protocol header.
func proxyHeader(t testing.TB, version byte, command proxyproto.ProtocolVersionAndCommand, source string) string {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source)), net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source)))
	h.Command = command
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestProxyProtocol has balancers on loopback or elsewhere, and holds what
// becomes of a request behind each beginning.
func TestProxyProtocol(t *testing.T) {
	const v1 = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 3128\r\n"
	own := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	others := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for _, c := range []struct {
		name      string
		balancers []netip.Prefix
		begin     string
		client    string // "": refused; "own": the connection's own address
	}{
		{"version 1", own, v1, "192.0.2.7:4711"},
		{"version 1, IPv6", own, "PROXY TCP6 2001:db8::7 2001:db8::1 4711 3128\r\n", "[2001:db8::7]:4711"},
		{"version 1 of the balancer itself", own, "PROXY UNKNOWN\r\n", "own"},
		{"version 2", own, proxyHeader(t, 2, proxyproto.PROXY, "192.0.2.7:4711"), "192.0.2.7:4711"},
		{"version 2, IPv6", own, proxyHeader(t, 2, proxyproto.PROXY, "[2001:db8::7]:4711"), "[2001:db8::7]:4711"},
		{"version 2 of the balancer itself", own, proxyHeader(t, 2, proxyproto.LOCAL, "192.0.2.7:4711"), "own"},
		{"a balancer without header", own, "", ""},
		{"a header that names an octal address", own, "PROXY TCP4 0300.0.2.7 192.0.2.1 4711 3128\r\n", ""},
		{"a header with a port too large", own, "PROXY TCP4 192.0.2.7 192.0.2.1 65536 3128\r\n", ""},
		{"a header without its end", own, "PROXY TCP4 192.0.2.7 192.0.2.1 4711 3128 " + strings.Repeat("1", 100) + "\r\n", ""},
		{"a header of an unknown version", own, "\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x01\x12\x67\x0c\x38", ""},
		{"two headers", own, v1 + v1, ""},
		{"somebody else without header", others, "", "own"},
		{"somebody else with version 1", others, v1, ""},
		{"somebody else with version 2", others, proxyHeader(t, 2, proxyproto.PROXY, "192.0.2.7:4711"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			origin := plainOrigin(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
			w := newWorld(t, passEverything, map[string]string{"a.test:80": origin}, nil)
			conn := dialAt(t, w.enter(Entrance{Balancers: c.balancers}))
			fmt.Fprint(conn, c.begin, "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
			answer, _ := io.ReadAll(conn) // a refused client may see a reset
			if served := bytes.HasSuffix(answer, []byte("hello")); served != (c.client != "") {
				t.Fatalf("answered %q", answer)
			}
			if c.client == "" {
				return
			}
			want := c.client
			if want == "own" {
				want = conn.LocalAddr().String()
			}
			if x := w.exchange(); x.Client != want {
				t.Errorf("client is %s, want %s", x.Client, want)
			}
		})
	}
}

// TestConnectionsOfABalancerAreItsClients: each client has its own share, and all of
// them together may have more.
func TestConnectionsOfABalancerAreItsClients(t *testing.T) {
	origin := plainOrigin(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	w := newWorld(t, passEverything, map[string]string{"a.test:80": origin}, nil)
	w.server.clients.most, w.server.clients.loopback = 2, true
	addr := w.enter(Entrance{Balancers: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	ask := func(client string) bool {
		t.Helper()
		conn := dialAt(t, addr)
		fmt.Fprintf(conn, "PROXY TCP4 %s 192.0.2.1 4711 3128\r\nGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", client)
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return false
		}
		body, err := io.ReadAll(res.Body) // the connection stays open
		return err == nil && string(body) == "hello"
	}
	for _, test := range []struct {
		client string
		served bool
	}{
		{"192.0.2.7", true}, {"192.0.2.8", true}, {"192.0.2.7", true}, {"192.0.2.7", false}, {"192.0.2.8", true}, {"192.0.2.9", true},
	} {
		if got := ask(test.client); got != test.served {
			t.Errorf("%s: served %v, want %v", test.client, got, test.served)
		}
	}
}

// throughTLS is a client of a proxy over TLS.
func throughTLS(w *world, addr, name string, certificates ...tls.Certificate) *http.Client {
	roots := w.larder.Clone()
	if w.roots != nil {
		roots.AddCert(w.roots.cert)
	}
	tr := &http.Transport{
		Proxy: http.ProxyURL(&url.URL{Scheme: "https", Host: addr}),
		// Used for the proxy and for what is behind it alike, which checks the name
		// that each shows.
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certificates},
	}
	if name != "" {
		_, port, _ := net.SplitHostPort(addr)
		tr.Proxy = http.ProxyURL(&url.URL{Scheme: "https", Host: net.JoinHostPort(name, port)})
		tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func (w *world) proxyTLS(o ProxyTLSOptions) *tls.Config {
	w.t.Helper()
	o.Certificates = w.server.options.Certificates
	config, err := NewProxyTLS(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return config
}

func TestProxyOverTLS(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	say := func(what string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, what) }
	}
	w := newWorld(t, `
presets: none
rules:
  - { name: opened, hosts: [opened.test], action: pass }
`, map[string]string{
		"opened.test:443": tlsOrigin(t, roots, true, say("opened"), "opened.test"),
		"closed.test:443": tlsOrigin(t, roots, false, say("closed"), "closed.test"),
		"plain.test:80":   plainOrigin(t, say("plain")),
	}, roots)
	addr := w.enter(Entrance{Mode: policy.ListenTLSProxy, TLS: w.proxyTLS(ProxyTLSOptions{Names: []string{"larder.test", "127.0.0.1"}})})
	for _, c := range []struct{ proxy, target, want, class string }{
		{"larder.test", "https://opened.test/", "opened", ClassPass},
		{"", "https://opened.test/", "opened", ClassPass},
		{"larder.test", "https://closed.test/", "closed", ClassTunnel},
		{"larder.test", "http://plain.test/", "plain", ClassPass},
	} {
		client := throughTLS(w, addr, c.proxy)
		if _, body := get(t, client, c.target); body != c.want {
			t.Errorf("by way of %q: %s says %q", c.proxy, c.target, body)
		}
		client.CloseIdleConnections()
		if x := w.exchange(); x.Class != c.class {
			t.Errorf("%s: %+v, want %s", c.target, x, c.class)
		}
	}
}

// TestProxyOverTLSBreaksOff wants a tunnel that broke off to be told from one
// that ended: a close inside of TLS would say that this was all.
func TestProxyOverTLSBreaksOff(t *testing.T) {
	origin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	for _, c := range []struct {
		name  string
		end   func(*net.TCPConn) error
		clean bool
	}{
		{"ended", func(c *net.TCPConn) error { return c.Close() }, true},
		{"reset", func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "presets: none", map[string]string{"a.test:443": origin.Addr().String()}, nil)
			addr := w.enter(Entrance{Mode: policy.ListenTLSProxy, TLS: w.proxyTLS(ProxyTLSOptions{Names: []string{"larder.test"}})})
			conn := tls.Client(dialAt(t, addr), &tls.Config{RootCAs: w.larder, ServerName: "larder.test"})
			w.connect(conn, "a.test:443", 200)
			far, err := origin.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := far.Write([]byte("part")); err != nil {
				t.Fatal(err)
			}
			part := make([]byte, 4)
			if _, err := io.ReadFull(conn, part); err != nil {
				t.Fatal(err)
			}
			if err := c.end(far.(*net.TCPConn)); err != nil {
				t.Fatal(err)
			}
			_, err = conn.Read(part)
			if clean := err == io.EOF; clean != c.clean {
				t.Errorf("the client sees %v", err)
			}
		})
	}
}

func TestProxyOverTLSWantsClientCertificate(t *testing.T) {
	clients := newAuthorityKey(t, "clients")
	file := filepath.Join(t.TempDir(), "clients.pem")
	writePEM(t, file, clients.cert.Raw)
	forClients := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
	own := clients.leaf(t, forClients, "runner-7.test")
	foreign := newAuthorityKey(t, "somebody else").leaf(t, forClients, "runner-7.test")
	late := clients.leaf(t, func(c *x509.Certificate) {
		forClients(c)
		c.NotAfter = time.Now().Add(-time.Minute)
	}, "runner-7.test")

	w := newWorld(t, passEverything, map[string]string{"a.test:80": plainOrigin(t, func(http.ResponseWriter, *http.Request) {})}, nil)
	seen := make(chan string, 1)
	w.server.options.Origin = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		name := ""
		if cert := connOf(r.Context()).clientCertificate(); cert != nil {
			name = cert.DNSNames[0]
		}
		seen <- name
	})
	addr := w.enter(Entrance{Mode: policy.ListenTLSProxy, TLS: w.proxyTLS(ProxyTLSOptions{Names: []string{"127.0.0.1"}, ClientCAFile: file})})
	for _, c := range []struct {
		name  string
		chain []tls.Certificate
		good  bool
	}{
		{"none", nil, false},
		{"of another authority", []tls.Certificate{foreign}, false},
		{"expired", []tls.Certificate{late}, false},
		{"good", []tls.Certificate{own}, true},
	} {
		conn := tls.Client(dialAt(t, addr), &tls.Config{RootCAs: w.larder, ServerName: "127.0.0.1", GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(c.chain) == 0 {
				return &tls.Certificate{}, nil
			}
			return &c.chain[0], nil
		}})
		io.WriteString(conn, "GET /who HTTP/1.1\r\nHost: larder\r\nConnection: close\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if good := err == nil && res.StatusCode == 200; good != c.good {
			t.Fatalf("certificate %s: %v", c.name, err)
		}
	}
	if got := <-seen; got != "runner-7.test" {
		t.Errorf("the connection's certificate is of %q", got)
	}
}

func writePEM(t testing.TB, file string, ders ...[]byte) {
	t.Helper()
	var b []byte
	for _, der := range ders {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestProxyCertificateFilesAreReadAnew(t *testing.T) {
	authority := newAuthorityKey(t, "corp")
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(age time.Duration, name string) {
		t.Helper()
		leaf := authority.leaf(t, nil, name)
		writePEM(t, cert, leaf.Certificate...)
		der, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		for _, f := range []string{cert, key} {
			if err := os.Chtimes(f, when, when); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(3*time.Hour, "old.test")
	config, err := NewProxyTLS(ProxyTLSOptions{CertFile: cert, KeyFile: key})
	if err != nil {
		t.Fatal(err)
	}
	shown := func() string {
		t.Helper()
		c, err := config.GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.DNSNames[0]
	}
	if got := shown(); got != "old.test" {
		t.Errorf("shows %s at first", got)
	}
	if err := os.WriteFile(cert, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := shown(); got != "old.test" {
		t.Errorf("shows %s while the files are written", got)
	}
	write(time.Hour, "new.test")
	if got := shown(); got != "new.test" {
		t.Errorf("shows %s after the renewal", got)
	}
}

func TestProxyTLSRefusesFiles(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o    ProxyTLSOptions
		want string
	}{
		{ProxyTLSOptions{}, "needs a certificate or names"},
		{ProxyTLSOptions{CertFile: empty, KeyFile: empty}, "failed to find any PEM data"},
		{ProxyTLSOptions{CertFile: empty + ".no", KeyFile: empty}, "no such file"},
		{ProxyTLSOptions{Names: []string{"a.test"}, ClientCAFile: empty}, "no PEM certificate in it"},
		{ProxyTLSOptions{Names: []string{"a/b"}}, "not a host name"},
	} {
		_, err := NewProxyTLS(c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}

// TestEntranceDrains has Shutdown find a connection that has said nothing, one in
// the middle of its beginning, and an idle one.
func TestEntranceDrains(t *testing.T) {
	w := newWorld(t, passEverything, nil, nil, func(o *Options, _ *UpstreamOptions) { o.HandshakeTimeout = time.Second })
	silent := dialAt(t, w.enter(Entrance{Mode: policy.ListenSOCKS5}))
	middle := dialAt(t, w.enter(Entrance{Balancers: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}))
	io.WriteString(middle, "PROX")
	redirected := dialAt(t, w.enter(Entrance{Mode: policy.ListenRedirect, destination: func(net.Conn) (netip.AddrPort, error) {
		return netip.MustParseAddrPort("192.0.2.1:443"), nil
	}}))
	if err := w.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{silent, middle, redirected} {
		if _, err := io.ReadAll(c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after Shutdown: %v", err)
		}
	}
}

// TestEntranceTellsPolicyWho has rules for the address that a balancer tells and for
// the user that a client certificate names.
func TestEntranceTellsPolicyWho(t *testing.T) {
	origin := plainOrigin(t, func(http.ResponseWriter, *http.Request) {})
	clients := newAuthorityKey(t, "clients")
	roots := filepath.Join(t.TempDir(), "clients.pem")
	writePEM(t, roots, clients.cert.Raw)
	w := newWorld(t, `
presets: none
default: deny
rules:
  - { name: by-address, hosts: [a.test], clients: [192.0.2.7], action: pass }
  - { name: by-user, hosts: [a.test], users: [runner-7.test], action: pass }
`, map[string]string{"a.test:80": origin}, nil, func(o *Options, _ *UpstreamOptions) {
		o.Access.CertificateUser = func(c *x509.Certificate) (string, error) {
			if len(c.DNSNames) != 1 {
				return "", errors.New("names nobody")
			}
			return c.DNSNames[0], nil
		}
	})
	balancers := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	both := w.enter(Entrance{Mode: policy.ListenTLSProxy, Balancers: balancers, TLS: w.proxyTLS(ProxyTLSOptions{Names: []string{"larder.test"}, ClientCAFile: roots})})
	for _, c := range []struct {
		source string
		users  []string
		status int // 0: no answer
	}{
		{"192.0.2.7", []string{"somebody.test"}, 200},
		{"192.0.2.8", []string{"somebody.test"}, 403},
		{"192.0.2.8", []string{"runner-7.test"}, 200},
		{"192.0.2.7", []string{"two.test", "names.test"}, 0},
	} {
		leaf := clients.leaf(t, func(l *x509.Certificate) { l.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, c.users...)
		raw := dialAt(t, both)
		fmt.Fprintf(raw, "PROXY TCP4 %s 192.0.2.1 4711 3128\r\n", c.source)
		conn := tls.Client(raw, &tls.Config{RootCAs: w.larder, ServerName: "larder.test", Certificates: []tls.Certificate{leaf}})
		io.WriteString(conn, "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
		status := 0
		if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
			status = res.StatusCode
		}
		if status != c.status {
			t.Errorf("%s as %s: status %d, want %d", c.source, c.users, status, c.status)
		}
	}
}

// TestEntrancesWithoutCredentials: where everybody has to prove a name, a connection
// that can carry none goes nowhere.
func TestEntrancesWithoutCredentials(t *testing.T) {
	w := newWorld(t, "presets: none\ndefault: tunnel", nil, nil, func(o *Options, _ *UpstreamOptions) { o.Access.Required = true })
	for _, e := range []Entrance{{Mode: policy.ListenSOCKS5}, redirectedTo(goodAddr + ":443")} {
		conn := dialAt(t, w.enter(e))
		_, _ = io.ReadAll(conn) // its end, clean or not
		if x := w.exchange(); !strings.Contains(x.Err, "asks for credentials") {
			t.Errorf("%v: %+v", e.Mode, x)
		}
	}
}
