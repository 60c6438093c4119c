package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// smallObject is the size up to which a fill of which parts are asked for is finished.
const smallObject = 8 << 20

// bufferSize is what is read from upstream and written to a client at once: a TLS
// write below 16 KiB doubles the cost of large bodies, and beyond 256 KiB nothing is
// gained.
const bufferSize = 128 << 10

// buffers are shared by all caches of the process, as their memory is.
var buffers = sync.Pool{New: func() any { return new(make([]byte, bufferSize)) }}

func getBuffer() *[]byte  { return buffers.Get().(*[]byte) }
func putBuffer(b *[]byte) { buffers.Put(b) }

// reply writes a response whose header goes out with the first byte of the body, so
// that as long as there is none everything can still turn out otherwise.
type reply struct {
	x       *exchange
	status  int
	fields  http.Header // perhaps shared: never written to
	own     http.Header // what is set over them
	started bool
	total   int64 // what Content-Length promises; -1: nothing
}

func (p *reply) start() {
	if p.started {
		return
	}
	p.started = true
	p.x.out.Status = p.status
	h := p.x.w.Header()
	setHeader(h, p.fields)
	maps.Copy(h, p.own)
	p.total = -1
	if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil {
		p.total = n
	}
	p.x.w.WriteHeader(p.status)
}

// Write writes a part of the body to the client.
func (p *reply) Write(b []byte) (int, error) {
	p.start()
	n, err := p.x.w.Write(b)
	if err != nil && p.x.r.ProtoMajor == 2 && p.x.out.Bytes+int64(len(b)) == p.total {
		// net/http's HTTP/2 calls the last bytes lost when the connection ends before
		// it has noted that they went out, and a client with its last byte is free to
		// end it: curl does. Nobody can tell this from a client that left just then.
		n, err = len(b), nil
	}
	p.x.out.Bytes += int64(n)
	return n, clientGone(err)
}

// clientGone makes a failed write to the client what it means, a cancellation:
// net/http's HTTP/2 has no error of its own to tell that by.
func clientGone(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("write to the client: %w: %w", context.Canceled, err)
}

// newReply prepares a response with fields; status is larder's member of Cache-Status.
func (x *exchange) newReply(status int, fields http.Header, cs cacheStatus) *reply {
	x.out.CacheStatus = cs.String()
	own := make(http.Header, 4)
	if x.kept {
		maps.Copy(own, x.rule.overrides)
	}
	own["Cache-Status"] = appended(fields["Cache-Status"], x.out.CacheStatus)
	return &reply{x: x, status: status, fields: fields, own: own}
}

func (p *reply) setLength(n int64) {
	p.own["Content-Length"] = []string{strconv.FormatInt(n, 10)}
}

// text answers with a short message of larder's own.
func (x *exchange) text(status int, cs cacheStatus, body string) error {
	p := x.newReply(status, http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, cs)
	p.setLength(int64(len(body)))
	p.start()
	if x.r.Method == http.MethodHead {
		return nil
	}
	_, err := io.WriteString(p, body)
	return err
}

// fromStore answers from a stored response: whole, ranges, 304 or 416.
func (x *exchange) fromStore(s *selected, cs cacheStatus) error {
	cs.key = keyText(x.rule, x.r.Header, s.rec.header)
	x.kept = true
	x.out.SHA256 = ""
	if s.rec.status == http.StatusOK {
		x.out.SHA256, x.out.Verified = hexSum(s.sum), s.rec.proof
	}
	age := []string{ageField(currentAge(s.rec, x.c.now()))}
	if notModified(x.r.Header, s.rec.header, s.rec.status, s.rec.received) {
		p := x.newReply(http.StatusNotModified, notModifiedHeader(s.rec.header), cs)
		p.own["Age"] = age
		p.start()
		return nil
	}
	if ranges, ok := rangesOf(x.r, s.rec.status, s.rec.header); ok {
		spans := resolve(ranges, s.size)
		switch {
		case len(spans) == 0:
			return x.unsatisfiable(s.rec.header, s.size, cs)
		case len(spans) == 1:
			p := x.newReply(http.StatusPartialContent, s.rec.header, cs)
			p.own["Age"] = age
			p.own["Content-Range"] = []string{spans[0].contentRange(s.size)}
			p.setLength(spans[0].n)
			return p.span(s, spans[0])
		case !overlapsMuch(spans, s.size):
			p := x.newReply(http.StatusPartialContent, s.rec.header, cs)
			p.own["Age"] = age
			return p.multipart(s.size, spans, func(part span) error { return p.span(s, part) })
		}
	}
	p := x.newReply(s.rec.status, s.rec.header, cs)
	p.own["Age"] = age
	if s.rec.status != http.StatusNoContent {
		p.setLength(s.size)
	}
	if x.r.Method == http.MethodHead || x.skips(s) {
		p.start()
		return nil
	}
	return p.span(s, span{0, s.size})
}

