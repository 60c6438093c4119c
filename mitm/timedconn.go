package mitm

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// timedConn ends a connection on which nothing moves in either direction for
// the idle time. Deadlines that its user sets (net/http for headers and
// keep-alive, crypto/tls for closing) go first; the idle rule holds whenever
// none is set, so that a transfer may last for ever as long as it moves.
//
// Setting a deadline of a socket costs as much as a small read, and net/http sets
// four for each request. So one that only moves away is noted and not set: the
// socket's fires too early then, which is seen and mended. That it does is rare.
type timedConn struct {
	net.Conn
	idle time.Duration

	start time.Time
	last  atomic.Int64 // when a byte last moved, since start

	mu      sync.Mutex // guards the rest, and the order of deadline calls
	in, out deadline
}

// deadline is that of one direction.
type deadline struct {
	by    time.Time     // the user's; zero: the idle rule
	armed time.Duration // the socket's, since start; it holds no later than by
}

// maxTimedWrite bounds what one write deadline covers, so that a slow reader
// of a large write is judged by movement and not by speed.
const maxTimedWrite = 256 << 10

func newTimedConn(c net.Conn, idle time.Duration) *timedConn {
	return &timedConn{Conn: c, idle: idle, start: time.Now()}
}

func (c *timedConn) touch() { c.last.Store(int64(time.Since(c.start))) }

// left reports how much time a direction has; zero or less: none. The caller
// holds mu.
func (c *timedConn) left(d *deadline) time.Duration {
	if !d.by.IsZero() {
		return time.Until(d.by)
	}
	return c.idle - (time.Since(c.start) - time.Duration(c.last.Load()))
}

// set sets the socket's deadline. The caller holds mu.
func (c *timedConn) set(d *deadline, t time.Time) error {
	if d == &c.in {
		return c.Conn.SetReadDeadline(t)
	}
	return c.Conn.SetWriteDeadline(t)
}

// arm sets the socket's deadline if it has passed or was never set.
func (c *timedConn) arm(d *deadline) {
	now := time.Since(c.start)
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.by.IsZero() && d.armed <= now {
		d.armed = now + c.idle
		_ = c.set(d, c.start.Add(d.armed)) // a closed connection says so when it is used
	}
}

// again reports whether an operation ran into the socket's deadline although it
// has time left, and sets the next one.
func (c *timedConn) again(d *deadline, err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	left := c.left(d)
	if left <= 0 {
		return false
	}
	d.armed = time.Since(c.start) + left
	return c.set(d, c.start.Add(d.armed)) == nil
}

// setBy notes the user's deadline and sets the socket's if that is later, or has
// passed.
func (c *timedConn) setBy(d *deadline, by time.Time) error {
	now := time.Since(c.start)
	c.mu.Lock()
	defer c.mu.Unlock()
	d.by = by
	want := now + c.idle
	if !by.IsZero() {
		want = by.Sub(c.start)
	}
	if now < d.armed && d.armed <= want {
		return nil
	}
	d.armed = want
	if by.IsZero() {
		by = c.start.Add(want)
	}
	return c.set(d, by)
}

// Read implements net.Conn.
func (c *timedConn) Read(p []byte) (int, error) {
	c.arm(&c.in)
	for {
		n, err := c.Conn.Read(p)
		if n > 0 {
			c.touch()
		}
		if n > 0 || err == nil || !c.again(&c.in, err) {
			return n, err
		}
	}
}

// Write implements net.Conn.
func (c *timedConn) Write(p []byte) (int, error) {
	total := 0
	for {
		part := p[total:min(len(p), total+maxTimedWrite)]
		c.arm(&c.out)
		n, err := c.Conn.Write(part)
		total += n
		if n > 0 {
			c.touch()
		}
		if err != nil && !c.again(&c.out, err) || total == len(p) {
			return total, err
		}
	}
}

// SetDeadline implements net.Conn.
func (c *timedConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn; the zero time brings back the idle rule,
// for a read that is already waiting too.
func (c *timedConn) SetReadDeadline(t time.Time) error {
	return c.setBy(&c.in, t)
}

// SetWriteDeadline implements net.Conn; the zero time brings back the idle rule.
func (c *timedConn) SetWriteDeadline(t time.Time) error {
	return c.setBy(&c.out, t)
}

// CloseWrite half-closes, where the connection below can.
func (c *timedConn) CloseWrite() error { return closeWrite(c.Conn) }

// bare gives the connection below without any deadline, for callers that keep
// time themselves.
func (c *timedConn) bare() (net.Conn, error) {
	return c.Conn, c.Conn.SetDeadline(time.Time{})
}

// closeWrite sends the end of this direction and leaves the other one open.
func closeWrite(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}
