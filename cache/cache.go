package cache

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"larder/cache/digests"
	"larder/cache/store"
	"larder/ledger"
)

const (
	// defaultIdle is how long upstream may be silent.
	defaultIdle = 60 * time.Second
	// defaultBudget is how long upstream may be silent where the client need not wait.
	defaultBudget = 5 * time.Second
)

// errClosed is returned by Serve after Close.
var errClosed = errors.New("the cache is closed")

// Options configures a Cache.
type Options struct {
	// Store keeps the objects; it must outlive the Cache, which closes it only to open
	// it anew when its folder was replaced. It may be nil when there is OpenStore.
	Store *store.Store
	// OpenStore opens the store where it could not be opened yet, for the reason
	// StoreError. The Cache tries it until it succeeds.
	OpenStore  func() (*store.Store, error)
	StoreError error
	// RefuseWithoutStore: while the store is broken, a request that it cannot answer
	// and that would be stored gets ErrStoreBroken. false: it is passed through.
	RefuseWithoutStore bool
	// Upstream carries requests to origins. Required. It must leave bodies in the
	// coding received (http.Transport.DisableCompression) and follow no redirect. If
	// it adds a credential of its own, Request of the response has it, unless what
	// it reads is for everybody.
	Upstream http.RoundTripper
	// Logger gets warnings about upstream and store; nil: none.
	Logger *slog.Logger
	// Registerer gets the collectors; nil: none are registered.
	Registerer prometheus.Registerer
	// Digests keeps what indexes have said of other files; it must outlive the Cache.
	// nil: nothing is learnt from indexes.
	Digests *digests.Table
	// Ledger has the digests under which URLs were first seen; it must outlive the Cache.
	// nil: nothing is held to it.
	Ledger *ledger.Ledger
	// IdleTimeout is how long upstream may send nothing, before the response header
	// and between bytes of the body; 0: one minute.
	IdleTimeout time.Duration
	// StaleBudget is how long a request waits for upstream when there is something
	// stale that may be served if upstream fails; 0: five seconds. Upstream is then
	// asked to the end all the same, for the next request.
	StaleBudget time.Duration

	// storeDelay and storeCheck replace the pace at which a broken store is tried
	// and a good one is looked at, in tests.
	storeDelay func(try int) time.Duration
	storeCheck time.Duration
	// firstByte and storePatience replace the constants of the same names in tests.
	firstByte, storePatience time.Duration
}

// Cache answers requests from a store and from upstream. It is safe for concurrent
// use.
type Cache struct {
	store    *storage
	refuse   bool
	upstream http.RoundTripper
	log      *slog.Logger
	metrics  *metrics
	idle     time.Duration
	budget   time.Duration
	now      func() time.Time
	// See the constants of the same names.
	firstByte, storePatience time.Duration

	// ctx ends with Close; wg counts the fills.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	flights   flights
	bindings  bindings
	learning  learning
	rereading rereading
	ledger    *ledger.Ledger
	parts     parts
	circuits  circuits
	oversize  oversize
	variants  variantLocks
	verdicts  verdicts
	offline   atomic.Bool
}

