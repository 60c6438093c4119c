package mitm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"larder/cache"
	"larder/policy"
)

// Classes of an Exchange.
const (
	ClassHit    = "hit"    // answered from the cache without upstream's body
	ClassMiss   = "miss"   // cacheable, but upstream sent the body
	ClassPass   = "pass"   // forwarded unmodified, not stored
	ClassTunnel = "tunnel" // bytes not looked at
	ClassDeny   = "deny"   // refused by policy
	ClassError  = "error"  // failed; Err says why
)

// Exchange is one request with its response, or one tunnel, after its end.
type Exchange struct {
	Start    time.Time
	Duration time.Duration
	// Client is the address and port of the client's connection.
	Client string
	// User is the name that the client has proved, "" if none.
	User string
	// Method is CONNECT for a tunnel.
	Method string
	// URL is the target URI without query and user information, which may be
	// credentials; host:port for a tunnel.
	URL string
	// Class is one of the Class constants.
	Class string
	// Status is what the client got; 0 if it got none.
	Status int
	// Bytes were sent to the client: body bytes, or for a tunnel those of both
	// directions. CacheBytes of them came from a stored object, or from the fill
	// that another exchange began. UpstreamBytes were received from upstream on
	// account of this exchange.
	Bytes, CacheBytes, UpstreamBytes int64
	// CacheStatus is the Cache-Status value sent (RFC 9211), "" if none.
	CacheStatus string
	// SHA256 is the digest, in hex, of the complete body of a 200, if known.
	// Bodies that are passed are digested only for listeners with an observer.
	SHA256 string
	// Verified names the digests that the body was found to have, by algorithm and who
	// named them, as "blake2b-256 (url)"; "" without any.
	Verified string
	// Rule is the name of the policy rule that decided, "" for the default.
	Rule string
	// Reported is the name of the rule of mode report that would have refused it,
	// "" if there is none.
	Reported string
	// Distrust is the reason for which the client is taken not to trust larder's
	// certificate, one of Reasons, "" if it does; Tool is then the likely program.
	Distrust, Tool string
	// Err is why the exchange failed, "" if it did not.
	Err string
}

// exchange is an Exchange in the making, owned by one goroutine.
type exchange struct {
	Exchange
	server   *Server
	observe  func(Exchange)
	pending  *count // of the listener
	offline  bool   // upstream is not to be asked
	stored   bool   // what was sent is in the store
	own      bool   // it is larder's own
	ended    bool
	stack    []byte // of a panic
	level    slog.Level
	reason   string // metric label of a failure
	digest   hash.Hash
	target   *url.URL // what URL is made of, once somebody wants it
	who      policy.Client
	registry policy.Registry
	hidden   int          // versions or files that an index was served without
	added    int          // wheels that were added to it
	waived   *policy.Rule // that would have refused, in mode report or open
}

func (s *Server) begin(c *clientConn, method, uri string) *exchange {
	x := &exchange{server: s, Exchange: Exchange{Start: time.Now(), Method: method, URL: uri}}
	if c != nil {
		x.Client, x.offline = c.remote, c.offline
		x.who, x.User = c.asker, c.asker.User
		// A stream of HTTP/2 may begin after its connection and then its listener
		// have ended; the client got nothing on it, and nobody listens any more.
		if c.pending.enter() {
			x.observe, x.pending = c.observe, c.pending
		}
	}
	return x
}

// decided notes what policy says.
func (x *exchange) decided(d policy.Decision, r *rule) {
	x.Rule, x.registry = r.name, r.registry
	if x.waived = d.Waived; d.Waived != nil && d.Waived.Mode == policy.Report {
		x.Reported = d.Waived.Name
	}
}

// fail notes an error and what the table says of it. A later failure does not
// hide the first.
func (x *exchange) fail(err error) failure {
	f := describe(err)
	if x.Err == "" {
		x.Err, x.level, x.reason = f.Reason, f.Level, f.Label
		if p, ok := errors.AsType[*panicError](err); ok {
			x.stack = p.stack
		}
		x.Class = ClassError
		if f.Type == deniedType {
			x.Class = ClassDeny
		}
	}
	return f
}

