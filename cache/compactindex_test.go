package cache

import (
	"bytes"
	"compress/gzip"
	"crypto/md5" //nolint:gosec // RubyGems makes its tags of it
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// TestCompactIndexIsAppendedTo is what bundler does with RubyGems' index: it has the
// beginning of a file that grows at its end, asks for the rest in no coding with the
// tag of what it has, and wants the MD5 of the whole to be the tag of the answer.
func TestCompactIndexIsAppendedTo(t *testing.T) {
	old, grown := noise(5000), noise(7000)
	var current atomic.Pointer[[]byte]
	current.Store(&old)
	tag := func(b []byte) string { return fmt.Sprintf(`"%x"`, md5.Sum(b)) } //nolint:gosec // see the import
	w := newWorld(t, &Rule{Mode: Revalidate, TTL: time.Minute}, func(rw http.ResponseWriter, r *http.Request) {
		body := *current.Load()
		rw.Header().Set("Etag", tag(body))
		rw.Header().Set("Vary", "Accept-Encoding")
		if r.Header.Get("If-None-Match") == tag(body) {
			rw.WriteHeader(http.StatusNotModified)
			return
		}
		if r.Header.Get("Accept-Encoding") == "gzip" && r.Header.Get("Range") == "" {
			rw.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(rw)
			_, _ = z.Write(body)
			_ = z.Close()
			return
		}
		http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(body))
	})
	if got := w.get("/versions", "Accept-Encoding", "gzip"); got.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("not gzipped: %v", got.Header)
	}

	// What is stored is in a coding, and no range may be cut from it.
	got := w.get("/versions", "Range", "bytes=4999-", "If-None-Match", `"another"`)
	if got.StatusCode != http.StatusPartialContent || !bytes.Equal(got.body, old[4999:]) || got.Header.Get("Etag") != tag(old) {
		t.Errorf("got %d, %d bytes, tag %s", got.StatusCode, len(got.body), got.Header.Get("Etag"))
	}

	// In no coding it is stored, and answers itself: unchanged first, range second.
	w.get("/versions").want(t, 200, old, "larder; fwd=vary-miss; stored")
	w.get("/versions", "Range", "bytes=4999-", "If-None-Match", tag(old)).want(t, 304, nil, "larder; hit; ttl=60")
	w.get("/versions", "Range", "bytes=5000-", "If-None-Match", tag(old)).want(t, 304, nil, "larder; hit; ttl=60")

	current.Store(&grown)
	w.clock.advance(2 * time.Minute)
	got = w.get("/versions", "Range", "bytes=4999-", "If-None-Match", tag(old))
	if got.StatusCode == http.StatusPartialContent && !bytes.Equal(got.body, grown[4999:]) ||
		got.StatusCode == http.StatusOK && !bytes.Equal(got.body, grown) || got.StatusCode == http.StatusNotModified {
		t.Errorf("of the grown file came %d with %d bytes", got.StatusCode, len(got.body))
	}
	if got.Header.Get("Etag") != tag(grown) {
		t.Errorf("tag %s, want that of the whole, %s", got.Header.Get("Etag"), tag(grown))
	}
}
