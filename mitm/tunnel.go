package mitm

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var errIdle = errors.New("nothing moved for the idle time")

// tunnel carries bytes both ways until both sides have ended. It owns both
// connections. early is what the origin said already.
func (s *Server) tunnel(c *clientConn, origin net.Conn, early []byte, x *exchange) {
	s.metrics.tunnels.Inc()
	defer s.metrics.tunnels.Dec()
	defer origin.Close() // also when this panics
	x.Class, x.Status = ClassTunnel, 200
	c.tunnels.Store(true)
	replay := c.replay
	c.replay = nil
	client, err := c.bare()
	if err == nil {
		r := relay{client: client, origin: origin, idle: s.options.IdleTimeout}
		err = r.run(replay, early)
		x.Bytes, x.UpstreamBytes = r.up+r.down, r.down
	}
	_ = origin.Close()
	if err != nil {
		x.failTunnel(err)
	}
	// Before the connection goes: a run that ends with it has its tunnel in the account.
	x.end()
	_ = c.Close()
}

// failTunnel notes why a tunnel broke off. It stays a tunnel: who of the two
// sides reset it, and whether that was its custom, is theirs to know.
func (x *exchange) failTunnel(err error) {
	if _, ok := errors.AsType[*panicError](err); ok {
		x.fail(err)
		return
	}
	x.Err, x.reason = err.Error(), "tunnel"
	if errors.Is(err, errIdle) {
		x.reason = "tunnel_idle"
	}
}

// relay copies between two connections. On Linux the bytes of TCP connections
// never leave the kernel (splice), which is why idleness is read from the
// kernel too: anything that looked at each read would keep them from it.
type relay struct {
	client, origin net.Conn
	idle           time.Duration
	up, down       int64

	moved atomic.Int64          // Unix nanoseconds, where the kernel does not say
	timed atomic.Bool           // the idle time ran out
	ended atomic.Int32          // halves that came to a clean end
	broke atomic.Pointer[error] // a panic of the timer's
}

func (r *relay) run(toOrigin, toClient []byte) error {
	r.moved.Store(time.Now().UnixNano())
	raw := r.kernelKnows()
	var mu sync.Mutex // the timer's function resets it
	var timer *time.Timer
	mu.Lock()
	timer = time.AfterFunc(r.idle, func() {
		mu.Lock()
		defer mu.Unlock()
		left, err := r.left(raw)
		if err != nil {
			r.broke.Store(&err)
		} else if left > 0 {
			timer.Reset(left)
			return
		}
		r.timed.Store(true)
		r.cut()
	})
	mu.Unlock()
	var both sync.WaitGroup
	var upErr error
	both.Go(func() { r.up, upErr = r.half(r.origin, r.client, toOrigin, raw) }) // ends with its connections
	var downErr error
	r.down, downErr = r.half(r.client, r.origin, toClient, raw)
	both.Wait()
	mu.Lock()
	timer.Stop()
	mu.Unlock()
	if err := r.broke.Load(); err != nil {
		return *err
	}
	if r.timed.Load() {
		return errIdle
	}
	if upErr != nil && !errors.Is(upErr, net.ErrClosed) {
		return upErr
	}
	if errors.Is(downErr, net.ErrClosed) {
		return errors.Join(upErr, downErr)
	}
	return downErr
}

// half copies one direction. Its clean end is a half-close, since the other
// side may have much to say yet; an error resets both, since a clean end would
// be a lie.
func (r *relay) half(to, from net.Conn, first []byte, raw bool) (n int64, err error) {
	defer func() {
		if _, ok := errors.AsType[*panicError](err); ok {
			r.cut() // or the other half goes on
		}
	}()
	defer contain(&err)
	if len(first) > 0 {
		written, err := to.Write(first)
		if n = int64(written); err != nil {
			r.cut()
			return n, err
		}
	}
	var source io.Reader = from
	if !raw {
		source = &movingReader{from, &r.moved}
	}
	copied, err := io.Copy(to, source)
	if n += copied; err == nil && r.ended.Add(1) == 1 {
		err = closeWrite(to) // after the second one both connections are closed
	}
	if errors.Is(err, syscall.ENOTCONN) {
		err = nil // the other side is gone altogether, after the end of what it was sent
	}
	if err != nil {
		r.cut()
	}
	return n, err
}

func (r *relay) cut() {
	for _, c := range []net.Conn{r.client, r.origin} {
		reset(c)
	}
}

// reset closes a connection in such a way that the other side sees no clean end.
// It asks for the method and not for *net.TCPConn, which a listener may have
// embedded in a type of its own.
func reset(c net.Conn) {
	if a, ok := c.(interface{ abort() }); ok {
		a.abort() // a close inside of TLS would be a clean end
		return
	}
	if t, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = t.SetLinger(0) // a connection that is closed already needs none
	}
	_ = c.Close()
}

// kernelKnows reports whether the kernel keeps the time of both connections.
func (r *relay) kernelKnows() bool {
	for _, c := range []net.Conn{r.client, r.origin} {
		if _, tcp := c.(*net.TCPConn); tcp && kernelTimes {
			continue // known without a system call
		}
		if _, known := sinceMoved(c); !known {
			return false
		}
	}
	return true
}

// left is how much of the idle time is left.
func (r *relay) left(raw bool) (d time.Duration, err error) {
	defer contain(&err)
	return r.idle - r.resting(raw), nil
}

// resting is how long nothing has moved in either direction.
func (r *relay) resting(raw bool) time.Duration {
	rest := time.Since(time.Unix(0, r.moved.Load()))
	if !raw {
		return rest
	}
	for _, c := range []net.Conn{r.client, r.origin} {
		if d, ok := sinceMoved(c); ok {
			rest = min(rest, d)
		}
	}
	return rest
}

// movingReader notes when bytes moved.
type movingReader struct {
	io.Reader
	moved *atomic.Int64
}

func (m *movingReader) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if n > 0 {
		m.moved.Store(time.Now().UnixNano())
	}
	return n, err
}
