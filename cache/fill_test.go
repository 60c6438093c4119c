package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"larder/cache/store"
)

func TestManyClientsOfOneColdObjectCauseOneFetch(t *testing.T) {
	const clients, size = 64, 16 << 20
	body := noise(size)
	var ready func()
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		ready()
		rw.Header().Set("Content-Length", strconv.Itoa(size))
		for off := 0; off < size; off += 1 << 20 {
			rw.Write(body[off : off+1<<20])
		}
	})
	ready = gather(w, clients)
	highest := watchHeap(t)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			resp, err := w.front.Client().Get(w.front.URL + "/big")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			h := newDigest()
			if _, err := io.Copy(h, resp.Body); err != nil {
				t.Error(err)
			}
			if h.String() != digest(body) {
				t.Error("wrong bytes")
			}
		})
	}
	wg.Wait()
	if grown := highest(); grown > 64<<20 {
		t.Errorf("heap grew by %d MiB", grown>>20)
	}
	w.wantGets(1)
	var upstream int64
	for range clients {
		w.last()
	}
	for _, out := range w.outcomes {
		upstream += out.UpstreamBytes
		if out.SHA256 != digest(body) || !out.Stored {
			t.Fatalf("outcome %+v", out)
		}
	}
	if upstream != size {
		t.Errorf("%d bytes accounted to upstream, want %d", upstream, size)
	}
	w.get("/big").want(t, 200, body, "larder; hit")
}

// watchHeap makes the collector run often, so that what it finds is what is in use, and
// returns what ends that and says by how much the heap has grown at most.
func watchHeap(t *testing.T) (highest func() int64) {
	old := debug.SetGCPercent(10)
	t.Cleanup(func() { debug.SetGCPercent(old) })
	inUse := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	runtime.GC()
	before := inUse()
	var peak int64
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { // ends with highest
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			peak = max(peak, inUse())
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	})
	return func() int64 {
		close(stop)
		watch.Wait()
		return peak - before
	}
}

// stepper is an origin that sends a body as far as the test lets it.
type stepper struct {
	body    []byte
	allowed chan int // further bytes to send; closed: the rest
	gone    chan struct{}
	length  bool
	header  http.Header
}

func newStepper(n int) *stepper {
	return &stepper{body: noise(n), allowed: make(chan int, 100), gone: make(chan struct{}), length: true, header: http.Header{}}
}

func (s *stepper) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	for name, values := range s.header {
		rw.Header()[name] = values
	}
	if s.length {
		rw.Header().Set("Content-Length", strconv.Itoa(len(s.body)))
	}
	rw.WriteHeader(200)
	http.NewResponseController(rw).Flush()
	rest := s.body
	for {
		select {
		case n, open := <-s.allowed:
			if !open {
				rw.Write(rest)
				return
			}
			rw.Write(rest[:n])
			rest = rest[n:]
			http.NewResponseController(rw).Flush()
		case <-r.Context().Done():
			close(s.gone)
			return
		}
	}
}

