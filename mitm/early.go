package mitm

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"larder/policy"
)

// earlyBuffer is the most of a head that is looked at before net/http does. Clients'
// CONNECTs have 60 to 300 bytes.
const earlyBuffer = 1 << 10

// dialled is a dial, or the look for a certificate, that failed before net/http had the
// CONNECT for it, to which it gives the answer.
type dialled struct {
	to  authority
	err error
}

// early carries out a connection's first request if it is a CONNECT that only says
// where to: net/http would keep two buffers, a context and a goroutine that looks out
// for the client's end, all of which the next moment has no use for. took is false
// when the connection is for net/http, which then reads what was read here; else rest,
// if there is one, is how the connection goes on, and counted already.
func (s *Server) early(c *clientConn) (rest func(), took bool) {
	if len(s.recorders(c)) > 0 {
		return nil, false
	}
	buffer := s.heads.Get().(*[earlyBuffer]byte)
	defer s.heads.Put(buffer)
	n, err := s.awaitFirst(c, buffer[:])
	read := buffer[:n]
	if n == 0 && err != nil && !(s.isStopping() && errors.Is(err, os.ErrDeadlineExceeded)) {
		_ = c.Close() // the client has gone, or was to go
		return nil, true
	}
	if h, ok := parseConnectHead(read); ok && err == nil {
		if rest = s.earlyConnect(c, &h, read[h.length:]); rest != nil {
			return rest, true
		}
	}
	c.replay = append(slices.Clone(read), c.replay...)
	_ = c.SetReadDeadline(time.Time{}) // a connection that is gone says so at the next read
	return nil, false
}

// earlyConnect returns how a connection goes on after its CONNECT, or nil where
// net/http's handler has the answer.
func (s *Server) earlyConnect(c *clientConn, h *connectHead, behind []byte) func() {
	a, err := parseAuthority(string(h.target), 0)
	rules := s.rules.Load()
	if err != nil || c.SetReadDeadline(time.Time{}) != nil || rules.access.Required && c.asker.User == "" {
		return nil
	}
	x := s.begin(c, "CONNECT", a.String())
	x.Class = ClassTunnel
	var rest func()
	defer func() {
		if rest == nil { // also where the decision panics
			x.release()
		}
	}()
	decision := s.connection(rules, x.who, a)
	x.decided(decision, rules.of(decision))
	switch decision.Action {
	case policy.Deny:
	case policy.Tunnel:
		rest = s.earlyTunnel(c, a, x, behind)
	default:
		c.agent = agentOf(string(h.agent))
		rest = s.earlyOpened(c, a, x, behind)
	}
	return rest
}

// awaitFirst reads a connection's first bytes. A listener that is closed, or Shutdown,
// hurries who has said nothing.
func (s *Server) awaitFirst(c *clientConn, p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(s.options.HeaderTimeout)); err != nil {
		return 0, err
	}
	c.waiting.Store(true)
	c.idle.Store(true)
	defer c.waiting.Store(false)
	defer c.idle.Store(false)
	if s.isStopping() { // after waiting is set, or Shutdown may not see it
		return 0, os.ErrDeadlineExceeded
	}
	return c.Read(p)
}

// earlyTunnel is connectTunnel for a connection that net/http has never had.
func (s *Server) earlyTunnel(c *clientConn, a authority, x *exchange, behind []byte) func() {
	if x.offline {
		return nil
	}
	origin, err := s.options.Upstream.DialContext(s.base, "tcp", a.String())
	if err != nil {
		c.dialled = &dialled{a, err}
		return nil
	}
	if !s.enter(&s.tunnels) {
		_ = origin.Close()
		return nil
	}
	c.establish(behind)
	return func() { // ends when both sides do, when idle, or when Shutdown cuts
		defer s.tunnels.leave()
		s.guarded(c, x, func() { s.tunnel(c, origin, nil, x) })
	}
}

// earlyOpened is connectOpened for a connection that net/http has never had.
func (s *Server) earlyOpened(c *clientConn, a authority, x *exchange, behind []byte) func() {
	if err := s.certifies(c, a); err != nil {
		c.dialled = &dialled{a, err}
		return nil
	}
	if !s.enter(&s.setups) {
		return nil
	}
	c.establish(behind)
	return func() { // ends at the handshake's end or timeout; a tunnel goes on by itself
		defer s.setups.leave()
		s.guarded(c, x, func() { s.open(c, a, x) })
	}
}

// establish answers CONNECT. What a client sent without waiting for the answer comes
// before what it sends now.
func (c *clientConn) establish(behind []byte) {
	c.fresh.Store(false)
	if len(behind) > 0 {
		c.replay = append(slices.Clone(behind), c.replay...)
	}
	_, _ = io.WriteString(c, established) // a client that is gone shows at the next read
}

// redial is the dial of a CONNECT to a, unless that was tried a moment ago.
func (c *clientConn) redial(ctx context.Context, a authority) (net.Conn, error) {
	if err := c.failed(a); err != nil {
		return nil, err
	}
	return c.server.options.Upstream.DialContext(ctx, "tcp", a.String())
}

// failed returns what a CONNECT to a failed by a moment ago, once.
func (c *clientConn) failed(a authority) error {
	d := c.dialled
	if c.dialled = nil; d == nil || d.to != a {
		return nil
	}
	return d.err
}
