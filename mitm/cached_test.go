package mitm

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"larder/cache"
	"larder/cache/store"
)

// TestWithTheRealCache joins the wire with package cache: one upstream request,
// then hits over both protocols, with the target's exact bytes upstream.
func TestWithTheRealCache(t *testing.T) {
	var asked atomic.Int32
	body := strings.Repeat("artifact ", 100_000)
	roots := newAuthorityKey(t, "origins")
	addr := tlsOrigin(t, roots, true, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.RequestURI != "/f/{x}%2Fy?a=%20;" || r.Header.Get("Proxy-Authorization") != "" {
			t.Errorf("the origin got %s with %v", r.RequestURI, r.Header)
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = io.WriteString(w, body)
	}, "a.test")
	var c *cache.Cache
	w := newWorld(t, "presets: none\nrules: [{name: f, hosts: [\"a.test\"], action: immutable}]\n",
		map[string]string{"a.test:443": addr}, roots, func(o *Options, uo *UpstreamOptions) {
			s, err := store.Open(store.Options{Dir: t.TempDir(), MaxSize: 64 << 20})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			u, err := NewUpstream(*uo)
			if err != nil {
				t.Fatal(err)
			}
			c, err = cache.New(cache.Options{Store: s, Upstream: u})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close(); u.CloseIdleConnections() })
			o.Cache = c
		})
	var digest string
	for i, method := range []string{"GET", "GET", "HEAD", "GET"} {
		req, _ := http.NewRequest(method, "https://a.test", nil)
		req.URL.Opaque = "/f/{x}%2Fy?a=%20;"
		req.Header["User-Agent"] = nil
		req.Header.Set("Proxy-Authorization", "Basic c2VjcmV0")
		res, err := w.client(i%2 == 0).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if method == "GET" && string(b) != body || err != nil {
			t.Errorf("%d: got %d bytes, %v", i, len(b), err)
		}
		x := w.exchange()
		if i == 0 {
			digest = x.SHA256
			if x.Class != ClassMiss || x.UpstreamBytes != int64(len(body)) {
				t.Errorf("the first: %+v", x)
			}
			continue
		}
		if x.Class != ClassHit || x.UpstreamBytes != 0 || x.SHA256 != digest || !strings.HasPrefix(res.Header.Get("Cache-Status"), "larder;") {
			t.Errorf("%d: %+v, %v", i, x, res.Header)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
}
