package cache

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestParseAndResolveRange(t *testing.T) {
	tests := []struct {
		clause, field string
		size          int64
		want          string // ignored, 416, or the spans
	}{
		{"14.1.2: closed", "bytes=0-499", 1000, "0+500"},
		{"14.1.2: open", "bytes=500-", 1000, "500+500"},
		{"14.1.2: suffix", "bytes=-10", 1000, "990+10"},
		{"14.1.2: a suffix longer than the body", "bytes=-2000", 1000, "0+1000"},
		{"14.1.2: beyond the end is cut", "bytes=990-2000", 1000, "990+10"},
		{"14.1.2: nothing satisfiable", "bytes=1000-", 1000, "416"},
		{"14.1.2: an empty suffix", "bytes=-0", 1000, "416"},
		{"14.1.2: of an empty body", "bytes=0-", 0, "416"},
		{"14.1.2: suffix of an empty body", "bytes=-5", 0, "416"},
		{"14.2: several", "bytes=0-0, 5-6 ,-1", 10, "0+1 5+2 9+1"},
		{"14.2: the satisfiable ones", "bytes=0-0,20-", 10, "0+1"},
		{"14.1.1: empty members", "bytes=,0-0,", 10, "0+1"},
		{"14.2: another unit", "lines=0-1", 10, "ignored"},
		{"14.1: the unit is case-insensitive", "Bytes=0-1", 10, "0+2"},
		{"14.2: last before first", "bytes=5-4", 10, "ignored"},
		{"14.2: no number", "bytes=a-4", 10, "ignored"},
		{"14.2: no dash", "bytes=4", 10, "ignored"},
		{"14.2: nothing", "bytes=", 10, "ignored"},
		{"signs are no digits", "bytes=+1-4", 10, "ignored"},
		{"too many", "bytes=" + strings.Repeat("0-0,", maxRanges+1), 10, "ignored"},
		{"huge numbers", "bytes=0-99999999999999999999999", 10, "0+10"},
		{"huge first", "bytes=99999999999999999999999-", 10, "416"},
	}
	for _, test := range tests {
		t.Run(test.clause, func(t *testing.T) {
			got := "ignored"
			if ranges, ok := parseRange([]string{test.field}); ok {
				var parts []string
				for _, s := range resolve(ranges, test.size) {
					parts = append(parts, fmt.Sprintf("%d+%d", s.off, s.n))
				}
				if got = joined(parts); got == "" {
					got = "416"
				}
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestIfRange(t *testing.T) {
	modified := fields("Last-Modified: "+date(0), "Date: "+date(time.Minute))
	for _, test := range []struct {
		clause   string
		ifRange  string
		response http.Header
		want     bool
	}{
		{"13.1.5: the strong tag", `"a"`, fields(`Etag: "a"`), true},
		{"13.1.5: another tag", `"b"`, fields(`Etag: "a"`), false},
		{"13.1.5: a weak tag", `W/"a"`, fields(`Etag: W/"a"`), false},
		{"13.1.5: the exact date", date(0), modified, true},
		{"13.1.5: a later date", date(time.Second), modified, false},
		{"8.8.2.2: a date that is weak", date(0), fields("Last-Modified: "+date(0), "Date: "+date(0)), false},
		{"8.8.2.2: no Date to tell", date(0), fields("Last-Modified: " + date(0)), false},
		{"rubbish", "rubbish", modified, false},
	} {
		if got := ifRange([]string{test.ifRange}, test.response); got != test.want {
			t.Errorf("%s: %v", test.clause, got)
		}
	}
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=-5", "bytes=5-", "bytes=0-0,-1", "bytes=-0", "bytes=9223372036854775807-9223372036854775807"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, field string, size int64) {
		if size < 0 || size > 1<<50 {
			return
		}
		ranges, ok := parseRange([]string{field})
		if ok != (len(ranges) > 0) || len(ranges) > maxRanges {
			t.Fatalf("%d ranges, %v", len(ranges), ok)
		}
		for _, s := range resolve(ranges, size) {
			if s.off < 0 || s.n <= 0 || s.off+s.n > size {
				t.Errorf("%q of %d gives %+v", field, size, s)
			}
			part, complete, ok := parseContentRange(s.contentRange(size))
			if !ok || part != s || complete != size {
				t.Errorf("%s does not read back", s.contentRange(size))
			}
		}
		parseContentRange(field)
	})
}

func TestRangesOfAStoredObject(t *testing.T) {
	body := noise(2<<20 + 17)
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Etag", `"s"`)
		rw.Header().Set("Content-Type", "application/zip")
		rw.Write(body)
	})
	w.get("/x")
	got := w.get("/x", "Range", "bytes=1048570-1048590")
	got.want(t, 206, body[1048570:1048591], "larder; hit")
	if v := got.Header.Get("Content-Range"); v != "bytes 1048570-1048590/2097169" {
		t.Errorf("Content-Range: %s", v)
	}
	w.get("/x", "Range", "bytes=5-6", "If-Range", `"s"`).want(t, 206, body[5:7], "larder; hit")
	w.get("/x", "Range", "bytes=5-6", "If-Range", `"t"`).want(t, 200, body, "larder; hit")
	// Preconditions come first: RFC 9110, section 13.2.2.
	w.get("/x", "Range", "bytes=5-6", "If-None-Match", `"s"`).want(t, 304, nil, "larder; hit")
	past := w.get("/x", "Range", "bytes=2097169-")
	past.want(t, 416, nil, "larder; hit")
	if v := past.Header.Get("Content-Range"); v != "bytes */2097169" {
		t.Errorf("Content-Range: %s", v)
	}
	w.do("HEAD", "/x", "Range", "bytes=0-0").want(t, 200, nil, "larder; hit")

	several := w.get("/x", "Range", "bytes=0-9,100-199,-5")
	_, params, err := mime.ParseMediaType(several.Header.Get("Content-Type"))
	if err != nil || several.StatusCode != 206 || several.ContentLength != int64(len(several.body)) {
		t.Fatalf("%d %v %v", several.StatusCode, several.Header, err)
	}
	parts := multipart.NewReader(bytes.NewReader(several.body), params["boundary"])
	for _, want := range []struct {
		bytes []byte
		field string
	}{
		{body[:10], "bytes 0-9/2097169"}, {body[100:200], "bytes 100-199/2097169"}, {body[len(body)-5:], "bytes 2097164-2097168/2097169"},
	} {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(p)
		if !bytes.Equal(b, want.bytes) || p.Header.Get("Content-Range") != want.field || p.Header.Get("Content-Type") != "application/zip" {
			t.Errorf("part %v of %d bytes", p.Header, len(b))
		}
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("after the last part: %v", err)
	}
	// As much as the whole: the whole.
	w.get("/x", "Range", "bytes=0-,0-").want(t, 200, body, "larder; hit")
	w.wantGets(1)
}

// TestRangeOfAColdObject: nothing is fetched that nobody asked for, unless the rule says
// that the whole is to be.
func TestRangeOfAColdObject(t *testing.T) {
	body := noise(100_000)
	const forwarded, filled = "larder; fwd=uri-miss; detail=range", "larder; fwd=uri-miss; stored"
	for _, test := range []struct {
		name, field string
		rule        *Rule
		want        []byte
		status      string
		sent        int64 // body bytes that the origin sent
		stored      bool
	}{
		{"the end", "bytes=-9", immutable, body[len(body)-9:], forwarded, 9, false},
		{"the middle", "bytes=50-59", immutable, body[50:60], forwarded, 10, false},
		{"a probe", "bytes=0-0", immutable, body[:1], forwarded, 1, false},
		{"the beginning", "bytes=0-9", immutable, body[:10], forwarded, 10, false},
		{"all of it", "bytes=0-", immutable, body, filled, 100_000, true},
		{"all of an index", "bytes=0-", &Rule{Mode: Revalidate, TTL: time.Hour}, body, forwarded, 100_000, false},
		{"the beginning, filled", "bytes=0-9", &Rule{Mode: Immutable, FillRanges: true}, body[:10], filled, 100_000, true},
		{"the end, filled beside", "bytes=-9", &Rule{Mode: Immutable, FillRanges: true}, body[len(body)-9:], forwarded, 100_009, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var sent atomic.Int64
			w := newWorld(t, test.rule, func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Etag", `W/"s"`)
				http.ServeContent(countingWriter{rw, &sent}, r, "x.bin", time.Time{}, bytes.NewReader(body))
			})
			w.get("/x", "Range", test.field).want(t, 206, test.want, test.status)
			w.cache.wg.Wait()
			if n := sent.Load(); n != test.sent {
				t.Errorf("the origin sent %d bytes, want %d", n, test.sent)
			}
			if stored := w.stored() > 0; stored != test.stored {
				t.Errorf("stored: %v", stored)
			}
		})
	}
}

