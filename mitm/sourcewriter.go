package mitm

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"golang.org/x/sync/semaphore"

	"larder/curation"
)

// errIndexMemory: too many indexes are being received at once.
var errIndexMemory = errors.New("too many indexes are being curated at this moment")

// sourceWriter takes what the cache or upstream answers to a request for an index: an
// index into memory, anything else through to the client.
type sourceWriter struct {
	to     http.ResponseWriter // nil: what is no index is dropped
	ask    *curation.Ask
	known  func(sum [32]byte) *curation.Rendering
	memory *semaphore.Weighted
	ctx    context.Context // of the request, which is over when this is

	header    http.Header
	status    int
	passing   bool                // it is no index
	rendering *curation.Rendering // of what the cache had no need to send
	body      []byte
	reserved  int64 // of memory
	err       error
}

// Header implements http.ResponseWriter.
func (w *sourceWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *sourceWriter) WriteHeader(status int) {
	if status < 200 || w.status != 0 {
		return
	}
	w.status = status
	if status == http.StatusOK && w.ask.Takes(w.header.Get("Content-Type")) {
		if w.rendering == nil {
			w.expect()
		}
		return
	}
	w.passing = true
	if status == http.StatusOK {
		// Whatever it is, it may list what is denied.
		w.passing = false
		w.err = &indexError{errors.New("what came is of the type " + strconv.Quote(w.header.Get("Content-Type")))}
		return
	}
	if w.to == nil {
		return
	}
	h := w.to.Header()
	clear(h)
	for name, values := range w.header {
		h[name] = values
	}
	w.to.WriteHeader(status)
}

// expect makes room for a body of the length that is said.
func (w *sourceWriter) expect() {
	n, err := strconv.ParseInt(w.header.Get("Content-Length"), 10, 64)
	if err != nil || n < 0 {
		n = 256 << 10
	}
	if n > curation.MaxSource {
		w.err = &indexError{curation.ErrTooLarge}
		return
	}
	if w.err = w.memory.Acquire(w.ctx, n); w.err == nil {
		w.reserved = n
		w.body = make([]byte, 0, n)
	}
}

// Write implements http.ResponseWriter. What will not be used is taken all the same, so
// that the cache goes on storing it.
func (w *sourceWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.passing && w.to != nil:
		return w.to.Write(p)
	case w.passing || w.err != nil || w.rendering != nil:
		return len(p), nil
	}
	if len(w.body)+len(p) > curation.MaxSource {
		w.body, w.err = nil, &indexError{curation.ErrTooLarge}
		return len(p), nil
	}
	if need := int64(len(w.body) + len(p)); need > w.reserved {
		// Twice as much each time. Waiting while holding some could wait for ever.
		more := max(need, min(2*w.reserved, curation.MaxSource)) - w.reserved
		if !w.memory.TryAcquire(more) {
			w.body, w.err = nil, errIndexMemory
			return len(p), nil
		}
		w.reserved += more
		w.body = append(make([]byte, 0, w.reserved), w.body...)
	}
	w.body = append(w.body, p...)
	return len(p), nil
}

// Flush implements http.Flusher.
func (w *sourceWriter) Flush() {
	if w.passing && w.to != nil {
		_ = http.NewResponseController(w.to).Flush() // the next write says what is wrong
	}
}

// Skip implements cache.Skipper: what was rendered already need not be read.
func (w *sourceWriter) Skip(sum [32]byte) bool {
	w.rendering = w.known(sum)
	return w.rendering != nil
}

// source is what was received.
func (w *sourceWriter) source(from *url.URL) *curation.Source {
	return &curation.Source{URL: from, Header: w.header, Body: w.body, SHA256: sha256.Sum256(w.body)}
}

// release gives the memory back.
func (w *sourceWriter) release() {
	w.memory.Release(w.reserved)
	w.reserved, w.body = 0, nil
}
