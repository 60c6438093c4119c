package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"larder/cache/store"
)

// asked makes a POST's content part of the key.
func asked(check func(http.Header) Checker) func(*http.Request, []byte) *Content {
	return func(_ *http.Request, body []byte) *Content {
		return &Content{Kind: "test", Key: sha256.Sum256(body), Bytes: body, Fields: []string{"X-Protocol"}, Check: check}
	}
}

// echo answers a POST with what it was asked.
func echo(posts *atomic.Int64) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posts.Add(1)
		}
		body, _ := io.ReadAll(r.Body)
		rw.Header().Set("Cache-Control", "no-cache, max-age=0, must-revalidate")
		_, _ = rw.Write(append([]byte("answer to "), body...))
	}
}

func (w *world) post(body string, fields ...string) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.front.URL+"/ask", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	resp, err := w.front.Client().Transport.RoundTrip(req)
	if err != nil {
		return answer{err: err, Response: &http.Response{Header: http.Header{}}}
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return answer{resp, got, err}
}

func TestContentSelectsTheResponse(t *testing.T) {
	t.Parallel()
	var posts atomic.Int64
	var seen atomic.Pointer[http.Request]
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		seen.Store(r)
		echo(&posts)(rw, r)
	})
	w.content = asked(nil)
	w.post("one", "Content-Type", "text/question", "X-Protocol", "2", "X-Odd", "o", "User-Agent", "git/2").
		want(t, 200, []byte("answer to one"), "larder; fwd=uri-miss; stored")
	for name, want := range map[string]string{"Content-Type": "text/question", "X-Protocol": "2", "X-Odd": "", "User-Agent": fillAgent} {
		if got := seen.Load().Header.Get(name); got != want {
			t.Errorf("upstream got %s: %q, want %q", name, got, want)
		}
	}
	if n := seen.Load().ContentLength; n != 3 {
		t.Errorf("upstream got a length of %d", n)
	}
	w.post("one").want(t, 200, []byte("answer to one"), "larder; hit; detail=immutable")
	w.post("two").want(t, 200, []byte("answer to two"), "larder; fwd=uri-miss; stored")
	// A GET of the URI is something else, and what makes it unusable is not of theirs.
	w.get("/ask").want(t, 200, []byte("answer to "), "larder; fwd=uri-miss; stored")
	w.cache.Invalidate(mustURL(t, w.origin.URL+"/ask"))
	w.post("one").want(t, 200, []byte("answer to one"), "larder; hit; detail=immutable")
	w.get("/ask").want(t, 200, []byte("answer to "), "larder; fwd=uri-miss; stored")
	if n := posts.Load(); n != 2 {
		t.Errorf("origin saw %d POSTs, want 2", n)
	}
}

func TestContentAskedForAtOnceGoesUpstreamOnce(t *testing.T) {
	t.Parallel()
	var posts atomic.Int64
	release := make(chan struct{})
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		<-release
		echo(&posts)(rw, r)
	})
	w.content = asked(nil)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if a := w.post("q"); a.err != nil || string(a.body) != "answer to q" {
				t.Errorf("got %q, %v", a.body, a.err)
			}
		})
	}
	close(release)
	all.Wait()
	if n := posts.Load(); n != 1 {
		t.Errorf("origin saw %d POSTs, want 1", n)
	}
}

// TestContentWithCredentialsIsNotShared has an origin that says must-revalidate of all.
func TestContentWithCredentialsIsNotShared(t *testing.T) {
	t.Parallel()
	var posts atomic.Int64
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		echo(&posts)(rw, r)
	})
	w.content = asked(nil)
	for range 2 {
		w.post("q", "Authorization", "Basic x").want(t, 200, []byte("answer to q"), "larder; fwd=uri-miss; detail=authorization")
	}
	before := w.all.Load()
	w.post("q", "X-Protocol", "2", "Content-Encoding", "odd").want(t, 401, nil, "larder; fwd=uri-miss; detail=status")
	if n := w.all.Load() - before; n != 1 {
		t.Errorf("%d requests went upstream to be refused once", n)
	}
	if n := posts.Load(); n != 2 || w.stored() != 0 {
		t.Errorf("%d POSTs were answered, want 2; %d are stored", n, w.stored())
	}
}

func TestContentWithRangesAndConditionsIsTheOrigins(t *testing.T) {
	t.Parallel()
	var posts atomic.Int64
	w := newWorld(t, immutable, echo(&posts))
	w.content = asked(nil)
	w.post("q").want(t, 200, []byte("answer to q"), "larder; fwd=uri-miss; stored")
	w.post("q", "Range", "bytes=0-1").want(t, 200, []byte("answer to q"), "larder; fwd=request")
	w.post("q", "If-None-Match", "*").want(t, 200, []byte("answer to q"), "larder; fwd=request")
	if n := posts.Load(); n != 3 {
		t.Errorf("origin saw %d POSTs, want 3", n)
	}
}

