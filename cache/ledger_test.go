package cache

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"larder/cache/integrity"
	"larder/cache/store"
	"larder/ledger"
)

func refusing() *Rule { return &Rule{Name: "r", Mode: Immutable, Ledger: LedgerRefuse} }

// changing is an origin whose body a test changes.
type changing struct{ body atomic.Pointer[[]byte] }

func (c *changing) set(b []byte) { c.body.Store(&b) }

func (c *changing) ServeHTTP(rw http.ResponseWriter, _ *http.Request) {
	b := *c.body.Load()
	rw.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = rw.Write(b)
}

func newLedgerWorld(t testing.TB, rule *Rule, handler http.HandlerFunc) (*world, *ledger.Ledger) {
	t.Helper()
	l, err := ledger.Open(ledger.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return newWorldWith(t, rule, handler, Options{Ledger: l}, store.Options{}), l
}

// evict removes everything that is stored.
func (w *world) evict() {
	w.t.Helper()
	if _, err := w.cache.Catalogue(func(target *url.URL) *Rule { return w.rule }).Remove(w.t.Context(), func(string) bool { return true }, nil); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) wantLedger(result string, n float64) {
	w.t.Helper()
	if got := testutil.ToFloat64(w.cache.metrics.ledger.WithLabelValues(result)); got != n {
		w.t.Errorf("bodies that the ledger finds %s: %v, want %v", result, got, n)
	}
}

func TestOtherBytesUnderAnImmutableURLAreRefused(t *testing.T) {
	for _, size := range []int{1000, 1 << 20} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			var origin changing
			one, two := noise(size), noise(size+1)
			origin.set(one)
			w, l := newLedgerWorld(t, refusing(), origin.ServeHTTP)
			w.get("/a").want(t, 200, one, "larder; fwd=uri-miss; stored")
			w.last()
			w.wantLedger("first", 1)
			w.evict()
			w.get("/a").want(t, 200, one, "larder; fwd=uri-miss; stored")
			w.last()
			w.wantLedger("same", 1)

			w.evict()
			origin.set(two)
			got := w.get("/a")
			if got.err == nil && got.StatusCode == http.StatusOK {
				t.Error("other bytes went out")
			}
			_, err := w.last()
			m, ok := errors.AsType[*MismatchError](err)
			if !ok || m.Source != integrity.FromLedger || m.Want.Hex() != digest(one) || m.Got.Hex() != digest(two) {
				t.Errorf("error %v", err)
			}
			if w.stored() != 0 {
				t.Error("other bytes are stored")
			}
			w.wantLedger("refused", 1)

			target := w.origin.URL + "/a"
			if _, err := l.Accept(target, "", nil); err != nil {
				t.Fatal(err)
			}
			w.get("/a").want(t, 200, two, "larder; fwd=uri-miss; stored")
			w.last()
			w.get("/a").want(t, 200, two, "larder; hit")
			if h, err := l.History(target); err != nil || len(h) != 3 {
				t.Errorf("History = %+v, %v", h, err)
			}
		})
	}
}

func TestLedgerThatWarnsLetsThrough(t *testing.T) {
	var origin changing
	one, two := noise(1000), noise(1001)
	origin.set(one)
	w, l := newLedgerWorld(t, &Rule{Name: "r", Mode: Immutable, Ledger: LedgerWarn}, origin.ServeHTTP)
	w.get("/a")
	w.last()
	w.evict()
	origin.set(two)
	w.get("/a").want(t, 200, two, "larder; fwd=uri-miss; stored")
	w.last()
	w.wantLedger("warned", 1)
	events, err := l.Events(10)
	if err != nil || len(events) != 1 || events[0].Refused || events[0].SHA256 != ledger.Digest(sha256.Sum256(two)) {
		t.Errorf("Events = %+v, %v", events, err)
	}
}

func TestOnlyWhatNeverChangesIsWrittenDown(t *testing.T) {
	for name, rule := range map[string]*Rule{
		"off":        {Name: "r", Mode: Immutable},
		"revalidate": {Name: "r", Mode: Revalidate, Ledger: LedgerRefuse},
	} {
		t.Run(name, func(t *testing.T) {
			var origin changing
			origin.set(noise(10))
			w, l := newLedgerWorld(t, rule, origin.ServeHTTP)
			w.get("/a")
			w.last()
			if n := l.Stats().Entries; n != 0 {
				t.Errorf("%d entries", n)
			}
		})
	}
	t.Run("absences and what is private", func(t *testing.T) {
		rule := refusing()
		rule.NegativeTTL = 1 << 40
		w, l := newLedgerWorld(t, rule, func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/none" {
				http.NotFound(rw, r)
				return
			}
			fmt.Fprint(rw, "mine")
		})
		w.get("/none")
		w.last()
		w.get("/private", "Authorization", "Basic eDp5")
		w.last()
		if n := l.Stats().Entries; n != 0 {
			t.Errorf("%d entries", n)
		}
	})
}

func TestLedgerHasContentWhateverItsCoding(t *testing.T) {
	plain := noise(5000)
	level := gzip.BestSpeed
	w, l := newLedgerWorld(t, refusing(), func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Vary", "Accept-Encoding")
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			_, _ = rw.Write(plain)
			return
		}
		var b bytes.Buffer
		z, _ := gzip.NewWriterLevel(&b, level)
		_, _ = z.Write(plain)
		_ = z.Close()
		rw.Header().Set("Content-Encoding", "gzip")
		_, _ = rw.Write(b.Bytes())
	})
	for range 2 {
		for _, coding := range []string{"identity", "gzip"} {
			if got := w.get("/a", "Accept-Encoding", coding); got.err != nil || got.StatusCode != 200 {
				t.Errorf("%s: %d, %v", coding, got.StatusCode, got.err)
			}
			w.last()
		}
		w.evict()
		level = gzip.BestCompression // other bytes for the same content
	}
	if h, err := l.History(w.origin.URL + "/a"); err != nil || len(h) != 1 || h[0].SHA256.String() != digest(plain) {
		t.Errorf("History = %+v, %v", h, err)
	}
	plain = noise(5001)
	if got := w.get("/a", "Accept-Encoding", "gzip"); got.StatusCode == 200 {
		t.Error("other content went out")
	}
}

