package cache

import (
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// skipper is a Skipper that notes what it was asked.
type skipper struct {
	*httptest.ResponseRecorder
	sum  [32]byte // what it has no use for
	seen int
}

func (s *skipper) Skip(sum [32]byte) bool {
	s.seen++
	return sum == s.sum
}

// around is a writer with another one below.
type around struct{ http.ResponseWriter }

func (a around) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func TestStoredBodyIsNotReadForWhoHasIt(t *testing.T) {
	body := noise(300 << 10)
	w := newWorld(t, &Rule{Mode: Immutable}, func(rw http.ResponseWriter, r *http.Request) { rw.Write(body) })
	ask := func(sum [32]byte, method string, header ...string) (*skipper, Outcome) {
		t.Helper()
		s := &skipper{ResponseRecorder: httptest.NewRecorder(), sum: sum}
		r := httptest.NewRequestWithContext(t.Context(), method, w.origin.URL+"/x", nil)
		r.RequestURI = ""
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		o, err := w.cache.Serve(around{s}, r, w.rule)
		if err != nil {
			t.Fatal(err)
		}
		return s, o
	}
	if s, _ := ask(sha256.Sum256(body), "GET"); s.seen != 0 || s.Body.Len() != len(body) {
		t.Errorf("of what is being fetched it was asked %d times and got %d bytes", s.seen, s.Body.Len())
	}
	w.cache.wg.Wait()
	s, o := ask(sha256.Sum256(body), "GET")
	if s.seen != 1 || s.Body.Len() != 0 || s.Code != 200 || !o.Hit || o.CacheBytes != 0 || s.Header().Get("Content-Length") == "" {
		t.Errorf("asked %d times, %d bytes, %d, %+v", s.seen, s.Body.Len(), s.Code, o)
	}
	if s, _ := ask([32]byte{}, "GET"); s.Body.Len() != len(body) {
		t.Errorf("who has another gets %d bytes", s.Body.Len())
	}
	if s, _ := ask(sha256.Sum256(body), "GET", "Range", "bytes=0-9"); s.seen != 0 || s.Body.Len() != 10 {
		t.Errorf("of a range it was asked %d times and got %d bytes", s.seen, s.Body.Len())
	}
}

func TestWhatTheRuleMakesTooLargeIsNotServed(t *testing.T) {
	for name, rule := range map[string]Rule{
		"immutable": {Mode: Immutable}, "with variants": {Mode: Revalidate, TTL: time.Hour}, "in memory": {Mode: Immutable},
	} {
		t.Run(name, func(t *testing.T) {
			body := strings.Repeat("x", 5000)
			if name == "in memory" {
				body = body[:200]
			}
			w := newWorld(t, &rule, func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte(body)) })
			for range 4 { // often enough to be kept in memory
				w.get("/x")
				w.cache.wg.Wait()
			}
			w.wantGets(1)
			smaller := rule
			smaller.MaxObject = int64(len(body)) - 1
			w.rule = &smaller
			u := w.origin.URL + "/x"
			if _, ok := w.cache.Ready(mustURL(t, u), w.rule); ok {
				t.Error("it is ready")
			}
			if a := w.get("/x"); a.StatusCode != 200 || string(a.body) != body || strings.Contains(a.Header.Get("Cache-Status"), "; hit") {
				t.Errorf("%d %s", a.StatusCode, a.Header.Get("Cache-Status"))
			}
			w.wantGets(2)
			w.rule = &rule
			w.get("/x")
			w.wantGets(3) // it has gone
		})
	}
}

func TestRemoveBySize(t *testing.T) {
	w := newWorld(t, &Rule{Mode: Immutable}, func(rw http.ResponseWriter, r *http.Request) {
		rw.Write(make([]byte, len(r.URL.Path)*1000))
	})
	w.fillUp("/a", "/bbbb", "/cc")
	done, err := w.catalogue().RemoveSized(t.Context(), func(url string, size int64) bool { return size > 2500 && !strings.HasSuffix(url, "/cc") }, nil)
	if err != nil || done.Removed != 1 || done.Scanned != 3 || done.Bytes != 5000 {
		t.Errorf("RemoveSized = %+v, %v", done, err)
	}
	if n := w.stored(); n != 2 {
		t.Errorf("%d are left", n)
	}
}
