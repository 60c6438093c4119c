package mitm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"larder/policy"
)

// errUnnamed is the refusal of a connection that does not say which host it is for.
var errUnnamed = errors.New("denied: the connection names no host (no server name in clear, or neither TLS nor HTTP), and the policy lets no such connection to its address")

// elsewhereError is a server name under which its connection's destination is
// not to be found: the rule for the name says nothing of that address.
type elsewhereError struct {
	name string
	at   netip.AddrPort
}

func (e *elsewhereError) Error() string {
	return fmt.Sprintf("denied: %s is not an address of %s, and the policy lets no connection without a name there", e.at.Addr(), e.name)
}

// serveRedirected decides on a connection that the kernel has turned away from
// its destination. The client knows of no proxy, so there is no answer but what
// its own protocol has: an alert of TLS, a response of HTTP, or the end.
func (s *Server) serveRedirected(c *clientConn, e *Entrance, x *exchange) {
	dst, err := e.destinationOf(c.Conn)
	if err != nil {
		x.drop(c, &requestError{err})
		return
	}
	x.URL = dst.String()
	c.elsewhere = true
	if s.options.Upstream.isHere(dst) {
		x.drop(c, ErrLoop)
		return
	}
	c.idle.Store(true) // a closed listener need not wait for it
	kind, err := s.firstBytes(c, s.options.KeepAlive)
	c.idle.Store(false)
	var request bool
	if err == nil && kind == openingOther {
		_ = c.SetReadDeadline(time.Now().Add(s.options.HandshakeTimeout)) // a dead connection says so at Read
		request, err = s.beginsRequest(c)
	}
	switch {
	case err != nil && s.isStopping():
		x.drop(c, errStopping)
	case err != nil:
		x.drop(c, fmt.Errorf("wait for the client's first bytes: %w: %w", context.Canceled, err))
	case kind == openingHello:
		s.redirectedTLS(c, dst, x)
	case request:
		s.deliver(c, c, authority{Port: int(dst.Port())}, x)
	default:
		s.redirectedUnnamed(c, dst, x, false)
	}
}

func (e *Entrance) destinationOf(c net.Conn) (dst netip.AddrPort, err error) {
	switch {
	case e.destination != nil:
		dst, err = e.destination(c)
	case e.Mode == policy.ListenTProxy:
		dst, err = netip.ParseAddrPort(c.LocalAddr().String())
	default:
		dst, err = originalDestination(c)
	}
	return netip.AddrPortFrom(dst.Addr().Unmap().WithZone(""), dst.Port()), err
}

// redirectedTLS decides by the server name. Where larder opens the connection it
// goes upstream by that name, so that whatever is stored under a name has come
// from there. A tunnel goes to the destination itself; the name may be anything
// that the client likes, and so gives nothing that the address would not have,
// unless the address is the name's.
func (s *Server) redirectedTLS(c *clientConn, dst netip.AddrPort, x *exchange) {
	kind, hello := peekHello(c.replay)
	if kind != openingHello {
		x.drop(c, &handshakeError{err: errors.New("the ClientHello did not come in time")})
		return
	}
	name, err := serverName(hello)
	switch {
	case err != nil:
		s.denyAccess(c, x, &requestError{err})
		return
	case name == "":
		s.redirectedUnnamed(c, dst, x, true)
		return
	}
	a := authority{name, int(dst.Port())}
	x.URL = a.String()
	rules := s.rules.Load()
	decision := s.connection(rules, c.asker, a)
	x.decided(decision, rules.of(decision))
	switch decision.Action {
	case policy.Deny:
		s.denyAccess(c, x, &deniedError{x.Rule})
	case policy.Tunnel:
		if err := s.mayReach(c, a, dst, hello.ECH, x); err != nil {
			s.denyAccess(c, x, err)
			return
		}
		s.tunnelTo(c, dst, x)
	default:
		t := s.try(c, a, x)
		if s.bypass(t, a, func() error { return s.mayReach(c, a, dst, hello.ECH, x) }) {
			s.tunnelTo(c, dst, x)
			return
		}
		s.handshake(t, a)
	}
}

// mayReach tells whether a connection that policy would tunnel on account of its
// server name may be tunnelled to where it was going.
func (s *Server) mayReach(c *clientConn, a authority, dst netip.AddrPort, hidden bool, x *exchange) error {
	if s.rules.Load().policy.ConnectUnnamed(c.asker, dst.Addr(), int(dst.Port())).Action == policy.Tunnel {
		return nil // also without a name
	}
	if hidden {
		return errUnnamed // the name in clear is not the one that counts
	}
	if x.isOffline() {
		return ErrOffline
	}
	ctx, cancel := context.WithTimeout(s.base, s.options.Upstream.options.DialTimeout)
	defer cancel()
	found, err := s.options.Upstream.resolvesTo(ctx, a, dst.Addr())
	if err == nil && !found {
		return &elsewhereError{a.Host, dst}
	}
	return err
}