func TestVariantsOfAnImmutableURLAreKeptApart(t *testing.T) {
	rule := refusing()
	rule.Vary = []string{"Accept"}
	w, l := newLedgerWorld(t, rule, func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, "as ", r.Header.Get("Accept"))
	})
	for _, accept := range []string{"a/a", "b/b"} {
		w.get("/a", "Accept", accept).want(t, 200, []byte("as "+accept), "larder; fwd="+map[string]string{"a/a": "uri", "b/b": "vary"}[accept]+"-miss; stored")
		w.last()
	}
	h, err := l.History(w.origin.URL + "/a")
	if err != nil || len(h) != 2 || h[0].Variant != "accept: a/a" || h[1].Variant != "accept: b/b" {
		t.Errorf("History = %+v, %v", h, err)
	}
}

func TestJoinedPartsAreHeldToTheLedger(t *testing.T) {
	p := &pieces{body: noise(200_000), header: http.Header{"Etag": {`"a"`}}}
	w, _ := newLedgerWorld(t, refusing(), p.ServeHTTP)
	ask := func(field string) {
		w.get("/x", "Range", field)
		w.last()
		w.cache.wg.Wait()
	}
	both := func() {
		ask("bytes=1-99999")
		ask("bytes=100000-")
		ask("bytes=0-0")
	}
	both()
	if w.stored() != 1 {
		t.Fatalf("%d objects are stored", w.stored())
	}
	w.evict()
	p.body = noise(200_001)
	both()
	if w.stored() != 0 {
		t.Error("other bytes are stored")
	}
	w.wantLedger("refused", 1)
}

func TestLedgerURLHoldsNoSecret(t *testing.T) {
	conceal := func(s string) string { return fmt.Sprintf("<%d>", len(s)) }
	for _, c := range []struct {
		url  string
		drop []string
		want string
	}{
		{"https://A.test:443/x", nil, "https://a.test/x"},
		{"https://u:p@a.test:8443/%7ex#f", nil, "https://a.test:8443/~x"},
		{"http://[::1]/", nil, "http://[::1]/"},
		{"https://a.test", nil, "https://a.test/"},
		{"https://a.test/x?X-Amz-Signature=secret&X-Amz-Date=1", []string{"X-Amz-*"}, "https://a.test/x"},
		{"https://a.test/x?token=secret", []string{"X-Amz-*"}, "https://a.test/x?hmac-sha256=<12>"},
	} {
		if got := LedgerURL(mustURL(t, c.url), &Rule{DropQuery: c.drop}, conceal); got != c.want {
			t.Errorf("LedgerURL(%s) = %s, want %s", c.url, got, c.want)
		}
	}
	// Each client has a signature of its own, and all mean the same.
	signed := mustURL(t, "https://a.test/x?se=2030-01-01&sig=secret&jwt=a.b.c")
	if got := LedgerURL(signed, &Rule{Access: AccessSigned}, conceal); got != "https://a.test/x" {
		t.Errorf("LedgerURL(%s) = %s under signed", signed, got)
	}
}

func TestLedgerThatIsFullLetsThrough(t *testing.T) {
	l, err := ledger.Open(ledger.Options{Dir: t.TempDir(), MaxSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var origin changing
	body := noise(100)
	origin.set(body)
	w := newWorldWith(t, refusing(), origin.ServeHTTP, Options{Ledger: l}, store.Options{})
	w.get("/a").want(t, 200, body, "larder; fwd=uri-miss; stored")
	w.last()
	w.wantLedger("left-out", 1)
}

func TestImportIsHeldToDigestsAndLedger(t *testing.T) {
	right, wrong := noise(1000), noise(1001)
	w := newWorld(t, &Rule{Name: "r", Mode: Immutable}, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/changed" {
			_, _ = rw.Write(wrong)
			return
		}
		_, _ = rw.Write(right)
	})
	paths := []string{"/sha256/" + digest(right), "/sha256/" + digest(wrong), "/changed", "/new"}
	w.fillUp(paths...)
	data := export(t, w.catalogue())

	rule := named(t, func(r *Rule) { r.Ledger = LedgerRefuse })
	site, l := newLedgerWorld(t, rule, func(http.ResponseWriter, *http.Request) {})
	if _, _, err := l.Observe(ledger.Seen{URL: w.origin.URL + "/changed", SHA256: sha256.Sum256(right)}); err != nil {
		t.Fatal(err)
	}
	done, refused, err := carry(t, site.catalogue(), data)
	if err != nil || done.Responses != 2 || len(refused) != 2 {
		t.Fatalf("imported %+v, refused %q, %v", done, refused, err)
	}
	for _, what := range []string{digest(wrong) + ": the body is not what the url says", "/changed: the body is not what was first seen"} {
		if !strings.Contains(strings.Join(refused, "\n"), what) {
			t.Errorf("refused %q, want %q among them", refused, what)
		}
	}
	if _, err := l.Current(w.origin.URL+"/new", ""); err != nil {
		t.Errorf("what was imported is not in the ledger: %v", err)
	}
	for o, err := range site.catalogue().List(t.Context(), everything) {
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.Contains(o.URL, "/sha256/"); want != (len(o.Verified) == 1) {
			t.Errorf("%s was verified by %v", o.URL, o.Verified)
		}
	}
}
