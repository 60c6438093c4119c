package cache

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// web leaves everything to RFC 9111.
var web = &Rule{Name: "web", Mode: HTTP}

// script is an origin that answers one request after the other with its steps, and
// the last of them from then on.
type script struct {
	mu    sync.Mutex
	steps []step
	seen  []http.Header
	now   func() time.Time // for Date
}

// step is a response. Its header is lines of "Name: value".
type step struct {
	status int // 0: 200
	header []string
	body   string
}

func (s *script) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.seen = append(s.seen, r.Header.Clone())
	now := s.steps[0]
	if len(s.steps) > 1 {
		s.steps = s.steps[1:]
	}
	s.mu.Unlock()
	for name, values := range fields(now.header...) {
		rw.Header()[name] = values
	}
	if len(rw.Header()["Date"]) == 0 {
		rw.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	}
	rw.Header()["Content-Type"] = fields(now.header...)["Content-Type"]
	rw.WriteHeader(max(now.status, 200))
	if now.status != http.StatusNotModified && r.Method != http.MethodHead {
		io.WriteString(rw, now.body)
	}
}

// request returns the header of the origin's n-th request.
func (s *script) request(n int) http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[n]
}

func scripted(t testing.TB, steps ...step) (*world, *script) {
	t.Helper()
	s := &script{steps: steps}
	w := newWorld(t, web, s.ServeHTTP)
	s.now = w.clock.now
	return w, s
}

func (a answer) wantField(t testing.TB, name string, want ...string) {
	t.Helper()
	if got := a.Header[name]; !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", name, got, want)
	}
}

func TestOriginSaysHowLongAResponseIsFresh(t *testing.T) {
	w, s := scripted(t,
		step{header: []string{"Cache-Control: max-age=60", `Etag: "1"`}, body: "one"},
		step{status: 304, header: []string{"Cache-Control: max-age=10", `Etag: "1"`}},
		step{header: []string{"Cache-Control: max-age=60", `Etag: "2"`}, body: "two"},
	)
	w.get("/").want(t, 200, []byte("one"), "larder; fwd=uri-miss; stored")
	w.clock.advance(59 * time.Second)
	w.get("/").want(t, 200, []byte("one"), "larder; hit; ttl=1")
	w.clock.advance(time.Second)
	w.get("/").want(t, 200, []byte("one"), "larder; fwd=stale; fwd-status=304; ttl=10")
	if got := s.request(1).Get("If-None-Match"); got != `"1"` {
		t.Errorf("If-None-Match: %s", got)
	}
	w.clock.advance(11 * time.Second)
	w.get("/").want(t, 200, []byte("two"), "larder; fwd=stale; stored")
	w.wantGets(3)
}

func TestFieldsOfNoCacheAreLeftOutUntilValidated(t *testing.T) {
	header := []string{`Cache-Control: max-age=60, no-cache="x-user"`, "X-User: a", "X-Other: b", `Etag: "1"`}
	w, _ := scripted(t, step{header: header, body: "x"}, step{status: 304, header: header})
	w.get("/").wantField(t, "X-User", "a")
	hit := w.get("/")
	hit.want(t, 200, []byte("x"), "larder; hit; ttl=60")
	hit.wantField(t, "X-User")
	hit.wantField(t, "X-Other", "b")
	w.get("/", "Cache-Control", "no-cache").wantField(t, "X-User", "a")
}

func TestSetCookieIsKeptWhereTheOriginSaysHowLong(t *testing.T) {
	w, _ := scripted(t, step{header: []string{"Cache-Control: max-age=60", "Set-Cookie: a=1", "Set-Cookie: b=2"}})
	w.get("/").wantField(t, "Set-Cookie", "a=1", "b=2")
	w.get("/").wantField(t, "Set-Cookie", "a=1", "b=2")
	w.wantGets(1)
	w, _ = scripted(t, step{header: []string{"Last-Modified: " + date(-1000*time.Hour), "Set-Cookie: a=1"}})
	w.get("/").want(t, 200, nil, "larder; fwd=uri-miss; detail=set-cookie")
	w.get("/")
	w.wantGets(2)
}

