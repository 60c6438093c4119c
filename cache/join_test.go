package cache

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"larder/cache/store"
)

// pieces is an origin that knows ranges, with a header of the test's choice.
type pieces struct {
	body   []byte
	header http.Header
	wholes atomic.Int64 // requests without Range
}

func (p *pieces) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Range") == "" {
		p.wholes.Add(1)
	}
	for name, values := range p.header {
		rw.Header()[name] = values
	}
	http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(p.body))
}

// ask asks for a range and waits until what comes of it is done.
func (w *world) ask(field string, others ...string) answer {
	w.t.Helper()
	got := w.get("/x", append([]string{"Range", field}, others...)...)
	w.last()
	w.cache.wg.Wait()
	return got
}

func TestPartsAreJoined(t *testing.T) {
	tag := []string{`Etag: "a"`, "Content-Type: application/zip", "Cache-Control: max-age=60", "Date: " + date(0)}
	dated := append([]string{"Last-Modified: " + date(-time.Hour)}, tag[1:]...)
	for _, test := range []struct {
		name   string
		rule   *Rule
		header []string
		ranges []string
	}{
		{"in order", immutable, tag, []string{"bytes=0-99999", "bytes=100000-199999", "bytes=200000-"}},
		{"in any order, overlapping", immutable, tag, []string{"bytes=-100000", "bytes=50000-250000", "bytes=0-0", "bytes=1-60000"}},
		{"twice the same", immutable, tag, []string{"bytes=0-99999", "bytes=0-99999", "bytes=100000-", "bytes=100000-"}},
		{"a part inside another", immutable, tag, []string{"bytes=1-299998", "bytes=5-6", "bytes=0-0", "bytes=299999-"}},
		{"at once", &Rule{Mode: Revalidate, TTL: time.Minute}, tag, []string{"bytes=0-"}},
		{"under a strong Last-Modified", immutable, dated, []string{"bytes=0-99999", "bytes=100000-"}},
		{"an index", &Rule{Mode: Revalidate, TTL: time.Minute}, tag, []string{"bytes=0-99999", "bytes=100000-"}},
		{"by HTTP alone", web, tag, []string{"bytes=0-99999", "bytes=100000-"}},
		{"a variant", &Rule{Mode: Immutable, Vary: []string{"Accept"}}, tag, []string{"bytes=0-99999", "bytes=100000-"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			origin := &pieces{body: noise(300_000), header: fields(test.header...)}
			w := newWorld(t, test.rule, origin.ServeHTTP)
			w.clock.start = at
			for _, field := range test.ranges {
				ranges, _ := parseRange([]string{field})
				want := resolve(ranges, int64(len(origin.body)))[0]
				if got := w.ask(field); got.StatusCode != 206 || !bytes.Equal(got.body, origin.body[want.off:want.off+want.n]) {
					t.Errorf("%s: status %d, %d bytes, %v", field, got.StatusCode, len(got.body), got.err)
				}
			}
			if n := testutil.ToFloat64(w.cache.metrics.joined); n != 1 {
				t.Errorf("%v objects joined", n)
			}
			hit := w.get("/x")
			if cs := hit.Header.Get("Cache-Status"); hit.StatusCode != 200 || !bytes.Equal(hit.body, origin.body) || !strings.HasPrefix(cs, "larder; hit") {
				t.Errorf("status %d, %d bytes, %s", hit.StatusCode, len(hit.body), cs)
			}
			hit.wantField(t, "Content-Range")
			hit.wantField(t, "Content-Type", "application/zip")
			w.get("/x", "Range", "bytes=99990-100010").wantField(t, "Content-Range", "bytes 99990-100010/300000")
			if n := origin.wholes.Load(); n != 0 {
				t.Errorf("the whole was asked for %d times", n)
			}
			want := 1
			if len(test.rule.required()) > 0 {
				want = 2 // with the list of variants
			}
			if n := w.stored(); n != want || len(w.cache.parts.sets) != 0 || w.cache.parts.size != 0 {
				t.Errorf("%d objects stored, want %d; %d sets of %d bytes left", n, want, len(w.cache.parts.sets), w.cache.parts.size)
			}
		})
	}
}

