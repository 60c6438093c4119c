package mitm

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// way is how a request gets to its origin.
type way struct {
	origin  *origin
	parent  *parent // nil: directly
	forward bool    // the parent gets the request itself and opens no tunnel
}

// carrier holds the connections of one way. Ways are as many as the policy's
// entries make, not as the hosts.
type carrier struct {
	pooled *http.Transport
	// upgrades carries requests with Upgrade. HTTP/2 has none, and a
	// connection that changed its protocol must never be pooled.
	upgrades *http.Transport
	// streams only dials: for a stream of HTTP/2 that has changed its protocol and
	// its connection to itself.
	streams *http.Transport
}

func (c *carrier) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Upgrade") != "" {
		return roundTripStrictly(c.upgrades, r)
	}
	res, err := roundTripStrictly(c.pooled, r)
	if err != nil && neverEstablished(err) && (r.Body == nil || r.Body == http.NoBody) {
		// It met a connection of HTTP/2 that another request had opened and that the
		// origin ended before anything was sent: the error is the other's to have.
		res, err = roundTripStrictly(c.pooled, r)
	}
	if err == nil && res.StatusCode == http.StatusNotModified && res.ProtoMajor == 2 {
		// Its length is that of what was not sent (RFC 9110, Section 8.6), over
		// HTTP/2 too; net/http misses the body there.
		_ = res.Body.Close()
		res.Body = http.NoBody
	}
	return res, err
}

// neverEstablished recognises what net/http gives no type.
func neverEstablished(err error) bool {
	return strings.Contains(err.Error(), "client conn could not be established")
}

func (c *carrier) closeIdle() {
	c.pooled.CloseIdleConnections()
	c.upgrades.CloseIdleConnections()
}

// carrierOf returns the carrier of a way, made at its first use.
func (u *Upstream) carrierOf(w way) *carrier {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := u.carriers[w]
	if c == nil {
		c = u.newCarrier(w)
		u.carriers[w] = c
	}
	return c
}

func (u *Upstream) newCarrier(w way) *carrier {
	c := &carrier{pooled: u.newTransport(w, true, true), upgrades: u.newTransport(w, false, false), streams: u.newTransport(w, true, false)}
	c.upgrades.DisableKeepAlives = true
	return c
}

// newTransport returns one that speaks HTTP/2 too, if h2 is true, and whose
// connections are counted, if they are not one client's each.
func (u *Upstream) newTransport(w way, h2, counted bool) *http.Transport {
	o := u.options
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(h2)
	m := w.origin.tls.Load()
	t := &http.Transport{
		DialContext: u.dialWay(w, counted),
		TLSClientConfig: &tls.Config{
			RootCAs:              m.roots,
			GetClientCertificate: m.clientCertificate,
			MinVersion:           tls.VersionTLS12,
			CipherSuites:         suites(),
			Renegotiation:        tls.RenegotiateNever,
			ClientSessionCache:   tls.NewLRUClientSessionCache(1024),
			VerifyConnection:     verifyConnection,
		},
		Protocols:              protocols,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		TLSHandshakeTimeout:    o.HandshakeTimeout,
		DisableCompression:     true,
		MaxIdleConns:           o.MaxIdle,
		MaxIdleConnsPerHost:    o.MaxIdlePerHost,
		IdleConnTimeout:        o.KeepAlive,
		ResponseHeaderTimeout:  o.ResponseHeaderTimeout,
		ExpectContinueTimeout:  o.ContinueTimeout,
		MaxResponseHeaderBytes: o.MaxHeaderBytes,
	}
	if w.forward {
		// What net/http is to know of the parent is that requests to it have the
		// absolute form. TLS to it is dialWay's, with roots of its own.
		t.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: w.parent.Proxy.Host})
	}
	return strictly(t)
}

// dialWay dials for HTTP; the connection ends when it is idle too long. If counted, it
// is by the host that it leads to.
func (u *Upstream) dialWay(w way, counted bool) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		if u.offline.Load() {
			return nil, ErrOffline
		}
		if !counted {
			return u.dialTimed(ctx, w, address)
		}
		if err := u.places.take(ctx, address); err != nil {
			return nil, err
		}
		c, err := u.dialTimed(ctx, w, address)
		if err != nil {
			u.places.leave(address)
			return nil, err
		}
		if u.places.most == 0 {
			return c, nil
		}
		return &placedConn{Conn: c, leave: func() { u.places.leave(address) }}, nil
	}
}

func (u *Upstream) dialTimed(ctx context.Context, w way, address string) (net.Conn, error) {
	timed := func(c net.Conn) net.Conn { return newTimedConn(c, u.options.IdleTimeout) }
	switch {
	case w.forward:
		return u.dialParent(ctx, w.parent, timed)
	case w.parent != nil:
		return u.dialThrough(ctx, w.parent, address, timed)
	}
	c, err := u.dialDirect(ctx, address)
	if err != nil {
		return nil, err
	}
	return timed(c), nil
}
