package mitm

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"larder/policy"
)

// parentProxy is a parent of the test's: an HTTP proxy, or with SOCKS one of that
// kind, that leads every name to one of its origins.
type parentProxy struct {
	t       *testing.T
	origins map[string]string // host:port to where it really is
	answer  func(target string) string
	late    func() // called before a tunnel is answered
	auth    string // the credential it wants, user:password

	mu   sync.Mutex
	asks []string // request lines, CONNECT and SOCKS targets
}

func (p *parentProxy) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asks)
}

func (p *parentProxy) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asks = append(p.asks, fmt.Sprintf(format, args...))
}

// start returns the parent's URL.
func (p *parentProxy) start(scheme string, config *tls.Config) *url.URL {
	p.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	at := l.Addr().String()
	if config != nil {
		l = tls.NewListener(l, config)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				if scheme == "socks5" {
					p.serveSOCKS(c)
				} else {
					p.serveHTTP(c)
				}
			})
		}
	})
	p.t.Cleanup(func() { _ = l.Close() })
	return &url.URL{Scheme: scheme, Host: at}
}

// serveHTTP answers one request: one per connection is enough, and an answer of the
// test's own must say "Connection: close", or a second request can meet the closing.
func (p *parentProxy) serveHTTP(c net.Conn) {
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	p.note("%s %s", req.Method, req.RequestURI)
	if want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.auth)); p.auth != "" && req.Header.Get("Proxy-Authorization") != want {
		_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"parent\"\r\nContent-Length: 0\r\n\r\n")
		return
	}
	target := req.Host
	if !strings.Contains(target, ":") {
		target += ":80"
	}
	if p.answer != nil {
		_, _ = io.WriteString(c, p.answer(target))
		return
	}
	o, err := net.Dial("tcp", p.origins[target])
	if err != nil {
		_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	if req.Method == http.MethodConnect {
		if p.late != nil {
			p.late()
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		joinBoth(&earlyConn{Conn: c, early: drainBuffer(r)}, o)
		return
	}
	req.Header.Del("Proxy-Authorization")
	req.Close = true
	_ = req.Write(o)
	_, _ = io.Copy(c, o)
	_ = o.Close()
}

// serveSOCKS is RFC 1928 and 1929, for names.
func (p *parentProxy) serveSOCKS(c net.Conn) {
	head := make([]byte, 2)
	read := func(n int) []byte {
		b := make([]byte, n)
		_, _ = io.ReadFull(c, b)
		return b
	}
	_, _ = io.ReadFull(c, head)
	methods := read(int(head[1]))
	if p.auth == "" {
		_, _ = c.Write([]byte{5, 0})
	} else {
		if !slices.Contains(methods, 2) {
			_, _ = c.Write([]byte{5, 0xff})
			return
		}
		_, _ = c.Write([]byte{5, 2})
		user := string(read(int(read(2)[1])))
		password := string(read(int(read(1)[0])))
		if user+":"+password != p.auth {
			_, _ = c.Write([]byte{1, 1})
			return
		}
		_, _ = c.Write([]byte{1, 0})
	}
	kind := read(4)[3]
	if kind != 3 {
		p.note("address of kind %d", kind)
		_, _ = c.Write([]byte{5, 8, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	host := string(read(int(read(1)[0])))
	target := fmt.Sprintf("%s:%d", host, binary.BigEndian.Uint16(read(2)))
	p.note("SOCKS %s", target)
	o, err := net.Dial("tcp", p.origins[target])
	if err != nil {
		_, _ = c.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	joinBoth(c, o)
}

func joinBoth(a, b net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(a, b); _ = closeWrite(a) })
	_, _ = io.Copy(b, a)
	_ = closeWrite(b)
	both.Wait()
	_ = b.Close()
}

// through makes every host be reached through a parent.
func through(t testing.TB, u *url.URL, change func(*policy.Parent)) policy.Parent {
	t.Helper()
	every, err := policy.ParseHostPattern("*")
	if err != nil {
		t.Fatal(err)
	}
	p := policy.Parent{Hosts: []*policy.HostPattern{every}, Proxy: u}
	if change != nil {
		change(&p)
	}
	return p
}

// secretFile writes a file of mode 0600.
func secretFile(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func pemFile(t testing.TB, a *authorityKey) string {
	t.Helper()
	return secretFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})))
}

