package mitm

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"larder/cache"
)

func TestDenyNamesItsRule(t *testing.T) {
	addr := plainOrigin(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	w := newWorld(t, `
presets: none
default: deny
rules:
  - {name: no-evil, hosts: ["evil.test"], action: deny}
  - {name: no-secrets, hosts: ["a.test"], paths: ["/secret/**"], action: deny}
  - {name: ok, hosts: ["a.test"], action: pass}
`, map[string]string{"a.test:80": addr}, nil)
	for _, c := range []struct{ request, status, text string }{
		{"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n", "403", `denied by rule "no-evil"`},
		{"CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n", "403", "its default is deny"},
		{"GET http://evil.test/x HTTP/1.1\r\nHost: evil.test\r\n", "403", `denied by rule "no-evil"`},
		{"GET http://a.test/secret/x HTTP/1.1\r\nHost: a.test\r\n", "403", `denied by rule "no-secrets"`},
		{"GET http://a.test/open HTTP/1.1\r\nHost: a.test\r\n", "200", "ok"},
		{"GET http://A.TEST.:80/open HTTP/1.1\r\nHost: evil.test\r\n", "200", "ok"}, // the target counts, not Host
	} {
		conn := w.dial()
		_, _ = io.WriteString(conn, c.request+"Connection: close\r\n\r\n")
		b, _ := io.ReadAll(conn)
		head := string(b)
		mustContain(t, c.request, head, "HTTP/1.1 "+c.status+" ", c.text)
		x := w.exchange()
		if c.status == "403" {
			mustContain(t, c.request, head, "Proxy-Status: larder;error=http_request_denied", "Cache-Control: no-store")
			if x.Class != ClassDeny || x.Status != 403 {
				t.Errorf("exchange %+v", x)
			}
		}
	}
}

func TestMisdirectedRequests(t *testing.T) {
	w := passing(t, false, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) })
	for _, c := range []struct{ line, host, status string }{
		{"GET / HTTP/1.1", "a.test", "200"},
		{"GET / HTTP/1.1", "A.Test:443", "200"},
		{"GET / HTTP/1.1", "a.test.", "200"},
		{"GET https://a.test/ HTTP/1.1", "a.test", "200"},
		{"GET / HTTP/1.1", "b.test", "421"},
		{"GET / HTTP/1.1", "a.test:8443", "421"},
		{"GET https://b.test/ HTTP/1.1", "a.test", "421"},
		{"GET http://a.test/ HTTP/1.1", "a.test", "400"},
		{"GET https://u:p@a.test/ HTTP/1.1", "a.test", "400"},
		{"GET /#x HTTP/1.1", "a.test", "400"},
		{"CONNECT a.test:443 HTTP/1.1", "a.test:443", "400"},
		{"GET * HTTP/1.1", "a.test", "400"},
		{"GET / HTTP/1.1", "a.test:bad", "400"},
	} {
		conn := w.open("a.test:443", "a.test")
		fmt.Fprintf(conn, "%s\r\nHost: %s\r\nConnection: close\r\n\r\n", c.line, c.host)
		b, _ := io.ReadAll(conn)
		if !strings.HasPrefix(string(b), "HTTP/1.1 "+c.status+" ") {
			t.Errorf("%s with Host %s: got %q, want %s", c.line, c.host, b, c.status)
		}
	}
}

// TestServerNameDoesNotChooseTheCertificate: the CONNECT authority does.
func TestServerNameDoesNotChooseTheCertificate(t *testing.T) {
	w := passing(t, false, func(http.ResponseWriter, *http.Request) {})
	c := w.dial()
	w.connect(c, "a.test:443", 200)
	err := tls.Client(c, &tls.Config{RootCAs: w.larder, ServerName: "b.test"}).Handshake()
	if err == nil || !strings.Contains(err.Error(), "valid for a.test, not b.test") {
		t.Errorf("got %v", err)
	}
	x := w.exchange()
	if x.Class != ClassError || x.Method != "CONNECT" {
		t.Errorf("exchange %+v", x)
	}
	mustContain(t, "exchange", x.Err, "refused larder's certificate")
}

