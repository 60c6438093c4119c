package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"larder/cache/store"
)

// clock is the time of a world's cache. It stands still unless a test moves it.
type clock struct {
	start  time.Time
	offset atomic.Int64
}

func (c *clock) now() time.Time          { return c.start.Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// world is a cache over a real store between a real TLS origin and a real front
// server that does what mitm does.
type world struct {
	t      testing.TB
	cache  *Cache
	store  *store.Store
	dir    string
	origin *httptest.Server
	front  *httptest.Server
	clock  clock
	rule   *Rule // not to be changed while requests run
	// content makes a POST's content part of the key; nil: it is passed on.
	content func(r *http.Request, body []byte) *Content
	gets    atomic.Int64
	all     atomic.Int64

	mu       sync.Mutex
	outcomes []Outcome
	errs     []error
	settled  chan struct{} // one token per answered request
}

// newWorld starts a world whose origin is handler.
func newWorld(t testing.TB, rule *Rule, handler http.HandlerFunc) *world {
	return newWorldWith(t, rule, handler, Options{}, store.Options{})
}

func newWorldWith(t testing.TB, rule *Rule, handler http.HandlerFunc, o Options, so store.Options) *world {
	t.Helper()
	w := &world{t: t, rule: rule, clock: clock{start: time.Now().Truncate(time.Second)}, settled: make(chan struct{}, 1<<16)}
	w.origin = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.all.Add(1)
		if r.Method == http.MethodGet {
			w.gets.Add(1)
		}
		handler(rw, r)
	}))
	w.origin.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	w.origin.EnableHTTP2 = true
	w.origin.StartTLS()
	t.Cleanup(w.origin.Close)

	so.Dir = t.TempDir()
	w.dir = so.Dir
	if so.MaxSize == 0 {
		so.MaxSize = 1 << 30
	}
	so.Logger = slog.New(slog.DiscardHandler)
	var err error
	if w.store, err = store.Open(so); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
	o.Store = w.store
	if o.IdleTimeout == 0 {
		o.IdleTimeout = 10 * time.Second
	}
	if o.StaleBudget == 0 {
		o.StaleBudget = time.Minute
	}
	o.storePatience = time.Minute // what says "stored" has waited for it
	if o.Upstream == nil {
		o.Upstream = w.transport()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewPedanticRegistry()
	}
	if w.cache, err = New(o); err != nil {
		t.Fatal(err)
	}
	w.cache.now = w.clock.now
	t.Cleanup(func() { w.cache.Close() })

	w.front = httptest.NewUnstartedServer(http.HandlerFunc(w.serve))
	w.front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	w.front.Start()
	w.front.Client().Transport.(*http.Transport).DisableCompression = true
	t.Cleanup(w.front.Close)
	return w
}

// transport reaches the origin as mitm's upstream does: verified, nothing decoded.
func (w *world) transport() *http.Transport {
	tr := w.origin.Client().Transport.(*http.Transport).Clone()
	tr.DisableCompression = true
	tr.MaxIdleConnsPerHost = 100
	w.t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	u, err := url.Parse(w.origin.URL + r.RequestURI)
	if err != nil {
		panic(err)
	}
	r2 := r.Clone(r.Context())
	r2.URL, r2.Host = u, u.Host
	var out Outcome
	if r.Method == http.MethodPost && w.content != nil {
		var body []byte
		if body, err = io.ReadAll(r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		out, err = w.cache.ServeContent(rw, r2, w.rule, w.content(r2, body))
	} else {
		out, err = w.cache.Serve(rw, r2, w.rule)
	}
	w.mu.Lock()
	w.outcomes = append(w.outcomes, out)
	w.errs = append(w.errs, err)
	w.mu.Unlock()
	w.settled <- struct{}{}
	if err == nil {
		return
	}
	if out.Status != 0 {
		panic(http.ErrAbortHandler)
	}
	status := http.StatusBadGateway
	if e, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && e.Timeout() {
		status = http.StatusGatewayTimeout
	}
	http.Error(rw, err.Error(), status)
}

// last returns the outcome of the request answered last.
func (w *world) last() (Outcome, error) {
	w.t.Helper()
	select {
	case <-w.settled:
	case <-time.After(20 * time.Second):
		w.t.Fatal("no request was answered")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.outcomes[len(w.outcomes)-1], w.errs[len(w.errs)-1]
}

// answer is a response as a client saw it.
type answer struct {
	*http.Response
	body []byte
	err  error // of reading the body
}

// do sends a request. fields are name, value, name, value.
func (w *world) do(method, path string, fields ...string) answer {
	w.t.Helper()
	return w.doContext(w.t.Context(), method, path, fields...)
}

func (w *world) doContext(ctx context.Context, method, path string, fields ...string) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, w.front.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	if len(req.Header["User-Agent"]) == 0 {
		req.Header["User-Agent"] = nil
	}
	resp, err := w.front.Client().Transport.RoundTrip(req)
	if err != nil {
		return answer{err: err, Response: &http.Response{Header: http.Header{}}}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp, body, err}
}

func (w *world) get(path string, fields ...string) answer {
	w.t.Helper()
	return w.do(http.MethodGet, path, fields...)
}

// want checks status, body and larder's member of Cache-Status.
func (a answer) want(t testing.TB, status int, body []byte, cacheStatus string) {
	t.Helper()
	if a.err != nil {
		t.Fatalf("request: %v", a.err)
	}
	if a.StatusCode != status {
		t.Errorf("status %d, want %d", a.StatusCode, status)
	}
	if !bytes.Equal(a.body, body) {
		t.Errorf("body of %d bytes (%.60q), want %d bytes (%.60q)", len(a.body), a.body, len(body), body)
	}
	if got := a.Header.Get("Cache-Status"); got != cacheStatus {
		t.Errorf("Cache-Status: %s, want %s", got, cacheStatus)
	}
}

func (w *world) wantGets(n int64) {
	w.t.Helper()
	if got := w.gets.Load(); got != n {
		w.t.Errorf("origin saw %d GETs, want %d", got, n)
	}
}

// stored returns how many objects the store holds.
func (w *world) stored() int {
	w.t.Helper()
	n := 0
	for _, err := range w.store.All() {
		if err != nil {
			w.t.Fatal(err)
		}
		n++
	}
	return n
}

// noise returns n bytes that do not repeat.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	return b
}

func digest(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// eventually waits for something that happens in another goroutine.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// digester is a SHA-256 under way.
type digester struct{ hash.Hash }

func newDigest() digester         { return digester{sha256.New()} }
func (d digester) String() string { return fmt.Sprintf("%x", d.Sum(nil)) }

func mustURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