const parentPolicy = `
presets: none
default: tunnel
rules:
  - {name: fills, hosts: ["*.test"], paths: ["/cached"], action: immutable}
  - {name: all, hosts: ["*.test", "127.0.0.1"], action: pass}
`

// TestParents: each kind of parent carries passed requests, fills and tunnels,
// with and without credentials, and looks the names up itself.
func TestParents(t *testing.T) {
	roots, own := newAuthorityKey(t, "origins"), newAuthorityKey(t, "the parent's")
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "" {
			t.Error("the parent's credential reached the origin")
		}
		fmt.Fprintf(w, "%s %s", r.Host, r.RequestURI)
	}
	secure := tlsOrigin(t, roots, true, handler, "a.test")
	plain := plainOrigin(t, handler)
	banner := tcpOrigin(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "220 hello\r\n") // it speaks first
		_, _ = io.Copy(c, c)
		_ = c.CloseWrite()
	})
	for _, c := range []struct {
		scheme, auth string
		forwarded    string // how the parent sees http://a.test/x
	}{
		{"http", "", "GET http://a.test/x%2Fy?"},
		{"http", "user:pass:word", "GET http://a.test/x%2Fy?"},
		{"https", "", "GET http://a.test/x%2Fy?"},
		{"https", "user:pass", "GET http://a.test/x%2Fy?"},
		{"socks5", "", "SOCKS a.test:80"},
		{"socks5", "user:pass", "SOCKS a.test:80"},
	} {
		t.Run(c.scheme+" "+c.auth, func(t *testing.T) {
			p := &parentProxy{t: t, auth: c.auth, origins: map[string]string{"a.test:443": secure, "a.test:80": plain, "tunnel.other:22": banner}}
			var config *tls.Config
			if c.scheme == "https" {
				leaf := own.leaf(t, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} })
				config = &tls.Config{Certificates: []tls.Certificate{leaf}}
			}
			at := p.start(c.scheme, config)
			w := newWorld(t, parentPolicy, nil, roots, func(_ *Options, u *UpstreamOptions) {
				u.Parents = []policy.Parent{through(t, at, func(p *policy.Parent) {
					if c.auth != "" {
						p.CredentialsFile = secretFile(t, "basic "+c.auth+"\n")
					}
					if c.scheme == "https" {
						p.CAFile = pemFile(t, own)
					}
				})}
			})
			for _, h2 := range []bool{false, true} {
				for _, path := range []string{"/cached", "/passed"} {
					if res, body := get(t, w.client(h2), "https://a.test"+path); res.StatusCode != 200 || body != "a.test "+path {
						t.Errorf("https, h2 %v, %s: %s %q", h2, path, res.Status, body)
					}
				}
			}
			if res, body := get(t, w.client(false), "http://a.test/x%2Fy?"); res.StatusCode != 200 || body != "a.test /x%2Fy?" {
				t.Errorf("http: %s %q", res.Status, body)
			}
			tunnel := w.dial()
			w.connect(tunnel, "tunnel.other:22", 200)
			_, _ = io.WriteString(tunnel, "ping")
			_ = tunnel.CloseWrite()
			if b, err := io.ReadAll(tunnel); err != nil || string(b) != "220 hello\r\nping" {
				t.Errorf("tunnel: %q, %v", b, err)
			}
			connect := map[bool]string{false: "CONNECT ", true: "SOCKS "}[c.scheme == "socks5"]
			for _, want := range []string{connect + "a.test:443", c.forwarded, connect + "tunnel.other:22"} {
				if !slices.Contains(p.asked(), want) {
					t.Errorf("the parent was not asked %q but %q", want, p.asked())
				}
			}
		})
	}
}

