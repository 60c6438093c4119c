package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"larder/cache/store"
)

// staleRule: every use is validated, and upstream's failures are covered for.
func staleRule() *Rule { return &Rule{Mode: Revalidate, StaleIfError: 24 * time.Hour} }

func TestThrottlingUpstreamIsLeftAloneWhileStaleServes(t *testing.T) {
	for _, status := range []int{429, 503} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			var throttled atomic.Bool
			w := newWorld(t, staleRule(), func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Etag", `"x"`)
				if throttled.Load() {
					rw.Header().Set("Retry-After", "120")
					rw.WriteHeader(status)
					return
				}
				rw.Write([]byte("index"))
			})
			w.get("/a")
			w.get("/b")
			throttled.Store(true)
			w.get("/a").want(t, 200, []byte("index"), fmt.Sprintf("larder; fwd=stale; fwd-status=%d; ttl=0; detail=stale-if-error", status))
			asked := w.all.Load()
			// Of the same upstream, nothing is asked that can be answered.
			w.get("/a").want(t, 200, []byte("index"), "larder; hit; ttl=0; detail=throttled")
			w.get("/b").want(t, 200, []byte("index"), "larder; hit; ttl=0; detail=throttled")
			w.do("HEAD", "/b").want(t, 200, nil, "larder; hit; ttl=0; detail=throttled")
			if n := w.all.Load(); n != asked {
				t.Errorf("%d requests while it throttles", n-asked)
			}
			// What cannot be answered is asked all the same.
			if got := w.get("/cold"); got.StatusCode != status {
				t.Errorf("status %d, want %d", got.StatusCode, status)
			}
			throttled.Store(false)
			w.clock.advance(121 * time.Second)
			w.get("/b").want(t, 200, []byte("index"), "larder; fwd=stale; fwd-status=200; ttl=0; detail=unchanged")
		})
	}
}

func TestOneURLsErrorBenchesNoUpstream(t *testing.T) {
	var broken atomic.Bool
	w := newWorld(t, staleRule(), func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" && broken.Load() {
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path == "/503" {
			rw.Header().Set("Retry-After", "600")
			rw.WriteHeader(503)
			return
		}
		rw.Write([]byte("fine"))
	})
	w.get("/broken")
	w.get("/other")
	broken.Store(true)
	for range 3 * openAfter {
		w.clock.advance(time.Second)
		if got := w.get("/broken"); string(got.body) != "fine" {
			t.Fatalf("%d %q", got.StatusCode, got.body)
		}
	}
	w.get("/other").want(t, 200, []byte("fine"), "larder; fwd=stale; fwd-status=200; ttl=0; detail=unchanged")
	// A 503 with Retry-After speaks for the upstream until that serves something.
	w.get("/503")
	w.get("/fresh")
	w.get("/other").want(t, 200, []byte("fine"), "larder; fwd=stale; fwd-status=200; ttl=0; detail=unchanged")
}

func TestNothingIsNegativelyCachedWhileUpstreamThrottles(t *testing.T) {
	for _, test := range []struct {
		name, retryAfter string
		status           int
		lasts            time.Duration
	}{
		{"429", "", 429, someThrottle},
		{"429 with Retry-After", "600", 429, 10 * time.Minute},
		{"503 with Retry-After", "600", 503, 10 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, &Rule{Mode: Revalidate, TTL: time.Minute, NegativeTTL: time.Hour}, func(rw http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/throttled":
					if test.retryAfter != "" {
						rw.Header().Set("Retry-After", test.retryAfter)
					}
					rw.WriteHeader(test.status)
				case "/there":
					if r.Header.Get("If-None-Match") == "" {
						rw.Header().Set("Etag", `"x"`)
						rw.Write([]byte("index"))
						return
					}
					rw.WriteHeader(404)
				default:
					rw.WriteHeader(404)
				}
			})
			w.get("/there")
			w.clock.advance(2 * time.Minute)
			w.get("/throttled")
			w.get("/gone").want(t, 404, nil, "larder; fwd=uri-miss; detail=throttled")
			w.get("/gone").want(t, 404, nil, "larder; fwd=uri-miss; detail=throttled")
			// Nor does such a 404 cost what is stored.
			w.get("/there").want(t, 404, nil, "larder; fwd=stale; detail=throttled")
			w.cache.wg.Wait()
			if n := w.stored(); n == 0 {
				t.Error("a 404 of a throttling upstream has removed what was stored")
			}
			w.clock.advance(test.lasts + time.Second)
			w.get("/gone").want(t, 404, nil, "larder; fwd=uri-miss; stored")
			w.get("/gone").want(t, 404, nil, "larder; hit; ttl=3600")
		})
	}
}

