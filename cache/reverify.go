package cache

import (
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"larder/cache/integrity"
	"larder/cache/store"
)

const (
	// maxAtOnce is the size up to which a stored body is read once more before it is
	// served, when a digest by an algorithm became known that nothing was held to yet.
	// Larger ones are read in the background.
	maxAtOnce = 64 << 20
	// maxReading bounds the stored bodies that are read for that at a time.
	maxReading = 2
)

// body is what is known of one that is there.
type body struct {
	sum      [32]byte
	coded    bool // in a content coding
	verified []integrity.Claim
}

// judge compares the body with a digest, as far as it can without reading it; known is
// false where it cannot.
func (b *body) judge(d integrity.Digest) (holds, known bool) {
	for _, v := range b.verified {
		if v.Digest.Algorithm() == d.Algorithm() {
			return v.Digest == d, true
		}
	}
	if d.Algorithm() != integrity.SHA256 && d.Algorithm() != integrity.GoMod {
		return false, false
	}
	own, err := integrity.Of(d.Algorithm(), b.sum, nil, 0)
	if err != nil || b.coded && own != d {
		return false, false // the digest is perhaps that of the content
	}
	return own == d, true
}

// doubt is what comes of comparing a stored response with what is known by now.
type doubt uint8

const (
	noDoubt   doubt = iota
	outdated        // an index says that there is another one now
	wrong           // it is not what it should be
	unsettled       // look again
)

// reverify compares what is stored with the digests that have become known since: an
// index may have passed after the file that it lists. It costs a look into the table of
// digests.
func (x *exchange) reverify(s *selected) doubt {
	if x.rule.Verify == VerifyOff || x.content != nil || s.rec.status != http.StatusOK {
		return noDoubt
	}
	good, bad, unread := x.c.compare(s.rec, s.sum, x.r.URL, x.rule)
	switch {
	case bad != nil:
		return x.c.doubted(x, s, *bad, integrity.Digest{})
	case good != nil && !slices.ContainsFunc(s.rec.verified, func(v integrity.Claim) bool { return v.Digest == good.Digest && v.Source <= good.Source }):
		x.c.metrics.digests.WithLabelValues(good.Source.String(), "verified").Inc()
		x.note(s, *good)
	case len(unread) > 0:
		return x.reread(s, unread)
	case x.rule.unproved(s.rec.verified):
		return wrong
	}
	return noDoubt
}

// compare holds a stored 200 to what is known now. It returns the most trusted claim of
// which it can tell whether it holds, or those for which the body has to be read.
func (c *Cache) compare(rec *record, sum [32]byte, target *url.URL, rule *Rule) (good, bad *integrity.Claim, unread []integrity.Claim) {
	claims := c.learnt(target, rule)
	if len(rec.verified) == 0 && len(rule.Digests) > 0 {
		// Stored by a larder, or under a rule, that did not know of these.
		claims = append(claims, rule.claims(target, nil)...)
	}
	if len(claims) == 0 {
		return nil, nil, nil
	}
	b := body{sum: sum, coded: len(rec.header["Content-Encoding"]) > 0, verified: rec.verified}
	for _, claim := range integrity.Select(claims) {
		switch holds, known := b.judge(claim.Digest); {
		case !known && !b.coded:
			unread = append(unread, claim)
		case !known:
		case holds:
			return &claim, nil, nil
		default:
			return nil, &claim, nil
		}
	}
	return nil, nil, unread
}

// doubted counts and logs a stored response that has not a digest that is known by now.
func (c *Cache) doubted(x *exchange, s *selected, claim integrity.Claim, got integrity.Digest) doubt {
	log := c.log.With("url", logURL(x.r.URL), "rule", x.rule.Name, "source", claim.Source.String(), "want", claim.Digest.String())
	switch {
	case claim.Source != integrity.FromURL && proved(s.rec.verified):
		c.metrics.digests.WithLabelValues(claim.Source.String(), "contradicted").Inc()
		return noDoubt
	case x.rule.Mode != Immutable && claim.Source == integrity.FromIndex:
		return outdated
	}
	if got.IsZero() {
		got, _ = integrity.NewDigest(integrity.SHA256, s.sum[:])
	}
	c.metrics.digests.WithLabelValues(claim.Source.String(), "mismatch").Inc()
	log.Error("digest mismatch of a stored response: dropped", "got", got.String(), "verified", verifiedBy(s.rec.verified))
	return wrong
}

// rereading are the stored bodies that are being read to be held to a digest.
type rereading struct {
	slots chan struct{}

	mu      sync.Mutex
	running map[store.Key]chan struct{} // closed at the end
	// fine are bodies that were found to be right, where their records could not be told.
	fine map[store.Key][32]byte
}

func (t *rereading) init() {
	t.slots = make(chan struct{}, maxReading)
	t.running, t.fine = make(map[store.Key]chan struct{}), make(map[store.Key][32]byte)
}

// begin returns the channel that ends with the reading of key, and whether it is the
// caller who is to read. Both are zero where it need not be read.
func (t *rereading) begin(key store.Key, sum [32]byte) (done chan struct{}, mine bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known, ok := t.fine[key]; ok && known == sum {
		return nil, false
	}
	if done, ok := t.running[key]; ok {
		return done, false
	}
	done = make(chan struct{})
	t.running[key] = done
	return done, true
}

func (t *rereading) end(key store.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.running[key])
	delete(t.running, key)
}

func (t *rereading) remembers(key store.Key, sum [32]byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	known, ok := t.fine[key]
	return ok && known == sum
}

func (t *rereading) remember(key store.Key, sum [32]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.fine) >= maxDone {
		clear(t.fine)
	}
	t.fine[key] = sum
}

