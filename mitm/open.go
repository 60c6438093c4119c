package mitm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"larder/ca"
)

// tlsConfig is one for all connections, so that session tickets resume across
// connections and policy reloads. The leaf is that of the CONNECT authority
// whatever server name the client sends: requests are held against it later.
func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		CipherSuites: suites(),
		NextProtos:   []string{"h2", "http/1.1"},
		// The first records of a connection would else be 1.4 KB long, at
		// twice the CPU time for the small objects that builds fetch most.
		DynamicRecordSizingDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c := connOf(hello.Context())
			if c == nil {
				return nil, errors.New("handshake without a CONNECT authority")
			}
			c.shown = true
			return s.options.Certificates.Leaf(onBehalfOf(hello.Context(), c), c.authority.Host)
		},
	}
}

// SetTicketKeys replaces the keys of session tickets: the first encrypts, all
// decrypt. Servers that share them resume each other's sessions. It may be called
// at any time; without it the keys are this server's own, and change by themselves.
func (s *Server) SetTicketKeys(keys [][32]byte) { s.tls.SetSessionTicketKeys(keys) }

// onBehalfOf lets the authority know who asks for a certificate.
func onBehalfOf(ctx context.Context, c *clientConn) context.Context {
	addr, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil { // in a test that has no sockets
		return ctx
	}
	return ca.WithClient(ctx, addr.Addr())
}

// open looks at what a client sends after CONNECT to an intercepted host and
// opens its TLS. What is no TLS is tunnelled, unless something that it may hold
// is denied.
func (s *Server) open(c *clientConn, a authority, x *exchange) {
	kind, err := s.firstBytes(c, s.options.PeekTimeout)
	if errors.Is(err, os.ErrDeadlineExceeded) && !s.isStopping() {
		if s.mayTunnel(c, a) && !x.isOffline() {
			s.openSilent(c, a, x)
			return
		}
		// Nothing may come of an origin that speaks first, or can.
		kind, err = s.firstBytes(c, s.options.KeepAlive)
	}
	s.proceed(c, a, x, kind, err)
}

// mayTunnel asks the policy of this moment about bytes that are no TLS.
func (s *Server) mayTunnel(c *clientConn, a authority) bool {
	return !s.isOwnName(a.Host) && s.rules.Load().policy.MayTunnel(c.asker, a.Host, a.Port)
}

// proceed does what the first bytes, or the failure to get any, call for.
func (s *Server) proceed(c *clientConn, a authority, x *exchange, kind opening, err error) {
	switch {
	case err != nil && s.isStopping():
		x.drop(c, errStopping)
	case err != nil:
		x.drop(c, fmt.Errorf("wait for the client's first bytes: %w: %w", context.Canceled, err))
	case kind == openingHello:
		t := s.try(c, a, x)
		if !s.bypass(t, a, nil) {
			s.handshake(t, a)
			return
		}
		origin, err := s.options.Upstream.DialContext(s.base, "tcp", a.String())
		if err != nil {
			x.drop(c, err)
			return
		}
		s.startTunnel(c, origin, nil, x)
	case s.mayTunnel(c, a) && x.offline:
		x.drop(c, ErrOffline)
	case s.mayTunnel(c, a):
		origin, err := s.options.Upstream.DialContext(s.base, "tcp", a.String())
		if err != nil {
			x.drop(c, err)
			return
		}
		s.startTunnel(c, origin, nil, x)
	case mayBeHTTP(c.replay):
		// Policy can look into this as well as into TLS.
		s.deliver(c, c, a, x)
	default:
		x.drop(c, errOpaque)
	}
}

// firstBytes peeks, waiting no longer than that for the client to speak.
func (s *Server) firstBytes(c *clientConn, longest time.Duration) (opening, error) {
	_ = c.SetReadDeadline(time.Now().Add(longest)) // a dead connection says so at Read
	c.waiting.Store(true)
	defer c.waiting.Store(false)
	if s.isStopping() { // after waiting is set, or Shutdown may not see it
		return openingShort, errStopping
	}
	return s.peek(c)
}

// peek reads until the beginning of the connection is understood, and leaves
// what it read for replay. The caller's read deadline holds for the first byte;
// the rest of a ClientHello has the handshake's time.
func (s *Server) peek(c *clientConn) (opening, error) {
	buffer := make([]byte, 0, 2048)
	defer func() { c.replay = buffer }()
	for {
		if len(buffer) == cap(buffer) {
			buffer = append(buffer, 0)[:len(buffer)]
		}
		n, err := c.Read(buffer[len(buffer):cap(buffer)])
		first := len(buffer) == 0 && n > 0
		buffer = buffer[:len(buffer)+n]
		if kind, _ := peekHello(buffer); kind != openingShort {
			return kind, c.SetReadDeadline(time.Time{})
		}
		if err != nil {
			if len(buffer) > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
				// It began like TLS: not to be tunnelled for being slow.
				return openingHello, c.SetReadDeadline(time.Time{})
			}
			return openingShort, err
		}
		if first {
			c.waiting.Store(false)
			_ = c.SetReadDeadline(time.Now().Add(s.options.HandshakeTimeout))
		}
	}
}