// New returns a Cache.
func New(o Options) (*Cache, error) {
	if o.Store == nil && o.OpenStore == nil || o.Upstream == nil {
		return nil, errors.New("new cache: Store and Upstream are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = defaultIdle
	}
	if o.StaleBudget <= 0 {
		o.StaleBudget = defaultBudget
	}
	c := &Cache{
		refuse: o.RefuseWithoutStore, upstream: o.Upstream, log: o.Logger, idle: o.IdleTimeout, budget: o.StaleBudget, now: time.Now,
		metrics:   newMetrics(o.Registerer),
		firstByte: cmp.Or(o.firstByte, firstByte), storePatience: cmp.Or(o.storePatience, storePatience),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.flights.init()
	c.bindings.init()
	c.learning.init(o.Digests)
	c.rereading.init()
	c.ledger = o.Ledger
	c.verdicts.init()
	c.store = newStorage(o.Store, o.OpenStore, cmp.Or(o.StoreError, errAway), c.log, c.metrics)
	c.store.pace(o.storeDelay, o.storeCheck)
	c.store.work.Go(func() { c.store.tend(c.ctx) }) // ends with Close
	if o.Digests != nil {
		c.wg.Go(func() { c.study(c.ctx) }) // ends with Close
	}
	return c, nil
}

// Close ends the running fills and waits for them. Clients that read from one get an
// error, as from Serve after Close.
func (c *Cache) Close() error {
	c.flights.close()
	c.cancel()
	c.wg.Wait()
	c.dropParts(c.parts.forgetMatching(func(string) bool { return true }))
	return c.store.close()
}

// Outcome is how a request was answered.
type Outcome struct {
	// Status is the status code sent; 0: nothing was written.
	Status int
	// CacheStatus is larder's member of Cache-Status (RFC 9211) as sent.
	CacheStatus string
	// Hit: the answer was taken from the store, perhaps after a validation.
	// Collapsed: it came from another request's fill or validation. Stored: what
	// upstream sent on account of this or the other request is now in the store.
	Hit, Collapsed, Stored bool
	// Bytes of the body that were written to the client, and of these the ones that
	// a stored object supplied.
	Bytes, CacheBytes int64
	// UpstreamBytes of bodies that upstream sent on account of this request. Of a
	// fill that several share they are the first one's.
	UpstreamBytes int64
	// SHA256 is the hexadecimal digest of the complete selected representation, or ""
	// where it is not known.
	SHA256 string
	// Verified names the digests that the body was found to have, by algorithm and who
	// named them, as "blake2b-256 (url), sha256 (index)"; "" without any.
	Verified string
}

// Serve answers a GET or HEAD request from the store or from upstream. r.URL is the
// absolute target URI; rule says how it may be stored.
//
// With an error and Outcome.Status 0 nothing was written, not even a header field:
// the caller tells the client. With an error and another Status the header is out
// and the body is not complete: the caller must break the connection off, so that
// the client does not take what it has for the whole.
func (c *Cache) Serve(w http.ResponseWriter, r *http.Request, rule *Rule) (Outcome, error) {
	x := newExchange(c, w, r, rule)
	err := x.serve()
	c.metrics.observe(&x.out, err)
	c.countWithoutStore(&x.out, err)
	return x.out, err
}

// Invalidate makes the stored responses for target unusable (RFC 9111, section 4.4),
// all variants of them, and keeps fills that are under way from being stored: they
// may hold what was there before. Query parameters that a rule drops are not dropped
// here.
func (c *Cache) Invalidate(target *url.URL) {
	c.InvalidateUnder(target, &Rule{})
}

// InvalidateUnder is Invalidate for a target whose key was made under rule.
// What is stored by its digest stays, since no request can change it.
func (c *Cache) InvalidateUnder(target *url.URL, rule *Rule) {
	if _, ok := rule.contentOf(target); ok {
		c.verdicts.unplace(target)
		return
	}
	c.DropUnder(target, rule)
}

// DropUnder is InvalidateUnder for an operator, who may want to be rid of content too.
func (c *Cache) DropUnder(target *url.URL, rule *Rule) {
	key := primaryKey(target, rule)
	c.flights.outdate(key)
	c.dropParts(c.parts.forgetTarget(key))
	c.drop(key)
}

// NoteRedirect is to be called with the responses of upstream to requests that did not
// come through Serve: of a redirect to a signed URL is remembered, until that expires, that
// upstream has sent it.
func (c *Cache) NoteRedirect(from *url.URL, status int, header http.Header) {
	if redirects(status) {
		c.verdicts.noteRedirect(from, status, header, c.now())
	}
}

// drop deletes a record.
func (c *Cache) drop(key store.Key) {
	if err := c.store.Delete(key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.storeFailed(c.log, "delete", err)
	}
}

// freshen replaces the record of one of primary's responses, if that is still there,
// and keeps it as the rule of now says.
func (c *Cache) freshen(log *slog.Logger, primary, key store.Key, rec *record, rule *Rule) {
	err := c.store.LinkWith(key, key, rec.encode(), rule.keeping())
	switch {
	case err == nil && rule.Pin:
		c.pinVariants(primary, rule)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		c.storeFailed(log, "set metadata", err)
	}
}

// storeFailed counts and logs an operation that the store did not perform. The
// request goes on without it.
func (c *Cache) storeFailed(log *slog.Logger, op string, err error) {
	c.metrics.storeFailures.Inc()
	c.store.judge(op, err)
	if errors.Is(err, errAway) {
		return // told when it broke
	}
	log.Warn("store failed", "op", op, "err", err)
}

// logURL is a target URI as it may be logged: without query and user information,
// where signatures and passwords are.
func logURL(u *url.URL) string {
	return u.Scheme + "://" + u.Host + u.EscapedPath()
}
