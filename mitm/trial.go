package mitm

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"larder/mitm/hello"
)

// trial follows the TLS that larder opens for a client from the ClientHello to the
// first byte that comes through it: not before is it clear that the client trusts the
// certificate. Many verify it only when the handshake is over, and end the connection
// then, some without a word.
type trial struct {
	server *Server
	client *clientConn
	x      *exchange // told when the client does not, released when it does
	flight []byte    // what the client began with
	agent  string    // User-Agent of its CONNECT
	heard  overheard

	// Once the handshake is over:
	tls    *tls.Conn
	opened time.Time
	shown  bool // it was with a certificate, and resumed nothing
}

// lateness is how long after its handshake a client that verifies late may take.
const lateness = 5 * time.Second

// overheard keeps the beginning of what comes in answer to what was sent last.
type overheard struct {
	b [16]byte
	n int
}

// sent begins anew, unless what came was an alert: crypto/tls answers one that it does
// not understand with its own.
func (o *overheard) sent() {
	if o.alert() == nil {
		o.n = 0
	}
}

func (o *overheard) came(p []byte) { o.n += copy(o.b[o.n:], p) }

// alert finds an alert in clear, also behind a ChangeCipherSpec that says nothing (RFC
// 8446, Section 5). OpenSSL sends one when it has not yet answered the server's flight
// of TLS 1.3, where crypto/tls expects everything to be encrypted.
func (o *overheard) alert() *uint8 {
	b := o.b[:o.n]
	if len(b) >= 6 && b[0] == 20 && b[1] == 3 && b[3] == 0 && b[4] == 1 {
		b = b[6:]
	}
	if len(b) >= 7 && b[0] == 21 && b[1] == 3 && b[3] == 0 && b[4] == 2 && (b[5] == 1 || b[5] == 2) {
		return new(b[6])
	}
	return nil
}

// try begins a trial with what was read of a client that wants to reach a.
func (s *Server) try(c *clientConn, a authority, x *exchange) *trial {
	c.authority = a
	t := &trial{server: s, client: c, x: x, flight: c.replay, agent: c.agent}
	c.agent, c.shown = "", false
	return t
}

// fail ends it, and the connection, with an error of the handshake.
func (t *trial) fail(err error) {
	c, x := t.client, t.x
	e := handshakeEnding(err, c.shown, t.heard.alert())
	switch {
	case t.server.isStopping() && e.verdict != distrust:
		err = &handshakeError{err: err}
	case e.verdict == left:
		err = fmt.Errorf("TLS handshake with the client: %w: %w", context.Canceled, err)
	default:
		err = t.conclude(e, err)
	}
	x.drop(c, err)
}

// succeed goes on with an opened connection, until there is a byte or an end.
func (t *trial) succeed(opened *tls.Conn) {
	t.tls, t.opened = opened, time.Now()
	t.shown = t.client.shown && !opened.ConnectionState().DidResume
	t.client.trial.Store(t)
	if t.client.over.Load() {
		t.client.settle() // Close came before there was anything to settle
	}
}

// trusted ends the trial of a connection, if there is one, with its first byte.
func (c *clientConn) trusted() {
	if c.trial.Load() == nil {
		return
	}
	if t := c.trial.Swap(nil); t != nil {
		t.x.release() // what comes of the connection is told by its requests
		t.server.distrust.trusted(t)
	}
}

// settle ends the trial of a connection that is closed, if it has not come to its
// first byte. Which side has closed it, and with which alert, crypto/tls remembers.
func (c *clientConn) settle() {
	t := c.trial.Swap(nil)
	if t == nil {
		return
	}
	n, err := t.tls.Read(make([]byte, 1))
	e := openedEnding(err)
	late := time.Since(t.opened) > lateness && e.verdict != distrust
	if n == 0 && t.shown && !late && e.verdict >= suspicion {
		if failure := t.conclude(e, err); failure.reason != "" {
			t.x.fail(failure)
			t.x.end()
			return
		}
	}
	t.x.release()
}

// conclude makes an error of an ending, with a reason where it is distrust.
func (t *trial) conclude(e ending, err error) *handshakeError {
	failure := &handshakeError{err: err}
	if e.verdict <= left {
		return failure
	}
	d, quiet := t.judge()
	d.Reason = e.reason
	if t.server.distrust.refused(t.party(), d, e.verdict, quiet) {
		failure.reason = e.reason
		t.x.Distrust, t.x.Tool = e.reason, d.Tool
	}
	return failure
}

// party is who the trial is of, for what is remembered.
func (t *trial) party() party {
	c := t.client
	p := party{who: who{addr: c.asker.Addr.Unmap(), user: c.asker.User}, host: c.authority.Host}
	if c.run != nil {
		p.run = c.run.ID
	}
	if h, ok := hello.Parse(helloBody(t.flight)); ok {
		p.shape = h.Shape(t.server.distrust.seed)
	}
	return p
}

// judge says who the client is for people, as far as can be told, and whether it is one
// that goes without an alert.
func (t *trial) judge() (d Distrust, quiet bool) {
	h, _ := hello.Parse(helloBody(t.flight)) // of what is not whole nothing is known
	g := hello.Of(&h, t.agent)
	c := t.client
	d = Distrust{
		Time: time.Now(), Client: c.asker.Addr.Unmap(), User: c.asker.User, Host: c.authority.Host, Via: localOf(c),
		Tool: g.Tool, Title: g.Title, Basis: g.Basis, UserAgent: t.agent,
	}
	if len(h.Suites) > 0 {
		d.JA4 = h.JA4()
	}
	if c.run != nil {
		d.Run = c.run.Command
	}
	return d, g.Quiet
}

// localOf is where a client reaches larder, "" where that is somebody else's address.
func localOf(c *clientConn) string {
	if c.elsewhere {
		return ""
	}
	return c.LocalAddr().String()
}

// maxAgent bounds what is kept of a User-Agent.
const maxAgent = 120

// agentOf is what a CONNECT says of its client, fit for a log.
func agentOf(field string) string {
	if len(field) > maxAgent {
		field = field[:maxAgent]
	}
	return printable(strings.TrimSpace(field))
}