// countingWriter counts the bytes of a body, before anybody can have them.
type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c countingWriter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

func TestSeveralRangesOfARunningFill(t *testing.T) {
	s := newStepper(1 << 20)
	s.header.Set("Content-Type", "application/zip")
	s.header.Set("Etag", `"s"`)
	w := newWorld(t, immutable, s.ServeHTTP)
	first := w.open(t.Context(), "/x")
	s.allowed <- 512 << 10
	// Answered from what is there while the rest is not.
	got := w.get("/x", "Range", "bytes=400000-400009,5-9", "If-Range", `"s"`)
	_, params, err := mime.ParseMediaType(got.Header.Get("Content-Type"))
	if err != nil || got.StatusCode != 206 || got.ContentLength != int64(len(got.body)) {
		t.Fatalf("%d %v %v", got.StatusCode, got.Header, err)
	}
	parts := multipart.NewReader(bytes.NewReader(got.body), params["boundary"])
	for _, want := range [][]byte{s.body[400000:400010], s.body[5:10]} {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(p); !bytes.Equal(b, want) {
			t.Errorf("part %v: %d bytes", p.Header, len(b))
		}
	}
	w.get("/x", "Range", "bytes=2000000-,3000000-").want(t, 416, nil, "larder; fwd=uri-miss; collapsed")
	whole := make(chan answer)
	go func() { whole <- w.get("/x", "Range", "bytes=0-1", "If-Range", `"t"`) }()
	f := w.cache.flights.only()
	eventually(t, "the fill has a second reader", func() bool { return f.readers.Load() == 2 })
	close(s.allowed)
	a := <-whole
	a.want(t, 200, s.body, "larder; fwd=uri-miss; collapsed")
	io.Copy(io.Discard, first.Body)
	w.wantGets(1)
}

