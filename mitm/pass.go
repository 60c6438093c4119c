package mitm

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"larder/cache"
	"larder/policy"
)

// pass forwards a request unmodified and streams the response back. r is what
// the client sent, out what goes upstream.
func (s *Server) pass(w http.ResponseWriter, r, out *http.Request, rule *rule, x *exchange) {
	x.Class = ClassPass
	ctx, cancel, stall := newStall(r.Context(), s.options.Upstream.options.IdleTimeout)
	defer cancel()
	control := http.NewResponseController(w)
	if r.ProtoMajor == 1 {
		// Request and response bodies run at the same time, or an origin that
		// answers early and a client that goes on sending wait for each other.
		_ = control.EnableFullDuplex() // every HTTP/1 writer of net/http can
	}
	var body *requestBody
	if out.Body != nil && out.Body != http.NoBody {
		body = &requestBody{ReadCloser: out.Body, from: r, to: out, stall: stall}
		if out.Trailer == nil && r.ContentLength < 0 {
			out.Trailer = http.Header{} // filled at the end of the body
			body.trailers = true
		}
		out.Body = body
		defer body.Close()
	}
	hints := &informational{w: w, continues: expectsContinue(r)}
	out = out.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: hints.write}))
	stall.begin()
	extended := extendedOf(r)
	carry := s.options.Upstream.RoundTrip
	if extended != nil {
		carry = s.options.Upstream.extend
	}
	res, err := carry(out)
	stall.end()
	hints.end()
	if err != nil {
		x.reject(w, r, body.or(stallOr(ctx, err)))
		return
	}
	defer res.Body.Close()
	s.invalidate(out, res, x)
	s.options.Cache.NoteRedirect(out.URL, res.StatusCode, res.Header)
	switching := res.StatusCode == http.StatusSwitchingProtocols || extended != nil && res.StatusCode/100 == 2
	if !switching { // what switches has to be seen as it came
		removeHopByHop(res.Header)
	}
	if rule.response != nil {
		if err := rule.response.ModifyResponse(res); err != nil {
			x.reject(w, r, fmt.Errorf("change response header by rule %q: %w", rule.name, err))
			return
		}
	}
	switch {
	case switching && extended != nil:
		s.extend(w, res.Request, res, extended, x)
		return
	case switching:
		s.upgrade(w, out, res, x)
		return
	}
	if r.Method != http.MethodHead {
		x.wantsDigest(res.StatusCode)
	}
	res.Body = &stallingBody{res.Body, ctx, stall}
	s.respond(w, control, r, res, x)
}

// invalidate drops what an unsafe method may have changed (RFC 9111, Section
// 4.4).
func (s *Server) invalidate(r *http.Request, res *http.Response, x *exchange) {
	rules := s.rules.Load()
	for _, target := range cache.Invalidated(r.Method, r.URL, res.StatusCode, res.Header) {
		for _, rule := range rules.keysOf(x.who, target) {
			s.options.Cache.InvalidateUnder(target, rule)
		}
	}
	if refs, asked := pushed(r, res); refs != nil {
		for _, rule := range rules.keysOf(x.who, refs) {
			s.options.Cache.InvalidateUnder(refs, rule)
		}
		s.options.Cache.OutdateContent(policy.BodyGitRefs.String(), asked)
	}
}