// openSilent waits for whoever speaks first. If it is the origin, this is no
// TLS and a tunnel; if it is the client, it is judged as ever: waiting is no
// way past the policy.
func (s *Server) openSilent(c *clientConn, a authority, x *exchange) {
	origin, err := s.options.Upstream.DialContext(s.base, "tcp", a.String())
	if err != nil {
		x.drop(c, err)
		return
	}
	handed := false
	defer func() {
		if !handed {
			_ = origin.Close()
		}
	}()
	_ = c.SetReadDeadline(time.Time{}) // before the goroutine, which sets one that must stand
	said := make(chan word, 1)
	go func() { said <- listen(origin, c) }() // ends when the origin speaks, ends, or is given a deadline below
	c.waiting.Store(true)
	kind, err := openingShort, errStopping
	if !s.isStopping() {
		kind, err = s.peek(c)
	}
	c.waiting.Store(false)
	_ = origin.SetReadDeadline(aLongTimeAgo())
	first := <-said
	switch {
	case first.failed != nil:
		x.drop(c, first.failed)
	case err != nil && s.isStopping() && len(first.early) == 0:
		x.drop(c, errStopping)
	case first.spoken || err == nil && kind == openingOther:
		if err := errors.Join(origin.SetReadDeadline(time.Time{}), c.SetReadDeadline(time.Time{})); err != nil {
			x.drop(c, fmt.Errorf("%w: %w", context.Canceled, err))
			return
		}
		handed = true
		s.startTunnel(c, origin, first.early, x)
	default:
		s.proceed(c, a, x, kind, err)
	}
}

// word is what an origin said first, if it did.
type word struct {
	early  []byte
	spoken bool  // it spoke or ended
	failed error // a panic
}

// listen waits for an origin to speak and then ends the client's peek.
func listen(origin net.Conn, c *clientConn) (w word) {
	defer contain(&w.failed)
	b := make([]byte, 4096)
	n, err := origin.Read(b)
	w.early = b[:n]
	if n > 0 || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		w.spoken = true
		_ = c.SetReadDeadline(aLongTimeAgo()) // wakes peek
	}
	return w
}

// startTunnel runs a tunnel in a goroutine counted as what it is now.
func (s *Server) startTunnel(c *clientConn, origin net.Conn, early []byte, x *exchange) {
	s.tunnels.enter() // Shutdown drains tunnels after setups, of which this is one
	go func() {       // ends when both sides do, when idle, or when Shutdown cuts
		defer s.tunnels.leave()
		s.guarded(c, x, func() { s.tunnel(c, origin, early, x) })
	}()
}

// handshake opens a client's TLS and hands the connection to its server.
func (s *Server) handshake(trial *trial, a authority) {
	c := trial.client // GetCertificate asks for its authority
	ctx, cancel := context.WithTimeout(withConn(context.Background(), c), s.options.HandshakeTimeout)
	defer cancel()
	w := &gatherWriter{clientConn: c, pool: &s.gathers, yield: runtime.Gosched, trial: trial}
	t := tls.Server(w, s.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		s.metrics.handshakes.WithLabelValues("failed").Inc()
		trial.fail(err)
		return
	}
	w.trial = nil
	c.misnamed = otherName(t.ConnectionState().ServerName, a)
	result := "full"
	if t.ConnectionState().DidResume {
		result = "resumed"
	}
	s.metrics.handshakes.WithLabelValues(result).Inc()
	trial.succeed(t) // x is the trial's from here on
	if t.ConnectionState().NegotiatedProtocol == "h2" {
		w.lazy = true
		s.handoff.deliver(t) // net/http wants it bare for HTTP/2
		return
	}
	s.startLightly(&openedConn{tlsConn: t, client: c, server: s, writer: w})
}

// otherName returns the server name that a client sent, unless it is that of the
// authority or none. What it asks for on such a connection would be looked at as one
// host's by policy and, who knows, as another's by the origin.
func otherName(serverName string, a authority) string {
	if serverName == "" {
		return ""
	}
	if host, err := normalHost(serverName); err == nil && host == a.Host {
		return ""
	}
	return serverName
}

// deliver hands a connection to the server that looks into it. What comes of it
// is told by its requests and not by x.
func (s *Server) deliver(c *clientConn, as net.Conn, a authority, x *exchange) {
	c.authority = a
	x.release()
	s.handoff.deliver(as)
}

// drop ends a connection that got no further than CONNECT.
func (x *exchange) drop(c *clientConn, err error) {
	x.fail(err)
	_ = c.Close()
	x.end()
}
