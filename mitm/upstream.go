package mitm

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"larder/policy"
)

// UpstreamOptions says how origins are reached. The zero value is usable:
// system roots, no private addresses.
type UpstreamOptions struct {
	// CAFile is a PEM file of roots trusted besides the system's. "": none.
	CAFile string
	// AllowAddresses lists networks that may be dialled although they are
	// private, loopback, link-local or otherwise not of the public Internet.
	AllowAddresses []netip.Prefix
	// ConnectTo sends connections for a host and port to another address, as
	// curl's --connect-to does; the first match counts, and the certificate is
	// still verified for the name asked for. An IP literal is dialled without
	// being in AllowAddresses, since the operator wrote that very address.
	ConnectTo []policy.Redirection
	// DialTimeout bounds name resolution and TCP together. 0: 20 s.
	DialTimeout time.Duration
	// HandshakeTimeout bounds the TLS handshake. 0: 15 s.
	HandshakeTimeout time.Duration
	// ResponseHeaderTimeout bounds the wait for a response header after the
	// request is written. 0: 5 min, for long polls.
	ResponseHeaderTimeout time.Duration
	// ContinueTimeout is how long a request body with Expect: 100-continue
	// waits for the origin to ask for it before it is sent all the same (RFC
	// 9110, Section 10.1.1: no client need wait for ever). 0: 5 s.
	ContinueTimeout time.Duration
	// IdleTimeout ends a connection in use on which nothing moves. 0: 10 min.
	IdleTimeout time.Duration
	// KeepAlive is how long an unused connection is kept. 0: 90 s.
	KeepAlive time.Duration
	// MaxIdle and MaxIdlePerHost bound unused connections. 0: 512 and 64.
	MaxIdle, MaxIdlePerHost int
	// MaxHeaderBytes bounds a response header. 0: 1 MiB.
	MaxHeaderBytes int64
}

func (o *UpstreamOptions) setDefaults() {
	setDefault(&o.DialTimeout, 20*time.Second)
	setDefault(&o.HandshakeTimeout, 15*time.Second)
	setDefault(&o.ResponseHeaderTimeout, 5*time.Minute)
	setDefault(&o.ContinueTimeout, 5*time.Second)
	setDefault(&o.IdleTimeout, 10*time.Minute)
	setDefault(&o.KeepAlive, 90*time.Second)
	setDefault(&o.MaxIdle, 512)
	setDefault(&o.MaxIdlePerHost, 64)
	setDefault(&o.MaxHeaderBytes, 1<<20)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// ErrLoop is the refusal to dial one of larder's own listeners.
var ErrLoop = errors.New("the target is larder itself")

// Upstream reaches origins: an http.RoundTripper that adds nothing to what it
// is given and speaks HTTP/1.1 or HTTP/2, and a dialler for tunnels. Every
// address is judged after resolution, at the moment it is dialled, so that no
// name can change its meaning in between. Certificates are always verified.
type Upstream struct {
	options   UpstreamOptions
	guard     *guard
	own       atomic.Pointer[[]netip.AddrPort] // replaced as a whole
	offline   atomic.Bool
	transport *http.Transport
	// upgrades carries requests with Upgrade. HTTP/2 has none, and a
	// connection that changed its protocol must never be pooled.
	upgrades *http.Transport
}

// NewUpstream reads CAFile and returns an Upstream. It opens no connection.
func NewUpstream(o UpstreamOptions) (*Upstream, error) {
	o.setDefaults()
	u := &Upstream{options: o, guard: newGuard(o.AllowAddresses)}
	u.own.Store(&[]netip.AddrPort{})
	roots, err := loadRoots(o.CAFile)
	if err != nil {
		return nil, err
	}
	u.transport = u.newTransport(roots, true)
	u.upgrades = u.newTransport(roots, false)
	u.upgrades.DisableKeepAlives = true
	return u, nil
}

func loadRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil // crypto/x509 reads the system's at first use
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read system roots: %w", err)
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read upstream.ca_file: %w", err)
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read upstream.ca_file %s: no PEM certificate in it", file)
	}
	return roots, nil
}