func TestContentIsAskedAgainAndServedStale(t *testing.T) {
	t.Parallel()
	var posts atomic.Int64
	var down atomic.Bool
	w := newWorld(t, &Rule{Name: "r", Mode: Revalidate, StaleIfError: time.Hour}, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			t.Error("a POST went upstream with a condition")
		}
		if down.Load() {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		rw.Header().Set("Etag", `"x"`)
		echo(&posts)(rw, r)
	})
	w.content = asked(nil)
	w.post("q").want(t, 200, []byte("answer to q"), "larder; fwd=uri-miss; stored")
	w.post("q").want(t, 200, []byte("answer to q"), "larder; fwd=stale; fwd-status=200; ttl=0; detail=unchanged")
	down.Store(true)
	w.clock.advance(time.Minute)
	w.post("q").want(t, 200, []byte("answer to q"), "larder; fwd=stale; fwd-status=502; ttl=-60; detail=stale-if-error")
	w.post("never asked").want(t, 502, nil, "larder; fwd=uri-miss; detail=status")
	w.cache.SetOffline(true)
	w.post("q").want(t, 200, []byte("answer to q"), "larder; hit; ttl=-60; detail=offline")
	if n := posts.Load(); n != 2 {
		t.Errorf("origin answered %d POSTs, want 2", n)
	}
}

// verdictOf judges a body by whether it holds a word.
type verdictOf struct {
	bytes.Buffer
	header http.Header
}

func (v *verdictOf) Done() (string, error) {
	switch {
	case strings.Contains(v.String(), "damaged"):
		return "", errors.New("damaged")
	case strings.Contains(v.String(), "error") || v.header.Get("Cache-Control") == "":
		return "error", nil
	}
	return "", nil
}

func TestCheckedContentIsStoredOnlyIfItIsGood(t *testing.T) {
	t.Parallel()
	var posts atomic.Int64
	w := newWorld(t, immutable, echo(&posts))
	w.content = asked(func(h http.Header) Checker { return &verdictOf{header: h} })
	for range 2 {
		// That it is not stored is known when the body has come, which here is at once.
		if a := w.post("error"); a.err != nil || string(a.body) != "answer to error" {
			t.Errorf("got %q, %v", a.body, a.err)
		}
		if out, err := w.last(); err != nil || out.Stored {
			t.Errorf("outcome %+v, %v", out, err)
		}
	}
	if a := w.post("damaged"); a.err == nil {
		t.Errorf("a damaged answer came as %d %q", a.StatusCode, a.body)
	}
	if w.stored() != 0 {
		t.Errorf("%d answers are stored, want none", w.stored())
	}
	w.post("good").want(t, 200, []byte("answer to good"), "larder; fwd=uri-miss; stored")
	w.post("good").want(t, 200, []byte("answer to good"), "larder; hit; detail=immutable")
	if n := posts.Load(); n != 4 {
		t.Errorf("origin saw %d POSTs, want 4", n)
	}
}

func TestContentTooLargeForTheRuleStreamsThrough(t *testing.T) {
	t.Parallel()
	var posts atomic.Int64
	w := newWorldWith(t, &Rule{Name: "r", Mode: Immutable, MaxObject: 1 << 10}, echo(&posts), Options{}, store.Options{})
	w.content = asked(nil)
	large := strings.Repeat("x", 1<<20)
	for range 2 {
		if a := w.post(large); a.err != nil || len(a.body) != len(large)+len("answer to ") {
			t.Errorf("got %d bytes, %v", len(a.body), a.err)
		}
	}
	if posts.Load() != 2 || w.stored() != 0 {
		t.Errorf("%d POSTs, %d stored", posts.Load(), w.stored())
	}
}

// dying is an upstream whose connections die now and then.
type dying struct {
	http.RoundTripper
	times atomic.Int64
}

func (d *dying) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.times.Add(-1) >= 0 {
		_, _ = io.Copy(io.Discard, r.Body)
		return nil, syscall.ECONNRESET
	}
	return d.RoundTripper.RoundTrip(r)
}

func TestContentIsSentAgainOverAnotherConnection(t *testing.T) {
	t.Parallel()
	var posts atomic.Int64
	w := newWorld(t, immutable, echo(&posts))
	w.content = asked(nil)
	d := &dying{RoundTripper: w.cache.upstream}
	d.times.Store(1)
	w.cache.upstream = d
	w.post("q").want(t, 200, []byte("answer to q"), "larder; fwd=uri-miss; stored")
}

// TestContentThatBreaksOffIsNotResumed has an answer that is another each time.
func TestContentThatBreaksOffIsNotResumed(t *testing.T) {
	t.Parallel()
	var posts atomic.Int64
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		posts.Add(1)
		if r.Header.Get("Range") != "" {
			t.Error("a POST went upstream with a range")
		}
		_, _ = rw.Write(noise(1 << 20))
		_ = http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	})
	w.content = asked(nil)
	if a := w.post("q"); a.err == nil {
		t.Errorf("%d bytes came as if they were the whole", len(a.body))
	}
	if posts.Load() != 1 || w.stored() != 0 {
		t.Errorf("%d POSTs, %d stored", posts.Load(), w.stored())
	}
}