// open starts a request and returns once the header is there.
func (w *world) open(ctx context.Context, path string, fields ...string) *http.Response {
	w.t.Helper()
	req, _ := http.NewRequestWithContext(ctx, "GET", w.front.URL+path, nil)
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	resp, err := w.front.Client().Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestJoinerIsFedAtOnceAndTheLeaderMayLeave(t *testing.T) {
	s := newStepper(2 << 20)
	w := newWorld(t, immutable, s.ServeHTTP)
	ctx, cancel := context.WithCancel(t.Context())
	leader := w.open(ctx, "/x")
	s.allowed <- 100 << 10
	part := make([]byte, 100<<10)
	if _, err := io.ReadFull(leader.Body, part); err != nil {
		t.Fatal(err)
	}
	joiner := w.open(t.Context(), "/x")
	if got := joiner.Header.Get("Cache-Status"); got != "larder; fwd=uri-miss; collapsed" {
		t.Errorf("joiner's Cache-Status: %s", got)
	}
	if _, err := io.ReadFull(joiner.Body, part); err != nil {
		t.Fatal(err)
	}
	cancel()
	w.last() // the leader has gone
	close(s.allowed)
	rest, err := io.ReadAll(joiner.Body)
	if err != nil || digest(append(part, rest...)) != digest(s.body) {
		t.Errorf("joiner: %v, %d bytes", err, len(rest)+len(part))
	}
	w.wantGets(1)
}

func TestLastClientLeaving(t *testing.T) {
	for _, test := range []struct {
		name   string
		finish FinishFill
		share  int // of 16
		took   time.Duration
		ends   bool
	}{
		{"early ends the fill", FinishNear, 4, 0, true},
		{"after the half lets it finish", FinishNear, 12, time.Hour, false},
		{"with less than a minute's worth left lets it finish", FinishNear, 4, 19 * time.Second, false},
		{"with more than a minute's worth left ends it", FinishNear, 4, 21 * time.Second, true},
		{"early lets it finish where the rule says so", FinishAlways, 4, time.Hour, false},
		{"after the half ends it where the rule says so", FinishNever, 12, 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStepper(16 << 18)
			w := newWorld(t, &Rule{Mode: Immutable, FinishFill: test.finish}, s.ServeHTTP)
			ctx, cancel := context.WithCancel(t.Context())
			resp := w.open(ctx, "/x")
			s.allowed <- test.share << 18
			if _, err := io.ReadFull(resp.Body, make([]byte, test.share<<18)); err != nil {
				t.Fatal(err)
			}
			w.clock.advance(test.took)
			cancel()
			w.last()
			if test.ends {
				select {
				case <-s.gone:
				case <-time.After(10 * time.Second):
					t.Fatal("upstream still sends")
				}
				w.cache.wg.Wait()
				if n := w.stored(); n != 0 {
					t.Errorf("%d objects stored", n)
				}
				return
			}
			close(s.allowed)
			w.cache.wg.Wait()
			w.get("/x").want(t, 200, s.body, "larder; hit")
			w.wantGets(1)
		})
	}
}

func TestRangeOfARunningFillWaitsForItsBytesOnly(t *testing.T) {
	s := newStepper(1 << 20)
	w := newWorld(t, immutable, s.ServeHTTP)
	first := w.open(t.Context(), "/x")
	s.allowed <- 512 << 10
	got := w.get("/x", "Range", "bytes=262144-327679")
	got.want(t, 206, s.body[256<<10:320<<10], "larder; fwd=uri-miss; collapsed")
	if cr := got.Header.Get("Content-Range"); cr != "bytes 262144-327679/1048576" {
		t.Errorf("Content-Range: %s", cr)
	}
	w.get("/x", "Range", "bytes=2000000-").want(t, 416, nil, "larder; fwd=uri-miss; collapsed")
	w.do("HEAD", "/x").want(t, 200, nil, "larder; fwd=uri-miss; collapsed")
	close(s.allowed)
	if b, err := io.ReadAll(first.Body); err != nil || digest(b) != digest(s.body) {
		t.Errorf("first client: %v", err)
	}
	w.wantGets(1)
	w.get("/x", "Range", "bytes=-10").want(t, 206, s.body[1<<20-10:], "larder; hit")
}

func TestRangeOfAFillWithoutLength(t *testing.T) {
	s := newStepper(1 << 20)
	s.length = false
	w := newWorld(t, immutable, s.ServeHTTP)
	done := make(chan answer)
	first := w.open(t.Context(), "/x")
	go func() { done <- w.get("/x", "Range", "bytes=-10") }()
	close(s.allowed)
	a := <-done
	if a.StatusCode != 206 || string(a.body) != string(s.body[1<<20-10:]) || a.Header.Get("Content-Range") != "bytes 1048566-1048575/1048576" {
		t.Errorf("%d %d bytes %v", a.StatusCode, len(a.body), a.Header)
	}
	io.Copy(io.Discard, first.Body)
}

func TestClosedRangeOfAFillWithoutLengthWaitsForItsBytesOnly(t *testing.T) {
	s := newStepper(1 << 20)
	s.length = false
	w := newWorld(t, immutable, s.ServeHTTP)
	first := w.open(t.Context(), "/x")
	s.allowed <- 512 << 10 // and no more until the range is answered
	got := w.get("/x", "Range", "bytes=100-199")
	got.want(t, 206, s.body[100:200], "larder; fwd=uri-miss; collapsed")
	if v := got.Header.Get("Content-Range"); v != "bytes 100-199/*" {
		t.Errorf("Content-Range: %s", v)
	}
	close(s.allowed)
	if b, err := io.ReadAll(first.Body); err != nil || digest(b) != digest(s.body) {
		t.Errorf("first client: %v", err)
	}
	w.wantGets(1)
}