func TestPartsThatAreNotJoined(t *testing.T) {
	body, other := noise(200_000), noise(200_001)
	const strong = `Etag: "a"`
	whole := func(p *pieces) { p.body, p.header = other, fields(`Etag: "b"`) }
	for _, test := range []struct {
		name    string
		rule    *Rule
		header  []string
		between func(p *pieces, w *world)
		request []string
	}{
		{"RFC 9110, 15.3.7.3: a weak tag", immutable, []string{`Etag: W/"a"`}, nil, nil},
		{"no validator", immutable, nil, nil, nil},
		{"8.8.2.2: a weak Last-Modified", immutable, []string{"Last-Modified: " + date(0), "Date: " + date(0)}, nil, nil},
		{"another tag", immutable, []string{strong}, func(p *pieces, _ *world) { p.header = fields(`Etag: "b"`) }, nil},
		{"a tag that has become weak", immutable, []string{strong}, func(p *pieces, _ *world) { p.header = fields(`Etag: W/"a"`) }, nil},
		{"another length under the same tag", immutable, []string{strong}, func(p *pieces, _ *world) { p.body = other }, nil},
		{"another coding under the same tag", immutable, []string{strong}, func(p *pieces, _ *world) { p.header = fields(strong, "Content-Encoding: gzip") }, nil},
		{"another representation", immutable, []string{strong}, func(p *pieces, _ *world) { whole(p) }, nil},
		{"no-store", immutable, []string{strong, "Cache-Control: no-store"}, nil, nil},
		{"private", immutable, []string{strong, "Cache-Control: private"}, nil, nil},
		{"Vary: *", immutable, []string{strong, "Vary: *"}, nil, nil},
		{"RFC 9111, 3.5: credentials", immutable, []string{strong}, nil, []string{"Authorization", "Basic x"}},
		{"no-store in the request", immutable, []string{strong}, nil, []string{"Cache-Control", "no-store"}},
		{"If-Range, whose answer lacks fields of the whole", immutable, []string{strong}, nil, []string{"If-Range", `"a"`}},
		{"larger than the rule stores", &Rule{Mode: Immutable, MaxObject: 199_999}, []string{strong}, nil, nil},
		{"of no use to HTTP", web, []string{strong, "Cache-Control: max-age=0"}, func(p *pieces, _ *world) { p.header = fields(`Etag: "b"`) }, nil},
		{"4.4: invalidated in between", immutable, []string{strong}, func(_ *pieces, w *world) {
			w.cache.Invalidate(mustURL(w.t, w.origin.URL+"/x"))
		}, nil},
		{"removed in between", immutable, []string{strong}, func(_ *pieces, w *world) {
			if _, err := w.catalogue().Remove(w.t.Context(), everything, nil); err != nil {
				w.t.Error(err)
			}
		}, nil},
		{"too long after each other", immutable, []string{strong}, func(_ *pieces, w *world) {
			w.clock.advance(partsFor)
			w.get("/y", "Range", "bytes=0-9") // nothing looks at a set but what comes next
			w.last()
		}, nil},
		{"one was evicted", immutable, []string{strong}, func(_ *pieces, w *world) {
			for info, err := range w.store.All() {
				if err != nil {
					w.t.Fatal(err)
				}
				if err := w.store.Delete(info.Key); err != nil {
					w.t.Fatal(err)
				}
			}
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			origin := &pieces{body: body, header: fields(test.header...)}
			w := newWorld(t, test.rule, origin.ServeHTTP)
			w.ask("bytes=0-99999", test.request...)
			if test.between != nil {
				test.between(origin, w)
			}
			got := w.ask("bytes=100000-199999", test.request...)
			if got.StatusCode != 206 || !bytes.Equal(got.body, origin.body[100_000:200_000]) {
				t.Errorf("status %d, %d bytes", got.StatusCode, len(got.body))
			}
			if n := testutil.ToFloat64(w.cache.metrics.joined); n != 0 {
				t.Errorf("%v objects joined", n)
			}
			if got := w.get("/x"); got.StatusCode != 200 || !bytes.Equal(got.body, origin.body) {
				t.Errorf("the whole: status %d, %d bytes", got.StatusCode, len(got.body))
			}
			if n := origin.wholes.Load(); n != 1 {
				t.Errorf("the whole was asked for %d times", n)
			}
		})
	}
}