func TestFillRangesMakesParallelRangesOneFetch(t *testing.T) {
	const parts = 16
	body := noise(12 << 20)
	var whole, ranged atomic.Int64
	w := newWorld(t, &Rule{Mode: Immutable, FillRanges: true}, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			ranged.Add(1)
		} else {
			whole.Add(1)
		}
		rw.Header().Set("Etag", `"s"`)
		http.ServeContent(rw, r, "layer", time.Time{}, bytes.NewReader(body))
	})
	// The first range comes from the end; it is answered at once.
	n := len(body) / parts
	w.get("/layer", "Range", fmt.Sprintf("bytes=%d-", (parts-1)*n)).want(t, 206, body[(parts-1)*n:], "larder; fwd=uri-miss; detail=range")
	var wg sync.WaitGroup
	for i := range parts {
		wg.Go(func() {
			got := w.get("/layer", "Range", fmt.Sprintf("bytes=%d-%d", i*n, (i+1)*n-1))
			if got.StatusCode != 206 || !bytes.Equal(got.body, body[i*n:(i+1)*n]) {
				t.Errorf("part %d: status %d, %d bytes, %v", i, got.StatusCode, len(got.body), got.err)
			}
			if v := got.Header.Get("Content-Range"); v != fmt.Sprintf("bytes %d-%d/%d", i*n, (i+1)*n-1, len(body)) {
				t.Errorf("part %d: Content-Range %q", i, v)
			}
		})
	}
	wg.Wait()
	if whole.Load() != 1 || ranged.Load() != 1 {
		t.Errorf("%d fetches of the whole and %d of ranges, want one of each", whole.Load(), ranged.Load())
	}
	w.cache.wg.Wait()
	w.get("/layer").want(t, 200, body, "larder; hit")
}

func TestFillRangesOfWhatCannotBeSharedFetchesNothingBeside(t *testing.T) {
	body := noise(1 << 20)
	var whole atomic.Int64
	w := newWorld(t, &Rule{Mode: Immutable, FillRanges: true}, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "" {
			whole.Add(1)
		}
		rw.Header().Set("Cache-Control", "private")
		http.ServeContent(rw, r, "x", time.Time{}, bytes.NewReader(body))
	})
	for range 5 {
		if got := w.get("/x", "Range", "bytes=100-199"); !bytes.Equal(got.body, body[100:200]) {
			t.Errorf("%d, %d bytes", got.StatusCode, len(got.body))
		}
		w.cache.wg.Wait()
	}
	if n := whole.Load(); n != 1 {
		t.Errorf("the whole was asked for %d times", n)
	}
}