// TestRangeOfAFillThatIsNoLongerStored asks for a part of a body whose length nobody
// knows and that turns out to be larger than what is stored: nobody reads what passes
// through the window, so nobody may wait for its end.
func TestRangeOfAFillThatIsNoLongerStored(t *testing.T) {
	for _, field := range []string{"bytes=0-9", "bytes=5000000-5000009", "bytes=-10", "bytes=5-"} {
		t.Run(field, func(t *testing.T) {
			s := newStepper(6 << 20)
			s.length = false
			close(s.allowed)
			rule := &Rule{Mode: Immutable, MaxObject: 1 << 20, FillRanges: true}
			w := newWorld(t, rule, func(rw http.ResponseWriter, r *http.Request) {
				s.ServeHTTP(rw, r) // knows no ranges
			})
			got := w.get("/x", "Range", field)
			if ok := got.StatusCode == 200 && digest(got.body) == digest(s.body) ||
				field == "bytes=0-9" && got.StatusCode == 206 && bytes.Equal(got.body, s.body[:10]); !ok || got.err != nil {
				t.Errorf("status %d, %d bytes, %v", got.StatusCode, len(got.body), got.err)
			}
		})
	}
}

// fault is an origin that breaks its first answers off.
type fault struct {
	body   []byte
	etag   string
	breaks int            // how many answers break off
	at     int            // after how many bytes of each
	after  func(f *fault) // called when one breaks
	ranges bool           // whether it knows ranges
	seen   []string       // Range fields
	how    func(http.ResponseWriter)
	mu     sync.Mutex
}

func (f *fault) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, r.Header.Get("Range"))
	if f.etag != "" {
		rw.Header().Set("Etag", f.etag)
	}
	from := 0
	if v, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && f.ranges && r.Header.Get("If-Range") == f.etag {
		from, _ = strconv.Atoi(strings.TrimSuffix(v, "-"))
		rw.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(f.body)-1, len(f.body)))
	}
	rw.Header().Set("Content-Length", strconv.Itoa(len(f.body)-from))
	if from > 0 {
		rw.WriteHeader(206)
	}
	if f.breaks > 0 {
		f.breaks--
		rw.Write(f.body[from:min(from+f.at, len(f.body))])
		http.NewResponseController(rw).Flush()
		if f.after != nil {
			f.after(f)
		}
		if f.how != nil {
			f.how(rw)
		}
		panic(http.ErrAbortHandler)
	}
	rw.Write(f.body[from:])
}

func TestUpstreamThatBreaksOffIsResumedUnseen(t *testing.T) {
	for _, test := range []struct {
		name   string
		fault  *fault
		ranges int // requests that asked for the rest
	}{
		{"by range under a strong validator", &fault{etag: `"s"`, ranges: true, breaks: 3, at: 300_000}, 3},
		{"an origin that ignores ranges, by comparing", &fault{etag: `"s"`, breaks: 2, at: 300_000}, 2},
		{"without validators, by comparing", &fault{breaks: 2, at: 300_000}, 0},
		{"under a weak validator, by comparing", &fault{etag: `W/"s"`, ranges: true, breaks: 1, at: 300_000}, 0},
		{"before the first body byte", &fault{etag: `"s"`, ranges: true, breaks: 2}, 0},
		{"more often than is tried without progress", &fault{etag: `"s"`, ranges: true, breaks: 2 * maxResumes, at: 90_000}, 2 * maxResumes},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.fault.body = noise(1 << 20)
			w := newWorld(t, immutable, test.fault.ServeHTTP)
			w.get("/x").want(t, 200, test.fault.body, "larder; fwd=uri-miss; stored")
			w.get("/x").want(t, 200, test.fault.body, "larder; hit")
			n := 0
			for _, v := range test.fault.seen {
				if v != "" {
					n++
				}
			}
			if n != test.ranges {
				t.Errorf("Range fields seen: %q", test.fault.seen)
			}
		})
	}
}

