package mitm

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"larder/cache"
	"larder/curation"
	"larder/policy"
	"larder/wheels"
)

// Certificates gives leaves for the hosts whose TLS larder opens.
type Certificates interface {
	// Leaf returns a certificate for a host name (lower-case A-label) or an IP
	// literal. It is called for each handshake, concurrently.
	Leaf(ctx context.Context, name string) (*tls.Certificate, error)
}

// Policy decides what becomes of a connection and of a request. It is called
// concurrently and must not block. A rule that it returns must not change.
type Policy interface {
	// Connect decides on a client's connection: Deny, Tunnel, or Pass for
	// interception.
	Connect(c policy.Client, host string, port int) policy.Decision
	// ConnectUnnamed is Connect for a connection of which only the address is known.
	ConnectUnnamed(c policy.Client, address netip.Addr, port int) policy.Decision
	// Classify decides on a client's request by its absolute target URI.
	Classify(c policy.Client, method string, u *url.URL) policy.Decision
	// ClassifyBody is Classify for a request whose body was read.
	ClassifyBody(c policy.Client, method string, u *url.URL, body policy.RequestBody) policy.Decision
	// Storing lists the rules under which responses from the host of u may be stored.
	Storing(u *url.URL) []*policy.Rule
	// MayTunnel reports whether no request of the client to host and port can be
	// denied, so that bytes which cannot be looked into may go there.
	MayTunnel(c policy.Client, host string, port int) bool
	// OnDistrust says what becomes of a client that keeps refusing larder's certificate
	// for host and port.
	OnDistrust(c policy.Client, host string, port int) policy.Distrust
}

// Cache answers requests from what is stored, or stores the answer.
type Cache interface {
	// Serve writes the response to r, whose URL is the absolute target URI. An
	// error with a zero Outcome.Status means that nothing was written; with
	// another status, that the response broke off.
	Serve(w http.ResponseWriter, r *http.Request, rule *cache.Rule) (cache.Outcome, error)
	// ServeContent is Serve for a request whose content is part of the key.
	ServeContent(w http.ResponseWriter, r *http.Request, rule *cache.Rule, content *cache.Content) (cache.Outcome, error)
	// OutdateContent keeps fills that run for target, with content of a kind, from being
	// stored or joined.
	OutdateContent(kind string, target *url.URL)
	// InvalidateUnder drops what is stored for a target URI (RFC 9111, Section 4.4)
	// under the key that rule makes of it.
	InvalidateUnder(target *url.URL, rule *cache.Rule)
	// NoteRedirect is told of upstream's redirects to requests that are passed.
	NoteRedirect(from *url.URL, status int, header http.Header)
}

// Wheels are what is added to indexes of PyPI. *wheels.Store is one.
type Wheels interface {
	curation.Overlay
	// Find returns a wheel by its SHA-256 in hex and its file name, or fs.ErrNotExist.
	Find(digest, file string) (*wheels.Wheel, error)
	// Content opens it, or its METADATA.
	Content(w *wheels.Wheel, metadata bool) (*os.File, error)
}

// Options configures a Server. The first four fields are required.
type Options struct {
	Policy       Policy
	Certificates Certificates
	Cache        Cache
	Upstream     *Upstream

	// Access says who may use the proxy. The zero value: everybody, by no name.
	Access Access
	// Origin answers requests that are made to larder itself: not through it
	// (origin-form targets on proxy and tls-proxy listeners, for which Access is not
	// asked), and through it to OwnName. ReachOf tells which. nil: 404 with a short text.
	Origin http.Handler
	// OwnName is the host, in lower case, that is larder itself for its clients: their
	// requests to it, http and https, go to Origin, whatever Policy says. Certificates
	// must have a leaf for it. "": none.
	OwnName string
	// Distrust is told of clients that do not trust larder's certificates. nil: nobody
	// is; log and metrics say so all the same.
	Distrust DistrustObserver
	// Wheels are added to indexes where the policy says so. nil: none.
	Wheels Wheels
	// Fetched is told of every file that a client got whole under a rule with registry
	// pypi, before the exchange ends: it must be quick. nil: nobody is.
	Fetched func(target *url.URL, bytes int64)
	// Logger gets one record per request or tunnel at its end, and failures.
	// nil: none.
	Logger *slog.Logger
	// Registerer gets the collectors of this package. nil: none.
	Registerer prometheus.Registerer

	// PeekTimeout is how long after CONNECT to an intercepted host larder
	// waits for the client to speak before it lets the origin speak first.
	// 0: 2 s.
	PeekTimeout time.Duration
	// HandshakeTimeout bounds the TLS handshake with a client, from the first
	// byte. 0: 15 s.
	HandshakeTimeout time.Duration
	// HeaderTimeout bounds the reading of one request header. 0: 30 s.
	HeaderTimeout time.Duration
	// KeepAlive is how long a connection waits for its next request. 0: 3 min.
	KeepAlive time.Duration
	// IdleTimeout ends a transfer or tunnel on which nothing moves in either
	// direction. 0: 15 min, above what upstream is given, so that its failure
	// is reported and not only felt.
	IdleTimeout time.Duration
	// MaxHeaderBytes bounds a request header. 0: 128 KiB.
	MaxHeaderBytes int
	// MaxConnections bounds client connections in all; more wait to be
	// accepted. 0: as many as the process may open files, at two files each (the
	// other for the origin), with a quarter left to the store and the rest.
	MaxConnections int
	// MaxConnectionsPerClient bounds those of one client, an IPv4 address or an IPv6
	// network of 64 bits; more are answered 429 and closed. 0: half of
	// MaxConnections, and any number from loopback.
	MaxConnectionsPerClient int
	// MaxStreams bounds concurrent requests on one HTTP/2 connection. 0: 250.
	MaxStreams int
}

func (o *Options) check() error {
	switch {
	case o.Policy == nil:
		return errors.New("mitm: Options.Policy is required")
	case o.Certificates == nil:
		return errors.New("mitm: Options.Certificates is required")
	case o.Cache == nil:
		return errors.New("mitm: Options.Cache is required")
	case o.Upstream == nil:
		return errors.New("mitm: Options.Upstream is required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&o.PeekTimeout, 2*time.Second)
	setDefault(&o.HandshakeTimeout, 15*time.Second)
	setDefault(&o.HeaderTimeout, 30*time.Second)
	setDefault(&o.KeepAlive, 3*time.Minute)
	setDefault(&o.IdleTimeout, 15*time.Minute)
	setDefault(&o.MaxHeaderBytes, 128<<10)
	setDefault(&o.MaxStreams, 250)
	if o.MaxConnections <= 0 {
		o.MaxConnections = connectionsFor(openFiles())
	}
	return nil
}

// connectionsFor is how many client connections a limit of open files allows.
func connectionsFor(files uint64) int {
	return int(max(16, min(files/4*3/2, 1<<20)))
}
