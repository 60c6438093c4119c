package mitm

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"

	"larder/policy"
)

// errNoPlace is the refusal of a connection on which no credentials can come.
var errNoPlace = errors.New("the proxy asks for credentials, for which this kind of listener has no place")

// Entrance is how the connections of a listener begin. The zero value is a
// plain proxy. It must not change while it is in use.
type Entrance struct {
	// Mode is what clients speak.
	Mode policy.ListenMode
	// Balancers are those whose connections must begin with a PROXY protocol
	// header, version 1 or 2, whose source address is then the client's. It is
	// not looked for in other connections, where it is no proxy request, no TLS
	// and no SOCKS and is refused as such. Nothing of it in transparent modes.
	Balancers []netip.Prefix
	// TLS is what policy.ListenTLSProxy serves with; see NewProxyTLS.
	TLS *tls.Config

	// destination finds where a connection was going; nil: by Mode.
	destination func(net.Conn) (netip.AddrPort, error)
}

// carries reports whether clients speak HTTP to the proxy.
func (e *Entrance) carries() bool {
	return e.Mode == policy.ListenProxy || e.Mode == policy.ListenTLSProxy
}

// isBalancer reports whether connections from an address must begin with a header.
func (e *Entrance) isBalancer(a netip.Addr) bool {
	if e.Mode.Transparent() {
		return false
	}
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(e.Balancers, func(p netip.Prefix) bool { return p.Contains(a) })
}

// serveEntrance accepts connections that larder has something to do with before
// net/http does, each in a goroutine of its own: Accept must not wait for them.
func (s *Server) serveEntrance(l *listener, e *Entrance) error {
	front := newHandoff()
	var serving, beginning sync.WaitGroup
	serving.Go(func() { _ = s.proxy.Serve(front) }) // ends when front is closed
	defer func() {
		s.awaitBeginning(&beginning, l)
		_ = front.Close()
		serving.Wait()
	}()
	for {
		conn, err := l.Accept()
		if err != nil {
			if !s.passes(err) {
				return err
			}
			continue
		}
		c := conn.(*clientConn)
		if !s.enter(&s.setups) { // Shutdown has begun
			s.admitLast(c, e, front)
			continue
		}
		if e.carries() {
			beginning.Add(1)
		}
		go func() { // ends at the timeouts of what it reads, or with its tunnel
			var rest func()
			func() {
				defer s.setups.leave()
				if e.carries() {
					defer beginning.Done() // what is left reaches front no more
				}
				x := s.begin(c, "CONNECT", l.Addr().String())
				x.Class = ClassTunnel
				s.guarded(c, x, func() { rest = s.admit(c, e, front, x) })
			}()
			if rest != nil {
				rest()
			}
		}()
	}
}

// awaitBeginning waits, when a listener is closed, for the connections that are on
// their way to net/http. Who has not begun its first request is not waited for; a
// PROXY header or TLS of the proxy's own that is still to come is, for as long as it may
// take.
func (s *Server) awaitBeginning(beginning *sync.WaitGroup, l *listener) {
	done := make(chan struct{})
	go func() { // ends when beginning does
		beginning.Wait()
		close(done)
	}()
	poll := time.NewTicker(overPoll)
	defer poll.Stop()
	for {
		s.closeQuiet(l.pending)
		select {
		case <-done:
			return
		case <-poll.C:
		}
	}
}

// admitLast does with a connection that was accepted when Shutdown had begun what
// can be done without waiting for it.
func (s *Server) admitLast(c *clientConn, e *Entrance, front *handoff) {
	if e.Mode == policy.ListenProxy && !e.isBalancer(c.asker.Addr) {
		c.fresh.Store(true)
		front.deliver(c)
		return
	}
	_ = c.Close()
}

// acceptPause is how long to wait when the system has nothing to accept with.
const acceptPause = 100 * time.Millisecond

