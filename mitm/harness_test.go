package mitm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"larder/ca"
	"larder/cache"
	"larder/policy"
)

// world is a proxy with its authority and origins, all on loopback.
type world struct {
	t         testing.TB
	server    *Server
	addr      string
	larder    *x509.CertPool // trusts larder's root
	roots     *authorityKey  // signs the origins' certificates
	cache     *fakeCache
	exchanges chan Exchange
	connectTo map[string]string
	caFile    string
}

// authorityKey is the test's stand-in for a public certificate authority.
type authorityKey struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthorityKey(t testing.TB, name string) *authorityKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authorityKey{cert, key}
}

// leaf signs a certificate; change may make it bad.
func (a *authorityKey) leaf(t testing.TB, change func(*x509.Certificate), names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key}
}

// fakeCache stands where package cache does: it forwards through the upstream
// and notes what it was asked.
type fakeCache struct {
	upstream http.RoundTripper
	mu       sync.Mutex
	rules    []*cache.Rule
	dropped  []string
	contents []*cache.Content
	outdated []string
	fail     error         // returned before anything is written
	serve    http.Handler  // answers instead of upstream
	after    error         // returned once the response is out
	outcome  cache.Outcome // returned with after
}

func (f *fakeCache) Serve(w http.ResponseWriter, r *http.Request, rule *cache.Rule) (cache.Outcome, error) {
	f.mu.Lock()
	f.rules = append(f.rules, rule)
	f.mu.Unlock()
	if f.fail != nil {
		return cache.Outcome{}, f.fail
	}
	if f.serve != nil {
		f.serve.ServeHTTP(w, r)
		return f.outcome, f.after
	}
	res, err := f.upstream.RoundTrip(r)
	if err != nil {
		return cache.Outcome{}, err
	}
	defer res.Body.Close()
	for k, v := range res.Header {
		w.Header()[k] = v
	}
	w.Header().Set("Cache-Status", "larder; fwd=uri-miss")
	w.WriteHeader(res.StatusCode)
	n, err := io.Copy(w, res.Body)
	return cache.Outcome{Status: res.StatusCode, Bytes: n, UpstreamBytes: n, CacheStatus: "larder; fwd=uri-miss"}, err
}

func (f *fakeCache) ServeContent(w http.ResponseWriter, r *http.Request, rule *cache.Rule, content *cache.Content) (cache.Outcome, error) {
	f.mu.Lock()
	f.contents = append(f.contents, content)
	f.mu.Unlock()
	out := r.WithContext(r.Context())
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(content.Bytes)), int64(len(content.Bytes))
	return f.Serve(w, out, rule)
}

func (f *fakeCache) OutdateContent(kind string, target *url.URL) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.outdated = append(f.outdated, kind+" "+target.String())
}

func (f *fakeCache) InvalidateUnder(u *url.URL, _ *cache.Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropped = append(f.dropped, u.String())
}

func (f *fakeCache) NoteRedirect(*url.URL, int, http.Header) {}

func (f *fakeCache) invalidated() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.dropped...)
}

const passEverything = `
presets: none
default: tunnel
rules:
  - {name: all, hosts: ["*.test", "127.0.0.1"], action: pass}
`

func parsePolicy(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// newWorld starts a proxy. Origins must be there before the first request and
// are registered with origin or connect. change may adjust the options.
func newWorld(t testing.TB, policyText string, connectTo map[string]string, roots *authorityKey, change ...func(*Options, *UpstreamOptions)) *world {
	t.Helper()
	w := &world{t: t, connectTo: connectTo, roots: roots, exchanges: make(chan Exchange, 1024)}
	uo := UpstreamOptions{ConnectTo: redirections(t, connectTo)}
	if roots != nil {
		w.caFile = filepath.Join(t.TempDir(), "origins.pem")
		b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: roots.cert.Raw})
		if err := os.WriteFile(w.caFile, b, 0o600); err != nil {
			t.Fatal(err)
		}
		uo.CAFile = w.caFile
	}
	authority, err := ca.Open(ca.Options{Dir: filepath.Join(t.TempDir(), "ca")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = authority.Close() })
	w.larder = x509.NewCertPool()
	w.larder.AddCert(authority.Root())
	w.cache = &fakeCache{}
	o := Options{
		Policy: parsePolicy(t, policyText), Certificates: authority, Cache: w.cache,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, c := range change {
		c(&o, &uo)
	}
	o.Upstream, err = NewUpstream(uo)
	if err != nil {
		t.Fatal(err)
	}
	w.cache.upstream = o.Upstream
	w.server, err = New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := w.server.Serve(l, w.note); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // cut at once: tests of draining call Shutdown themselves
		_ = w.server.Shutdown(ctx)
		serving.Wait()
		o.Upstream.CloseIdleConnections()
	})
	return w
}

