package mitm

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"larder/cache"
	"larder/cache/store"
)

// withRealCache gives a world package cache over a store, and its upstream.
func withRealCache(t *testing.T, change func(*cache.Options)) func(*Options, *UpstreamOptions) {
	return func(o *Options, uo *UpstreamOptions) {
		s, err := store.Open(store.Options{Dir: t.TempDir(), MaxSize: 64 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		u, err := NewUpstream(*uo)
		if err != nil {
			t.Fatal(err)
		}
		co := cache.Options{Store: s, Upstream: u}
		if change != nil {
			change(&co)
		}
		c, err := cache.New(co)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(); u.CloseIdleConnections() })
		o.Cache = c
	}
}

const offlineRules = `
presets: none
default: tunnel
rules:
  - {name: kept, hosts: [kept.test], action: revalidate}
  - {name: alone, hosts: [alone.test], action: immutable, offline: true}
  - {name: passed, hosts: [passed.test], action: pass}
`

// TestOfflineDialsNothing asks for everything there is with an origin that counts.
func TestOfflineDialsNothing(t *testing.T) {
	var asked atomic.Int32
	roots := newAuthorityKey(t, "origins")
	names := []string{"kept.test", "alone.test", "passed.test", "tunnel.test"}
	addr := tlsOrigin(t, roots, true, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, "from the origin")
	}, names...)
	to := map[string]string{}
	for _, n := range names {
		to[n+":443"], to[n+":80"] = addr, addr
	}
	w := newWorld(t, offlineRules, to, roots, withRealCache(t, nil))
	do := func(method, target string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest(method, target, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := w.client(false).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, string(b)
	}
	want504 := func(method, target string) {
		t.Helper()
		res, body := do(method, target)
		if res.StatusCode != http.StatusGatewayTimeout || !strings.Contains(res.Header.Get("Cache-Status"), "detail=offline") || method != "HEAD" && !strings.Contains(body, "offline") {
			t.Errorf("%s %s: %s, %q, Cache-Status %q", method, target, res.Status, body, res.Header.Get("Cache-Status"))
		}
	}
	if _, body := do("GET", "https://kept.test/a"); body != "from the origin" {
		t.Fatalf("online: %q", body)
	}
	kept := w.server.options.Cache.(*cache.Cache)
	for deadline := time.Now().Add(20 * time.Second); kept.Store().Stats().Objects < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the response is not stored")
		}
	}
	before := asked.Load()
	// By rule: neither what is not stored nor what cannot be.
	want504("GET", "https://alone.test/a")
	want504("POST", "https://alone.test/a")
	if asked.Load() != before {
		t.Error("a rule that is offline asked upstream")
	}
	if _, body := do("GET", "https://passed.test/a"); body != "from the origin" {
		t.Errorf("another rule: %q", body)
	}

	before = asked.Load()
	w.server.options.Upstream.SetOffline(true)
	kept.SetOffline(true)
	want504("GET", "https://passed.test/a")
	want504("POST", "https://kept.test/a")
	want504("GET", "https://kept.test/b")
	want504("GET", "http://passed.test/a")
	if res, body := do("GET", "https://kept.test/a"); res.StatusCode != 200 || body != "from the origin" {
		t.Errorf("what is stored: %s %q", res.Status, body)
	}
	res := w.connect(w.dial(), "tunnel.test:443", http.StatusGatewayTimeout)
	if got := res.Header.Get("Proxy-Status"); !strings.Contains(got, "destination_unavailable") {
		t.Errorf("CONNECT for a tunnel: Proxy-Status %q", got)
	}
	if n := asked.Load() - before; n != 0 {
		t.Errorf("%d requests upstream", n)
	}
	w.server.options.Upstream.SetOffline(false)
	kept.SetOffline(false)
	if _, body := do("GET", "https://passed.test/a"); body != "from the origin" {
		t.Errorf("online again: %q", body)
	}
}