// reject answers with an error, if there is somebody to answer to.
func (x *exchange) reject(w http.ResponseWriter, r *http.Request, err error) {
	f := x.fail(err)
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	x.Status = f.Status
	writeFailure(w, r, f, x.uri())
}

// told takes over how the cache answered.
func (x *exchange) told(o cache.Outcome) {
	x.Class = ClassMiss
	if o.Hit {
		x.Class = ClassHit
	}
	x.stored = o.Hit || o.Stored
	x.Status, x.CacheStatus, x.SHA256, x.Verified = o.Status, o.CacheStatus, o.SHA256, o.Verified
	x.Bytes, x.CacheBytes, x.UpstreamBytes = o.Bytes, o.CacheBytes, o.UpstreamBytes
	if o.Collapsed && o.UpstreamBytes == 0 {
		x.CacheBytes = o.Bytes // of the fill that another request began
	}
}

// uri is URL, made from the target where it is not there yet: most hits are
// neither logged nor observed.
func (x *exchange) uri() string {
	if x.URL == "" && x.target != nil {
		x.URL = loggable(x.target, "")
	}
	return x.URL
}

// wantsDigest starts to digest a body for the observer.
func (x *exchange) wantsDigest(status int) {
	if x.observe != nil && status == http.StatusOK {
		x.digest = sha256.New()
	}
}

// end reports the exchange to log, metrics and observer, also while a panic
// unwinds. Only the first call does.
func (x *exchange) end() {
	if x.ended {
		return
	}
	x.ended = true
	defer x.pending.leave()
	x.Duration = time.Since(x.Start)
	if x.digest != nil && x.Err == "" {
		x.SHA256 = hex.EncodeToString(x.digest.Sum(nil))
	}
	x.server.metrics.ended(x)
	x.tellFetched()
	x.log()
	if x.observe != nil {
		x.uri()
		x.observe(x.Exchange)
	}
}

// tellFetched tells of a file of PyPI that a client got whole.
func (x *exchange) tellFetched() {
	fetched := x.server.options.Fetched
	if x.registry == policy.PyPI && fetched != nil && !x.own && x.Status == http.StatusOK && x.Method == http.MethodGet && x.Err == "" && x.target != nil {
		fetched(x.target, x.Bytes)
	}
}

// release forgets an exchange that turned out to be none: a CONNECT after which
// requests follow is told by these.
func (x *exchange) release() {
	if !x.ended {
		x.ended = true
		x.pending.leave()
	}
}

func (x *exchange) log() {
	logger := x.server.options.Logger
	ctx := context.Background()
	if x.Reported != "" {
		x.level = max(x.level, slog.LevelWarn) // an operator who tries a rule out waits for it
	}
	if !logger.Enabled(ctx, x.level) {
		return
	}
	attrs := make([]slog.Attr, 0, 16)
	attrs = append(attrs,
		slog.String("method", x.Method),
		slog.String("url", x.uri()),
		slog.Int("status", x.Status),
		slog.String("class", x.Class),
		slog.Int64("bytes", x.Bytes),
		slog.Duration("dur", x.Duration),
		slog.String("client", x.Client))
	if x.User != "" {
		attrs = append(attrs, slog.String("user", x.User))
	}
	if x.CacheStatus != "" {
		attrs = append(attrs, slog.String("cache", x.CacheStatus))
	}
	if x.Rule != "" {
		attrs = append(attrs, slog.String("policy", x.Rule))
	}
	if x.hidden > 0 {
		attrs = append(attrs, slog.Int("hidden", x.hidden))
	}
	if x.added > 0 {
		attrs = append(attrs, slog.Int("added", x.added))
	}
	if x.Reported != "" {
		attrs = append(attrs, slog.String("would_deny", x.Reported))
	}
	if x.Distrust != "" {
		attrs = append(attrs, slog.String("distrust", x.Distrust), slog.String("tool", x.Tool))
	}
	if x.stack != nil {
		attrs = append(attrs, slog.String("stack", string(x.stack)))
	}
	if x.Err != "" {
		attrs = append(attrs, slog.String("reason", x.reason), slog.String("err", x.Err))
	}
	logger.LogAttrs(ctx, x.level, "exchange", attrs...)
}