// TestTargetsAsAParentGetsThem: absolute form, with the path as it was sent.
func TestTargetsAsAParentGetsThem(t *testing.T) {
	p := &parentProxy{t: t, answer: func(string) string { return "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" }}
	at := p.start("http", nil)
	w := newWorld(t, passEverything, nil, nil, func(_ *Options, u *UpstreamOptions) { u.Parents = []policy.Parent{through(t, at, nil)} })
	for sent, want := range map[string]string{
		"GET http://a.test/a%2fb;c//d?":    "GET http://a.test/a%2fb;c//d?",
		"GET http://a.test:8080//x/../y?z": "GET http://a.test:8080//x/../y?z",
		"GET http://a.test//{x}":           "GET http://a.test//{x}",
		"GET http://a.test/{x}|":           "GET http://a.test/{x}|",
		"GET http://a.test":                "GET http://a.test/",
		"OPTIONS http://a.test":            "OPTIONS http://a.test",
		"BREW http://a.test/pot":           "BREW http://a.test/pot",
	} {
		c := w.dial()
		method, target, _ := strings.Cut(sent, " ")
		fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", method, target, strings.SplitN(target, "/", 4)[2])
		answer, _ := io.ReadAll(c)
		if asked := p.asked(); !strings.HasPrefix(string(answer), "HTTP/1.1 200") || asked[len(asked)-1] != want {
			t.Errorf("%s: the parent got %q, the client %q", sent, asked, answer)
		}
	}
}

// TestParentFailures: each row is a parent that fails; the answer names it, and
// none of its credentials.
func TestParentFailures(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := &url.URL{Scheme: "http", Host: closed.Addr().String()}
	_ = closed.Close()
	answers := func(s string) func(*testing.T) *url.URL {
		return func(t *testing.T) *url.URL {
			return (&parentProxy{t: t, answer: func(string) string { return s }}).start("http", nil)
		}
	}
	status := func(s string) func(*testing.T) *url.URL {
		return answers("HTTP/1.1 " + s + "\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	}
	socks := func(auth string) func(*testing.T) *url.URL {
		return func(t *testing.T) *url.URL { return (&parentProxy{t: t, auth: auth}).start("socks5", nil) }
	}
	for _, c := range []struct {
		name   string
		parent func(*testing.T) *url.URL
		status int    // of CONNECT and of requests over TLS
		proxy  string // in Proxy-Status
		plain  int    // status of a request for http://
	}{
		{"407", status("407 Proxy Authentication Required"), 502, "error=proxy_configuration_error;next-hop=\"ADDR\";received-status=407;", 502},
		{"403", status("403 Forbidden"), 502, "error=destination_unavailable;next-hop=\"ADDR\";received-status=403;", 403},
		{"502", status("502 Bad Gateway"), 502, "error=destination_unavailable;next-hop=\"ADDR\";received-status=502;", 502},
		{"504", status("504 Gateway Timeout"), 504, "error=connection_timeout;next-hop=\"ADDR\";received-status=504;", 504},
		{"302", status("302 Found\r\nLocation: http://login.test/"), 502, "error=destination_unavailable;next-hop=\"ADDR\";received-status=302;", 302},
		{"101", status("101 Switching Protocols"), 502, "error=destination_unavailable;next-hop=\"ADDR\";received-status=101;", 502},
		{"no HTTP", answers("SSH-2.0-x\r\n\r\n"), 502, "error=http_protocol_error;next-hop=\"ADDR\";", 502},
		{"a header without end", answers("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)), 502, "error=http_response_header_section_size;next-hop=\"ADDR\";", 502},
		{"hangs up", answers(""), 502, "error=connection_terminated;next-hop=\"ADDR\";", 502},
		{"unreachable", func(*testing.T) *url.URL { return gone }, 502, "error=connection_refused;next-hop=\"ADDR\";", 502},
		{"no such name", func(*testing.T) *url.URL { return &url.URL{Scheme: "http", Host: "parent.invalid:3128"} }, 502, "error=dns_error;next-hop=\"ADDR\";", 502},
		{"untrusted", func(t *testing.T) *url.URL {
			leaf := newAuthorityKey(t, "strangers").leaf(t, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} })
			return (&parentProxy{t: t}).start("https", &tls.Config{Certificates: []tls.Certificate{leaf}})
		}, 502, "error=tls_certificate_error;next-hop=\"ADDR\";", 502},
		{"SOCKS that wants others", socks("other:secret"), 502, "error=proxy_configuration_error;next-hop=\"ADDR\";", 502},
		{"SOCKS that reaches nothing", socks("hunter:hunter2"), 502, "error=connection_refused;next-hop=\"ADDR\";", 502},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := c.parent(t)
			var log strings.Builder
			w := newWorld(t, parentPolicy, nil, newAuthorityKey(t, "origins"), func(o *Options, u *UpstreamOptions) {
				o.Logger = slog.New(slog.NewTextHandler(&log, nil))
				u.Parents = []policy.Parent{through(t, at, func(p *policy.Parent) { p.CredentialsFile = secretFile(t, "basic hunter:hunter2") })}
			})
			want := "larder;" + strings.ReplaceAll(c.proxy, "ADDR", at.Host)
			check := func(what string, res *http.Response, body string) {
				t.Helper()
				if res.StatusCode != c.status || !strings.HasPrefix(res.Header.Get("Proxy-Status"), want) {
					t.Errorf("%s: %s, Proxy-Status %q, want %q", what, res.Status, res.Header.Get("Proxy-Status"), want)
				}
				mustContain(t, what, body, "parent proxy "+at.String())
				if strings.Contains(body+fmt.Sprint(res.Header), "hunter") || res.Header.Get("Proxy-Authenticate") != "" {
					t.Errorf("%s: the client learns %q %v", what, body, res.Header)
				}
			}
			for _, path := range []string{"/cached", "/passed"} {
				res, body := get(t, w.client(false), "https://a.test"+path)
				check(path, res, body)
			}
			tunnel := w.dial()
			res := w.connect(tunnel, "tunnel.other:22", c.status)
			body, _ := io.ReadAll(res.Body)
			check("CONNECT", res, string(body))
			res, plain := get(t, w.client(false), "http://a.test/passed")
			if res.StatusCode != c.plain || c.plain == 407 {
				t.Errorf("http: %s %q", res.Status, plain)
			}
			_ = w.server.Shutdown(t.Context())
			encoded := base64.StdEncoding.EncodeToString([]byte("hunter:hunter2"))
			if strings.Contains(log.String(), "hunter2") || strings.Contains(log.String(), encoded) {
				t.Errorf("logged: %s", log.String())
			}
		})
	}
}