// TestClientThatLeavesDoesNotTakeTheAnswerFromOthers ends the request that started
// the fill.
func TestClientThatLeavesDoesNotTakeTheAnswerFromOthers(t *testing.T) {
	t.Parallel()
	var posts atomic.Int64
	arrived, release := make(chan struct{}, 2), make(chan struct{})
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		echo(&posts)(rw, r)
	})
	w.content = asked(nil)
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.front.URL+"/ask", strings.NewReader("q"))
	if err != nil {
		t.Fatal(err)
	}
	left := make(chan struct{})
	go func() { // ends with leave
		defer close(left)
		if resp, err := w.front.Client().Transport.RoundTrip(req); err == nil {
			resp.Body.Close()
		}
	}()
	<-arrived
	second := make(chan answer)
	go func() { second <- w.post("q") }() // ends with release
	gather(w, 2)()
	leave()
	<-left
	close(release)
	if a := <-second; a.err != nil || string(a.body) != "answer to q" {
		t.Errorf("got %q, %v", a.body, a.err)
	}
	if n := posts.Load(); n != 1 {
		t.Errorf("origin saw %d POSTs, want 1", n)
	}
}

// TestContentIsRecheckedByProof has an origin that refuses with 200 and a word, as
// gitolite does.
func TestContentIsRecheckedByProof(t *testing.T) {
	t.Parallel()
	var posts, asks atomic.Int64
	rule := rechecking()
	rule.RecheckScope, rule.RecheckAt = regexp.MustCompile("^/(ask)$"), "/access?of=$1"
	rule.RecheckProof = func(_ http.Header, body io.Reader) bool {
		b, err := io.ReadAll(body)
		return err == nil && string(b) == "yes"
	}
	w := newWorld(t, rule, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Etag", `"1"`)
		switch may := r.Header.Get("Authorization") == "Basic ok"; {
		case r.URL.Path == "/access":
			asks.Add(1)
			if r.Method != http.MethodGet || r.Header.Get("Content-Type") != "" {
				t.Errorf("access was asked for with %s and %v", r.Method, r.Header)
			}
			_, _ = io.WriteString(rw, map[bool]string{true: "yes", false: "no"}[may])
		case may:
			echo(&posts)(rw, r)
		default:
			_, _ = io.WriteString(rw, "refused")
		}
	})
	w.content = asked(nil)
	const field, ok, other = "Authorization", "Basic ok", "Basic other"
	w.post("q", field, ok, "Content-Type", "text/question").want(t, 200, []byte("answer to q"), "larder; fwd=uri-miss; stored")
	w.post("q", field, ok, "Content-Type", "text/question").want(t, 200, []byte("answer to q"), "larder; hit; detail=recheck")
	w.post("q", field, ok).want(t, 200, []byte("answer to q"), "larder; hit; detail=immutable")
	for range 2 {
		// What is not a yes is upstream's own answer, which gives no access either.
		w.post("q", field, other).want(t, 200, []byte("refused"), "larder; fwd=request; detail=recheck")
		w.post("q").want(t, 200, []byte("refused"), "larder; fwd=request; detail=recheck")
	}
	if posts.Load() != 1 || asks.Load() != 5 {
		t.Errorf("%d POSTs and %d questions, want 1 and 5", posts.Load(), asks.Load())
	}
	// Who begins a fill and is refused with a word has proved nothing by it.
	w.post("r", field, other).want(t, 200, []byte("refused"), "larder; fwd=uri-miss; stored")
	w.post("q", field, other).want(t, 200, []byte("refused"), "larder; fwd=request; detail=recheck")
}

// TestOutdatedContentIsNotJoined has a push in the middle of a question about refs.
func TestOutdatedContentIsNotJoined(t *testing.T) {
	t.Parallel()
	var posts atomic.Int64
	arrived, release := make(chan struct{}, 2), make(chan struct{})
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		if posts.Load() == 0 {
			posts.Add(1)
			<-release
			_, _ = io.WriteString(rw, "before")
			return
		}
		posts.Add(1)
		_, _ = io.WriteString(rw, "after")
	})
	w.content = asked(nil)
	first := make(chan answer)
	go func() { first <- w.post("q") }() // ends with release
	<-arrived
	w.cache.OutdateContent("other", mustURL(t, w.origin.URL+"/ask"))
	w.cache.OutdateContent("test", mustURL(t, w.origin.URL+"/else"))
	if w.cache.flights.only() == nil {
		t.Fatal("what nobody has changed is outdated")
	}
	w.cache.OutdateContent("test", mustURL(t, w.origin.URL+"/ask"))
	w.post("q").want(t, 200, []byte("after"), "larder; fwd=uri-miss; stored")
	close(release)
	if a := <-first; string(a.body) != "before" {
		t.Errorf("the first got %q, %v", a.body, a.err)
	}
	w.post("q").want(t, 200, []byte("after"), "larder; hit")
}
