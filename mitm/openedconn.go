package mitm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"larder/cache"
)

// readyCache is what a Cache may have besides: answers that it holds in memory.
type readyCache interface {
	// Ready returns the answer to a GET, if Serve would give it at once and as it
	// is to a request without any field that changes it.
	Ready(target *url.URL, rule *cache.Rule) (cache.Ready, bool)
	// Served counts an answer of which n bytes of body went out.
	Served(r cache.Ready, n int64, err error) cache.Outcome
}

// openedConn is a client's connection with its TLS open and HTTP/1.1 serving, as
// its http.Server gets it. Between requests it looks at what comes before the
// server does: a plain GET of something that the cache holds in memory it
// answers itself, in one write, without the server and its goroutine for each
// request ever knowing. Everything else goes to the server byte for byte.
//
// What keeps both from reading the same connection apart: the server gets either
// exactly one whole request that has no body, and then the next look is at the
// beginning of the next; or, as soon as there is any doubt (a head that is not
// plain or not all there, a read of which it is not clear what it is for),
// everything from there on for as long as the connection lasts.
type openedConn struct {
	tlsConn
	client *clientConn
	server *Server
	writer *gatherWriter // below tlsConn

	// Used by the goroutine that reads, of which net/http has one at a time, and
	// by noteState between its reads.
	phase phase
	held  []byte // came behind the request that the server has now

	framed *framedReader // what the server reads through, nil once it is none of HTTP/1

	mu      sync.Mutex // guards the rest
	busy    bool       // an answer is being written
	closing bool       // Close came meanwhile
}

// tlsConn is what of a *tls.Conn openedConn uses, net/http its state.
type tlsConn interface {
	net.Conn
	CloseWrite() error
	ConnectionState() tls.ConnectionState
}

// phase is who looks at what comes next.
type phase uint8

const (
	between phase = iota // openedConn, at the beginning of a request
	serving              // the server, which has got exactly one request
	handed               // the server, for good
)

// noteState learns from http.Server that it has answered what it was given.
func (c *openedConn) noteState(state http.ConnState) {
	if state == http.StateIdle && c.phase == serving {
		c.phase = between
	}
}

// Read implements net.Conn for the server.
func (c *openedConn) Read(p []byte) (int, error) {
	if c.framed != nil {
		return c.framed.read(p, c.read, c.client.refuseFraming)
	}
	return c.read(p)
}

func (c *openedConn) read(p []byte) (int, error) {
	switch {
	case c.phase == between:
		return c.readRequest(p)
	case c.phase == serving && len(p) == 1:
		return c.watch(p)
	}
	if c.phase != handed { // and nothing is ever written again
		c.phase = handed
	}
	if len(c.held) > 0 {
		n := copy(p, c.held)
		c.held = c.held[n:]
		return n, nil
	}
	return c.tlsConn.Read(p)
}

// maxHeld is how much may come behind a request before it is answered.
const maxHeld = 16 << 10

// watch is the server's look, while it answers, whether the client goes away: it
// reads a byte and ends that with a deadline. What comes instead of an end is kept,
// for a client that is quick may have sent its next request before the server is
// through with the last.
func (c *openedConn) watch(p []byte) (int, error) {
	var b [1 << 10]byte
	for {
		n, err := c.tlsConn.Read(b[:])
		c.held = append(c.held, b[:n]...)
		switch {
		case len(c.held) > 0 && (len(c.held) > maxHeld || err != nil && !errors.Is(err, os.ErrDeadlineExceeded)):
			// As without openedConn: it sees the byte and not the end behind it.
			c.phase = handed
			p[0] = c.held[0]
			c.held = c.held[1:]
			return 1, nil
		case err != nil:
			return 0, err
		}
	}
}

// readRequest answers what it can and returns the first request that is for the
// server.
func (c *openedConn) readRequest(p []byte) (int, error) {
	var armed time.Time // the deadline set here; zero: the server's still holds
	for {
		n := copy(p, c.held)
		if n < len(c.held) {
			return c.pass(p, n, c.held[n:])
		}
		c.held = nil
		if n == 0 {
			var err error
			if n, err = c.await(p); err != nil || n == 0 {
				return n, err
			}
		}
		for from := 0; from < n; {
			h, ok := parsePlainHead(p[from:n])
			if !ok {
				return c.pass(p, copy(p, p[from:n]), nil)
			}
			next := from + h.length
			now, answered, err := c.answer(&h)
			if err != nil {
				return 0, err
			}
			if !answered {
				c.phase = serving
				c.held = slices.Clone(p[next:n])
				return copy(p, p[from:next]), nil
			}
			from = next
			// The server's deadline was for one request; as coarse as timedConn's.
			if keep := c.server.options.KeepAlive; armed.Sub(now) < keep-keep/8 {
				armed = now.Add(keep)
				if err := c.SetReadDeadline(armed); err != nil {
					return 0, err
				}
			}
		}
	}
}