// redirections reads "host:port" to "host:port" pairs.
func redirections(t testing.TB, m map[string]string) (list []policy.Redirection) {
	t.Helper()
	for from, to := range m {
		host, port, err := net.SplitHostPort(from)
		if err != nil {
			t.Fatal(err)
		}
		pattern, err := policy.ParseHostPattern(host)
		if err != nil {
			t.Fatal(err)
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, policy.Redirection{Host: pattern, Port: number, Address: to})
	}
	return list
}

// tlsOrigin starts an HTTPS origin for names and returns its address.
func tlsOrigin(t testing.TB, roots *authorityKey, h2 bool, h http.HandlerFunc, names ...string) string {
	t.Helper()
	return startOrigin(t, &tls.Config{Certificates: []tls.Certificate{roots.leaf(t, nil, names...)}}, h2, h)
}

func startOrigin(t testing.TB, config *tls.Config, h2 bool, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = h2
	s.TLS = config
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func plainOrigin(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// client returns an HTTP client that goes through the proxy.
func (w *world) client(h2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2)
	tr := &http.Transport{
		Proxy:              http.ProxyURL(&url.URL{Scheme: "http", Host: w.addr}),
		TLSClientConfig:    &tls.Config{RootCAs: w.larder},
		Protocols:          protocols,
		DisableCompression: true,
	}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{
		Transport: tr,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
}

// dial opens a bare connection to the proxy.
func (w *world) dial() *net.TCPConn {
	w.t.Helper()
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

// connect sends CONNECT and wants it answered with status.
func (w *world) connect(c net.Conn, authority string, status int) *http.Response {
	w.t.Helper()
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", authority, authority)
	// A byte at a time, so that nothing of the tunnel is read along.
	res, err := http.ReadResponse(bufio.NewReaderSize(&oneByte{c}, 16), &http.Request{Method: "CONNECT"})
	if err != nil {
		w.t.Fatalf("CONNECT %s: %v", authority, err)
	}
	if res.StatusCode != status {
		b, _ := io.ReadAll(res.Body)
		w.t.Fatalf("CONNECT %s: got %s %s, want %d", authority, res.Status, b, status)
	}
	return res
}

type oneByte struct{ io.Reader }

func (o *oneByte) Read(p []byte) (int, error) { return o.Reader.Read(p[:1]) }

// open sends CONNECT and opens TLS for name.
func (w *world) open(authority, name string, protocols ...string) *tls.Conn {
	w.t.Helper()
	c := w.dial()
	w.connect(c, authority, 200)
	t := tls.Client(c, &tls.Config{RootCAs: w.larder, ServerName: name, NextProtos: protocols})
	if err := t.Handshake(); err != nil {
		w.t.Fatalf("open TLS for %s: %v", name, err)
	}
	return t
}

// note keeps an exchange for who asks. What nobody asks for, in a flood of them, is
// dropped in the end: an observer must not block.
func (w *world) note(x Exchange) {
	select {
	case w.exchanges <- x:
	default:
	}
}

// exchange waits for the next Exchange.
func (w *world) exchange() Exchange {
	w.t.Helper()
	select {
	case x := <-w.exchanges:
		return x
	case <-time.After(20 * time.Second):
		w.t.Fatal("no exchange was reported")
		return Exchange{}
	}
}

func get(t testing.TB, c *http.Client, target string) (*http.Response, string) {
	t.Helper()
	res, err := c.Get(target)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("GET %s: %v", target, err)
	}
	return res, string(b)
}

func mustContain(t testing.TB, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s: %q does not contain %q", what, text, p)
		}
	}
}