// TestWhichParent is a table of hosts and where they are reached.
func TestWhichParent(t *testing.T) {
	pattern := func(s string) []*policy.HostPattern {
		p, err := policy.ParseHostPattern(s)
		if err != nil {
			t.Fatal(err)
		}
		return []*policy.HostPattern{p}
	}
	first, second := &url.URL{Scheme: "http", Host: "first:1"}, &url.URL{Scheme: "socks5", Host: "second:2"}
	u, err := NewUpstream(UpstreamOptions{
		Parents: []policy.Parent{
			{Hosts: pattern("*.direct.test")},
			{Hosts: pattern(".corp.test"), Proxy: first},
			{Hosts: pattern("10.1.0.0/16"), Proxy: first},
			{Hosts: pattern("*"), Proxy: second},
		},
		NoParent: []string{"plain.corp.test", ".sub.corp.test", "10.1.2.3", "192.0.2.0/24", "2001:db8::/32", "port.test:8443"},
		ConnectTo: redirections(t, map[string]string{
			"moved.test:443": "127.0.0.1:1",
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{
		"a.direct.test:443":        "",
		"direct.test:443":          "second:2",
		"corp.test:443":            "first:1",
		"a.corp.test:80":           "first:1",
		"plain.corp.test:443":      "",
		"below.plain.corp.test:80": "",
		"sub.corp.test:80":         "first:1",
		"x.sub.corp.test:80":       "",
		"10.1.2.3:443":             "",
		"10.1.2.4:443":             "first:1",
		"10.2.0.1:443":             "second:2",
		"192.0.2.77:443":           "",
		"[2001:db8::1]:443":        "",
		"[2001:db9::1]:443":        "second:2",
		"port.test:8443":           "",
		"port.test:443":            "second:2",
		"moved.test:443":           "",
		"moved.test:80":            "second:2",
		"127.0.0.1:80":             "",
		"[::1]:80":                 "",
		"localhost:80":             "",
		"x.localhost:80":           "",
	} {
		to, err := splitTarget(target)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if p := u.parentOf(to.host, int(to.port)); p != nil {
			got = p.Proxy.Host
		}
		if got != want {
			t.Errorf("%s: got parent %q, want %q", target, got, want)
		}
	}
}

// TestAddressesAreJudgedBeforeAParentGetsThem: the parent looks names up, but an
// address is one already.
func TestAddressesAreJudgedBeforeAParentGetsThem(t *testing.T) {
	p := &parentProxy{t: t}
	at := p.start("http", nil)
	w := newWorld(t, parentPolicy, nil, nil, func(_ *Options, u *UpstreamOptions) {
		u.Parents = []policy.Parent{through(t, at, nil)}
		u.AllowAddresses = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	})
	w.connect(w.dial(), "10.2.3.4:22", 502)
	w.connect(w.dial(), "169.254.169.254:80", 502)
	w.connect(w.dial(), "[::1]:80", 502)
	if res, body := get(t, w.client(false), "http://10.2.3.4/"); res.StatusCode != 502 || !strings.Contains(body, "private") {
		t.Errorf("http: %s %q", res.Status, body)
	}
	if asked := p.asked(); len(asked) != 0 {
		t.Errorf("the parent was asked %q", asked)
	}
	get(t, w.client(false), "http://10.1.2.3/")
	if asked := p.asked(); !slices.Equal(asked, []string{"GET http://10.1.2.3/"}) {
		t.Errorf("the parent was asked %q", asked)
	}
}

// TestParentDoesNotLeadBack: a name that stands for larder is not handed to the
// parent with one of larder's own ports.
func TestParentDoesNotLeadBack(t *testing.T) {
	p := &parentProxy{t: t}
	at := p.start("http", nil)
	w := newWorld(t, parentPolicy, nil, nil, func(_ *Options, u *UpstreamOptions) { u.Parents = []policy.Parent{through(t, at, nil)} })
	_, port, _ := net.SplitHostPort(w.addr)
	self := w.server.options.Upstream.resolver
	self.names["larder.other"] = resolved(t, "127.0.0.1")
	res := w.connect(w.dial(), "larder.other:"+port, 502)
	if s := res.Header.Get("Proxy-Status"); !strings.Contains(s, "proxy_loop_detected") || len(p.asked()) != 0 {
		t.Errorf("Proxy-Status %q; the parent was asked %q", s, p.asked())
	}
}

// TestUpgradeThroughAParent goes through a tunnel: few parents know it otherwise.
func TestUpgradeThroughAParent(t *testing.T) {
	origin := tcpOrigin(t, func(c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(c, c)
		_ = c.CloseWrite()
	})
	p := &parentProxy{t: t, origins: map[string]string{"a.test:80": origin}}
	at := p.start("http", nil)
	w := newWorld(t, passEverything, nil, nil, func(_ *Options, u *UpstreamOptions) { u.Parents = []policy.Parent{through(t, at, nil)} })
	c := w.dial()
	_, _ = io.WriteString(c, "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(c)
	if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != 101 {
		t.Fatalf("got %v, %v", res, err)
	}
	_, _ = io.WriteString(c, "ping")
	b := make([]byte, 4)
	if _, err := io.ReadFull(r, b); err != nil || string(b) != "ping" {
		t.Errorf("got %q, %v", b, err)
	}
	if asked := p.asked(); !slices.Equal(asked, []string{"CONNECT a.test:80"}) {
		t.Errorf("the parent was asked %q", asked)
	}
}