// respond streams an origin's response to the client.
func (s *Server) respond(w http.ResponseWriter, control *http.ResponseController, r *http.Request, res *http.Response, x *exchange) {
	h := w.Header()
	clear(h)
	copyHeader(h, res.Header, res.StatusCode)
	bodyless := r.Method == http.MethodHead || res.ContentLength == 0
	live := res.ContentLength < 0 && !bodyless
	if r.ProtoMajor == 2 && res.ContentLength == 0 && len(res.Header["Content-Length"]) == 0 {
		live = true // it ended without saying a length, and net/http would say one
	}
	announced := len(res.Trailer)
	if announced > 0 {
		if r.ProtoMajor == 1 && !bodyless {
			delete(h, "Content-Length") // HTTP/2 may have both, HTTP/1.1 may not
			live = true
		}
		names := make([]string, 0, announced)
		for name := range res.Trailer {
			names = append(names, name)
		}
		slices.Sort(names)
		h["Trailer"] = []string{strings.Join(names, ", ")}
	}
	w.WriteHeader(res.StatusCode)
	x.Status = res.StatusCode
	if live {
		// The header alone may be what the client waits for; and without this
		// net/http would count a short body and add a Content-Length.
		if err := control.Flush(); err != nil {
			x.fail(context.Canceled)
			abort(r)
		}
	}
	err := s.copyBody(w, control, res.Body, live, res.ContentLength, x)
	if err != nil && r.Context().Err() != nil && (r.Method == http.MethodHead || x.Bytes == res.ContentLength) {
		// A client may close at the last byte that it was promised. It has lost
		// nothing by it, and neither has the account.
		return
	}
	if err != nil {
		x.fail(err)
		_ = control.Flush() // what came before the break is the client's
		abort(r)
	}
	// Trailers are there once the body has ended. Those that were not announced
	// need net/http's prefix.
	for name, values := range res.Trailer {
		if len(res.Trailer) != announced {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
}

// copyBody streams a body. A live one, of unknown length, is flushed at each
// piece; one of known length when no more of it comes for a moment.
func (s *Server) copyBody(w io.Writer, control *http.ResponseController, body io.Reader, live bool, length int64, x *exchange) error {
	buffer := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buffer)
	lazy := &lazyFlusher{control: control}
	defer lazy.stop()
	if !live && length > 0 {
		lazy.arm() // the header, if the body is late
	}
	for {
		n, err := body.Read(*buffer)
		if n > 0 {
			x.UpstreamBytes += int64(n)
			if x.digest != nil {
				_, _ = x.digest.Write((*buffer)[:n]) // a hash never fails
			}
			if werr := lazy.write(w, (*buffer)[:n], live, x.UpstreamBytes == length); werr != nil {
				return fmt.Errorf("%w: %w", context.Canceled, werr) // the client went away
			}
			x.Bytes += int64(n)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// flushDelay is how long bytes of a body of known length may wait in net/http's
// buffer for more.
const flushDelay = 20 * time.Millisecond

// lazyFlusher flushes what was written when nothing follows it for flushDelay.
type lazyFlusher struct {
	control *http.ResponseController

	mu    sync.Mutex // held for each use of the writer
	timer *time.Timer
	armed bool
	done  bool
}

func (l *lazyFlusher) write(w io.Writer, p []byte, now, last bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := w.Write(p); err != nil {
		return err
	}
	if now {
		return l.control.Flush()
	}
	if !last {
		l.armLocked()
	}
	return nil
}

func (l *lazyFlusher) arm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armLocked()
}

func (l *lazyFlusher) armLocked() {
	switch {
	case l.armed:
	case l.timer == nil:
		l.armed = true
		l.timer = time.AfterFunc(flushDelay, l.flush)
	default:
		l.armed = true
		l.timer.Reset(flushDelay)
	}
}

func (l *lazyFlusher) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false
	if !l.done {
		_ = l.control.Flush() // the next write reports a client that is gone
	}
}

// stop returns when no flush is running and none will.
func (l *lazyFlusher) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = true
	if l.timer != nil {
		l.timer.Stop()
	}
}

// informational forwards 1xx responses (RFC 9110, Section 15.2) while the final
// one is awaited.
type informational struct {
	w http.ResponseWriter
	// continues: the client waits for 100 Continue. The transport reads its body
	// once upstream asks for it, and that read makes net/http's server send the
	// 100; forwarding upstream's own as well would send it twice, from two
	// goroutines that do not know of each other.
	continues bool
	mu        sync.Mutex // the transport calls from a goroutine of its own
	done      bool
}

// expectsContinue tells whether the client holds its body back until it gets
// 100 Continue (RFC 9110, Section 10.1.1), as net/http's server sees it.
func expectsContinue(r *http.Request) bool {
	return r.ContentLength != 0 && httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue")
}

func (i *informational) write(code int, header textproto.MIMEHeader) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.done || i.continues && code == http.StatusContinue {
		return nil
	}
	h := i.w.Header()
	for name, values := range header {
		h[name] = values
	}
	removeHopByHop(h)
	i.w.WriteHeader(code)
	clear(h)
	return nil
}

func (i *informational) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.done = true
}

// requestBody keeps the transport from reading after the handler's return, and
// hands over trailers that the client did not announce: net/http puts them into
// the request that it made itself.
//
// Closing does not reach net/http's body, which would wait for what is left of
// it: with a client that waits for 100 Continue, for ever. The server looks
// after its body itself when the handler returns.
type requestBody struct {
	io.ReadCloser
	from, to *http.Request
	stall    *stall
	trailers bool
	closed   atomic.Bool
	broken   atomic.Pointer[error] // why it could not be read to its end
}

func (b *requestBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.ReadCloser.Read(p)
	b.stall.moved() // as the transport asks for more, the last piece has gone
	if err == io.EOF && b.trailers {
		for name, values := range b.from.Trailer {
			b.to.Trailer[name] = values
		}
		b.trailers = false
	}
	if err != nil && err != io.EOF {
		b.broken.Store(&err)
	}
	return n, err
}

// or prefers what was wrong with the body to what came of it upstream.
func (b *requestBody) or(err error) error {
	if b == nil || b.broken.Load() == nil {
		return err
	}
	return &requestError{fmt.Errorf("request body: %w", *b.broken.Load())}
}

func (b *requestBody) Close() error {
	b.closed.Store(true)
	return nil
}

// stallingBody is a response body whose reads must not stall.
type stallingBody struct {
	io.ReadCloser
	ctx   context.Context // of the request, for its cause
	stall *stall
}

func (b *stallingBody) Read(p []byte) (int, error) {
	b.stall.begin()
	n, err := b.ReadCloser.Read(p)
	b.stall.end()
	if err != nil && b.ctx.Err() != nil {
		// A clean end counts for nothing now: an origin that sees the connection
		// closing may end its body as if that were all of it.
		return n, fmt.Errorf("%w: %w", context.Cause(b.ctx), err)
	}
	return n, err
}
