package mitm

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"larder/policy"
)

// clientConn is an accepted connection: what its listener's run wants to know,
// and, once CONNECT named it, which authority it is for.
type clientConn struct {
	*timedConn
	server  *Server
	observe func(Exchange)
	pending *count       // of the listener
	offline bool         // see listener
	remote  string       // the client's address, for every exchange of the connection
	of      netip.Prefix // whom clients counts it for
	once    sync.Once

	recorder *Recorder // of the listener
	run      *Run      // of the listener; nil: none
	// asker is who is at the other end, for policy. Its user is whom a client
	// certificate or CONNECT named, and is written before the connection is handed
	// to the server of intercepted connections; a request to the proxy itself names
	// one for itself alone.
	asker policy.Client

	// Set before anybody reads requests, if at all: the TLS that a client speaks
	// to the proxy itself, and the address that a balancer tells.
	outer  *tls.Conn
	source net.Addr
	// elsewhere: it was going to another address than larder's.
	elsewhere bool

	// waiting: the client has said nothing yet, and closing loses nothing.
	waiting atomic.Bool
	// idle: net/http waits for a request; fresh: for the first. tunnels: it
	// carries a tunnel.
	idle, fresh, tunnels atomic.Bool

	// Written before the connection is handed to the server of intercepted
	// connections, read after.
	authority authority
	// agent is the User-Agent of CONNECT until a trial takes it over; shown: a
	// certificate was chosen for the handshake.
	agent string
	shown bool
	// trial is that of a connection that is open and on which nothing has come; over:
	// Close was called.
	trial atomic.Pointer[trial]
	over  atomic.Bool
	// misnamed is the server name of a handshake that asked for another host than
	// authority, "" if it did not.
	misnamed string

	// replay holds bytes that were read in order to look at them and come
	// before those of the connection. Used by the one reader only.
	replay []byte

	// dialled is a dial to which the handler of CONNECT has yet to answer.
	dialled *dialled

	// framed is what an http.Server reads through, nil without one.
	framed *framedReader
}

// Read implements net.Conn.
func (c *clientConn) Read(p []byte) (int, error) {
	if c.framed != nil {
		return c.framed.read(p, c.read, c.refuseFraming)
	}
	return c.read(p)
}

// read gives what was peeked at first.
func (c *clientConn) read(p []byte) (int, error) {
	if len(c.replay) > 0 {
		n := copy(p, c.replay)
		if c.replay = c.replay[n:]; len(c.replay) == 0 {
			c.replay = nil // lets go of the buffer
		}
		return n, nil
	}
	if c.outer != nil {
		return c.outer.Read(p)
	}
	return c.timedConn.Read(p)
}

// Write implements net.Conn.
func (c *clientConn) Write(p []byte) (int, error) {
	if c.outer != nil {
		return c.outer.Write(p)
	}
	return c.timedConn.Write(p)
}

// CloseWrite sends the end of this direction and leaves the other one open.
func (c *clientConn) CloseWrite() error {
	if c.outer != nil {
		return c.outer.CloseWrite()
	}
	return c.timedConn.CloseWrite()
}

// RemoteAddr implements net.Conn: the client's address, also behind a balancer.
func (c *clientConn) RemoteAddr() net.Addr {
	if c.source != nil {
		return c.source
	}
	return c.timedConn.RemoteAddr()
}

// bare gives what a tunnel copies from and to: the socket, unless TLS is in
// between, which keeps to the idle time itself.
func (c *clientConn) bare() (net.Conn, error) {
	if c.outer != nil {
		return c, c.SetDeadline(time.Time{})
	}
	return c.timedConn.bare()
}

// Close ends the connection and gives its place to the next.
func (c *clientConn) Close() error {
	var err error
	if c.outer != nil {
		err = c.outer.Close() // says so inside of TLS first
	} else {
		err = c.timedConn.Close()
	}
	c.once.Do(func() {
		c.over.Store(true)
		c.settle()
		c.server.forget(c)
		c.pending.leave()
	})
	return err
}

// abort ends the connection so that the client sees it break off: a body whose
// end only the closing marks would else look complete.
func (c *clientConn) abort() {
	reset(c.Conn)
}

// hurry ends the wait for a client that has said nothing yet.
func (c *clientConn) hurry() {
	if c.waiting.Load() {
		_ = c.SetReadDeadline(aLongTimeAgo()) // a closed connection has ended it
	}
}

// clientOf finds the client's connection below what an http.Server has.
func clientOf(c net.Conn) *clientConn {
	switch c := c.(type) {
	case *clientConn:
		return c
	case *openedConn:
		return c.client
	case *tls.Conn:
		return clientOf(c.NetConn())
	case *gatherWriter:
		return c.clientConn
	}
	return nil
}

// connKey is the context key of the clientConn that a request came on.
type connKey struct{}

func withConn(ctx context.Context, c *clientConn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

func connOf(ctx context.Context) *clientConn {
	c, _ := ctx.Value(connKey{}).(*clientConn)
	return c
}

// listener accepts for one run: it bounds and tracks connections and ties them
// to the run's observer.
type listener struct {
	net.Listener
	server  *Server
	observe func(Exchange)
	// pending counts what the observer has yet to hear of: connections and,
	// since a stream of HTTP/2 may outlive its connection, exchanges.
	pending *count
	offline bool // upstream is not asked on account of these connections

	recorder *Recorder // nil: nothing is recorded
	run      *Run      // nil: none

	// uncounted tells of whom connections count only once a header has said whose
	// they are; nil: of nobody.
	uncounted func(netip.Addr) bool

	closing sync.Once
	closed  error
}

// Close implements net.Listener. Shutdown closes listeners and then so does
// http.Server's, if Serve has not returned yet: the second time is no error.
func (l *listener) Close() error {
	l.closing.Do(func() { l.closed = l.Listener.Close() })
	return l.closed
}

// Accept waits for a free place first, so that what is beyond the limit waits
// in the kernel's queue.
func (l *listener) Accept() (net.Conn, error) {
	if err := l.server.place(l.Listener); err != nil {
		return nil, err
	}
	raw, of, err := l.accept()
	if err != nil {
		l.server.leave()
		return nil, err
	}
	c := &clientConn{
		timedConn: newTimedConn(raw, l.server.options.IdleTimeout),
		server:    l.server, observe: l.observe, pending: l.pending, offline: l.offline, remote: raw.RemoteAddr().String(), of: of,
		recorder: l.recorder, run: l.run,
		asker: policy.Client{Addr: ipOf(raw.RemoteAddr())},
	}
	l.pending.enter() // nobody drains it before Accept has failed
	l.server.track(c)
	return c, nil
}

// ipOf is the IP address of a TCP address; the zero Addr of any other.
func ipOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{} // a rule with clients matches it as little as it should
	}
	return ap.Addr().Unmap()
}

// accept turns away whose client has as many connections as it may.
func (l *listener) accept() (net.Conn, netip.Prefix, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, netip.Prefix{}, err
		}
		if l.uncounted != nil && l.uncounted(ipOf(raw.RemoteAddr())) {
			return raw, netip.Prefix{}, nil // places bounds them all the same
		}
		if of, ok := l.server.clients.enter(raw.RemoteAddr()); ok {
			return raw, of, nil
		}
		l.server.turnAway(raw)
	}
}