func TestRequestsToTheProxyItself(t *testing.T) {
	w := newWorld(t, passEverything, nil, nil)
	res, body := get(t, &http.Client{}, "http://"+w.addr+"/x")
	if res.StatusCode != 404 {
		t.Errorf("got %s", res.Status)
	}
	mustContain(t, "body", body, "this is a proxy")
	w = newWorld(t, passEverything, nil, nil, func(o *Options, _ *UpstreamOptions) {
		o.Origin = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "kit ", r.URL.Path) })
	})
	if _, body := get(t, &http.Client{}, "http://"+w.addr+"/x"); body != "kit /x" {
		t.Errorf("got %q", body)
	}
}

func TestSessionsResumeAcrossConnectionsAndReloads(t *testing.T) {
	w := passing(t, false, func(http.ResponseWriter, *http.Request) {})
	sessions := tls.NewLRUClientSessionCache(8)
	for i, version := range []uint16{tls.VersionTLS13, tls.VersionTLS13, tls.VersionTLS12, tls.VersionTLS12} {
		c := w.dial()
		w.connect(c, "a.test:443", 200)
		tc := tls.Client(c, &tls.Config{RootCAs: w.larder, ServerName: "a.test", ClientSessionCache: sessions, MaxVersion: version})
		if err := tc.Handshake(); err != nil {
			t.Fatal(err)
		}
		ask(t, tc, bufio.NewReader(tc), "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n") // reads the ticket too
		if got, want := tc.ConnectionState().DidResume, i%2 == 1; got != want {
			t.Errorf("connection %d: resumed %v, want %v", i, got, want)
		}
		w.server.SetPolicy(parsePolicy(t, passEverything))
	}
}

func TestTLSBelow12IsRefused(t *testing.T) {
	w := passing(t, false, func(http.ResponseWriter, *http.Request) {})
	c := w.dial()
	w.connect(c, "a.test:443", 200)
	err := tls.Client(c, &tls.Config{RootCAs: w.larder, ServerName: "a.test", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).Handshake()
	if err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

func TestCacheRulesAndHeaderChanges(t *testing.T) {
	seen := make(chan http.Header, 8)
	addr := plainOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header
		w.Header().Set("X-Internal", "1")
		w.Header().Set("X-Kept", "1")
		fmt.Fprint(w, "body")
	})
	w := newWorld(t, `
presets: none
rules:
  - name: files
    hosts: ["a.test"]
    paths: ["/files/**"]
    action: immutable
    ttl: 60s
    vary: [Accept]
    request: {set: {X-Who: larder}, remove: [X-Secret]}
    response: {set: {X-Set: v}, add: {X-Kept: "2"}, remove: [X-Internal]}
  - name: rest
    hosts: ["a.test"]
    action: pass
    request: {add: {X-Who: rest}}
    response: {remove: [X-Internal]}
`, map[string]string{"a.test:80": addr}, nil)
	do := func(method, path string) *http.Response {
		req, _ := http.NewRequest(method, "http://a.test"+path, nil)
		req.Header.Set("X-Who", "client")
		req.Header.Set("X-Secret", "s")
		res, err := w.client(false).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		return res
	}
	res, at := do("GET", "/files/x"), <-seen
	if at.Get("X-Who") != "larder" || at.Get("X-Secret") != "" || len(at["X-Who"]) != 1 {
		t.Errorf("the origin got %v", at)
	}
	if h := res.Header; h.Get("X-Internal") != "" || h.Get("X-Set") != "v" || strings.Join(h["X-Kept"], ",") != "1,2" {
		t.Errorf("the client got %v", h)
	}
	if x := w.exchange(); x.Class != ClassMiss || x.Rule != "files" || x.Bytes != 4 || x.CacheStatus == "" {
		t.Errorf("exchange %+v", x)
	}
	res, at = do("GET", "/other"), <-seen
	if strings.Join(at["X-Who"], ",") != "client,rest" || at.Get("X-Secret") != "s" || res.Header.Get("X-Internal") != "" {
		t.Errorf("the origin got %v, the client %v", at, res.Header)
	}
	if x := w.exchange(); x.Class != ClassPass || x.Rule != "rest" {
		t.Errorf("exchange %+v", x)
	}
	do("POST", "/files/x")
	<-seen
	if x := w.exchange(); x.Class != ClassPass {
		t.Errorf("a POST under a caching rule: %+v", x)
	}
	do("GET", "/files/y")
	<-seen
	rules := w.cache.rules
	if len(rules) != 2 || rules[0] != rules[1] {
		t.Fatalf("rules %v: want one, converted once", rules)
	}
	if r := rules[0]; r.Name != "files" || r.Mode != cache.Immutable || r.TTL != time.Minute || len(r.Vary) != 1 {
		t.Errorf("rule %+v", r)
	}
}