// A Skipper is a response's writer that may have no use for a stored body. One in whose
// Unwrap it is counts too.
type Skipper interface {
	// Skip reports whether the body of a 200, which has this digest, need not be
	// written. It is asked before the header is written, if the body is stored whole.
	Skip(sha256 [32]byte) bool
}

// skips asks the writer whether it has a use for the body.
func (x *exchange) skips(s *selected) bool {
	if s.rec.status != http.StatusOK {
		return false
	}
	for w := x.w; w != nil; {
		if k, ok := w.(Skipper); ok {
			return k.Skip(s.sum)
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = u.Unwrap()
	}
	return false
}

// unsatisfiable answers 416 (RFC 9110, section 15.5.17).
func (x *exchange) unsatisfiable(fields http.Header, size int64, cs cacheStatus) error {
	p := x.newReply(http.StatusRequestedRangeNotSatisfiable, notModifiedHeader(fields), cs)
	p.own["Content-Range"] = []string{"bytes */" + strconv.FormatInt(size, 10)}
	p.setLength(0)
	p.start()
	return nil
}

// span writes a part of a stored object. Where the object turns out to be damaged
// before anything was written, errAgain makes it a miss.
func (p *reply) span(s *selected, part span) error {
	if part.n == 0 {
		p.start()
		return nil
	}
	before := p.x.out.Bytes
	n, err := s.obj.WriteRange(p, part.off, part.n)
	p.x.out.CacheBytes += p.x.out.Bytes - before
	switch {
	case err == nil && n == part.n:
		return nil
	case err == nil:
		err = io.ErrShortWrite
	}
	if p.x.r.Context().Err() == nil && !p.started {
		p.x.c.storeFailed(p.x.c.log, "read", err)
		p.x.c.drop(s.key)
		p.x.out.Hit = false
		return errAgain
	}
	return fmt.Errorf("write %d bytes at %d of a stored object: %w", part.n, part.off, err)
}

// fromFill answers from a running fill.
func (x *exchange) fromFill(f *fill, fields http.Header, cs cacheStatus) error {
	cs.key = keyText(x.rule, x.r.Header, f.common)
	x.kept = true
	if notModified(x.r.Header, fields, f.status, f.received) {
		// The client needs no byte, but the next one does.
		f.keep.Store(true)
		x.newReply(http.StatusNotModified, notModifiedHeader(fields), cs).start()
		return nil
	}
	if x.r.Method == http.MethodHead {
		x.newReply(f.status, fields, cs).start()
		return nil
	}
	p := x.newReply(f.status, fields, cs)
	spans, size, err := x.spansOfFill(f, fields)
	switch {
	case err != nil:
		return err
	case len(spans) == 0 && size < 0:
		return x.feed(f, p, span{0, -1})
	case len(spans) == 0:
		return x.unsatisfiable(fields, size, cs)
	}
	if size >= 0 && size <= smallObject {
		f.keep.Store(true) // its other parts will be asked for
	}
	if len(spans) > 1 {
		if overlapsMuch(spans, size) {
			return x.feed(f, p, span{0, -1})
		}
		p.status = http.StatusPartialContent
		return p.multipart(size, spans, func(part span) error { return x.feed(f, p, part) })
	}
	p.status = http.StatusPartialContent
	p.own["Content-Range"] = []string{spans[0].contentRange(size)}
	p.setLength(spans[0].n)
	return x.feed(f, p, spans[0])
}

// spansOfFill returns what the client asks for of a running fill of size bytes, which
// are unknown while it is negative. Without spans and a size the whole is sent.
func (x *exchange) spansOfFill(f *fill, fields http.Header) (spans []span, size int64, err error) {
	ranges, ok := rangesOf(x.r, f.status, fields)
	switch {
	case !ok:
		return nil, -1, nil
	case f.total >= 0 && (len(ranges) == 1 || f.spool.lostTo() == nil):
		return resolve(ranges, f.total), f.total, nil
	case len(ranges) > 1:
		// What has gone through the window cannot be gone back to, and of a length that
		// is not known no second part can be promised.
		return nil, -1, nil
	}
	return x.spanOfUnknown(f, ranges[0])
}

// spanOfUnknown is spansOfFill for one range of a body whose length upstream did not
// say. A closed range waits for its own bytes only, others for the end. Where waiting
// is of no use, because the body is no longer stored or has broken off, the whole is
// sent.
func (x *exchange) spanOfUnknown(f *fill, r byteRange) (spans []span, size int64, err error) {
	if r.first == 0 && r.last < 0 {
		return nil, -1, nil
	}
	last := r.last
	if r.first < 0 || last < 0 {
		last = maxOffset
	}
	size, whole, err := f.spool.reach(x.r.Context(), last)
	switch {
	case err != nil:
		return nil, -1, err
	case whole:
		return resolve([]byteRange{r}, size), size, nil
	case size > last:
		// RFC 9110, section 14.4: the complete length may be unknown.
		return []span{{r.first, last + 1 - r.first}}, -1, nil
	}
	return nil, -1, nil
}

// feed writes a part of a running fill's body as it arrives; part.n < 0: to its end.
func (x *exchange) feed(f *fill, p *reply, part span) error {
	cur := f.spool.open(part.off)
	if cur == nil {
		if p.started {
			return fmt.Errorf("read the running fill at %d: %w", part.off, f.spool.lostTo())
		}
		x.alone = true
		return errAgain
	}
	defer cur.close()
	p.start()
	buf := getBuffer()
	defer putBuffer(buf)
	if _, done := f.spool.progress(); f.spool.shown() <= part.off && !done {
		if err := x.flush(); err != nil {
			return err
		}
	}
	if part.n < 0 && f.total >= 0 && !f.trailers {
		// Over with its last byte: a client that has them all may leave before the
		// fill says that it is done, and has lost nothing.
		part.n = f.total - part.off
	}
	for part.n != 0 {
		b := *buf
		if part.n > 0 {
			b = b[:min(int64(len(b)), part.n)]
		}
		n, more, err := cur.read(x.r.Context(), b)
		if n > 0 {
			if _, err := p.Write(b[:n]); err != nil {
				return err
			}
			if part.n > 0 {
				part.n -= int64(n)
			}
			if !more || part.n == 0 {
				// A client that has every byte may hang up before net/http has noted
				// that they went out; all of them were handed over.
				if err := x.flush(); err != nil && part.n != 0 {
					return err
				}
			}
		}
		if err == io.EOF && part.n < 0 {
			x.sendTrailer(f.trailer)
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the running fill: %w", noEOF(err))
		}
	}
	return nil
}

// flush sends what was written so far, the header at least.
func (x *exchange) flush() error {
	err := http.NewResponseController(x.w).Flush()
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return clientGone(err)
	}
	return nil
}

// noEOF makes an end that came too early look like one.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// sendTrailer adds trailer fields after the body. Those that the header announced go
// under their own names, as net/http wants it.
func (x *exchange) sendTrailer(trailer http.Header) {
	h := x.w.Header()
	announced := strings.Join(h["Trailer"], ", ")
	for name, values := range trailer {
		if slices.Contains(strings.Split(announced, ", "), name) {
			h[name] = values
		} else {
			h[http.TrailerPrefix+name] = values
		}
	}
}
