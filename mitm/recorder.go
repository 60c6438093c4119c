package mitm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"

	"github.com/google/martian/v3"
	"github.com/google/martian/v3/fifo"
	"github.com/google/martian/v3/har"
)

const (
	// maxRecorded and maxRecordedBytes bound what a Recorder keeps: messages, and
	// roughly the bytes of their headers.
	maxRecorded      = 20000
	maxRecordedBytes = 64 << 20
	// recordedBytes is what a message costs besides.
	recordedBytes = 1 << 10
	// maxCaptures bounds the Recorders of clients.
	maxCaptures = 4
)

// Recorder keeps the heads of requests and their responses, to be written as HAR 1.2.
// Bodies are not kept, nor are credentials as far as they can be told; see redaction.
// It is safe for concurrent use.
type Recorder struct {
	logger *har.Logger
	group  *fifo.Group

	mu    sync.Mutex // guards the rest
	count int
	bytes int
	over  int  // messages for which there was no room
	done  bool // it is being written: nothing is added any more
}

// NewRecorder returns one that holds nothing.
func NewRecorder() *Recorder {
	r := &Recorder{logger: har.NewLogger(), group: fifo.NewGroup()}
	r.logger.SetOption(har.BodyLogging(false), har.PostDataLogging(false))
	for _, m := range []martian.RequestResponseModifier{newRedaction(), r.logger} {
		r.group.AddRequestModifier(m)
		r.group.AddResponseModifier(m)
	}
	return r
}

// Over is how many messages came when there was no more room.
func (r *Recorder) Over() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.over
}

// WriteTo ends the recording and writes what was kept as HAR 1.2.
func (r *Recorder) WriteTo(w io.Writer) (int64, error) {
	r.mu.Lock()
	r.done = true
	r.mu.Unlock()
	log := r.logger.Export().Log
	log.Creator = &har.Creator{Name: "larder"}
	for _, e := range log.Entries {
		if e.Response != nil { // without bodies martian has no size
			e.Response.Content.Size = max(0, e.Response.BodySize)
		}
	}
	comment := ""
	if over := r.Over(); over > 0 {
		comment = fmt.Sprintf("%d more messages came when there was no more room", over)
	}
	type commented struct {
		*har.Log
		Comment string `json:"comment,omitempty"`
	}
	n := &countingWriter{w: w}
	enc := json.NewEncoder(n)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	err := enc.Encode(struct {
		Log commented `json:"log"`
	}{commented{log, comment}})
	return n.n, err
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// room takes the room for a head of so many bytes. The caller holds mu.
func (r *Recorder) room(size, messages int) bool {
	if r.done {
		return false
	}
	if r.count+messages > maxRecorded || r.bytes+size > maxRecordedBytes {
		if messages > 0 {
			r.over++
		}
		return false
	}
	r.count += messages
	r.bytes += size
	return true
}

func sizeOf(h http.Header) (n int) {
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(v) + 64
		}
	}
	return n
}

// recording is one request whose response is awaited.
type recording struct {
	recorder *Recorder
	request  *http.Request // a copy that only martian sees
	remove   func()
}

// begin keeps the head of a request; nil where there is no room. target is nil for a
// CONNECT.
func (r *Recorder) begin(req *http.Request, target *url.URL) *recording {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.room(sizeOf(req.Header)+2*len(req.RequestURI)+recordedBytes, 1) {
		return nil
	}
	head := &http.Request{
		Method: req.Method, Proto: req.Proto, ProtoMajor: req.ProtoMajor, ProtoMinor: req.ProtoMinor,
		Header: req.Header.Clone(), Host: req.Host, ContentLength: req.ContentLength,
	}
	if target == nil {
		target = &url.URL{Host: withoutCredentials(req.RequestURI)}
	}
	head.URL = new(*target)
	// The logger finds the two halves of an exchange by martian's context.
	_, remove, err := martian.TestContext(head, nil, nil)
	if err != nil {
		return nil // the system gives no random numbers: the ID would be one
	}
	if err := r.group.ModifyRequest(head); err != nil {
		remove()
		return nil
	}
	return &recording{r, head, remove}
}

// end keeps the head of the response and how long its body was.
func (g *recording) end(status int, header http.Header, length int64) {
	defer g.remove()
	g.recorder.mu.Lock()
	defer g.recorder.mu.Unlock()
	if status == 0 || g.recorder.done {
		return
	}
	if !g.recorder.room(sizeOf(header), 0) {
		header = nil
	}
	_ = g.recorder.group.ModifyResponse(&http.Response{ // fails only on bodies, and there is none
		StatusCode: status, Header: header.Clone(), Request: g.request, ContentLength: length, Body: http.NoBody,
		Proto: g.request.Proto, ProtoMajor: g.request.ProtoMajor, ProtoMinor: g.request.ProtoMinor,
	})
}

// recordingWriter remembers the header that goes out.
type recordingWriter struct {
	http.ResponseWriter
	header http.Header
}

// WriteHeader implements http.ResponseWriter.
func (w *recordingWriter) WriteHeader(status int) {
	if w.header == nil && status >= 200 {
		w.header = w.Header().Clone()
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *recordingWriter) Write(p []byte) (int, error) {
	if w.header == nil {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *recordingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// capture is a Recorder of the requests of some clients.
type capture struct {
	clients  netip.Prefix
	recorder *Recorder
}

// ErrCaptures says that as many captures as there may be are under way.
var ErrCaptures = errors.New("too many captures are under way; try again when one has ended")

// Capture has r keep the requests of clients within a network until stop is called.
func (s *Server) Capture(clients netip.Prefix, r *Recorder) (stop func(), err error) {
	c := &capture{clients, r}
	for {
		old := s.captures.Load()
		var list []*capture
		if old != nil {
			list = *old
		}
		if len(list) >= maxCaptures {
			return nil, ErrCaptures
		}
		list = append(slices.Clone(list), c)
		if s.captures.CompareAndSwap(old, &list) {
			return func() { s.endCapture(c) }, nil
		}
	}
}

func (s *Server) endCapture(c *capture) {
	for {
		old := s.captures.Load()
		list := slices.DeleteFunc(slices.Clone(*old), func(o *capture) bool { return o == c })
		next := &list
		if len(list) == 0 {
			next = nil // for the look that every hit takes
		}
		if s.captures.CompareAndSwap(old, next) {
			return
		}
	}
}

// recorders are those that keep what comes over a connection; nil for nearly all.
func (s *Server) recorders(c *clientConn) (all []*Recorder) {
	if c == nil {
		return nil
	}
	if c.recorder != nil {
		all = append(all, c.recorder)
	}
	if captures := s.captures.Load(); captures != nil {
		for _, x := range *captures {
			if x.clients.Contains(c.asker.Addr) {
				all = append(all, x.recorder)
			}
		}
	}
	return all
}

// recorded begins to record a request, if anybody wants it. What it returns is
// called when the exchange has its outcome.
func (s *Server) recorded(w http.ResponseWriter, r *http.Request, target *url.URL, x *exchange) (http.ResponseWriter, func()) {
	recorders := s.recorders(connOf(r.Context()))
	if len(recorders) == 0 {
		return w, func() {}
	}
	var under []*recording
	for _, recorder := range recorders {
		if g := recorder.begin(r, target); g != nil {
			under = append(under, g)
		}
	}
	to := &recordingWriter{ResponseWriter: w}
	return to, func() {
		for _, g := range under {
			g.end(x.Status, to.header, x.Bytes)
		}
	}
}