func TestCacheErrorsBecomeAnswersOrCuts(t *testing.T) {
	const rules = `
presets: none
rules: [{name: r, hosts: ["*.test"], action: revalidate}]
`
	w := newWorld(t, rules, nil, nil)
	w.cache.fail = &net.DNSError{Err: "no such host", Name: "a.test", IsNotFound: true}
	res, body := get(t, w.client(false), "http://a.test/x?token=secret")
	if res.StatusCode != 502 || !strings.Contains(res.Header.Get("Proxy-Status"), "error=dns_error") {
		t.Errorf("got %s %v", res.Status, res.Header)
	}
	mustContain(t, "body", body, "http://a.test/x", "does not exist")
	if strings.Contains(body, "secret") {
		t.Error("the body quotes the query")
	}
	if x := w.exchange(); x.Class != ClassError || strings.Contains(x.URL, "secret") {
		t.Errorf("exchange %+v", x)
	}
	head, err := w.client(false).Head("http://a.test/x")
	if err != nil || head.StatusCode != 502 {
		t.Fatalf("HEAD: %v, %v", head, err)
	}
	<-w.exchanges
	w.cache.fail = nil
	w.cache.serve = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "partial")
	})
	w.cache.after, w.cache.outcome = io.ErrUnexpectedEOF, cache.Outcome{Status: 200, Bytes: 7}
	if res, err := w.client(false).Get("http://a.test/x"); err == nil {
		b, err := io.ReadAll(res.Body)
		if err == nil {
			t.Errorf("got %q and a clean end", b)
		}
		_ = res.Body.Close()
	}
	if x := w.exchange(); x.Class != ClassError || x.Status != 200 || x.Bytes != 7 {
		t.Errorf("exchange %+v", x)
	}
}

func TestPanicIsOneFailedRequest(t *testing.T) {
	w := newWorld(t, "presets: none\nrules: [{name: r, hosts: [\"*.test\"], action: immutable}]\n", nil, nil)
	w.cache.serve = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("bug") })
	if res, err := w.client(false).Get("http://a.test/"); err == nil {
		t.Errorf("got %s", res.Status)
		_ = res.Body.Close()
	}
	if x := w.exchange(); x.Class != ClassError || !strings.Contains(x.Err, "bug") {
		t.Errorf("exchange %+v", x)
	}
}

func TestReloadDuringATransfer(t *testing.T) {
	started, rest := make(chan struct{}), make(chan struct{})
	w := passing(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/slow" {
			return
		}
		_, _ = io.WriteString(w, "first ")
		_ = http.NewResponseController(w).Flush()
		close(started)
		<-rest
		_, _ = io.WriteString(w, "second")
	})
	c := w.client(true)
	res, err := c.Get("https://a.test/slow")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	<-started
	w.server.SetPolicy(parsePolicy(t, "presets: none\nrules: [{name: gone, hosts: [\"a.test\"], methods: [GET], action: deny}]\n"))
	second, body := get(t, c, "https://a.test/x") // on the same connection
	if second.StatusCode != 403 || !strings.Contains(body, "gone") {
		t.Errorf("after the reload: %s %q", second.Status, body)
	}
	close(rest)
	if b, err := io.ReadAll(res.Body); string(b) != "first second" || err != nil {
		t.Errorf("the transfer got %q, %v", b, err)
	}
}