func (u *Upstream) newTransport(roots *x509.CertPool, h2 bool) *http.Transport {
	o := u.options
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(h2)
	return &http.Transport{
		DialContext: u.dialTimed,
		TLSClientConfig: &tls.Config{
			RootCAs:            roots,
			MinVersion:         tls.VersionTLS12,
			ClientSessionCache: tls.NewLRUClientSessionCache(1024),
			VerifyConnection:   verifyStrength,
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
}

// errWeakKey is a certificate that browsers refuse and crypto/x509 does not.
var errWeakKey = errors.New("certificate with an RSA key below 2048 bits")

// verifyStrength adds to the verification that crypto/tls has done already.
// The CA/Browser Forum's Baseline Requirements, section 6.1.5, want RSA keys
// of 2048 bits; crypto/x509 stops at 1024. Roots are trusted as they are.
func verifyStrength(state tls.ConnectionState) error {
	for _, chain := range state.VerifiedChains {
		strong := true
		for _, c := range chain[:max(1, len(chain)-1)] {
			key, ok := c.PublicKey.(*rsa.PublicKey)
			strong = strong && (!ok || key.N.BitLen() >= 2048)
		}
		if strong {
			return nil
		}
	}
	return errWeakKey
}

// SetOffline makes every request and every dial fail with ErrOffline, or ends that.
// Connections in use go on.
func (u *Upstream) SetOffline(offline bool) {
	u.offline.Store(offline)
	if offline {
		u.CloseIdleConnections()
	}
}

// RoundTrip implements http.RoundTripper. Nothing is added to the request: no
// User-Agent, no Accept-Encoding; the path goes out as URL.RawPath has it even
// where it holds characters that net/url would encode. Redirects are answers.
func (u *Upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	if u.offline.Load() {
		return nil, ErrOffline
	}
	_, agent := r.Header["User-Agent"]
	exact := exactURL(r.URL)
	if !agent || exact != r.URL {
		out := *r
		out.URL = exact
		if !agent {
			out.Header = maps.Clone(r.Header)
			if out.Header == nil {
				out.Header = http.Header{}
			}
			out.Header["User-Agent"] = nil
		}
		r = &out
	}
	if r.Header.Get("Upgrade") != "" {
		return u.upgrades.RoundTrip(r)
	}
	return u.transport.RoundTrip(r)
}

// exactURL makes net/http write the path as it was sent. A path that begins
// with // and holds characters no URI may hold goes out in absolute form over
// HTTP/1.1, which every server must accept (RFC 9112, Section 3.2.2).
func exactURL(u *url.URL) *url.URL {
	if u.RawPath == "" || u.Opaque != "" || u.EscapedPath() == u.RawPath {
		return u
	}
	if p, err := url.PathUnescape(u.RawPath); err != nil || p != u.Path {
		return u
	}
	exact := *u
	exact.Opaque = u.RawPath
	if strings.HasPrefix(u.RawPath, "//") {
		exact.Opaque = "//" + u.Host + u.RawPath
	}
	return &exact
}

// dialTimed dials for HTTP; the connection ends when it is idle too long.
func (u *Upstream) dialTimed(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := u.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return newTimedConn(c, u.options.IdleTimeout), nil
}

// DialContext opens a TCP connection to address ("host:port") for a tunnel. An
// address that must not be dialled gives an *AddressError.
func (u *Upstream) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if u.offline.Load() {
		return nil, ErrOffline // before the name is looked up
	}
	ctx, cancel := context.WithTimeout(ctx, u.options.DialTimeout)
	defer cancel()
	target, literal := u.target(address)
	d := net.Dialer{ControlContext: func(_ context.Context, _, addr string, _ syscall.RawConn) error {
		return u.control(addr, literal)
	}}
	return d.DialContext(ctx, network, target)
}

// control judges the address about to be dialled, after resolution.
func (u *Upstream) control(address string, literal bool) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("judge address %s: %w", address, err)
	}
	if u.isOwn(ap) {
		return ErrLoop
	}
	if literal {
		return nil
	}
	return u.guard.check(ap.Addr())
}

// Refuse adds an address that is never dialled whatever is allowed: larder's
// own listeners, so that nobody reaches the admin interface through the proxy
// and no request goes round in circles. An unspecified address stands for all
// of this machine's.
func (u *Upstream) Refuse(addr net.Addr) {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return // not a TCP listener: nothing that could be dialled
	}
	for {
		old := u.own.Load()
		list := append((*old)[:len(*old):len(*old)], netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
		if u.own.CompareAndSwap(old, &list) {
			return
		}
	}
}

// unrefuse takes back what Refuse added, when a listener is closed.
func (u *Upstream) unrefuse(addr net.Addr) {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return
	}
	ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	for {
		old := u.own.Load()
		list := make([]netip.AddrPort, 0, len(*old))
		removed := false
		for _, o := range *old {
			if o == ap && !removed {
				removed = true
				continue
			}
			list = append(list, o)
		}
		if u.own.CompareAndSwap(old, &list) {
			return
		}
	}
}

func (u *Upstream) isOwn(ap netip.AddrPort) bool {
	addr := ap.Addr().Unmap().WithZone("")
	for _, own := range *u.own.Load() {
		if own.Port() != ap.Port() {
			continue
		}
		if own.Addr().WithZone("") == addr || own.Addr().IsUnspecified() && u.guard.local.contains(addr) {
			return true
		}
	}
	return false
}

// CloseIdleConnections closes what is pooled; connections in use stay.
func (u *Upstream) CloseIdleConnections() {
	u.transport.CloseIdleConnections()
	u.upgrades.CloseIdleConnections()
}