// TestWhatIsRemembered of an upstream after it has asked to be left alone.
func TestWhatIsRemembered(t *testing.T) {
	type answer struct {
		status     int
		retryAfter string
	}
	for _, test := range []struct {
		name    string
		answers []answer
		after   time.Duration
		spared  bool
	}{
		{"a 503", []answer{{503, "60"}}, 59 * time.Second, true},
		{"a 503 that has passed", []answer{{503, "60"}}, 61 * time.Second, false},
		{"a 503, then an answer", []answer{{503, "60"}, {200, ""}}, 0, false},
		{"a 503, then a redirection", []answer{{503, "60"}, {302, ""}}, 0, false},
		{"a 503, then a 404", []answer{{503, "60"}, {404, ""}}, 0, true},
		{"a 503, then a 503 for less", []answer{{503, "60"}, {503, "1"}}, 59 * time.Second, true},
		{"a 503 without Retry-After", []answer{{503, ""}}, 0, false},
		{"a 429, then an answer elsewhere", []answer{{429, "60"}, {200, ""}}, 59 * time.Second, true},
		{"a 429, then a 503, then an answer", []answer{{429, "600"}, {503, "1"}, {200, ""}}, 599 * time.Second, true},
		{"a 503, then a 429, then an answer", []answer{{503, "600"}, {429, "1"}, {200, ""}}, 2 * time.Second, false},
	} {
		var c circuits
		now := time.Now()
		u := mustURL(t, "https://a.test/")
		for _, a := range test.answers {
			c.answered(u, &http.Response{StatusCode: a.status, Header: http.Header{"Retry-After": {a.retryAfter}}}, now)
		}
		if why := c.spared(u, now.Add(test.after)); (why == "throttled") != test.spared {
			t.Errorf("%s: after %v spared %q", test.name, test.after, why)
		}
	}
}

// failing is an upstream that cannot be reached until told otherwise.
type failing struct {
	http.RoundTripper
	err   atomic.Pointer[error]
	tries atomic.Int64
}

func (f *failing) RoundTrip(r *http.Request) (*http.Response, error) {
	f.tries.Add(1)
	if err := f.err.Load(); err != nil {
		return nil, *err
	}
	return f.RoundTripper.RoundTrip(r)
}

func (f *failing) fail(err error) { f.err.Store(&err) }