func TestShutdownDrains(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2=%v", h2), func(t *testing.T) {
			started, rest := make(chan struct{}), make(chan struct{})
			w := passing(t, false, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "first ")
				_ = http.NewResponseController(w).Flush()
				close(started)
				<-rest
				_, _ = io.WriteString(w, "second")
			})
			res, err := w.client(h2).Get("https://a.test/")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			<-started
			ended := make(chan error, 1)
			go func() { ended <- w.server.Shutdown(context.Background()) }()
			for { // the listener closes first
				c, err := net.Dial("tcp", w.addr)
				if err != nil {
					break
				}
				_ = c.Close()
			}
			select {
			case err := <-ended:
				t.Fatalf("Shutdown returned %v during a transfer", err)
			default:
			}
			close(rest)
			if b, err := io.ReadAll(res.Body); string(b) != "first second" || err != nil {
				t.Errorf("got %q, %v", b, err)
			}
			if err := <-ended; err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			if err := w.server.Serve(mustListen(t), nil); err != nil {
				t.Errorf("Serve after Shutdown: %v", err)
			}
		})
	}
}

func mustListen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestShutdownCutsWhatOutlastsItsGrace(t *testing.T) {
	addr := tcpOrigin(t, echo)
	w := newWorld(t, tunnelEverything, map[string]string{"x.test:443": addr}, nil)
	c := w.dial()
	w.connect(c, "x.test:443", 200)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := w.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the tunnel outlived Shutdown")
	}
	if x := w.exchange(); x.Class != ClassTunnel {
		t.Errorf("exchange %+v", x)
	}
}

func TestConnectionLimit(t *testing.T) {
	addr := tcpOrigin(t, echo)
	w := newWorld(t, tunnelEverything, map[string]string{"x.test:443": addr}, nil,
		func(o *Options, _ *UpstreamOptions) { o.MaxConnections = 2 })
	first, second, third := w.dial(), w.dial(), w.dial()
	w.connect(first, "x.test:443", 200)
	w.connect(second, "x.test:443", 200)
	_, _ = io.WriteString(third, "CONNECT x.test:443 HTTP/1.1\r\nHost: x.test:443\r\n\r\n")
	_ = third.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := third.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the third connection: %v, want it to wait", err)
	}
	_ = first.Close()
	_ = third.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := third.Read(make([]byte, 1)); err != nil {
		t.Errorf("the third connection after the first left: %v", err)
	}
}

func TestSlowAndLargeHeadersAreRefused(t *testing.T) {
	w := passing(t, false, func(http.ResponseWriter, *http.Request) {})
	w2 := newWorld(t, passEverything, w.connectTo, w.roots, func(o *Options, _ *UpstreamOptions) {
		o.HeaderTimeout = 100 * time.Millisecond
		o.MaxHeaderBytes = 4 << 10
	})
	c := w2.dial()
	_, _ = io.WriteString(c, "GET http://a.test/ HTTP/1.1\r\n")
	if b, err := io.ReadAll(c); err != nil || len(b) != 0 {
		t.Errorf("a header that never ends: %q, %v", b, err)
	}
	o := w2.open("a.test:443", "a.test")
	_, _ = io.WriteString(o, "GET / HTTP/1.1\r\nHost: a.test\r\nX: "+strings.Repeat("x", 16<<10)+"\r\n\r\n")
	head, _ := readHead(bufio.NewReader(o))
	mustContain(t, "a header too large", head, "HTTP/1.1 431 ")
}

func TestMetricsAreWellFormed(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	w := newWorld(t, passEverything, map[string]string{"a.test:80": "127.0.0.1:1"}, nil, func(o *Options, _ *UpstreamOptions) { o.Registerer = r })
	res, _ := get(t, w.client(false), "http://a.test/")
	if res.StatusCode != 502 {
		t.Fatal(res.Status)
	}
	w.exchange()
	problems, err := testutil.GatherAndLint(r)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	want := `
# HELP larder_mitm_failures_total Requests, tunnels and handshakes that failed, by reason.
# TYPE larder_mitm_failures_total counter
larder_mitm_failures_total{reason="refused"} 1
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "larder_mitm_failures_total"); err != nil {
		t.Error(err)
	}
	if _, err := New(Options{Policy: w.server.rules.Load().policy, Certificates: w.server.options.Certificates, Cache: w.cache, Upstream: w.server.options.Upstream, Registerer: r}); err == nil {
		t.Error("registering twice was not an error")
	}
}