func TestOfflineResolvesNothing(t *testing.T) {
	u, err := NewUpstream(UpstreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	u.SetOffline(true)
	if _, err := u.DialContext(t.Context(), "tcp", "name.invalid:443"); err != ErrOffline {
		t.Errorf("got %v, want ErrOffline", err)
	}
}

// TestOwnRequestsGoByPolicy fills the cache as "larder store warm" does.
func TestOwnRequestsGoByPolicy(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	addr := tlsOrigin(t, roots, true, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host+r.URL.Path)
	}, "kept.test", "passed.test")
	w := newWorld(t, offlineRules+"  - {name: denied, hosts: [denied.test], action: deny}\n",
		map[string]string{"kept.test:443": addr, "passed.test:443": addr}, roots, withRealCache(t, nil))
	own := func(target string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		r := httptest.NewRequest("GET", target, nil)
		r.RequestURI = ""
		w.server.ServeOwn(rec, r)
		return rec
	}
	for _, tc := range []struct {
		target, body, cacheStatus string
		status                    int
	}{
		{"https://kept.test/a", "kept.test/a", "larder; fwd=uri-miss; stored", 200},
		{"https://passed.test/a", "passed.test/a", "", 200},
		{"https://denied.test/a", "denied", "", 403},
	} {
		rec := own(tc.target)
		if rec.Code != tc.status || !strings.Contains(rec.Body.String(), tc.body) || rec.Header().Get("Cache-Status") != tc.cacheStatus {
			t.Errorf("%s: %d %q %q", tc.target, rec.Code, rec.Body, rec.Header().Get("Cache-Status"))
		}
	}
	res, err := w.client(true).Get("https://kept.test/a")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("Cache-Status"); !strings.Contains(got, "fwd-status=") && !strings.Contains(got, "hit") {
		t.Errorf("a client after that: Cache-Status %q", got)
	}
	for target, want := range map[string]string{
		"https://kept.test/a": "kept", "https://alone.test/a": "alone", "https://passed.test/a": "", "https://denied.test/": "", "https://other.test/": "",
	} {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if rule := w.server.RuleFor(u); rule != nil {
			got = rule.Name
		}
		if got != want {
			t.Errorf("RuleFor(%s) is %q, want %q", target, got, want)
		}
	}
}

// TestBrokenStoreIsRefusedAs503 is on_failure: refuse.
func TestBrokenStoreIsRefusedAs503(t *testing.T) {
	w := newWorld(t, offlineRules, map[string]string{"kept.test:443": "127.0.0.1:1"}, newAuthorityKey(t, "origins"),
		withRealCache(t, func(o *cache.Options) {
			o.Store, o.StoreError, o.RefuseWithoutStore = nil, io.ErrNoProgress, true
			o.OpenStore = func() (*store.Store, error) { return nil, io.ErrNoProgress }
		}))
	res, err := w.client(false).Get("https://kept.test/a")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(b), "the store is broken") {
		t.Errorf("got %s %q", res.Status, b)
	}
}

// offlineOnly is a listener for clients that are to be served from the store.
type offlineOnly struct{ net.Listener }

func (offlineOnly) Offline() bool { return true }

// TestOfflineListener serves two listeners at once, of which one is offline.
func TestOfflineListener(t *testing.T) {
	var asked atomic.Int32
	roots := newAuthorityKey(t, "origins")
	addr := tlsOrigin(t, roots, true, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, "from the origin")
	}, "kept.test", "passed.test", "tunnel.test")
	to := map[string]string{"kept.test:443": addr, "passed.test:443": addr, "tunnel.test:443": addr}
	w := newWorld(t, offlineRules, to, roots, withRealCache(t, nil), func(o *Options, _ *UpstreamOptions) { o.PeekTimeout = 50 * time.Millisecond })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(offlineOnly{l}, nil) }()
	defer func() {
		l.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}()
	online := w.addr
	ask := func(at, method, target string) (int, string) {
		t.Helper()
		w.addr = at
		req, err := http.NewRequest(method, target, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := w.client(true).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	offline := l.Addr().String()
	if status, _ := ask(offline, "GET", "https://kept.test/a"); status != http.StatusGatewayTimeout {
		t.Errorf("not stored: %d", status)
	}
	if status, body := ask(online, "GET", "https://kept.test/a"); status != 200 || body != "from the origin" {
		t.Fatalf("online: %d %q", status, body)
	}
	kept := w.server.options.Cache.(*cache.Cache)
	for deadline := time.Now().Add(20 * time.Second); kept.Store().Stats().Objects < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the response is not stored")
		}
	}
	before := asked.Load()
	if status, body := ask(offline, "GET", "https://kept.test/a"); status != 200 || body != "from the origin" {
		t.Errorf("stored: %d %q", status, body)
	}
	for _, tc := range [][2]string{{"GET", "https://passed.test/"}, {"PUT", "https://kept.test/a"}, {"GET", "https://kept.test/b"}} {
		if status, _ := ask(offline, tc[0], tc[1]); status != http.StatusGatewayTimeout {
			t.Errorf("%s %s: %d, want 504", tc[0], tc[1], status)
		}
	}
	w.addr = offline
	w.connect(w.dial(), "tunnel.test:443", http.StatusGatewayTimeout)
	// A client that is slow to begin is not given up for lack of an origin.
	c := w.dial()
	w.connect(c, "kept.test:443", 200)
	time.Sleep(200 * time.Millisecond)
	if err := tls.Client(c, &tls.Config{RootCAs: w.larder, ServerName: "kept.test"}).Handshake(); err != nil {
		t.Errorf("a slow client: %v", err)
	}
	if n := asked.Load() - before; n != 0 {
		t.Errorf("%d requests upstream", n)
	}
	if status, _ := ask(online, "GET", "https://passed.test/"); status != 200 {
		t.Errorf("the other listener: %d", status)
	}
}