func TestCookieOfAValidationIsForItsClientAlone(t *testing.T) {
	w, _ := scripted(t,
		step{header: []string{"Cache-Control: max-age=0", `Etag: "1"`}, body: "x"},
		step{status: 304, header: []string{"Set-Cookie: a=1", `Etag: "1"`}},
		step{status: 304, header: []string{`Etag: "1"`}},
	)
	w.get("/")
	w.get("/").wantField(t, "Set-Cookie", "a=1")
	w.get("/").wantField(t, "Set-Cookie")
}

func TestValidationUpdatesAllButWhatDescribesTheBytes(t *testing.T) {
	w, _ := scripted(t,
		step{header: []string{"Cache-Control: max-age=0", `Etag: "1"`, "Content-Type: text/plain", "X-A: 1", "X-B: 1", "Content-Digest: a"}, body: "x"},
		step{status: 304, header: []string{"Cache-Control: max-age=60", `Etag: "1"`, "Content-Type: text/plain;charset=utf-8", "X-A: 2", "Content-Digest: b"}},
	)
	w.get("/")
	w.get("/")
	hit := w.get("/")
	hit.want(t, 200, []byte("x"), "larder; hit; ttl=60")
	hit.wantField(t, "Content-Type", "text/plain;charset=utf-8")
	hit.wantField(t, "X-A", "2")
	hit.wantField(t, "X-B", "1")
	hit.wantField(t, "Content-Digest", "a")
}

func TestNotModifiedForAnotherTagIsAskedAgain(t *testing.T) {
	w, s := scripted(t,
		step{header: []string{"Cache-Control: max-age=0", `Etag: "1"`}, body: "one"},
		step{status: 304, header: []string{`Etag: "2"`}},
		step{header: []string{"Cache-Control: max-age=60", `Etag: "2"`}, body: "two"},
	)
	w.get("/")
	if got := w.get("/"); string(got.body) != "two" {
		t.Errorf("got %q", got.body)
	}
	if got := s.request(2)["If-None-Match"]; got != nil {
		t.Errorf("If-None-Match: %q, want none", got)
	}
}

func TestNoStoreRequestLeavesTheStoredResponseAlone(t *testing.T) {
	w, _ := scripted(t,
		step{header: []string{"Cache-Control: max-age=10", `Etag: "1"`, "X-A: 1"}, body: "x"},
		step{status: 304, header: []string{"Cache-Control: max-age=600", `Etag: "1"`, "X-A: 2"}},
	)
	w.get("/")
	w.clock.advance(11 * time.Second)
	w.get("/", "Cache-Control", "no-store").want(t, 200, []byte("x"), "larder; fwd=stale; fwd-status=304; ttl=600")
	w.get("/", "Cache-Control", "only-if-cached, max-stale").wantField(t, "X-A", "1")
}

func TestHeadFreshensWhatItAgreesWithAndDropsTheRest(t *testing.T) {
	for _, test := range []struct {
		clause string
		head   []string
		gets   int64
	}{
		{"4.3.5: no validator received", []string{"Cache-Control: max-age=60", "X-A: 2"}, 1},
		{"4.3.5: the same", []string{"Cache-Control: max-age=60", "X-A: 2", `Etag: W/"1"`, "Content-Length: 1"}, 1},
		{"4.3.5: another tag", []string{"Cache-Control: max-age=60", "X-A: 2", `Etag: "2"`}, 2},
		{"4.3.5: another length", []string{"Cache-Control: max-age=60", "X-A: 2", "Content-Length: 9"}, 2},
	} {
		t.Run(test.clause, func(t *testing.T) {
			w, _ := scripted(t,
				step{header: []string{"Cache-Control: max-age=10", `Etag: W/"1"`, "X-A: 1", "X-B: 1"}, body: "x"},
				step{header: test.head},
				step{header: []string{"Cache-Control: max-age=10", "X-A: 2"}, body: "y"},
			)
			w.get("/")
			w.clock.advance(11 * time.Second)
			w.do(http.MethodHead, "/").wantField(t, "X-A", "2")
			w.get("/").wantField(t, "X-A", "2")
			w.wantGets(test.gets)
		})
	}
}

