package mitm

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/proxy"
)

// maxConnectHeader bounds the answer to CONNECT.
const maxConnectHeader = 64 << 10

// dialThrough opens a connection to a target through a parent, which looks the
// name up. under wraps the connection to the parent before anything else is.
func (u *Upstream) dialThrough(ctx context.Context, p *parent, address string, under func(net.Conn) net.Conn) (net.Conn, error) {
	if err := u.checkTarget(ctx, address); err != nil {
		return nil, err
	}
	c, err := u.dialParent(ctx, p, under)
	if err != nil {
		return nil, err
	}
	// The parent looks the name up and dials in its turn.
	ctx, cancel := context.WithTimeout(ctx, u.options.DialTimeout+time.Second)
	defer cancel()
	tunnel := c
	if p.Proxy.Scheme == "socks5" {
		err = askSOCKS(ctx, p, c, address)
	} else {
		tunnel, err = askConnect(ctx, p, c, address)
	}
	if err != nil {
		_ = c.Close() // it is of no use, whatever closing it brings
		return nil, p.failed(err)
	}
	return tunnel, nil
}

// dialParent opens a connection to the parent itself. Its address may be of any
// kind, since the operator named it, except larder's own.
func (u *Upstream) dialParent(ctx context.Context, p *parent, under func(net.Conn) net.Conn) (net.Conn, error) {
	c, err := u.dialAddress(ctx, p.Proxy.Host, true)
	if err != nil {
		return nil, p.failed(err)
	}
	c = under(c)
	if p.Proxy.Scheme != "https" {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, u.options.HandshakeTimeout)
	defer cancel()
	t := tls.Client(c, p.tlsConfig())
	if err := t.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, p.failed(fmt.Errorf("tls: handshake: %w", err))
	}
	return &secureConn{Conn: t, below: c}, nil
}

// checkTarget judges what can be judged of a target that a parent will look up:
// an address, and a name that stands for larder itself.
func (u *Upstream) checkTarget(ctx context.Context, address string) error {
	to, err := splitTarget(address)
	if err != nil {
		return err
	}
	if to.addr.IsValid() {
		return u.control(address, false)
	}
	if !u.ownsPort(to.port) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, u.options.DialTimeout)
	defer cancel()
	addrs, err := u.resolver.lookup(ctx, to.host)
	if err != nil {
		// The parent may know a name that larder does not, and be on this machine.
		return fmt.Errorf("%w: %s cannot be looked up, and port %d is one of larder's own", ErrLoop, to.host, to.port)
	}
	for _, ap := range to.at(addrs) {
		if u.isOwn(ap) {
			return ErrLoop
		}
	}
	return nil
}

// askSOCKS asks for a connection (RFC 1928).
func askSOCKS(ctx context.Context, p *parent, c net.Conn, address string) error {
	var auth *proxy.Auth
	if k := p.credential.Load(); k != nil {
		auth = &proxy.Auth{User: k.user, Password: k.password}
	}
	d, err := proxy.SOCKS5("tcp", p.Proxy.Host, auth, nil)
	if err != nil {
		return err
	}
	// Its own dial would hide the connection in a type that cannot half-close.
	on, ok := d.(interface {
		DialWithConn(ctx context.Context, c net.Conn, network, address string) (net.Addr, error)
	})
	if !ok {
		return errors.New("golang.org/x/net/proxy speaks SOCKS on no given connection")
	}
	_, err = on.DialWithConn(ctx, c, "tcp", address)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// askConnect asks for a tunnel (RFC 9110, Section 9.3.6). The connection that it
// returns begins with what the target may have said already.
func askConnect(ctx context.Context, p *parent, c net.Conn, address string) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(aLongTimeAgo()) }) // wakes what waits on a live connection
	early, err := exchangeConnect(p, c, address)
	if !stop() {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		return nil, err
	}
	if len(early) > 0 {
		return &earlyConn{Conn: c, early: early}, nil
	}
	return c, nil
}

func exchangeConnect(p *parent, c net.Conn, address string) (early []byte, err error) {
	head := "CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\n"
	if k := p.credential.Load(); k != nil {
		head += "Proxy-Authorization: " + k.field + "\r\n"
	}
	if _, err := io.WriteString(c, head+"\r\n"); err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: c, N: maxConnectHeader}
	r := bufio.NewReader(limited)
	if _, err := r.Peek(1); err != nil {
		return nil, err // an io.EOF says more than what http.ReadResponse makes of it
	}
	for range 8 { // informational answers that may come before
		res, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
		switch {
		case err != nil && limited.N == 0:
			return nil, fmt.Errorf("response headers exceeded %d bytes", maxConnectHeader)
		case err != nil:
			return nil, fmt.Errorf("read the answer to CONNECT: %w", err)
		case res.StatusCode >= 300 || res.StatusCode == http.StatusSwitchingProtocols:
			return nil, &parentError{parent: p.String(), address: p.Proxy.Host, status: res.StatusCode}
		case res.StatusCode >= 200:
			return drainBuffer(r), nil
		}
	}
	return nil, errors.New("malformed HTTP response to CONNECT: no end of informational answers")
}

// earlyConn begins with bytes that were read along with something before.
type earlyConn struct {
	net.Conn
	early []byte
}

// Read implements net.Conn.
func (c *earlyConn) Read(p []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.early)
	c.early = c.early[n:]
	return n, nil
}

// CloseWrite half-closes, where the connection below can.
func (c *earlyConn) CloseWrite() error { return closeWrite(c.Conn) }

// SetLinger implements what reset asks for.
func (c *earlyConn) SetLinger(sec int) error { return setLinger(c.Conn, sec) }

// secureConn is TLS to a parent. Its end can be a reset: closing TLS says first
// that all was sent.
type secureConn struct {
	*tls.Conn
	below net.Conn
	cut   bool
}

// SetLinger implements what reset asks for.
func (c *secureConn) SetLinger(sec int) error {
	c.cut = sec == 0
	return setLinger(c.below, sec)
}

// Close implements net.Conn.
func (c *secureConn) Close() error {
	if c.cut {
		return c.below.Close()
	}
	return c.Conn.Close()
}

func setLinger(c net.Conn, sec int) error {
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		return l.SetLinger(sec)
	}
	return errors.ErrUnsupported
}
