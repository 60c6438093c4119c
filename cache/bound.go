package cache

import (
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"larder/cache/manifest"
	"larder/cache/store"
)

// A repository signs one list (Release, repomd.xml) that names the SHA-256 of its other
// indexes. A client takes the list first and then what it names, and refuses what does
// not agree. So what a list names is served by its word: what it names by that digest
// without asking, and what it does not never as stale. Of the list itself the generation
// before is kept until all that was fetched of it has been fetched of the next as well;
// while upstream is down that one is served.

// boundFor is how long after its list was validated or served a file that it names is
// served without asking.
const boundFor = 5 * time.Minute

// bindings is what is known of lists.
type bindings struct {
	mu    sync.Mutex // guards what follows
	files recent[[32]byte, manifest.Files]
	// stale is when a list was last served stale, by its key, and in which generation.
	stale recent[store.Key, servedStale]
}

type servedStale struct {
	at     time.Time
	before bool // the generation before the newest
}

func (b *bindings) init() { b.files.limit, b.stale.limit = 16, 256 }

// listKind returns the kind of the lists by which responses under the rule are bound.
func (r *Rule) listKind() (manifest.Kind, bool) {
	if r.Mode != Revalidate || r.Index == nil {
		return 0, false
	}
	return manifest.Parse(r.Index.Kind)
}

// filesOf reads a stored list.
func (c *Cache) filesOf(s *selected, kind manifest.Kind) (manifest.Files, bool) {
	if s.rec.status != http.StatusOK || len(s.rec.header["Content-Encoding"]) > 0 || s.size > manifest.MaxSize {
		return nil, false
	}
	c.bindings.mu.Lock()
	files, ok := c.bindings.files.get(s.sum)
	c.bindings.mu.Unlock()
	if ok {
		return files, len(files) > 0
	}
	files, err := kind.Read(io.NewSectionReader(s.obj, 0, s.size))
	if err != nil {
		files = nil // what cannot be read binds nothing
	}
	c.bindings.mu.Lock()
	c.bindings.files.put(s.sum, files)
	c.bindings.mu.Unlock()
	return files, len(files) > 0
}

// membership is what a list says of one file.
type membership struct {
	sum [32]byte
	// asOf is when the list was last validated, or served stale.
	asOf time.Time
}

// membership looks for a stored list that names the request's target.
func (x *exchange) membership() (membership, bool) {
	kind, ok := x.rule.listKind()
	if !ok {
		return membership{}, false
	}
	for _, place := range kind.Places(x.r.URL.EscapedPath()) {
		if m, ok := x.listedAt(kind, place); ok {
			return m, true
		}
	}
	return membership{}, false
}

func (x *exchange) listedAt(kind manifest.Kind, place manifest.Place) (membership, bool) {
	path, err := url.PathUnescape(place.List)
	if err != nil {
		return membership{}, false
	}
	name, err := url.PathUnescape(place.Name)
	if err != nil {
		return membership{}, false
	}
	at := url.URL{Scheme: x.r.URL.Scheme, Host: x.r.URL.Host, Path: path, RawPath: place.List}
	f := x.c.lookup(primaryKey(&at, x.rule), x.rule, x.r.Header)
	defer f.release()
	if f.selected == nil {
		return membership{}, false
	}
	list, m := f.selected, membership{asOf: f.rec.received}
	if served, ok := x.c.servedStale(list); ok {
		m.asOf = served.at
		if served.before {
			if list = x.c.before(list, x.rule); list == nil {
				return membership{}, false
			}
			defer list.release()
		}
	}
	files, _ := x.c.filesOf(list, kind)
	sum, ok := files[name]
	m.sum = sum
	return m, ok
}

// servedStale returns how a list was last served, if that was stale and it has not been
// validated since.
func (c *Cache) servedStale(list *selected) (servedStale, bool) {
	c.bindings.mu.Lock()
	defer c.bindings.mu.Unlock()
	served, ok := c.bindings.stale.get(list.key)
	return served, ok && !served.at.Before(list.rec.received)
}

// validated forgets that a list was served stale.
func (b *bindings) validated(list store.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stale.remove(list)
}

