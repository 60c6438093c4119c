package cache

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"larder/cache/integrity"
)

// named is an immutable rule whose paths name the SHA-256 of what is there.
func named(t testing.TB, change func(*Rule)) *Rule {
	t.Helper()
	p, err := integrity.NewPathPattern("sha256", `^/sha256/([0-9a-f]{64})`)
	if err != nil {
		t.Fatal(err)
	}
	r := &Rule{Name: "named", Mode: Immutable, Digests: []integrity.PathPattern{p}}
	if change != nil {
		change(r)
	}
	return r
}

func (w *world) wantDigests(source, result string, n float64) {
	w.t.Helper()
	if got := testutil.ToFloat64(w.cache.metrics.digests.WithLabelValues(source, result)); got != n {
		w.t.Errorf("digests by %s that are %s: %v, want %v", source, result, got, n)
	}
}

// tampered is body with another last byte.
func tampered(body []byte) []byte {
	other := bytes.Clone(body)
	other[len(other)-1]++
	return other
}

func TestBodyWithAnotherDigestGoesNowhere(t *testing.T) {
	for _, c := range []struct {
		name    string
		size    int
		chunked bool
	}{
		{"small", 1000, false},
		{"small, of unknown length", 1000, true},
		{"as long as is held back", heldBack, false},
		{"large", 3 << 20, false},
		{"large, of unknown length", 3 << 20, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := noise(c.size)
			var right atomic.Bool
			w := newWorld(t, named(t, nil), func(rw http.ResponseWriter, _ *http.Request) {
				send := body
				if !right.Load() {
					send = tampered(body)
				}
				if c.chunked {
					rw.(http.Flusher).Flush()
				} else {
					rw.Header().Set("Content-Length", strconv.Itoa(len(send)))
				}
				_, _ = rw.Write(send)
			})
			path := "/sha256/" + digest(body)
			got := w.get(path)
			if c.size <= heldBack {
				if got.StatusCode != http.StatusBadGateway || !strings.Contains(string(got.body), digest(tampered(body))) || !strings.Contains(string(got.body), "url") {
					t.Errorf("status %d, %q, %v", got.StatusCode, got.body, got.err)
				}
			} else if got.err == nil || len(got.body) > c.size-heldBack {
				t.Errorf("%d of %d bytes went out, error %v", len(got.body), c.size, got.err)
			}
			if _, err := w.last(); err == nil {
				t.Error("the exchange has no error")
			}
			if n := w.stored(); n != 0 {
				t.Errorf("%d objects are stored", n)
			}
			w.wantDigests("url", "mismatch", 1)

			right.Store(true)
			if got := w.get(path); got.err != nil || !bytes.Equal(got.body, body) {
				t.Errorf("after it was mended: status %d, %d bytes, %v", got.StatusCode, len(got.body), got.err)
			}
			w.last()
			w.get(path).want(t, 200, body, "larder; hit")
			w.wantDigests("url", "verified", 1)
		})
	}
}

func TestEveryClientOfATamperedBodyIsCut(t *testing.T) {
	body := noise(1 << 20)
	var waiting sync.WaitGroup
	waiting.Add(8)
	w := newWorld(t, named(t, nil), func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = rw.Write(body[:len(body)/2])
		rw.(http.Flusher).Flush()
		waiting.Wait()
		_, _ = rw.Write(tampered(body)[len(body)/2:])
	})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			resp, err := w.front.Client().Get(w.front.URL + "/sha256/" + digest(body))
			waiting.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if n, err := new(bytes.Buffer).ReadFrom(resp.Body); err == nil {
				t.Errorf("a client took %d bytes for the whole", n)
			}
		})
	}
	all.Wait()
	w.wantGets(1)
}