// await reads the beginning of a request. A client that has had an answer here is
// not waited for by Shutdown, as idle clients of the server are not; to the server
// it is one that has not spoken yet.
func (c *openedConn) await(p []byte) (int, error) {
	if !c.client.fresh.Load() {
		c.client.waiting.Store(true)
		defer c.client.waiting.Store(false)
		if c.server.isStopping() { // after waiting is set, or Shutdown may not see it
			return 0, io.EOF
		}
	}
	return c.tlsConn.Read(p)
}

// pass gives the server the n bytes in p, then rest and everything that follows.
func (c *openedConn) pass(p []byte, n int, rest []byte) (int, error) {
	c.phase, c.held = handed, rest
	// Of a head that is not all there the rest has the usual time. The server
	// sets its own deadline for it, except on a connection's first request.
	return n, c.SetReadDeadline(time.Now().Add(c.server.options.HeaderTimeout))
}

// answer writes the answer to a plain request if it is ready. An error ends the
// connection.
func (c *openedConn) answer(h *plainHead) (now time.Time, answered bool, err error) {
	s := c.server
	a := c.client.authority
	if s.ready == nil || c.client.recorder != nil || s.captures.Load() != nil || c.client.misnamed != "" || s.isOwnName(a.Host) || string(h.host) != a.Host || !a.spelled(a.Host, "https") || !c.begin() {
		return now, false, nil
	}
	defer c.end()
	target := h.url(a.Host)
	rules := s.rules.Load()
	decision := rules.policy.Classify(c.client.asker, http.MethodGet, target)
	rule := rules.of(decision)
	if !s.mayBeReady(decision, rule) {
		return now, false, nil
	}
	r, ok := s.ready.Ready(target, rule.cache)
	ok = ok && (!h.expects || r.Proved())
	if !ok {
		return now, false, nil
	}
	x := s.begin(c.client, http.MethodGet, "")
	x.target = target
	x.decided(decision, rule)
	defer x.end()
	buffer := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buffer)
	n := r.Size()
	if _, err = c.Write(r.Append((*buffer)[:0])); err != nil {
		n = 0 // how much of it went out, nobody knows
		err = fmt.Errorf("write to the client: %w: %w", context.Canceled, err)
	}
	x.told(s.ready.Served(r, n, err))
	if err != nil {
		x.fail(err)
	}
	return x.Start, true, err
}

// begin keeps Close and Shutdown from cutting an answer off.
func (c *openedConn) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Once Shutdown has begun answers must say so, which the server's do.
	if c.closing || !c.server.enter(&c.server.active) {
		return false
	}
	c.busy = true
	c.client.trusted()
	c.client.idle.Store(false)
	c.client.fresh.Store(false)
	return true
}

func (c *openedConn) end() {
	c.server.active.leave()
	c.client.idle.Store(true)
	c.mu.Lock()
	c.busy = false
	closing := c.closing
	c.mu.Unlock()
	if closing {
		_ = c.tlsConn.Close() // the reader will see it
	}
}

// Close implements net.Conn. The server closes connections that it takes for
// idle, so an answer that is being written is let through first.
func (c *openedConn) Close() error {
	c.mu.Lock()
	c.closing = true
	busy := c.busy
	c.mu.Unlock()
	if busy {
		return nil
	}
	return c.tlsConn.Close()
}

// Write implements net.Conn. What becomes several TLS records goes out in few
// calls of the kernel; crypto/tls makes one for each.
func (c *openedConn) Write(p []byte) (int, error) {
	if len(p) <= maxRecord {
		return c.tlsConn.Write(p)
	}
	c.writer.gather()
	n, err := c.tlsConn.Write(p)
	if e := c.writer.flush(); err == nil {
		err = e
	}
	return n, err
}

// maxRecord is the most that one TLS record carries (RFC 8446, Section 5.1).
const maxRecord = 16 << 10