// passes reports whether an error of Accept is of one connection or of the
// moment, and waits if so.
func (s *Server) passes(err error) bool {
	for _, passing := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, passing) {
			s.options.Logger.Warn("accept failed, trying again", "err", err)
			select {
			case <-time.After(acceptPause):
			case <-s.stop:
			}
			return true
		}
	}
	return errors.Is(err, syscall.ECONNABORTED)
}

// admit does with a new connection what its entrance asks for. What it returns, if
// anything, is the rest of the connection's life.
func (s *Server) admit(c *clientConn, e *Entrance, front *handoff, x *exchange) (rest func()) {
	if !e.carries() && s.rules.Load().access.Required {
		x.drop(c, errNoPlace)
		return nil
	}
	if e.Mode.Transparent() {
		s.serveRedirected(c, e, x)
		return nil
	}
	c.fresh.Store(true) // Shutdown lets it make its request
	if err := s.preamble(c, e, x); err != nil {
		x.drop(c, err)
		return nil
	}
	if e.Mode == policy.ListenSOCKS5 {
		s.serveSOCKS(c, x)
		return nil
	}
	x.release() // its requests tell
	rest, took := s.early(c)
	if !took {
		front.deliver(c)
	}
	return rest
}

// preamble reads what comes before the proxy protocol proper.
func (s *Server) preamble(c *clientConn, e *Entrance, x *exchange) error {
	if e.isBalancer(c.asker.Addr) {
		if err := s.readProxyHeader(c); err != nil {
			return &requestError{fmt.Errorf("PROXY protocol header from %s: %w", c.remote, err)}
		}
		if err := s.countAs(c, c.RemoteAddr()); err != nil {
			return err
		}
		x.Client, x.who = c.remote, c.asker
	}
	if e.Mode != policy.ListenTLSProxy {
		return nil
	}
	if err := s.openOuter(c, e.TLS); err != nil {
		return err
	}
	if shown := c.clientCertificate(); shown != nil {
		if err := c.certified(shown); err != nil {
			return &requestError{err}
		}
	}
	return nil
}

// readProxyHeader takes the client's address from a PROXY protocol header. Those
// by which a balancer speaks for itself (v1 UNKNOWN, v2 LOCAL) leave its own.
func (s *Server) readProxyHeader(c *clientConn) error {
	_ = c.SetReadDeadline(time.Now().Add(s.options.HandshakeTimeout)) // a dead connection says so at Read
	r := bufio.NewReaderSize(c, 512)
	h, err := proxyproto.Read(r)
	if err != nil {
		return err
	}
	c.replay = drainBuffer(r)
	if source, _, ok := h.TCPAddrs(); ok && !h.Command.IsLocal() && source != nil {
		c.source, c.remote = source, source.String()
		c.asker.Addr = source.AddrPort().Addr()
	} else if !h.Command.IsLocal() && !h.TransportProtocol.IsUnspec() {
		return errors.New("it is of no TCP connection")
	}
	return c.SetReadDeadline(time.Time{})
}

// openOuter opens the TLS in which a client speaks to the proxy itself.
func (s *Server) openOuter(c *clientConn, config *tls.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.options.HandshakeTimeout)
	defer cancel()
	t := tls.Server(&earlyConn{Conn: c.timedConn, early: c.replay}, config)
	c.replay = nil
	if err := t.HandshakeContext(ctx); err != nil {
		s.metrics.handshakes.WithLabelValues("failed").Inc()
		return &handshakeError{err: err}
	}
	c.outer = t
	return nil
}

// clientCertificate is what a client of a proxy over TLS has shown and the
// entrance's roots have verified; nil where none was asked for.
func (c *clientConn) clientCertificate() *x509.Certificate {
	if c.outer == nil {
		return nil
	}
	if chains := c.outer.ConnectionState().VerifiedChains; len(chains) > 0 {
		return chains[0][0]
	}
	return nil
}