// bind says what becomes of a request for what a list names: what it may be answered by,
// if anything, and whether what the lookup found is of another generation.
func (x *exchange) bind(f *found) (by *bound, other bool) {
	m, ok := x.membership()
	if !ok {
		return nil, false
	}
	other = f.selected != nil && f.sum != m.sum && len(f.rec.header["Content-Encoding"]) == 0
	ttl := boundFor - x.c.now().Sub(m.asOf)
	switch {
	case ttl <= 0 && !x.offline(), x.req.has("no-cache"):
		return nil, other
	case f.selected != nil && f.sum == m.sum:
		return &bound{selected: f.selected, ttl: ttl}, false
	}
	if s := x.c.shared(x.rule, m.sum); s != nil {
		return &bound{selected: s, ttl: ttl, own: true}, other
	}
	return nil, other
}

// bound is a response that a list has named.
type bound struct {
	*selected
	ttl time.Duration
	own bool // to be released with it
}

// byList answers with what a list names, found or not under the request's own URL.
func (x *exchange) byList(by *bound) error {
	if by.own {
		defer by.release()
	}
	if x.content == nil && !by.own {
		x.c.teach(by.selected, x.r.URL, x.rule)
	}
	x.c.metrics.bound.WithLabelValues("named").Inc()
	return x.hit(by.selected, judgement{fresh: true, ttl: max(by.ttl, 0)}, "bound")
}

// generation returns what is served of a list that is stale: itself, or the generation
// before where of that more is there. The second is nil or to be released.
func (x *exchange) generation(s *selected) (serve, release *selected) {
	kind, ok := x.rule.listKind()
	if !ok || !kind.IsList(x.r.URL.EscapedPath()) || s.obj == nil {
		return s, nil
	}
	old := x.c.before(s, x.rule)
	older := old != nil && x.signedWithin(kind) && !x.c.complete(s, old, x.rule, kind)
	x.c.bindings.mu.Lock()
	x.c.bindings.stale.put(s.key, servedStale{at: x.c.now(), before: older})
	x.c.bindings.mu.Unlock()
	if older {
		x.c.metrics.bound.WithLabelValues("generation-before").Inc()
		return old, old
	}
	old.release()
	return s, nil
}

// signedWithin reports whether a list is signed within itself: one whose signature is another
// file, which is stored, cannot go back by itself.
func (x *exchange) signedWithin(kind manifest.Kind) bool {
	signature := kind.Signature(x.r.URL.EscapedPath())
	if signature == "" {
		return true
	}
	path, err := url.PathUnescape(signature)
	if err != nil {
		return false
	}
	at := url.URL{Scheme: x.r.URL.Scheme, Host: x.r.URL.Host, Path: path, RawPath: signature}
	return !x.c.has(primaryKey(&at, x.rule))
}

// beforeKey is where the generation before of a list is kept.
func beforeKey(list store.Key) store.Key {
	b := keyBuilder{}
	b.add(domainBefore)
	b.buf = append(b.buf, list[:]...)
	return b.sum()
}

// before returns the generation before of a list, if it may still be served.
func (c *Cache) before(list *selected, rule *Rule) *selected {
	s := c.load(beforeKey(list.key))
	if s == nil || s.rec.kind != kindShared || c.now().Sub(s.rec.received) > rule.TTL+rule.StaleIfError {
		s.release()
		return nil
	}
	return s
}

// complete reports whether of all files of an older list that are stored the newer one's
// are as well.
func (c *Cache) complete(list, older *selected, rule *Rule, kind manifest.Kind) bool {
	now, ok := c.filesOf(list, kind)
	was, known := c.filesOf(older, kind)
	if !ok || !known {
		return true
	}
	for name, sum := range was {
		next, named := now[name]
		if named && next != sum && c.has(sharedKey(rule, sum)) && !c.has(sharedKey(rule, next)) {
			return false
		}
	}
	return true
}

// keepBefore keeps a list that is about to be replaced, unless the one before it is of
// more use.
func (f *fill) keepBefore(key store.Key) {
	kind, ok := f.rule.listKind()
	// Without share nobody knows what of a generation is stored.
	if !ok || f.status != http.StatusOK || f.rule.StaleIfError <= 0 || !f.rule.shares() || !kind.IsList(f.sent.URL.EscapedPath()) {
		return
	}
	old := f.c.load(key)
	if old == nil || old.rec.kind != kindObject || old.sum == f.spool.w.Sum() {
		old.release()
		return
	}
	defer old.release()
	if older := f.c.before(old, f.rule); older != nil {
		defer older.release()
		if !f.c.complete(old, older, f.rule, kind) {
			return
		}
	}
	rec := *old.rec
	rec.kind = kindShared
	if err := f.c.store.LinkWith(beforeKey(key), key, rec.encode(), f.rule.keeping()); err != nil {
		f.c.storeFailed(f.log, "keep the generation before", err)
	}
}
