package mitm

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"larder/policy"
)

// UpstreamOptions says how origins are reached. The zero value is usable:
// system roots, no private addresses.
type UpstreamOptions struct {
	// CAFile is a PEM file of roots trusted besides the system's. "": none. Hosts
	// may have roots of their own.
	CAFile string
	// AllowAddresses lists networks that may be dialled although they are
	// private, loopback, link-local or otherwise not of the public Internet.
	AllowAddresses []netip.Prefix
	// ConnectTo sends connections for a host and port to another address, as
	// curl's --connect-to does; the first match counts, and the certificate is
	// still verified for the name asked for. An IP literal is dialled without
	// being in AllowAddresses, since the operator wrote that very address.
	ConnectTo []policy.Redirection
	// Parents, NoParent and Hosts are those of policy.Upstream, which comes with
	// files that are read by NewUpstream and Reload.
	Parents  []policy.Parent
	NoParent []string
	Hosts    []policy.Origin
	// DNS bounds how long addresses are kept. The zero value: not at all.
	DNS policy.DNS
	// MaxConnectionsPerHost bounds the connections for requests to each host and
	// port, or to each parent. 0: no bound.
	MaxConnectionsPerHost int
	// PlaceTimeout bounds the wait for one of them to come free. 0: 30 s.
	PlaceTimeout time.Duration
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
	setDefault(&o.PlaceTimeout, 30*time.Second)
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
	options  UpstreamOptions
	guard    *guard
	own      atomic.Pointer[[]netip.AddrPort] // replaced as a whole
	offline  atomic.Bool
	resolver *resolver
	places   *places

	parents []*parent
	direct  func(host string, port int) bool // whatever parents say
	origins []*origin
	rest    *origin // of hosts that origins does not name

	// plainOnly are origins without extended CONNECT.
	plainOnly addresses

	mu       sync.Mutex // guards the rest
	carriers map[way]*carrier
}

// NewUpstream reads the files that the options name and returns an Upstream. It
// opens no connection.
func NewUpstream(o UpstreamOptions) (*Upstream, error) {
	o.setDefaults()
	u := &Upstream{
		options: o, guard: newGuard(o.AllowAddresses),
		resolver: newResolver(o.DNS), places: newPlaces(o.MaxConnectionsPerHost, o.PlaceTimeout),
		direct:   directMatcher(o.NoParent),
		rest:     &origin{Origin: policy.Origin{CAFile: o.CAFile, SystemRoots: true}},
		carriers: map[way]*carrier{},
	}
	u.own.Store(&[]netip.AddrPort{})
	for _, p := range o.Parents {
		u.parents = append(u.parents, &parent{Parent: p})
	}
	for _, h := range o.Hosts {
		u.origins = append(u.origins, &origin{Origin: h})
	}
	if err := u.Reload(); err != nil {
		return nil, err
	}
	return u, nil
}

// SetOffline makes every request and every dial fail with ErrOffline, or ends that.
// Connections in use go on.
func (u *Upstream) SetOffline(offline bool) {
	u.offline.Store(offline)
	if offline {
		u.CloseIdleConnections()
	}
}

// RoundTrip implements http.RoundTripper. Nothing is added to the request but a
// credential that policy has for its origin: no User-Agent, no Accept-Encoding;
// the path goes out as URL.RawPath has it even where it holds characters that
// net/url would encode. Redirects are answers.
//
// The Request of the response is what was sent. Without Authorization in it, the
// response is one that everybody may have.
func (u *Upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	if u.offline.Load() {
		return nil, ErrOffline
	}
	w := u.wayTo(r)
	r = onlyOnce(unadorned(r))
	if w.forward {
		return u.forward(w, r)
	}
	sent, injected := w.origin.inject(r)
	noted, asked := withWanted(sent)
	res, err := u.carrierOf(w).RoundTrip(noted)
	if err != nil {
		return nil, asked.explain(err)
	}
	if injected && w.origin.Shared {
		res.Request = r
	}
	return res, nil
}

// forward sends a request for http:// to a parent.
func (u *Upstream) forward(w way, r *http.Request) (*http.Response, error) {
	if err := u.checkTarget(r.Context(), addressOfURL(r.URL)); err != nil {
		return nil, err
	}
	res, err := u.carrierOf(w).RoundTrip(w.parent.forwarded(r))
	if err != nil {
		return nil, w.parent.failed(err)
	}
	if res.StatusCode == http.StatusProxyAuthRequired {
		// The parent's word to larder, and none of the client's business.
		_ = res.Body.Close()
		return nil, w.parent.failed(&parentError{parent: w.parent.String(), address: w.parent.Proxy.Host, status: res.StatusCode})
	}
	return res, nil
}

// wayTo finds how the target of a request is reached.
func (u *Upstream) wayTo(r *http.Request) way {
	w := way{origin: u.rest}
	if len(u.parents) == 0 && len(u.origins) == 0 {
		return w
	}
	target := r.URL
	host, port := target.Hostname(), portOf(target)
	for _, o := range u.origins {
		if target.Scheme == "https" && o.Match(host, port) {
			w.origin = o
			break
		}
	}
	w.parent = u.parentOf(host, port)
	// A protocol switch needs a tunnel: few parents know it otherwise.
	w.forward = w.parent != nil && target.Scheme == "http" && w.parent.forwards() && r.Header.Get("Upgrade") == ""
	return w
}

// parentOf returns nil for what is reached directly. What ConnectTo names is: the
// operator has said where it is.
func (u *Upstream) parentOf(host string, port int) *parent {
	for _, p := range u.parents {
		if !p.Match(host) {
			continue
		}
		address := net.JoinHostPort(host, strconv.Itoa(port))
		if to, _ := u.target(address); p.Proxy == nil || to != address || u.direct(host, port) {
			return nil
		}
		return p
	}
	return nil
}

func portOf(u *url.URL) int {
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return defaultPort(u.Scheme)
	}
	return port
}

func addressOfURL(u *url.URL) string {
	return net.JoinHostPort(u.Hostname(), strconv.Itoa(portOf(u)))
}

// unadorned keeps net/http from adding a User-Agent, and from encoding the path.
func unadorned(r *http.Request) *http.Request {
	_, agent := r.Header["User-Agent"]
	exact := exactURL(r.URL)
	if agent && exact == r.URL {
		return r
	}
	out := new(*r)
	out.URL = exact
	if !agent {
		out.Header = maps.Clone(r.Header)
		if out.Header == nil {
			out.Header = http.Header{}
		}
		out.Header["User-Agent"] = nil
	}
	return out
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

// ownsPort reports whether one of larder's listeners has a port.
func (u *Upstream) ownsPort(port uint16) bool {
	return slices.ContainsFunc(*u.own.Load(), func(own netip.AddrPort) bool { return own.Port() == port })
}

func (u *Upstream) isOwn(ap netip.AddrPort) bool {
	addr := ap.Addr().Unmap().WithZone("")
	if v4, _, ok := embedded(addr); ok && u.isOwn(netip.AddrPortFrom(v4, ap.Port())) {
		return true // a gateway would bring it back here
	}
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
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.carriers {
		c.closeIdle()
	}
}
