package admin

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// patience is how long the other side of a long answer or request may do
	// nothing: people look at lists through pagers.
	patience = 10 * time.Minute
	// reportEvery is the least time between two reports of progress.
	reportEvery = time.Second
	// flushEvery bounds how long a line waits for others to share a packet with.
	flushEvery = 100 * time.Millisecond
)

// Event is one line of the answer to a call that takes time. Exactly one field is
// set. An answer without Done or Error at its end was cut short.
type Event[P, R any] struct {
	Progress *P         `json:"progress,omitempty"`
	Item     *R         `json:"item,omitempty"` // one that was refused, or one result
	Done     *P         `json:"done,omitempty"`
	Error    *ErrorText `json:"error,omitempty"`
}

// ErrorText is an error on the wire.
type ErrorText struct {
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

// patientWriter gives each write its own time in place of the server's time for the
// whole answer.
type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

func newPatientWriter(w http.ResponseWriter) *patientWriter {
	p := &patientWriter{ResponseWriter: w, control: http.NewResponseController(w)}
	// The server's deadline for reading the request would otherwise end a long
	// answer: net/http takes it for the client's going.
	_ = p.control.SetReadDeadline(time.Time{}) // an httptest recorder has none
	return p
}

// Write implements io.Writer.
func (p *patientWriter) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(patience)) // as above
	return p.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the writer below.
func (p *patientWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// patientReader gives each read of a request body its own time.
type patientReader struct {
	r       io.Reader
	control *http.ResponseController
}

// Read implements io.Reader.
func (p *patientReader) Read(b []byte) (int, error) {
	_ = p.control.SetReadDeadline(time.Now().Add(patience)) // as above
	n, err := p.r.Read(b)
	if err != nil {
		_ = p.control.SetReadDeadline(time.Time{}) // as above
	}
	return n, err
}

// lineWriter writes JSON values as lines. It is safe for concurrent use.
type lineWriter struct {
	mu      sync.Mutex // guards what follows
	w       *patientWriter
	encoder *json.Encoder
	flushed time.Time
	failed  error
}

func newLineWriter(w *patientWriter) *lineWriter {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	return &lineWriter{w: w, encoder: json.NewEncoder(w)}
}

// write writes one line; after the first error it does nothing.
func (l *lineWriter) write(v any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = l.encoder.Encode(v)
	}
	if now := time.Now(); l.failed == nil && now.Sub(l.flushed) >= flushEvery {
		l.flushed = now
		l.failed = l.w.control.Flush()
	}
	return l.failed
}

// reporter passes on progress at a pace for people.
type reporter[P any] struct {
	last time.Time
	tell func(P)
}

func newReporter[P any](tell func(P)) *reporter[P] {
	return &reporter[P]{last: time.Now(), tell: tell}
}

func (r *reporter[P]) report(p P) {
	if now := time.Now(); now.Sub(r.last) >= reportEvery {
		r.last = now
		r.tell(p)
	}
}

// newItemScanner reads lines of at most maxItem bytes.
func newItemScanner(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxItem)
	return s
}