// TestPartsAreAFunctionOfTheirKey: what one client's request says besides the range
// reaches nobody else by way of what is joined.
func TestPartsAreAFunctionOfTheirKey(t *testing.T) {
	body := noise(1000)
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Etag", `"a"`)
		for _, name := range []string{"X-Forwarded-Host", "User-Agent", "X-Anything", "Accept-Encoding"} {
			rw.Header().Set("Saw-"+name, r.Header.Get(name))
		}
		http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(body))
	})
	mine := []string{"X-Forwarded-Host", "evil", "User-Agent", "mine/1", "X-Anything", "1", "Accept-Encoding", "identity"}
	w.ask("bytes=0-499", mine...)
	w.ask("bytes=500-", mine...)
	hit := w.get("/x")
	hit.want(t, 200, body, "larder; hit")
	hit.wantField(t, "Saw-User-Agent", fillAgent)
	for _, name := range []string{"Saw-X-Forwarded-Host", "Saw-X-Anything"} {
		hit.wantField(t, name, "")
	}
}

// TestPartThatTheOriginVaries by what the canonical request withholds is the client's own.
func TestPartThatTheOriginVaries(t *testing.T) {
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Etag", `"a"`)
		if r.URL.Path == "/token" && r.Header.Get("Private-Token") == "" {
			http.NotFound(rw, r)
			return
		}
		rw.Header().Set("Vary", "X-Class")
		http.ServeContent(rw, r, "", time.Time{}, strings.NewReader("class "+r.Header.Get("X-Class")))
	})
	w.get("/x", "Range", "bytes=0-6", "X-Class", "b").want(t, 206, []byte("class b"), "larder; fwd=uri-miss; detail=range")
	w.get("/token", "Range", "bytes=0-6", "X-Class", "c", "Private-Token", "x").want(t, 206, []byte("class c"), "larder; fwd=uri-miss; detail=range")
	if n := w.stored(); n != 0 {
		t.Errorf("%d objects stored", n)
	}
}

// TestPartThatBreaksOffCountsForWhatCame of it.
func TestPartThatBreaksOffCountsForWhatCame(t *testing.T) {
	body := noise(300_000)
	w := newH1World(t, immutable, Options{}, func(r *h1request) {
		first, last := 0, len(body)-1
		fmt.Sscanf(r.http.Header.Get("Range"), "bytes=%d-%d", &first, &last)
		r.write("HTTP/1.1 206 Partial Content\r\nEtag: %s\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n",
			faultTag, first, last, len(body), last+1-first)
		if r.n == 1 {
			last = 99_999
		}
		r.conn.Write(body[first : last+1])
	})
	if got := w.ask("bytes=0-199999"); got.err == nil {
		t.Error("the client takes a part of the part for all of it")
	}
	w.ask("bytes=100000-299999")
	w.get("/x").want(t, 200, body, "larder; hit")
}