func TestWhatCannotBeResumedIsCutAndNotStored(t *testing.T) {
	change := func(f *fault) { f.body, f.etag = noise(len(f.body)+1), `"t"` }
	swap := func(f *fault) { f.body = append(noise(5), f.body[5:]...) }
	for _, test := range []struct {
		name  string
		fault *fault
	}{
		{"changed meanwhile", &fault{etag: `"s"`, ranges: true, breaks: 1, at: 300_000, after: change}},
		{"other bytes of the same length", &fault{breaks: 1, at: 300_000, after: swap}},
		{"never more than a part", &fault{etag: `"s"`, ranges: true, breaks: 1000, at: 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.fault.body = noise(1 << 20)
			w := newWorldWith(t, immutable, test.fault.ServeHTTP, Options{firstByte: time.Minute}, store.Options{})
			got := w.get("/x")
			if got.err == nil && got.StatusCode < 500 {
				t.Fatalf("the client takes %d bytes for the whole", len(got.body))
			}
			if test.fault.at == 0 && got.StatusCode != 502 {
				t.Errorf("status %d for a body of which nothing came, want 502", got.StatusCode)
			}
			if out, err := w.last(); err == nil || out.Stored {
				t.Errorf("outcome %+v, %v", out, err)
			}
			w.cache.wg.Wait()
			if n := w.stored(); n != 0 {
				t.Errorf("%d objects stored", n)
			}
		})
	}
}

func TestSilentUpstreamTimesOut(t *testing.T) {
	release := make(chan struct{})
	w := newWorldWith(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			rw.Header().Set("Content-Length", "10")
			rw.Write([]byte("abc"))
			http.NewResponseController(rw).Flush()
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}, Options{IdleTimeout: 100 * time.Millisecond}, store.Options{})
	defer close(release)
	if got := w.get("/header"); got.StatusCode != 504 {
		t.Errorf("status %d, want 504", got.StatusCode)
	}
	_, err := w.last()
	if _, ok := errors.AsType[*TimeoutError](err); !ok {
		t.Errorf("error %v", err)
	}
	if got := w.get("/body"); got.err == nil && got.StatusCode < 500 {
		t.Error("the client takes a part for the whole")
	}
}

func TestUnsharedResponsesDoNotSerialise(t *testing.T) {
	const clients = 8
	var inside atomic.Int32
	all := make(chan struct{})
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Cache-Control", "private")
		if inside.Add(1) == clients {
			close(all)
		}
		// All but the first are upstream at once: none waits for another's body.
		http.NewResponseController(rw).Flush()
		<-all
		rw.Write([]byte("mine"))
	})
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			got := w.get("/x")
			if string(got.body) != "mine" {
				t.Errorf("%q %v", got.body, got.err)
			}
		})
	}
	wg.Wait()
	w.wantGets(clients)
	if n := w.stored(); n != 0 {
		t.Errorf("%d objects stored", n)
	}
}

func TestTooLargeStreamsThroughUnstored(t *testing.T) {
	for _, length := range []bool{true, false} {
		s := newStepper(3 << 20)
		s.length = length
		close(s.allowed)
		w := newWorld(t, &Rule{Mode: Immutable, MaxObject: 1 << 20}, s.ServeHTTP)
		got := w.get("/x")
		if digest(got.body) != digest(s.body) || got.err != nil {
			t.Errorf("got %d bytes, %v", len(got.body), got.err)
		}
		w.cache.wg.Wait()
		if n := w.stored(); n != 0 {
			t.Errorf("%d objects stored", n)
		}
	}
}

func TestStoreThatFailsInMidFillLosesNoClient(t *testing.T) {
	const size, clients = 40 << 20, 5
	body := noise(size)
	start := make(chan struct{})
	w := newWorldWith(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		// Without a Content-Length, by which it would be known from the beginning.
		http.NewResponseController(rw).Flush()
		<-start
		rw.Write(body)
	}, Options{}, store.Options{MaxSize: 32 << 20}) // takes no object of this size
	var wg sync.WaitGroup
	for range clients {
		resp := w.open(t.Context(), "/x")
		wg.Go(func() {
			h := newDigest()
			if _, err := io.Copy(h, resp.Body); err != nil || h.String() != digest(body) {
				t.Errorf("client: %v", err)
			}
		})
	}
	close(start)
	wg.Wait()
	w.wantGets(1)
	w.cache.wg.Wait()
	if n := w.stored(); n != 0 {
		t.Errorf("%d objects stored", n)
	}
}

