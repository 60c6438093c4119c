package mitm

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"larder/curation"
)

// serveWheel answers with a wheel of the overlay, or its METADATA beside it, whole or in
// ranges.
func (s *Server) serveWheel(w http.ResponseWriter, r *http.Request, target *url.URL, x *exchange) {
	digest, file, _ := strings.Cut(strings.TrimPrefix(target.Path, curation.WheelPath), "/")
	file, metadata := strings.CutSuffix(file, ".metadata")
	wheel, err := s.options.Wheels.Find(digest, file)
	if err != nil {
		x.Class = ClassMiss
		x.Status = http.StatusNotFound
		http.Error(w, fmt.Sprintf("larder: there is no wheel %s with the digest %s; `larder wheels ls` lists those that are there", printable(file), printable(digest)), x.Status)
		return
	}
	content, err := s.options.Wheels.Content(wheel, metadata)
	if err != nil {
		x.reject(w, r, fmt.Errorf("open the wheel %s: %w", file, err))
		return
	}
	defer content.Close()
	h := w.Header()
	h["Content-Type"] = []string{"application/octet-stream"}
	h["Etag"] = []string{`"` + wheel.SHA256 + `"`}
	if metadata {
		h["Etag"] = []string{`"` + wheel.MetadataSHA256 + `"`}
	}
	h["Cache-Control"] = []string{"public, max-age=31536000, immutable"}
	x.Class = ClassHit
	counted := &tallyWriter{ResponseWriter: w}
	// It heeds ranges and preconditions (RFC 9110, Sections 13 and 14).
	http.ServeContent(counted, r, "", wheel.Added, content)
	x.Status, x.Bytes, x.CacheBytes = counted.status, counted.n, counted.n
	if x.Status == http.StatusOK && !metadata {
		x.SHA256 = wheel.SHA256
	}
	if counted.err != nil {
		x.fail(fmt.Errorf("write to the client: %w: %w", context.Canceled, counted.err))
		abort(r)
	}
}

// tallyWriter notes what is written.
type tallyWriter struct {
	http.ResponseWriter
	status int
	n      int64
	err    error
}

// WriteHeader implements http.ResponseWriter.
func (w *tallyWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *tallyWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	w.err = err
	return n, err
}