func TestBodyStreamsUntilItsLastPiece(t *testing.T) {
	body := noise(1 << 20)
	read := make(chan struct{})
	w := newWorld(t, named(t, nil), func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = rw.Write(body[:len(body)-1])
		rw.(http.Flusher).Flush()
		<-read
		_, _ = rw.Write(body[len(body)-1:])
	})
	resp, err := w.front.Client().Get(w.front.URL + "/sha256/" + digest(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got bytes.Buffer
	if _, err := got.ReadFrom(&limitedReader{resp.Body, len(body) - 1 - heldBack}); err != nil {
		t.Fatal(err)
	}
	close(read)
	if _, err := got.ReadFrom(resp.Body); err != nil || !bytes.Equal(got.Bytes(), body) {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
}

func TestHeaderNamesTheDigest(t *testing.T) {
	body := noise(1000)
	sum := md5.Sum(body)
	for _, c := range []struct {
		name, field, value, result string
	}{
		{"right", "Content-Md5", base64.StdEncoding.EncodeToString(sum[:]), "verified"},
		{"wrong", "Content-Md5", base64.StdEncoding.EncodeToString(make([]byte, 16)), "mismatch"},
		{"right by Maven's", "X-Checksum-Md5", fmt.Sprintf("%x", sum), "verified"},
		{"wrong by RFC 9530", "Repr-Digest", "sha-256=:" + base64.StdEncoding.EncodeToString(make([]byte, 32)) + ":", "mismatch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, immutable, func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set(c.field, c.value)
				_, _ = rw.Write(body)
			})
			got := w.get("/x")
			w.last()
			w.wantDigests("header", c.result, 1)
			if ok := c.result == "verified"; ok != (got.StatusCode == http.StatusOK) || ok != (w.stored() == 1) {
				t.Errorf("status %d, %d stored", got.StatusCode, w.stored())
			}
		})
	}
}

func TestContentOfACodingIsVerified(t *testing.T) {
	plain := noise(100_000)
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(plain)
	_ = z.Close()
	w := newWorld(t, named(t, nil), func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Encoding", "gzip")
		rw.Header().Set("Vary", "Accept-Encoding")
		_, _ = rw.Write(b.Bytes())
	})
	got := w.get("/sha256/"+digest(plain), "Accept-Encoding", "gzip")
	if got.err != nil || !bytes.Equal(got.body, b.Bytes()) {
		t.Errorf("%d bytes, %v", len(got.body), got.err)
	}
	w.last()
	w.wantDigests("url", "verified", 1)
	got = w.get("/sha256/"+digest(noise(5)), "Accept-Encoding", "gzip")
	if w.last(); got.err == nil {
		t.Error("the content of another digest went out")
	}
}

func TestRequiredDigest(t *testing.T) {
	body := noise(1000)
	w := newWorld(t, named(t, func(r *Rule) { r.Verify = VerifyRequired }), func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = rw.Write(body)
	})
	for range 2 {
		w.get("/unnamed").want(t, 200, body, "larder; fwd=uri-miss; detail=unverified")
		w.last()
	}
	w.wantGets(2)
	w.get("/unnamed", "Pacote-Integrity", "sha512-"+base64.StdEncoding.EncodeToString(make([]byte, 64))).
		want(t, 200, body, "larder; fwd=uri-miss; detail=unverified")
	w.last()
	w.get("/sha256/"+digest(body)).want(t, 200, body, "larder; fwd=uri-miss; stored")
	w.last()
	if n := w.stored(); n != 1 {
		t.Errorf("%d objects are stored, want the verified one", n)
	}
}

func TestVerifyOff(t *testing.T) {
	body := noise(1000)
	w := newWorld(t, named(t, func(r *Rule) { r.Verify = VerifyOff }), func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Md5", base64.StdEncoding.EncodeToString(make([]byte, 16)))
		_, _ = rw.Write(body)
	})
	w.get("/sha256/"+digest(noise(3))).want(t, 200, body, "larder; fwd=uri-miss; stored")
}