func TestDeadUpstreamIsProbedNotHammered(t *testing.T) {
	f := &failing{}
	w := newWorldWith(t, staleRule(), func(rw http.ResponseWriter, r *http.Request) { rw.Write([]byte("index")) },
		Options{Upstream: f}, store.Options{})
	f.RoundTripper = w.transport()
	w.get("/i")
	f.fail(&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")})
	for range openAfter {
		w.get("/i").want(t, 200, []byte("index"), "larder; fwd=stale; ttl="+strconv.Itoa(-int(w.cache.now().Sub(w.clock.start).Seconds()))+"; detail=stale-if-error")
		w.clock.advance(time.Second)
	}
	before := f.tries.Load()
	w.clock.advance(-time.Second)
	for range 50 {
		if got := w.get("/i"); got.Header.Get("Cache-Status") != "larder; hit; ttl=-4; detail=upstream-down" {
			t.Fatalf("Cache-Status: %s", got.Header.Get("Cache-Status"))
		}
		if got := w.get("/cold"); got.StatusCode != 502 {
			t.Fatalf("status %d, want 502", got.StatusCode)
		}
	}
	if n := f.tries.Load() - before; n != 0 {
		t.Errorf("%d requests to a dead upstream", n)
	}
	// One at a time finds out, less and less often.
	probes := 0
	for range 120 {
		w.clock.advance(500 * time.Millisecond)
		at := f.tries.Load()
		w.get("/cold")
		w.get("/i")
		probes += int(f.tries.Load() - at)
	}
	if probes < 4 || probes > 10 {
		t.Errorf("%d probes in a minute", probes)
	}
	f.err.Store(nil)
	w.clock.advance(lastRetry)
	w.get("/cold").want(t, 200, []byte("index"), "larder; fwd=uri-miss; stored")
	w.get("/i").want(t, 200, []byte("index"), "larder; fwd=stale; fwd-status=200; ttl=0; detail=unchanged")
}

func TestCircuitsAreBounded(t *testing.T) {
	var c circuits
	now := time.Now()
	for i := range 3 * maxCircuits {
		u := &url.URL{Scheme: "https", Host: fmt.Sprintf("h%d.test", i), Path: "/"}
		c.failed(u, &net.OpError{Op: "dial", Err: errors.New("refused")}, now)
	}
	if n := len(c.byHost); n > maxCircuits {
		t.Errorf("%d upstreams remembered", n)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		name, field string
		status      int
		want        time.Duration
	}{
		{"RFC 9110, 10.2.3: seconds", "120", 429, 2 * time.Minute},
		{"10.2.3: a date", now.Add(time.Minute).Format(http.TimeFormat), 503, time.Minute},
		{"a date that has passed", now.Add(-time.Minute).Format(http.TimeFormat), 503, 0},
		{"bounded", "99999999999999999999", 429, maxThrottle},
		{"rubbish", "soon", 429, 0},
		{"negative", "-5", 503, 0},
		{"absent", "", 503, 0},
		{"15.4: with a redirection it means something else", "120", 301, 0},
	} {
		resp := &http.Response{StatusCode: test.status, Header: http.Header{"Retry-After": {test.field}}}
		if got := retryAfter(resp, now); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// silent swallows requests; time inside a synctest bubble passes by itself.
type silent struct{ asked atomic.Int64 }

func (s *silent) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked.Add(1)
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestUpstreamThatSwallowsPacketsHasAShortBudget(t *testing.T) {
	var swallow atomic.Bool
	release := make(chan struct{})
	w := newWorldWith(t, staleRule(), func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Etag", `"x"`)
		if swallow.Load() {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		rw.Write([]byte("index"))
	}, Options{StaleBudget: 300 * time.Millisecond, IdleTimeout: time.Minute}, store.Options{})
	w.get("/i")
	swallow.Store(true)
	begin := time.Now()
	w.get("/i").want(t, 200, []byte("index"), "larder; fwd=stale; ttl=0; detail=stale-if-error")
	if d := time.Since(begin); d < 250*time.Millisecond || d > 10*time.Second {
		t.Errorf("after %v", d)
	}
	// Who comes while that request hangs is served stale without asking again.
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if got := w.get("/i"); string(got.body) != "index" {
				t.Errorf("%d %q", got.StatusCode, got.body)
			}
		})
	}
	wg.Wait()
	w.do("HEAD", "/i").want(t, 200, nil, "larder; fwd=stale; ttl=0; detail=stale-if-error")
	w.wantGets(2)
	// The request that hangs still counts when it comes through.
	swallow.Store(false)
	close(release)
	w.cache.wg.Wait()
}

func TestSilenceOpensTheCircuitWhenItIsNotOneURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &silent{}
		c := &Cache{upstream: s, idle: time.Minute, now: time.Now, metrics: newMetrics(nil), log: slog.New(slog.DiscardHandler)}
		ask := func(path string) error {
			req, _ := http.NewRequestWithContext(context.Background(), "GET", "https://swallows.test"+path, nil)
			_, err := c.roundTrip(req)
			if _, ok := errors.AsType[*TimeoutError](err); !ok {
				t.Fatalf("error %v", err)
			}
			return err
		}
		for range openAfter + 3 {
			ask("/one")
		}
		if n := s.asked.Load(); n != openAfter+3 {
			t.Fatalf("%d requests sent: one URL closed the upstream to itself", n)
		}
		ask("/two")
		begin := time.Now()
		err := ask("/three")
		if _, ok := errors.AsType[*downError](err); !ok || time.Since(begin) != 0 {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}