func TestVariantsOfOneURI(t *testing.T) {
	w := newWorld(t, web, func(rw http.ResponseWriter, r *http.Request) {
		h := rw.Header()
		h.Set("Cache-Control", "max-age=600")
		h.Set("Vary", "Accept-Language, Accept-Encoding")
		language := r.Header.Get("Accept-Language")
		fmt.Fprintf(rw, "%s %s", language, r.Header.Get("Accept-Encoding"))
	})
	w.get("/", "Accept-Language", "de, en").want(t, 200, []byte("de, en identity"), `larder; fwd=uri-miss; stored; key="accept-encoding: identity; accept-language: de, en"`)
	w.get("/", "Accept-Language", "en").want(t, 200, []byte("en identity"), `larder; fwd=vary-miss; stored; key="accept-encoding: identity; accept-language: en"`)
	w.get("/", "Accept-Language", "DE ,en").want(t, 200, []byte("de, en identity"), `larder; hit; ttl=600; key="accept-encoding: identity; accept-language: de, en"`)
	w.get("/", "Accept-Language", "en", "Accept-Encoding", "deflate, gzip;q=1.0").want(t, 200, []byte("en gzip"), `larder; fwd=vary-miss; stored; key="accept-encoding: gzip; accept-language: en"`)
	w.get("/", "Accept-Language", "en", "Accept-Encoding", "gzip").want(t, 200, []byte("en gzip"), `larder; hit; ttl=600; key="accept-encoding: gzip; accept-language: en"`)
	w.get("/", "Accept-Language", "en").want(t, 200, []byte("en identity"), `larder; hit; ttl=600; key="accept-encoding: identity; accept-language: en"`)
	w.wantGets(3)
}

func TestMostRecentOfSeveralSelectedResponses(t *testing.T) {
	w, _ := scripted(t,
		step{header: []string{"Cache-Control: max-age=600", "Vary: Foo", "Date: " + time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat)}, body: "by foo"},
		step{header: []string{"Cache-Control: max-age=600", "Vary: Bar", "Date: " + time.Now().Add(-2*time.Minute).UTC().Format(http.TimeFormat)}, body: "by bar"},
	)
	w.get("/", "Foo", "1")
	w.get("/", "Foo", "2", "Bar", "1")
	// Both select it; the second came later and is older all the same.
	if got := w.get("/", "Foo", "1", "Bar", "1"); string(got.body) != "by foo" {
		t.Errorf("got %q", got.body)
	}
	w.wantGets(2)
}

func TestInterimResponsesReachTheClientThatAsked(t *testing.T) {
	w := newWorld(t, web, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Link", "</style.css>; rel=preload")
		rw.WriteHeader(http.StatusEarlyHints)
		rw.Header().Del("Link")
		rw.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(rw, "x")
	})
	for want := 1; want >= 0; want-- {
		var got []string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				got = append(got, strconv.Itoa(code)+" "+h.Get("Link"))
				return nil
			},
		})
		a := w.doContext(ctx, http.MethodGet, "/")
		a.wantField(t, "Link")
		if len(got) != want || want == 1 && got[0] != "103 </style.css>; rel=preload" {
			t.Errorf("interim responses %q, want %d", got, want)
		}
	}
	w.wantGets(1)
}

// gate is an origin whose responses begin when they are let go.
type gate struct {
	arrived, begin chan struct{}
	header         []string
	validated      atomic.Int64
}

func (g *gate) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	for name, values := range fields(g.header...) {
		rw.Header()[name] = values
	}
	if r.Header.Get("If-None-Match") != "" {
		g.validated.Add(1)
		rw.WriteHeader(http.StatusNotModified)
		return
	}
	g.arrived <- struct{}{}
	<-g.begin
	io.WriteString(rw, "x")
}

// together sends n requests of which all but the first come while that one's response
// is awaited.
func (g *gate) together(w *world, n int, cacheControl string) []answer {
	answers := make([]answer, n)
	var wg sync.WaitGroup
	wg.Go(func() { answers[0] = w.get("/") })
	<-g.arrived
	for i := 1; i < n; i++ {
		wg.Go(func() { answers[i] = w.get("/", "Cache-Control", cacheControl) })
	}
	eventually(w.t, "all have joined", func() bool {
		f := w.cache.flights.only()
		return f != nil && f.readers.Load() == int32(n)
	})
	close(g.begin)
	wg.Wait()
	return answers
}

