package cache

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"time"

	"larder/cache/integrity"
	"larder/cache/store"
)

// Catalogue is the cache's store as operators see it: stored responses by URL.
// Nothing that it does counts as use. It is safe for concurrent use.
type Catalogue struct {
	cache *Cache
	rules func(*url.URL) *Rule
	asked func(method, content string, target *url.URL) *Rule
}

// Catalogue returns the catalogue of c. rules says under which rule a GET of a
// target URI would be answered, nil when none of its responses would be stored.
func (c *Cache) Catalogue(rules func(target *url.URL) *Rule) *Catalogue {
	return &Catalogue{cache: c, rules: rules}
}

// WithContent makes the catalogue know the rules of responses that content selects: rules
// says under which a request with content of that kind would be answered, nil for none.
// It returns c.
func (c *Catalogue) WithContent(rules func(method, kind string, target *url.URL) *Rule) *Catalogue {
	c.asked = rules
	return c
}

// ruleOf returns the rule of a stored response, or nil.
func (c *Catalogue) ruleOf(target *url.URL, asked askedFor) *Rule {
	switch {
	case asked.content == nil:
		return c.rules(target)
	case c.asked == nil:
		return nil
	}
	return c.asked(asked.method, asked.content.Kind, target)
}

// Object is a stored response.
type Object struct {
	// URL is the target URI as the client of the fill spelled it, without the query
	// parameters that its rule leaves out of the key.
	URL    string
	Status int
	Size   int64 // of the body, in bytes
	SHA256 [32]byte
	// Verified are digests that the body was found to have, and who named them.
	Verified []integrity.Claim
	// Stored is when the response was fetched or last validated.
	Stored time.Time
	Header http.Header
	// Select holds the request fields that select the response among others of its
	// URL, with the values that the key holds; nil where the request had no such field.
	// Under :method and :content it has those of a request with content.
	Select map[string]*string
	// Rule is the name of the rule that decides now, "" for none. Fresh is whether
	// the response would be served without asking upstream, and TTL for how long;
	// negative when stale, Forever when there is no end.
	Rule  string
	Fresh bool
	TTL   time.Duration
	// Uses counts look-ups since the program has started.
	Uses uint32
}

// Forever is the TTL of what never becomes stale.
const Forever = forever

// errNoStore says why a call on the catalogue fails.
func (c *Catalogue) open() (*store.Store, error) {
	if s := c.cache.store.current.Load(); s != nil {
		return s, nil
	}
	return nil, errors.Join(errAway, c.cache.StoreTrouble())
}

// List yields the stored responses whose URL match accepts, in no particular order.
// One that is found to be damaged is dropped and skipped.
func (c *Catalogue) List(ctx context.Context, match func(url string) bool) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for e, err := range c.entries(ctx, match) {
			if err != nil {
				yield(Object{}, err)
				return
			}
			if e.kind != kindObject {
				continue
			}
			rec, err := decodeRecord(e.Meta)
			if err != nil {
				continue // of another version: a miss for whoever asks
			}
			if !yield(c.object(&e.Info, rec), nil) {
				return
			}
		}
	}
}

// entry is a stored response whose record is not decoded.
type entry struct {
	store.Info
	kind byte
	url  string
}

// entries yields the stored responses whose URL match accepts, those among them that
// are at a key which no URL has.
func (c *Catalogue) entries(ctx context.Context, match func(url string) bool) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		s, err := c.open()
		if err != nil {
			yield(entry{}, err)
			return
		}
		n := 0
		for info, err := range s.All() {
			if n++; n%1024 == 0 && ctx.Err() != nil {
				yield(entry{}, ctx.Err())
				return
			}
			if _, damaged := errors.AsType[*store.CorruptError](err); damaged {
				continue // it is counted, and gone
			}
			if err != nil {
				yield(entry{}, err)
				return
			}
			target, ok := recordURL(info.Meta)
			if ok && match(target) && !yield(entry{info, info.Meta[1], target}, nil) {
				return
			}
		}
	}
}

func (c *Catalogue) object(info *store.Info, rec *record) Object {
	o := Object{
		URL: rec.url, Status: rec.status, Size: info.Size, SHA256: info.SHA256, Stored: rec.received,
		Verified: rec.verified, Header: rec.header, Select: selectMap(rec.selectors), Uses: info.Uses, TTL: -1,
	}
	u, err := url.Parse(rec.url)
	if err != nil {
		return o
	}
	asked, _, ok := askedOf(o.Select)
	if !ok {
		return o
	}
	if rule := c.ruleOf(u, asked); rule != nil {
		j := judge(rec, rule, nil, c.cache.now())
		o.Rule, o.Fresh, o.TTL = rule.Name, j.fresh, j.ttl
	}
	return o
}