func TestWhatAClientExpectsRefusesNothing(t *testing.T) {
	body := noise(1000)
	w := newWorld(t, immutable, func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(body) })
	w.get("/x", "Pacote-Integrity", "sha512-"+base64.StdEncoding.EncodeToString(make([]byte, 64))).
		want(t, 200, body, "larder; fwd=uri-miss; stored")
	w.last()
	w.wantDigests("client", "contradicted", 1)
}

func TestResumedBodyIsVerified(t *testing.T) {
	body := noise(1 << 20)
	for _, right := range []bool{true, false} {
		t.Run(fmt.Sprint(right), func(t *testing.T) {
			send := body
			if !right {
				send = tampered(body)
			}
			var asked atomic.Int64
			w := newH1World(t, named(t, nil), Options{}, func(r *h1request) {
				from := r.wanted(send, faultTag)
				to := len(send)
				if asked.Add(1) == 1 {
					to = 300_000
				}
				r.conn.Write(send[from:to])
			})
			got := w.get("/sha256/" + digest(body))
			w.last()
			if asked.Load() < 2 {
				t.Fatal("nothing was resumed")
			}
			if ok := got.err == nil; ok != right || (w.stored() == 1) != right {
				t.Errorf("%d bytes, %v, %d stored", len(got.body), got.err, w.stored())
			}
		})
	}
}

func TestJoinedPartsAreVerified(t *testing.T) {
	body := noise(200_000)
	p := &pieces{body: tampered(body), header: http.Header{"Etag": {`"a"`}}}
	w := newWorld(t, named(t, nil), p.ServeHTTP)
	ask := func(field string) {
		w.get("/sha256/"+digest(body), "Range", field)
		w.last()
		w.cache.wg.Wait()
	}
	ask("bytes=1-99999")
	ask("bytes=100000-")
	ask("bytes=0-0")
	if n := w.stored(); n != 0 {
		t.Errorf("%d objects are stored of tampered parts", n)
	}
	w.wantDigests("url", "mismatch", 1)
	p.body = body
	ask("bytes=1-99999")
	ask("bytes=100000-")
	ask("bytes=0-0")
	w.get("/sha256/"+digest(body)).want(t, 200, body, "larder; hit")
	w.wantDigests("url", "verified", 1)
}

func TestBodyThatTheStoreDoesNotTakeIsVerified(t *testing.T) {
	body := noise(3 << 20)
	w := newWorld(t, named(t, func(r *Rule) { r.MaxObject = 1 << 20 }), func(rw http.ResponseWriter, _ *http.Request) {
		rw.(http.Flusher).Flush() // of unknown length
		_, _ = rw.Write(tampered(body))
	})
	if got := w.get("/sha256/" + digest(body)); got.err == nil {
		t.Error("a tampered body that streams through went out whole")
	}
	w.last()
	w.wantDigests("url", "mismatch", 1)
}

func TestStaleIsServedWhenWhatIsNewHasAnotherDigest(t *testing.T) {
	body := noise(1000)
	var asked atomic.Int64
	w := newWorld(t, named(t, func(r *Rule) { r.Mode, r.StaleIfError = Revalidate, 1<<40 }), func(rw http.ResponseWriter, _ *http.Request) {
		send := body
		if asked.Add(1) > 1 {
			send = tampered(body)
		}
		_, _ = rw.Write(send)
	})
	path := "/sha256/" + digest(body)
	w.get(path).want(t, 200, body, "larder; fwd=uri-miss; stored")
	w.last()
	got := w.get(path)
	if got.StatusCode != 200 || !bytes.Equal(got.body, body) || !strings.Contains(got.Header.Get("Cache-Status"), "stale-if-error") {
		t.Errorf("status %d, %s", got.StatusCode, got.Header.Get("Cache-Status"))
	}
}

// limitedReader reads n bytes.
type limitedReader struct {
	r interface{ Read([]byte) (int, error) }
	n int
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.n == 0 {
		return 0, io.EOF
	}
	n, err := l.r.Read(p[:min(len(p), l.n)])
	l.n -= n
	return n, err
}
