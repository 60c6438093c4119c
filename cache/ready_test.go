package cache

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"larder/cache/store"
)

// readyWorld is a cache with one object, asked for often enough to be in memory.
func readyWorld(t *testing.T, header http.Header, body string, rule *Rule) (*Cache, *url.URL) {
	t.Helper()
	s, err := store.Open(store.Options{Dir: t.TempDir(), MaxSize: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	origin := roundTripFunc(func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: header.Clone(), Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r,
		}, nil
	})
	c, err := New(Options{Store: s, Upstream: origin, storePatience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	target := &url.URL{Scheme: "https", Host: "a.test", Path: "/f"}
	for range 6 {
		r := httptest.NewRequest(http.MethodGet, target.String(), nil)
		if out, err := c.Serve(httptest.NewRecorder(), r, rule); err != nil || out.Status != http.StatusOK {
			t.Fatalf("Serve: %+v, %v", out, err)
		}
	}
	return c, target
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestReadyIsWhatServeSends byte for byte, through net/http's server.
func TestReadyIsWhatServeSends(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		header http.Header
		body   string
		rule   *Rule
	}{
		{"the usual", http.Header{
			"Content-Type": {"application/zip"}, "Etag": {`"e"`}, "Date": {"Mon, 06 Jan 2025 10:00:00 GMT"},
			"Accept-Ranges": {"bytes"}, "Cache-Control": {"public"}, "Vary": {"Accept-Encoding"},
		}, "body", &Rule{Mode: Immutable}},
		{"without Date and Content-Type", http.Header{"X-A": {"1", "", "2"}}, strings.Repeat("x", 10_000), &Rule{Mode: Immutable}},
		{"an Age and a Cache-Status of others", http.Header{
			"Age": {"100"}, "Cache-Status": {"cdn; hit", "edge; fwd=miss"}, "Allow": {"GET"}, "Date": {"Mon, 06 Jan 2025 10:00:00 GMT"},
		}, "body", &Rule{Mode: Immutable, TTL: 365 * 24 * time.Hour}},
		{"values that look like ours", http.Header{
			"Accept-Ranges": {"Age: 1"}, "Etag": {"Cache-Status: larder; hit"}, "Cdn-Cache-Control": {"Age"},
		}, "body", &Rule{Mode: Immutable}},
		{"the rule against the origin", http.Header{"Cache-Control": {"no-cache"}}, "body", &Rule{Mode: Immutable}},
		{"the rule against the origin, for a time", http.Header{"Cache-Control": {"max-age=60"}}, "body", &Rule{Mode: Immutable, TTL: 365 * 24 * time.Hour}},
		{"as long as the origin says itself", http.Header{"Cache-Control": {"max-age=99999"}}, "body", &Rule{Mode: Immutable}},
		{"an empty body", http.Header{"Etag": {`"e"`}}, "", &Rule{Mode: Immutable}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, target := readyWorld(t, test.header, test.body, test.rule)
			now := time.Now()
			c.now = func() time.Time { return now.Add(12345 * time.Second) }
			ready, ok := c.Ready(target, test.rule)
			if !ok {
				t.Fatal("not ready")
			}
			var served, written Outcome
			want := overHTTP1(t, func(w http.ResponseWriter, r *http.Request) {
				r.URL = target
				served, _ = c.Serve(w, r, test.rule)
			})
			if got := ready.Append([]byte("before")); !bytes.Equal(got, append([]byte("before"), want...)) {
				t.Errorf("Append differs from Serve:\n%s", cmp.Diff(string(want), string(got[len("before"):])))
			}
			got := overHTTP1(t, func(w http.ResponseWriter, _ *http.Request) {
				n, err := ready.WriteTo(w)
				written = c.Served(ready, n, err)
			})
			if !bytes.Equal(got, want) {
				t.Errorf("WriteTo differs from Serve:\n%s", cmp.Diff(string(want), string(got)))
			}
			if diff := cmp.Diff(served, written); diff != "" {
				t.Errorf("the outcome differs:\n%s", diff)
			}
		})
	}
}

// overHTTP1 returns what net/http's server sends for a handler.
func overHTTP1(t *testing.T, h http.HandlerFunc) []byte {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /f HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	res, err := http.ReadResponse(bufio.NewReader(io.TeeReader(c, &all)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	return all.Bytes()
}

func TestReadyKnowsItsLimits(t *testing.T) {
	t.Parallel()
	rule := &Rule{Mode: Immutable}
	c, target := readyWorld(t, http.Header{"Etag": {`"e"`}}, "body", rule)
	for _, test := range []struct {
		name   string
		target *url.URL
		rule   *Rule
	}{
		{"another target", &url.URL{Scheme: "https", Host: "a.test", Path: "/g"}, rule},
		{"a rule that varies", target, &Rule{Mode: Immutable, Vary: []string{"Accept"}}},
		{"a rule that validates", target, &Rule{Mode: Revalidate, TTL: time.Hour}},
		{"a rule that follows HTTP", target, &Rule{Mode: HTTP}},
	} {
		if _, ok := c.Ready(test.target, test.rule); ok {
			t.Errorf("%s: ready", test.name)
		}
	}
	now := time.Now()
	c.now = func() time.Time { return now.Add(time.Hour) }
	if _, ok := c.Ready(target, &Rule{Mode: Immutable, TTL: time.Minute}); ok {
		t.Error("ready although stale")
	}
	if _, ok := c.Ready(target, &Rule{Mode: Immutable, TTL: 2 * time.Hour}); !ok {
		t.Error("not ready although fresh")
	}
	c.Invalidate(target)
	if _, ok := c.Ready(target, rule); ok {
		t.Error("ready after it was invalidated")
	}
}
