package mitm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"larder/policy"
)

// established ends the HTTP part of a connection. A 2xx to CONNECT has neither
// length nor body (RFC 9110, Section 9.3.6).
const established = "HTTP/1.1 200 Connection established\r\n\r\n"

// serveConnect answers CONNECT: 403, or a connection that leaves net/http and
// becomes a tunnel or opened TLS. What fails before that is an HTTP answer.
func (s *Server) serveConnect(w http.ResponseWriter, r *http.Request) {
	x := s.begin(connOf(r.Context()), r.Method, printable(withoutCredentials(r.RequestURI)))
	x.Class = ClassTunnel
	a, err := parseAuthority(r.RequestURI, 0)
	if err != nil {
		err = &requestError{err}
	} else {
		x.URL = a.String()
		if broken := contained(func() { err = s.connect(w, r, a, x) }); broken != nil {
			err = broken // or the exchange would never end
		}
	}
	if err != nil {
		defer x.finish()
		w, recorded := s.recorded(w, r, nil, x)
		defer recorded()
		x.reject(w, r, err)
	}
}

// connect carries out what policy says of a connection. Without an error, the
// connection and the exchange belong to a goroutine of the Server's.
func (s *Server) connect(w http.ResponseWriter, r *http.Request, a authority, x *exchange) error {
	if s.isStopping() {
		return errStopping
	}
	rules := s.rules.Load()
	if err := rules.access.identify(r, x); err != nil {
		return err
	}
	decision := s.connection(rules, x.who, a)
	x.decided(decision, rules.of(decision))
	switch decision.Action {
	case policy.Deny:
		return &deniedError{x.Rule}
	case policy.Tunnel:
		return s.connectTunnel(w, r, a, x)
	default:
		return s.connectOpened(w, r, a, x)
	}
}

// connectTunnel dials before it answers, so that the client learns of a failure
// by the answer to CONNECT.
func (s *Server) connectTunnel(w http.ResponseWriter, r *http.Request, a authority, x *exchange) error {
	if x.offline {
		return ErrOffline
	}
	// net/http takes a client's half-close for its leaving; here it may be all
	// that the client has to say. The dial has a timeout of its own.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	defer context.AfterFunc(s.base, cancel)()
	origin, err := connOf(r.Context()).redial(ctx, a)
	if err != nil {
		return err
	}
	if !s.enter(&s.tunnels) {
		_ = origin.Close()
		return errStopping
	}
	c, err := takeOver(w, x)
	if err != nil {
		s.tunnels.leave()
		_ = origin.Close()
		return err
	}
	go func() { // ends when both sides do, when idle, or when Shutdown cuts
		defer s.tunnels.leave()
		s.guarded(c, x, func() { s.tunnel(c, origin, nil, x) })
	}()
	return nil
}

// connectOpened answers at once: whether upstream can be reached shows with the
// first request, and a hit does not need to know. That there is no certificate for
// the name it says here, in words: all that a handshake could say is an alert.
func (s *Server) connectOpened(w http.ResponseWriter, r *http.Request, a authority, x *exchange) error {
	if err := s.certifies(connOf(r.Context()), a); err != nil {
		return err
	}
	if !s.enter(&s.setups) {
		return errStopping
	}
	c, err := takeOver(w, x)
	if err != nil {
		s.setups.leave()
		return err
	}
	c.agent = agentOf(r.UserAgent())
	go func() { // ends at the handshake's end or timeout; a tunnel goes on by itself
		defer s.setups.leave()
		s.guarded(c, x, func() { s.open(c, a, x) })
	}()
	return nil
}

// certifies returns why there is no certificate for a host. That a certificate is
// there for the handshake, which asks again, is all that comes of one; a panic is for
// the handshake to contain.
func (s *Server) certifies(c *clientConn, a authority) (err error) {
	if err := c.failed(a); err != nil {
		return err
	}
	_ = contained(func() {
		_, err = s.options.Certificates.Leaf(onBehalfOf(s.base, c), a.Host)
	})
	return err
}

// takeOver takes the connection from net/http and answers CONNECT. Bytes that a
// client sent without waiting for the answer are kept for replay, and so is whom the
// credentials of CONNECT were of.
func takeOver(w http.ResponseWriter, x *exchange) (*clientConn, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over the connection for CONNECT: %w", err)
	}
	c, ok := conn.(*clientConn)
	if !ok {
		_ = conn.Close()
		return nil, errors.New("take over the connection for CONNECT: not accepted by larder")
	}
	c.asker = x.who // for everything that comes over it from now on
	unframed(c)
	c.replay = append(drainBuffer(buffered.Reader), c.replay...)
	// A client that is gone shows at the next read.
	_, _ = io.WriteString(c, established)
	return c, nil
}

func drainBuffer(r *bufio.Reader) []byte {
	n := r.Buffered()
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	_, _ = io.ReadFull(r, b) // n bytes are there
	return b
}