func TestInvalidatedWhileFilling(t *testing.T) {
	for _, private := range []bool{false, true} {
		t.Run(fmt.Sprintf("private %v", private), func(t *testing.T) {
			s := newStepper(1 << 20)
			var n atomic.Int64
			w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
				if private && n.Add(1) == 1 {
					rw.Header().Set("Cache-Control", "private")
					return
				}
				s.ServeHTTP(rw, r)
			})
			if private {
				w.get("/x") // from now on nobody waits for others
			}
			resp := w.open(t.Context(), "/x")
			if joinable := w.cache.flights.only() != nil; joinable == private {
				t.Fatalf("a fill that others may join: %v", joinable)
			}
			w.cache.Invalidate(mustURL(t, w.origin.URL+"/x"))
			close(s.allowed)
			if b, err := io.ReadAll(resp.Body); err != nil || len(b) != 1<<20 {
				t.Errorf("%d bytes, %v", len(b), err)
			}
			w.cache.wg.Wait()
			if n := w.stored(); n != 0 {
				t.Errorf("%d objects stored", n)
			}
			if n := len(w.cache.flights.all); n != 0 {
				t.Errorf("%d targets still have fills", n)
			}
		})
	}
}

// TestInvalidatedWhileCommitting comes between the last look before the commit and the
// commit.
func TestInvalidatedWhileCommitting(t *testing.T) {
	s := newStepper(1 << 20)
	w := newWorld(t, &Rule{Mode: Immutable, Vary: []string{"Accept"}}, s.ServeHTTP)
	resp := w.open(t.Context(), "/x")
	f := w.cache.flights.only()
	lock := &w.cache.variants[int(f.primary[0])%len(w.cache.variants)]
	lock.Lock() // which the commit needs for its key
	close(s.allowed)
	eventually(t, "the body is complete", func() bool { _, done := f.spool.progress(); return done })
	w.cache.Invalidate(mustURL(t, w.origin.URL+"/x"))
	lock.Unlock()
	io.Copy(io.Discard, resp.Body)
	w.cache.wg.Wait()
	if f.saved {
		t.Error("the fill says that it was stored")
	}
	w.get("/x").want(t, 200, s.body, "larder; fwd=uri-miss; stored")
	w.wantGets(2)
}

func TestCloseEndsFillsAndWaits(t *testing.T) {
	s := newStepper(1 << 20)
	w := newWorld(t, immutable, s.ServeHTTP)
	resp := w.open(t.Context(), "/x")
	if err := w.cache.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the client takes a part for the whole")
	}
	if got := w.get("/y"); got.StatusCode != 502 {
		t.Errorf("status %d after Close", got.StatusCode)
	}
}

func TestHeldValidationThatFailsServesStale(t *testing.T) {
	var broken atomic.Bool
	body := noise(200_000)
	w := newWorld(t, &Rule{Mode: Revalidate, StaleIfError: time.Hour}, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
		if broken.Load() {
			rw.Write(body[:1000])
			panic(http.ErrAbortHandler)
		}
		rw.Write(body)
	})
	w.get("/i")
	broken.Store(true)
	w.clock.advance(time.Minute)
	w.get("/i").want(t, 200, body, "larder; fwd=stale; ttl=-60; detail=stale-if-error")
}

func TestDamagedObjectIsFetchedAgain(t *testing.T) {
	body := noise(5 << 20)
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) { rw.Write(body) })
	w.get("/x")
	w.cache.wg.Wait()
	flipEverything(t, w.dir, body[:64])
	w.get("/x").want(t, 200, body, "larder; fwd=uri-miss; stored")
	w.get("/x").want(t, 200, body, "larder; hit")
	w.wantGets(2)
}

// flipEverything changes the bytes on disk that mark the beginning of a body.
func flipEverything(t *testing.T, dir string, mark []byte) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		at := bytes.Index(b, mark)
		if at < 0 {
			return nil
		}
		n++
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte{^mark[0]}, int64(at))
		return err
	})
	if err != nil || n == 0 {
		t.Fatalf("%d files changed, %v", n, err)
	}
}