// redirectedUnnamed decides by the address alone.
func (s *Server) redirectedUnnamed(c *clientConn, dst netip.AddrPort, x *exchange, isTLS bool) {
	a := authority{dst.Addr().String(), int(dst.Port())}
	rules := s.rules.Load()
	decision := rules.policy.ConnectUnnamed(c.asker, dst.Addr(), a.Port)
	x.decided(decision, rules.of(decision))
	refuse := x.drop
	if isTLS {
		refuse = func(c *clientConn, err error) { s.denyAccess(c, x, err) }
	}
	switch {
	case decision.Action == policy.Deny && decision.Rule == nil:
		refuse(c, errUnnamed)
	case decision.Action == policy.Deny:
		refuse(c, &deniedError{x.Rule})
	case decision.Action == policy.Tunnel, !isTLS && s.mayTunnel(c, a):
		s.tunnelTo(c, dst, x)
	case isTLS:
		t := s.try(c, a, x)
		if s.bypass(t, a, nil) {
			s.tunnelTo(c, dst, x)
			return
		}
		s.handshake(t, a)
	default:
		refuse(c, errOpaque)
	}
}

// tunnelTo connects to where a connection was going.
func (s *Server) tunnelTo(c *clientConn, dst netip.AddrPort, x *exchange) {
	if x.offline {
		x.drop(c, ErrOffline)
		return
	}
	origin, err := s.options.Upstream.DialContext(s.base, "tcp", dst.String())
	if err != nil {
		c.abort() // as if the destination had
		x.drop(c, err)
		return
	}
	s.startTunnel(c, origin, nil, x)
}

// accessDenied is the alert of that name in a record of its own (RFC 8446,
// Section 6.2): what a client can be told before there is any TLS.
const accessDenied = "\x15\x03\x03\x00\x02\x02\x31"

// denyAccess ends a TLS client's connection in its own words.
func (s *Server) denyAccess(c *clientConn, x *exchange, err error) {
	_, _ = c.Write([]byte(accessDenied)) // a client that is gone needs none
	x.drop(c, err)
}

// serverName is the host that a ClientHello names, "" if none.
func serverName(h clientHello) (string, error) {
	if h.ServerName == "" {
		return "", nil
	}
	if _, err := netip.ParseAddr(h.ServerName); err == nil {
		return "", nil // RFC 6066, Section 3: an address is no name
	}
	name, err := normalHost(h.ServerName)
	if err != nil {
		return "", fmt.Errorf("server name %.260q: %w", h.ServerName, err)
	}
	return name, nil
}

// maxMethod is the longest method that is waited for.
const maxMethod = 32

// beginsRequest reads on until it is clear whether a connection begins with a
// request of HTTP/1, and leaves what it read for replay.
func (s *Server) beginsRequest(c *clientConn) (bool, error) {
	for {
		is, clear := startsRequest(c.replay)
		if clear {
			return is, c.SetReadDeadline(time.Time{})
		}
		b := make([]byte, 512)
		n, err := c.timedConn.Read(b)
		c.replay = append(c.replay, b[:n]...)
		if n == 0 && err != nil {
			return false, err
		}
	}
}

// startsRequest tells a request line with a target in origin, absolute or
// asterisk form (RFC 9112, Section 3.2) from other protocols, some of which also
// begin with a word. The preface of HTTP/2 (RFC 9113, Section 3.4), which larder
// does not speak in clear, is another. It is clear at the latest a few bytes
// after a method of maxMethod.
func startsRequest(b []byte) (is, clear bool) {
	word, target, found := bytes.Cut(b, []byte(" "))
	switch {
	case len(word) > maxMethod || len(word) > 0 && !mayBeHTTP(word) || found && len(word) == 0:
		return false, true
	case len(target) == 0:
		return false, false
	case target[0] == '/':
		return true, true
	case target[0] == '*':
		return string(word) != "PRI", true
	}
	const absolute = "http"
	n := min(len(absolute), len(target))
	if !bytes.EqualFold(target[:n], []byte(absolute[:n])) {
		return false, true
	}
	return n == len(absolute), n == len(absolute)
}