// only returns the one running fill.
func (t *flights) only() *fill {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.byKey {
		return f
	}
	return nil
}

func TestCollapsedRequestsShareWhatCouldBeReused(t *testing.T) {
	g := &gate{arrived: make(chan struct{}, 10), begin: make(chan struct{}), header: []string{"Cache-Control: max-age=60", "Age: 5"}}
	w := newWorld(t, web, g.ServeHTTP)
	for i, a := range g.together(w, 4, "max-stale") {
		want := "larder; fwd=uri-miss; collapsed"
		if i == 0 {
			want = "larder; fwd=uri-miss; stored"
		}
		a.want(t, 200, []byte("x"), want)
		a.wantField(t, "Age", "5")
	}
	w.wantGets(1)
}

// TestCollapsedRequestsValidateWhatMustBe is RFC 9111, section 4: a response is shared
// only as far as it could be reused.
func TestCollapsedRequestsValidateWhatMustBe(t *testing.T) {
	for _, test := range []struct {
		name, header, request string
	}{
		{"the origin wants it", "Cache-Control: no-cache", "x"},
		{"the client wants it", "Cache-Control: max-age=60", "no-cache"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := &gate{arrived: make(chan struct{}, 10), begin: make(chan struct{}), header: []string{test.header, `Etag: "1"`}}
			w := newWorld(t, web, g.ServeHTTP)
			for _, a := range g.together(w, 4, test.request) {
				if a.StatusCode != 200 || string(a.body) != "x" {
					t.Errorf("%d %q", a.StatusCode, a.body)
				}
			}
			if n := g.validated.Load(); n < 1 || n > 3 || w.gets.Load() != n+1 {
				t.Errorf("%d GETs of which %d validate", w.gets.Load(), n)
			}
		})
	}
}

// TestWhoCannotShareALostFillAsksAlone: the leader of a fill that will not be stored
// leaves, and nobody who waits for the end of it reads it.
func TestWhoCannotShareALostFillAsksAlone(t *testing.T) {
	s := newStepper(8 << 20)
	s.length = false
	s.header.Set("Cache-Control", "no-cache")
	s.header.Set("Etag", `"a"`)
	var n atomic.Int64
	w := newWorld(t, &Rule{Mode: HTTP, MaxObject: 2 << 20}, func(rw http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			s.ServeHTTP(rw, r)
			return
		}
		rw.Header().Set("Cache-Control", "no-cache")
		io.WriteString(rw, "other")
	})
	ctx, cancel := context.WithCancel(t.Context())
	leader := w.open(ctx, "/x")
	s.allowed <- 1 << 20
	io.ReadFull(leader.Body, make([]byte, 1<<20))
	joined := make(chan answer)
	go func() { joined <- w.get("/x") }()
	fill := w.cache.flights.only()
	eventually(t, "the second is aboard", func() bool { return fill.readers.Load() == 2 })
	cancel()
	w.last()
	close(s.allowed)
	a := <-joined
	a.want(t, 200, []byte("other"), "larder; fwd=uri-miss; detail=no-freshness")
}

func TestRuleAddsStaleIfErrorExceptWhereForbidden(t *testing.T) {
	for directive, status := range map[string]int{"": 200, ", must-revalidate": 502, ", proxy-revalidate": 502, ", no-cache": 502, ", s-maxage=10": 502} {
		fail := false
		w := newWorld(t, &Rule{Mode: HTTP, StaleIfError: time.Hour}, func(rw http.ResponseWriter, r *http.Request) {
			if fail {
				panic(http.ErrAbortHandler)
			}
			rw.Header().Set("Cache-Control", "max-age=10"+directive)
			rw.Header().Set("Etag", `"x"`)
		})
		w.get("/")
		fail = true
		w.clock.advance(time.Minute)
		if got := w.get("/"); got.StatusCode != status {
			t.Errorf("max-age=10%s: status %d, want %d", directive, got.StatusCode, status)
		}
	}
}
