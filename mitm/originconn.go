package mitm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// originConn is a connection to an origin over which HTTP/1 is spoken. The head of a
// response that two readers could take for two different ones is spoiled, so that
// the transport does not read it either: see framing. What an origin sends behind the
// end of a response is not read at all. The transport would keep it in its buffer, hand
// the connection to the next request, and take it for the response to that, unless it
// happened to look first.
type originConn struct {
	net.Conn
	framed  framing     // used by the transport's one reader
	awaited atomic.Bool // the next byte begins a response
	head    atomic.Bool // to HEAD
	why     atomic.Pointer[error]
}

// await says that the next byte begins a response, to HEAD or to another request.
func (c *originConn) await(head bool) {
	c.head.Store(head)
	c.awaited.Store(true)
}

// Read implements net.Conn.
func (c *originConn) Read(p []byte) (int, error) {
	if c.framed.at == spoiled {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(p)
	if n == 0 {
		return n, err
	}
	if c.awaited.Swap(false) {
		c.framed = framing{response: true, bodiless: c.head.Load()}
	}
	if c.framed.at == unclear || !c.framed.response { // a body to the end, or what nobody has asked for
		return n, err
	}
	good, broken := c.framed.follow(p[:n])
	switch {
	case broken == nil && (good == n || c.framed.at == unclear):
		return n, err
	case broken == nil, c.framed.inContent:
		c.framed.at = spoiled
		return good, io.EOF // now, so that the connection is not pooled
	}
	c.why.Store(&broken)
	// With the little that a reader gives room for, the head is cut short instead.
	return good + copy(p[good:], spoilHead), nil
}

// CloseWrite half-closes, where the connection below can.
func (c *originConn) CloseWrite() error { return closeWrite(c.Conn) }

// strictly makes a transport's connections that speak HTTP/1 originConns. It has to
// open TLS itself for that, as the transport would.
func strictly(t *http.Transport) *http.Transport {
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &originConn{Conn: c}, nil
	}
	config := t.TLSClientConfig.Clone()
	config.NextProtos = []string{"http/1.1"}
	if t.Protocols.HTTP2() {
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	t.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		opened, err := openOrigin(ctx, c, config, address, t)
		if err != nil {
			_ = c.Close()
			return nil, err
		}
		if opened.ConnectionState().NegotiatedProtocol == "h2" {
			return opened, nil // the transport wants it bare
		}
		return &originConn{Conn: opened}, nil
	}
	return t
}

// errHandshakeTime is what becomes of a handshake that takes too long.
var errHandshakeTime = errors.New("tls: handshake timed out")

// openOrigin makes the TLS handshake with an origin.
func openOrigin(ctx context.Context, c net.Conn, config *tls.Config, address string, t *http.Transport) (*tls.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("open TLS to %s: %w", address, err)
	}
	config = config.Clone()
	config.ServerName = host
	ctx, cancel := context.WithTimeoutCause(ctx, t.TLSHandshakeTimeout, errHandshakeTime)
	defer cancel()
	opened := tls.Client(c, config)
	if err := opened.HandshakeContext(ctx); err != nil {
		if errors.Is(context.Cause(ctx), errHandshakeTime) {
			return nil, errHandshakeTime
		}
		return nil, err
	}
	return opened, nil
}

// roundTripStrictly is t's RoundTrip for a transport of strictly's.
func roundTripStrictly(t *http.Transport, r *http.Request) (*http.Response, error) {
	var conn *originConn
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if c, ok := info.Conn.(*originConn); ok {
			c.await(r.Method == http.MethodHead) // one response at a time, and this request is not sent yet
			conn = c
		}
	}}
	res, err := t.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil && conn != nil {
		if why := conn.why.Load(); why != nil {
			return nil, fmt.Errorf("malformed HTTP response: %w", *why)
		}
	}
	return res, err
}
