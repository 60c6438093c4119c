package origin

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// pollInterval is how often a wait looks again.
const pollInterval = 5 * time.Millisecond

// pause waits one poll interval, or returns the context's error.
func pause(ctx context.Context) error {
	timer := time.NewTimer(pollInterval)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// published is the Last-Modified time of everything a registry here serves.
var published = time.Date(2025, time.March, 14, 9, 26, 53, 0, time.UTC)

// Package is what a registry is asked to offer: it makes the archive, its
// digests and its index entries of it.
type Package struct {
	Name     string
	Version  string
	Requires []string // names of packages of the same registry, any version
	Payload  int      // bytes of incompressible ballast inside the archive
	// Sdist has PyPI offer a source distribution in place of a wheel. It is built
	// without anything but Python.
	Sdist bool
	// Hangs has a source distribution never be built.
	Hangs bool
	// Uploaded is when it was, if the index says so; zero: it does not.
	Uploaded time.Time
	// Yanked is why it was withdrawn from PyPI; "": it was not.
	Yanked string
}

// file is one response of a registry that serves fixed bytes.
type file struct {
	body   []byte
	kind   string      // Content-Type
	header http.Header // further fields of the response
	// compress offers gzip to those who accept it, as a CDN does for indexes.
	compress bool
	// bare withholds the validators, as some mirrors do.
	bare bool
}

// files serves fixed bytes by path, with strong validators and ranges.
type files map[string]file

func (f files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	found, ok := f[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	found.serve(w, r)
}

func (f file) serve(w http.ResponseWriter, r *http.Request) { f.serveAt(w, r, published) }

// serveAt serves a file that was last changed at a time.
func (f file) serveAt(w http.ResponseWriter, r *http.Request, modified time.Time) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	header := w.Header()
	for name, values := range f.header {
		header[name] = values
	}
	header.Set("Content-Type", f.kind)
	body := f.body
	etag := entityTag(body)
	if f.compress {
		header.Add("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			body = compressed(body)
			header.Set("Content-Encoding", "gzip")
			etag = entityTag(body)
		}
	}
	if f.bare {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		return
	}
	header.Set("ETag", etag)
	http.ServeContent(w, r, "", modified, bytes.NewReader(body))
}

// entityTag is a strong validator of these bytes.
func entityTag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}

func compressed(body []byte) []byte {
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	_, _ = zw.Write(body) // a bytes.Buffer takes everything
	_ = zw.Close()
	return buf.Bytes()
}

// ballast is n bytes that no compression shortens, the same for the same name.
func ballast(name string, n int) []byte {
	body := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(name))).Read(body)
	return body
}
