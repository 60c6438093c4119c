package cache

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/http"

	"larder/cache/integrity"
	"larder/cache/store"
)

// sharedKey is where what is stored under rules that share is found by its SHA-256.
func sharedKey(rule *Rule, sum [32]byte) store.Key {
	b := keyBuilder{}
	b.add(domainShared)
	b.add(rule.Share)
	b.add(rule.Partition)
	b.buf = append(b.buf, sum[:]...)
	return b.sum()
}

// shares reports whether what is stored under the rule is found by its content: not where
// upstream says who may have it.
func (r *Rule) shares() bool { return r.Share != "" && !r.checked() && !r.KeyByDigest }

// share makes the response at key findable by its content, if its rule says so. What
// the other finder needs to know of it is little: of the header only what speaks of the
// bytes is kept, since it came from somewhere else.
func (c *Cache) share(log *slog.Logger, rule *Rule, key store.Key, rec *record, sum [32]byte) {
	if !rule.shares() || rec.status != http.StatusOK || len(rec.header["Content-Encoding"]) > 0 {
		return
	}
	other := sharedKey(rule, sum)
	if c.has(other) {
		return
	}
	r := &record{
		kind: kindShared, status: rec.status, url: rec.url, requested: rec.requested, received: rec.received,
		header: make(http.Header), partition: rec.partition,
	}
	for _, name := range []string{"Content-Type", "Last-Modified", "Date"} {
		if v := rec.header[name]; len(v) > 0 {
			r.header[name] = v
		}
	}
	if err := c.store.LinkWith(other, key, r.encode(), rule.keeping()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.storeFailed(log, "share", err)
	}
}

// shared returns what is stored under rules that share with this one and has that
// SHA-256, or nil.
func (c *Cache) shared(rule *Rule, sum [32]byte) *selected {
	if !rule.shares() {
		return nil
	}
	s := c.load(sharedKey(rule, sum))
	if s == nil || s.rec.kind != kindShared || s.sum != sum {
		s.release()
		return nil
	}
	return s
}

// has reports whether there is a record at a key. It does not count as use.
func (c *Cache) has(key store.Key) bool {
	s := c.store.current.Load()
	if s == nil {
		return false
	}
	o, err := s.Peek(key)
	if err != nil {
		return false
	}
	o.Release()
	return true
}

// named returns the SHA-256 that the path of the request's target names, or else an
// index that has come from the same host, or from one that vouches for it.
func (x *exchange) named() (sum [32]byte, by integrity.Claim, ok bool) {
	claims := x.c.learnt(x.r.URL, x.rule)
	if d, found := x.rule.URLDigest(x.r.URL); found {
		claims = append([]integrity.Claim{{Digest: d, Source: integrity.FromURL}}, claims...)
	}
	for _, claim := range claims {
		if claim.Digest.Algorithm() == integrity.SHA256 {
			return [32]byte(claim.Digest.Sum()), claim, true
		}
	}
	return sum, by, false
}

// adopt looks for what a request is for under another URL, where its digest is known: a
// mirror has the same file, or the file has another name too. What is found, and agrees
// with the ledger,
// is stored under this URL as well.
func (x *exchange) adopt() *selected {
	if !x.rule.shares() || x.content != nil {
		return nil
	}
	sum, by, ok := x.named()
	if !ok {
		return nil
	}
	s := x.c.shared(x.rule, sum)
	if s == nil {
		return nil
	}
	set := x.rule.required()
	entry := x.c.ledgered(x.rule, x.r.URL, s.rec.status, set, x.r.Header, s.rec.header)
	if err := x.c.enter(entry, s.sum, true, s.sum, s.size, x.c.log); err != nil {
		s.release()
		return nil // upstream's is held to the ledger as well
	}
	key, err := x.c.storageKey(x.primary, x.rule, set, x.r.Header)
	if err != nil {
		x.c.storeFailed(x.c.log, "put variants", err)
		return s
	}
	target := *x.r.URL
	target.User = nil
	rec := *s.rec
	rec.kind, rec.url, rec.selectors = kindObject, target.String(), selectorsOf(set, x.r.Header)
	rec.verified = []integrity.Claim{by}
	if err := x.c.store.LinkWith(key, s.key, rec.encode(), x.rule.keeping()); err != nil {
		x.c.storeFailed(x.c.log, "adopt", err)
		return s
	}
	s.key, s.rec = key, &rec
	return s
}