// reread holds a stored body to digests for which it has to be read. Small ones wait for
// that, and so does whatever may not be served unverified.
func (x *exchange) reread(s *selected, claims []integrity.Claim) doubt {
	c := x.c
	wait := s.size <= maxAtOnce || x.rule.unproved(s.rec.verified)
	done, mine := c.rereading.begin(s.key, s.sum)
	switch {
	case done == nil:
		return noDoubt
	case !mine && !wait:
		return noDoubt
	case !mine:
		select {
		case <-done:
		case <-x.r.Context().Done():
		}
		return unsettled
	case wait:
		return x.readNow(s.key, claims)
	}
	if !c.start(func() { x.readNow(s.key, claims) }) {
		c.rereading.end(s.key)
	}
	return noDoubt
}

// readNow is reread for who has begun it. It does not use the exchange's connection.
func (x *exchange) readNow(key store.Key, claims []integrity.Claim) doubt {
	c := x.c
	defer c.rereading.end(key)
	select {
	case c.rereading.slots <- struct{}{}:
		defer func() { <-c.rereading.slots }()
	case <-c.ctx.Done():
		return noDoubt
	}
	s := c.load(key)
	if s == nil || s.rec.kind != kindObject {
		s.release()
		return unsettled
	}
	defer s.release()
	rec := *s.rec
	for _, claim := range claims {
		got, err := integrity.Of(claim.Digest.Algorithm(), s.sum, s.obj, s.size)
		if err != nil {
			c.storeFailed(c.log, "read", err)
			return unsettled
		}
		if got != claim.Digest {
			if d := c.doubted(x, s, claim, got); d != noDoubt {
				if d == wrong {
					c.drop(key)
				}
				return d
			}
			continue
		}
		c.metrics.digests.WithLabelValues(claim.Source.String(), "verified").Inc()
		rec.verified = append(slices.Clip(rec.verified), claim)
	}
	if err := s.obj.Amend(rec.encode(), x.rule.keeping()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.rereading.remember(key, s.sum)
		c.storeFailed(c.log, "set metadata", err)
	}
	return noDoubt
}

// late holds a body that is about to be stored to what became known while it came.
func (f *fill) late() error {
	if f.content != nil || f.status != http.StatusOK || f.c.learning.table == nil || f.c.learning.table.Epoch() == f.epoch {
		return nil
	}
	b := body{sum: f.sum, coded: len(f.header["Content-Encoding"]) > 0, verified: f.verified}
	for _, claim := range integrity.Select(f.c.learnt(f.sent.URL, f.rule)) {
		holds, known := b.judge(claim.Digest)
		if !known {
			continue // the next hit will tell
		}
		r := integrity.Result{Verified: []integrity.Claim{claim}}
		if !holds {
			r = integrity.Result{Mismatch: &claim}
			r.Got, _ = integrity.NewDigest(integrity.SHA256, f.sum[:])
		} else if slices.Contains(f.verified, claim) {
			continue
		}
		if proved(f.verified) && !holds {
			continue
		}
		found := f.c.settle(r, f.rule, f.sent.URL, f.log)
		f.verified = append(f.verified, found.verified...)
		f.kept = f.kept && found.unstored == ""
		if found.err != nil {
			return found.err
		}
	}
	return nil
}

// proved reports whether the URL itself has vouched for a body, and vouchedFor whether
// URL or index have.
func proved(verified []integrity.Claim) bool { return strongly(verified, integrity.FromURL) }

func vouchedFor(verified []integrity.Claim) bool { return strongly(verified, integrity.FromIndex) }

// strongly reports whether a source as trusted as least, by an algorithm that nobody can
// forge, is among those that have vouched.
func strongly(verified []integrity.Claim, least integrity.Source) bool {
	return slices.ContainsFunc(verified, func(v integrity.Claim) bool {
		return v.Source <= least && v.Digest.Algorithm().Strong()
	})
}

// disagrees reports whether a client expects another body than the stored one, of which
// no registry has named a digest. It is then given what upstream has: its lock file may be
// right, and what is stored not. What is stored stays, for a client could name anything.
func (x *exchange) disagrees(s *selected) bool {
	if len(x.r.Header["Pacote-Integrity"]) == 0 || x.rule.Verify == VerifyOff || s.rec.status != http.StatusOK ||
		len(s.rec.header["Content-Encoding"]) > 0 || vouchedFor(s.rec.verified) {
		return false
	}
	expected := integrity.Select(clientClaims(x.r.Header))
	if len(expected) == 0 {
		return false
	}
	b := body{sum: s.sum, verified: s.rec.verified}
	holds, known := b.judge(expected[0].Digest)
	if !known && s.size <= maxAtOnce {
		got, err := integrity.Of(expected[0].Digest.Algorithm(), s.sum, s.obj, s.size)
		if err != nil {
			return false
		}
		if holds = got == expected[0].Digest; holds {
			x.note(s, expected[0])
		}
		known = true
	}
	if !known || holds {
		return false
	}
	x.c.metrics.digests.WithLabelValues(integrity.FromClient.String(), "contradicted").Inc()
	x.c.log.Warn("client expects another digest than the stored body has", "url", logURL(x.r.URL), "rule", x.rule.Name, "want", expected[0].Digest.String())
	return true
}

// note writes down that a stored body was found to have a digest; once, where the store
// does not take it.
func (x *exchange) note(s *selected, claim integrity.Claim) {
	if x.c.rereading.remembers(s.key, s.sum) {
		return
	}
	rec := *s.rec
	rec.verified = append(slices.Clip(rec.verified), claim)
	err := s.obj.Amend(rec.encode(), x.rule.keeping())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		x.c.rereading.remember(s.key, s.sum)
		x.c.storeFailed(x.c.log, "set metadata", err)
	}
}
