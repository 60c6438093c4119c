package cache

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// insiders lets in who may says so.
func insiders(may func(r *http.Request) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !may(r) {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		w.Header().Set("Etag", `"1"`)
		_, _ = io.WriteString(w, "of "+r.URL.Path)
	}
}

// TestWhatLetsOneClientInLetsNoOtherIn: upstream is asked with all fields of a request and
// its query, so its yes is to who has the same.
func TestWhatLetsOneClientInLetsNoOtherIn(t *testing.T) {
	for name, test := range map[string]struct {
		may   func(*http.Request) bool
		path  string
		field []string
	}{
		"a field of no known meaning": {
			func(r *http.Request) bool { return r.Header.Get("X-Team") == "k" }, "/a/1", []string{"X-Team", "k"},
		},
		"a field of proxies": {
			func(r *http.Request) bool { return r.Header.Get("X-Forwarded-For") == "10.0.0.1" }, "/a/1", []string{"X-Forwarded-For", "10.0.0.1"},
		},
		"a signature in the query": {
			func(r *http.Request) bool { return r.URL.Query().Get("sig") == "k" }, "/a/2?sig=k", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, rechecking(), insiders(func(r *http.Request) bool {
				return r.Header.Get(bearer) == "Bearer t" || test.may(r)
			}))
			w.get("/a/1", bearer, "Bearer t").want(t, 200, []byte("of /a/1"), "larder; fwd=uri-miss; stored")
			if a := w.get(test.path, test.field...); a.StatusCode != 200 {
				t.Fatalf("who may have it: %d", a.StatusCode)
			}
			w.get("/a/1").want(t, 403, []byte("no\n"), "larder; fwd=request; detail=recheck")
		})
	}
}

// TestPageForOutsidersIsNotStored: nobody who has a right to something gets the page that
// those are sent to who have none.
func TestPageForOutsidersIsNotStored(t *testing.T) {
	for name, ttl := range map[string]time.Duration{"fetched first": 0, "in place of what is stale": time.Nanosecond} {
		t.Run(name, func(t *testing.T) {
			rule := &Rule{Mode: Immutable, TTL: ttl, FollowRedirects: true, Access: AccessRecheck, Partition: "checked"}
			login := newBystander(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "who are you?") })
			w := newWorld(t, rule, func(rw http.ResponseWriter, r *http.Request) {
				if r.Header.Get(bearer) == "" {
					http.Redirect(rw, r, login.URL+"/login", http.StatusFound)
					return
				}
				_, _ = io.WriteString(rw, "secret")
			})
			if ttl > 0 {
				w.get("/a", bearer, "Bearer t")
			}
			for _, fields := range [][]string{nil, {"Range", "bytes=0-3"}} {
				if a := w.get("/a", fields...); strings.Contains(string(a.body), "secret") {
					t.Fatalf("%d %q to an outsider", a.StatusCode, a.body)
				}
			}
			if a := w.get("/a", bearer, "Bearer t"); string(a.body) != "secret" {
				t.Errorf("%d %q to an insider", a.StatusCode, a.body)
			}
		})
	}
}

// TestNothingForOutsidersIsSomethingForOthers: a 404 that hides is no answer to who may
// have what it hides.
func TestNothingForOutsidersIsSomethingForOthers(t *testing.T) {
	rule := rechecking()
	rule.NegativeTTL = time.Hour
	w := newWorld(t, rule, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get(bearer) == "" {
			http.NotFound(rw, r)
			return
		}
		_, _ = io.WriteString(rw, "secret")
	})
	if a := w.get("/a/1"); a.StatusCode != 404 {
		t.Fatalf("%d to an outsider", a.StatusCode)
	}
	w.get("/a/1", bearer, "Bearer t").want(t, 200, []byte("secret"), "larder; fwd=uri-miss; stored")
}

// TestWhatIsSaidOfAnAccountIsForItsOwner: of an error that several wait for, the others
// learn the status, and when to come again.
func TestWhatIsSaidOfAnAccountIsForItsOwner(t *testing.T) {
	gate := make(chan struct{})
	var asked atomic.Int64
	w := newWorld(t, rechecking(), func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		<-gate
		rw.Header().Set("Retry-After", "7")
		rw.Header().Set("X-Account", "alice")
		http.Error(rw, "alice has had enough", http.StatusTooManyRequests)
	})
	var crowd sync.WaitGroup
	answers := make([]answer, 2)
	crowd.Go(func() { answers[0] = w.get("/a/1", bearer, "Bearer a") })
	eventually(t, "the first is asking", func() bool { return asked.Load() == 1 })
	crowd.Go(func() { answers[1] = w.get("/a/1", bearer, "Bearer b") })
	eventually(t, "the second waits", func() bool {
		w.cache.flights.mu.Lock()
		defer w.cache.flights.mu.Unlock()
		for _, f := range w.cache.flights.byKey {
			return f.readers.Load() == 2
		}
		return false
	})
	close(gate)
	crowd.Wait()
	if a := answers[0]; a.StatusCode != 429 || a.Header.Get("X-Account") != "alice" || string(a.body) != "alice has had enough\n" {
		t.Errorf("the one who was told: %d %v %q", a.StatusCode, a.Header, a.body)
	}
	if a := answers[1]; a.StatusCode != 429 || a.Header.Get("X-Account") != "" || len(a.body) != 0 || a.Header.Get("Retry-After") != "7" {
		t.Errorf("the other: %d %v %q", a.StatusCode, a.Header, a.body)
	}
	if asked.Load() != 1 {
		t.Errorf("upstream was asked %d times", asked.Load())
	}
}

// TestUnknownFieldsStayWithTheOriginAskedFor: they may be credentials.
func TestUnknownFieldsStayWithTheOriginAskedFor(t *testing.T) {
	b := newBystander(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") })
	w := newWorld(t, &Rule{Mode: HTTP, FollowRedirects: true}, func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, b.URL+"/far", http.StatusFound)
	})
	if a := w.get("/near", "X-Team", "k", "Accept", "text/plain"); a.StatusCode != 200 {
		t.Fatalf("%d, %v", a.StatusCode, a.err)
	}
	seen := b.requests()
	if len(seen) != 1 || seen[0].Header.Get("X-Team") != "" || seen[0].Header.Get("Accept") != "text/plain" {
		t.Errorf("the bystander saw %v", seen)
	}
}

// TestReadyHoldsToADigestOfANewerPolicy: that what is in memory was right under one rule
// says nothing of another.
func TestReadyHoldsToADigestOfANewerPolicy(t *testing.T) {
	c, target := readyWorld(t, http.Header{}, "body", &Rule{Mode: Immutable})
	target.Path = "/0000000000000000000000000000000000000000000000000000000000000000"
	plain := &Rule{Mode: Immutable}
	for range 6 {
		r := httptest.NewRequest(http.MethodGet, target.String(), nil)
		if _, err := c.Serve(httptest.NewRecorder(), r, plain); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := c.Ready(target, plain); !ok {
		t.Fatal("it is not ready")
	}
	if _, ok := c.Ready(target, &Rule{Mode: Immutable, Digests: byDigest(t, "^/([0-9a-f]{64})$")}); ok {
		t.Error("it is served though its digest is not that of the URL")
	}
}