func TestInvalidatedWhileJoining(t *testing.T) {
	origin := &pieces{body: noise(1000), header: fields(`Etag: "a"`)}
	w := newWorld(t, &Rule{Mode: Immutable, Vary: []string{"Accept"}}, origin.ServeHTTP)
	w.ask("bytes=0-499")
	primary := primaryKey(mustURL(t, w.origin.URL+"/x"), &Rule{})
	lock := &w.cache.variants[int(primary[0])%len(w.cache.variants)]
	lock.Lock() // which joining needs for its key
	w.get("/x", "Range", "bytes=500-")
	eventually(t, "the parts are being joined", func() bool {
		w.cache.parts.mu.Lock()
		defer w.cache.parts.mu.Unlock()
		for _, s := range w.cache.parts.sets {
			return s.joining
		}
		return false
	})
	w.cache.Invalidate(mustURL(t, w.origin.URL+"/x"))
	lock.Unlock()
	w.cache.wg.Wait()
	w.get("/x").want(t, 200, origin.body, "larder; fwd=uri-miss; stored")
}

func TestPartsAreBounded(t *testing.T) {
	now := time.Now()
	setOf := func(i int) *partSet {
		s := &partSet{complete: 1 << 40, latest: now, whole: whole{rec: &record{}}}
		s.key[0], s.key[1] = byte(i), byte(i>>8)
		now = now.Add(time.Millisecond)
		return s
	}
	t.Run("sets", func(t *testing.T) {
		var p parts
		gone := 0
		for i := range 3 * maxPartSets {
			_, g := p.add(setOf(i), part{off: 0, n: 1}, 0, 1<<40)
			gone += len(g)
		}
		if len(p.sets) != maxPartSets || gone != 2*maxPartSets || p.size != maxPartSets {
			t.Errorf("%d sets of %d bytes, %d parts gone", len(p.sets), p.size, gone)
		}
		if p.sets[setOf(3*maxPartSets-1).key] == nil || p.sets[setOf(0).key] != nil {
			t.Error("the latest went, or the first did not")
		}
	})
	t.Run("parts of a set", func(t *testing.T) {
		var p parts
		gone := 0
		for i := range maxParts + 1 {
			_, g := p.add(setOf(0), part{off: 2 * int64(i), n: 1}, 0, 1<<40)
			gone += len(g)
		}
		if len(p.sets) != 0 || gone != maxParts+1 || p.size != 0 {
			t.Errorf("%d sets of %d bytes, %d parts gone", len(p.sets), p.size, gone)
		}
	})
	t.Run("bytes", func(t *testing.T) {
		var p parts
		for i := range 10 {
			p.add(setOf(i), part{off: 0, n: 30}, 0, 100)
		}
		if p.size > 100 || len(p.sets) != 3 {
			t.Errorf("%d sets of %d bytes", len(p.sets), p.size)
		}
	})
	t.Run("of the store", func(t *testing.T) {
		origin := &pieces{body: noise(9 << 20), header: fields(`Etag: "a"`)}
		w := newWorldWith(t, immutable, origin.ServeHTTP, Options{}, store.Options{MaxSize: 64 << 20})
		w.ask("bytes=0-9")
		if n := w.stored(); n != 0 {
			t.Errorf("%d parts of what is larger than all of them may be", n)
		}
	})
}

// TestCloseLeavesNoParts behind, to which nothing would lead any more.
func TestCloseLeavesNoParts(t *testing.T) {
	origin := &pieces{body: noise(1000), header: fields(`Etag: "a"`)}
	w := newWorld(t, immutable, origin.ServeHTTP)
	w.ask("bytes=0-9")
	if n := w.stored(); n != 1 {
		t.Fatalf("%d parts stored", n)
	}
	for o, err := range w.cache.Catalogue(func(*url.URL) *Rule { return immutable }).List(t.Context(), everything) {
		t.Errorf("listed as a stored response: %v, %v", o, err)
	}
	if err := w.cache.Close(); err != nil {
		t.Fatal(err)
	}
	if n := w.stored(); n != 0 {
		t.Errorf("%d parts left", n)
	}
}