// Find returns the stored responses for one target URI.
func (c *Catalogue) Find(ctx context.Context, target *url.URL) ([]Object, error) {
	s, err := c.open()
	if err != nil {
		return nil, err
	}
	key := c.primary(target)
	o, err := s.Peek(key)
	if errors.Is(err, fs.ErrNotExist) {
		return c.variantsOf(ctx, key) // which may be of other methods
	}
	if err != nil {
		return nil, err
	}
	info := store.Info{Key: key, Size: o.Size(), SHA256: o.SHA256(), Meta: o.Meta(), Uses: o.Uses()}
	o.Release()
	rec, err := decodeRecord(info.Meta)
	if err != nil {
		return nil, nil //nolint:nilerr // as in List
	}
	if rec.kind == kindObject {
		return []Object{c.object(&info, rec)}, nil
	}
	return c.variantsOf(ctx, key)
}

// variantsOf finds responses by the primary key of a GET of their URL. Which there are,
// only their own records know.
func (c *Catalogue) variantsOf(ctx context.Context, key store.Key) ([]Object, error) {
	var found []Object
	for o, err := range c.List(ctx, func(raw string) bool {
		u, err := url.Parse(raw)
		return err == nil && c.primary(u) == key
	}) {
		if err != nil {
			return nil, err
		}
		found = append(found, o)
	}
	return found, nil
}

// primary is the key of a target URI under the rule in force.
func (c *Catalogue) primary(target *url.URL) store.Key {
	if rule := c.rules(target); rule != nil {
		return primaryKey(target, rule)
	}
	return primaryKey(target, &Rule{})
}

// Removed counts what Remove has done so far.
type Removed struct {
	Scanned int64 // stored responses looked at
	Removed int64
	Bytes   int64 // of the bodies of what was removed, each URL counted
}

// besides lists keys by which a stored response can be found besides its own: the primary
// one, which leads to variants, all of which go; that of its content, where others would
// find it; and that of a list before the present one.
func (c *Catalogue) besides(e *entry) []store.Key {
	u, err := url.Parse(e.url)
	if err != nil {
		return nil
	}
	keys := []store.Key{beforeKey(e.Key)}
	if primary := c.primary(u); primary != e.Key {
		keys = append(keys, primary)
	}
	if rule := c.rules(u); rule != nil && rule.Share != "" {
		keys = append(keys, sharedKey(rule, e.SHA256))
	}
	return keys
}

// removeBatch is how many keys are collected before they are removed.
const removeBatch = 8192

// Remove removes the stored responses whose URL match accepts, and keeps fills under
// way for such URLs from being stored. It calls progress, which may be nil, now and
// then. The space on disk is given back when the generations that they are in are
// dropped.
func (c *Catalogue) Remove(ctx context.Context, match func(url string) bool, progress func(Removed)) (Removed, error) {
	return c.RemoveSized(ctx, func(target string, _ int64) bool { return match(target) }, progress)
}

// RemoveSized is Remove where the size of the body matters too: -1 for what is not
// stored yet.
func (c *Catalogue) RemoveSized(ctx context.Context, matches func(url string, size int64) bool, progress func(Removed)) (Removed, error) {
	var done Removed
	match := func(target string) bool { return matches(target, -1) }
	s, err := c.open()
	if err != nil {
		return done, err
	}
	running := c.cache.flights.outdateMatching(match)
	c.cache.dropParts(c.cache.parts.forgetMatching(match))
	keys := make([]store.Key, 0, removeBatch)
	flush := func() error {
		_, err := s.DeleteAll(keys)
		keys = keys[:0]
		if progress != nil {
			progress(done)
		}
		return err
	}
	all := func(string) bool {
		done.Scanned++
		return true
	}
	for e, err := range c.entries(ctx, all) {
		if err != nil {
			return done, errors.Join(err, flush())
		}
		size := e.Size
		if e.kind != kindObject {
			size = -1 // it has no body
		}
		if !matches(e.url, size) {
			continue
		}
		keys = append(keys, e.Key)
		if e.kind == kindObject {
			done.Removed++
			done.Bytes += e.Size
			keys = append(keys, c.besides(&e)...)
		}
		if len(keys) >= removeBatch {
			if err := flush(); err != nil {
				return done, err
			}
		}
	}
	// A fill that was about to store when it was outdated may have done so behind us.
	keys = append(keys, running...)
	return done, flush()
}

// outdateMatching keeps the running fills for URLs that match accepts from being
// stored or joined, and returns their primary keys.
func (t *flights) outdateMatching(match func(url string) bool) []store.Key {
	t.mu.Lock()
	defer t.mu.Unlock()
	var keys []store.Key
	for primary, same := range t.all {
		matched := false
		for f := range same {
			if match(f.sent.URL.String()) {
				t.outdateOne(f)
				matched = true
			}
		}
		if matched {
			keys = append(keys, primary)
		}
	}
	return keys
}

// Verified counts what Verify has done so far.
type Verified struct {
	Objects, Bytes, Damaged, Total int64
}

// Verify reads all that is stored, at no more than rate bytes per second (0: as fast
// as the disk goes), and drops what is damaged. It calls progress, which may be nil,
// now and then.
func (c *Catalogue) Verify(ctx context.Context, rate int64, progress func(Verified)) (Verified, error) {
	s, err := c.open()
	if err != nil {
		return Verified{}, err
	}
	done, err := s.Scrub(ctx, rate, func(p store.Scrubbed) {
		if progress != nil {
			progress(Verified(p))
		}
	})
	return Verified(done), err
}
