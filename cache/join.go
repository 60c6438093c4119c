package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/url"

	"larder/cache/integrity"
	"larder/cache/store"
)

// part sends a range request whose answer may be kept as a part of the whole: as a fill
// goes upstream, so that nothing outside the key can change what others get of it, but
// for the range. What says more than that, or cannot be joined, is the client's own.
func (x *exchange) part(f found) (*http.Response, error) {
	if ranges, _ := parseRange(x.r.Header["Range"]); len(ranges) != 1 || hasConditions(x.r.Header) {
		return x.own()
	}
	set := f.forwardSet(x.rule, x.learned)
	epoch := x.c.parts.epoch(x.primary)
	requested := x.c.now()
	var sent *http.Request
	resp, err := x.send(func(ctx context.Context) *http.Request {
		sent = canonicalRequest(ctx, x.r, x.rule, set)
		sent.Header["Range"] = x.r.Header["Range"]
		return sent
	})
	if err != nil {
		return nil, err
	}
	refused := resp.StatusCode >= 400 && resp.StatusCode < 500 &&
		resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusRequestedRangeNotSatisfiable
	if refused && withholdsOdd(x.r, x.rule, set) || !sameFields(keyFields(x.rule, sent.Header, resp.Header), sent.Header, x.r.Header) {
		resp.Body.Close()
		return x.own()
	}
	if k := x.keeper(sent, resp); k != nil {
		k.in.whole.rec.requested, k.epoch = requested, epoch
		resp.Body = k
	}
	return resp, nil
}

// hasConditions reports whether a request speaks of the client's own copy in more than
// a range.
func hasConditions(h http.Header) bool {
	for name := range h {
		if name != "Range" && ownCopyField(name) {
			return true
		}
	}
	return false
}

// keeper returns what keeps the body of a part while the client reads it, or nil where
// it cannot be joined with others, or need not.
func (x *exchange) keeper(sent *http.Request, resp *http.Response) *partKeeper {
	got, complete, ok := parseContentRange(resp.Header.Get("Content-Range"))
	if !ok || resp.StatusCode != http.StatusPartialContent || complete < 0 || complete > x.c.partsLimit() {
		return nil
	}
	as := asWhole(resp, complete)
	if ok, _ := storable(x.rule, sent, as); !ok || !x.rule.trusts(sent.URL, x.vouched) || resp.ContentLength >= 0 && resp.ContentLength != got.n {
		return nil
	}
	set := keyFields(x.rule, sent.Header, as.Header)
	key, strong := setKey(x.primary, complete, set, sent.Header, as.Header)
	p := part{off: got.off, n: got.n}
	if !strong || !x.c.parts.wants(key, p) {
		return nil
	}
	w, err := x.c.store.Create(x.c.ctx)
	if err != nil {
		x.c.storeFailed(x.c.log, "create", err)
		return nil
	}
	received := x.c.now()
	return &partKeeper{
		ReadCloser: resp.Body, c: x.c, w: w, part: p,
		in: &partSet{
			key: key, primary: x.primary, complete: complete, latest: received,
			whole: whole{rule: x.rule, set: set, sent: sent.Header, rec: &record{
				kind: kindObject, status: http.StatusOK, url: storedURL(sent.URL, x.rule), received: received,
				etag: as.Header.Get("Etag"), lastModified: as.Header.Get("Last-Modified"),
				header: storedHeader(as.Header, x.rule, received), selectors: selectorsOf(set, sent.Header),
				partition: x.rule.Partition,
			}},
		},
	}
}

// asWhole is the 200 that a 206 without conditions is a part of: RFC 9110, section
// 15.3.7, has it carry the same fields.
func asWhole(resp *http.Response, complete int64) *http.Response {
	as := *resp
	as.StatusCode, as.ContentLength = http.StatusOK, complete
	as.Header = maps.Clone(resp.Header)
	for _, name := range []string{"Content-Range", "Content-Length", "Content-Digest", "Content-Md5", "Digest"} {
		delete(as.Header, name)
	}
	return &as
}

// partsLimit is how many bytes of parts are kept at most.
func (c *Cache) partsLimit() int64 {
	s := c.Store()
	if s == nil {
		return 0
	}
	return s.Stats().MaxSize / partsShare
}

// partKeeper is the body of a part, of which it keeps what is read.
type partKeeper struct {
	io.ReadCloser
	c     *Cache
	w     *store.Writer // nil: given up
	part  part
	in    *partSet // what the part says of the set that it belongs to
	epoch uint64
}

// Read reads from upstream.
func (k *partKeeper) Read(p []byte) (int, error) {
	n, err := k.ReadCloser.Read(p)
	if n > 0 && k.w != nil {
		if _, err := k.w.Write(p[:n]); err != nil {
			k.c.storeFailed(k.c.log, "write", err)
			k.giveUp()
		} else if k.w.Size() > k.part.n {
			k.giveUp() // more than it said: nobody knows what of
		}
	}
	return n, err
}

func (k *partKeeper) giveUp() {
	k.w.Close()
	k.w = nil
}

// Close keeps what has come, if only the beginning of the part, and has the whole
// joined when nothing is missing any more.
func (k *partKeeper) Close() error {
	err := k.ReadCloser.Close()
	if k.w == nil {
		return err
	}
	defer k.giveUp()
	if k.part.n = k.w.Size(); k.part.n == 0 {
		return err
	}
	rand.Read(k.part.key[:]) // never fails
	if _, failed := k.w.Commit(k.part.key, []byte{metaVersion, kindPart}); failed != nil {
		k.c.storeFailed(k.c.log, "commit", failed)
		return err
	}
	complete, gone := k.c.parts.add(k.in, k.part, k.epoch, k.c.partsLimit())
	k.c.dropParts(gone)
	if complete != nil && !k.c.start(func() { k.c.join(complete) }) {
		k.c.dropParts(k.c.parts.end(complete))
	}
	return err
}

// start runs work in a goroutine that Close waits for; false: the cache is closed.
func (c *Cache) start(work func()) bool {
	c.flights.mu.Lock()
	defer c.flights.mu.Unlock()
	if !c.flights.closed {
		c.wg.Go(work)
	}
	return !c.flights.closed
}

func (c *Cache) dropParts(gone []part) {
	for _, p := range gone {
		c.drop(p.key)
	}
}

// join makes one object of a complete set of parts.
func (c *Cache) join(s *partSet) {
	log := c.log.With("url", s.whole.rec.url, "rule", s.whole.rule.Name)
	joined, err := c.joinParts(s, log)
	c.dropParts(c.parts.end(s))
	_, refused := errors.AsType[*MismatchError](err)
	switch {
	case refused: // as the log says already
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, context.Canceled):
		log.Debug("parts not joined", "err", err)
	case err != nil:
		c.storeFailed(log, "join parts", err)
	case joined:
		c.metrics.joined.Inc()
	}
}

// joinParts stores the whole, and reports whether it has.
func (c *Cache) joinParts(s *partSet, log *slog.Logger) (bool, error) {
	w, err := c.store.Create(c.ctx)
	if err != nil {
		return false, err
	}
	defer w.Close()
	target, err := url.Parse(s.whole.rec.url)
	if err != nil {
		return false, err
	}
	rule, header := s.whole.rule, s.whole.rec.header
	entry := c.ledgered(rule, target, s.whole.rec.status, s.whole.set, s.whole.sent, header)
	check := rule.newCheck(append(rule.claims(target, header), c.learnt(target, rule)...), header, entry != nil)
	defer check.Close()
	if err := c.copyParts(w, check, s); err != nil {
		return false, err
	}
	if c.parts.isOutdated(s) {
		return false, nil
	}
	rec := *s.whole.rec
	if check != nil {
		r := check.Finish(w.Sum(), w)
		if rule.Verify != VerifyOff {
			found := c.settle(r, rule, target, log)
			if found.err != nil || found.unstored != "" {
				return false, found.err
			}
			rec.verified = found.verified
		}
		if err := c.enter(entry, r.Content, r.ContentOK, w.Sum(), w.Size(), log); err != nil {
			return false, err
		}
	}
	return c.commitJoined(w, &rec, s)
}

// commitJoined makes the whole visible, unless there is something newer.
func (c *Cache) commitJoined(w *store.Writer, rec *record, s *partSet) (bool, error) {
	key, err := c.storageKey(s.primary, s.whole.rule, s.whole.set, s.whole.sent)
	if err != nil {
		return false, err
	}
	if old := c.load(key); old != nil {
		defer old.release()
		if old.rec.received.After(rec.received) {
			return false, nil // another fetch was quicker, and may have brought what is there now
		}
	}
	if _, err := w.CommitWith(key, rec.encode(), s.whole.rule.keeping()); err != nil {
		return false, err
	}
	if c.parts.isOutdated(s) {
		c.drop(s.primary)
	}
	return true, nil
}

// copyParts appends the whole to w, and to check.
func (c *Cache) copyParts(w *store.Writer, check *integrity.Check, s *partSet) error {
	var at int64
	for _, p := range s.have {
		if p.off+p.n <= at {
			continue
		}
		if err := c.copyPart(w, check, p, at-p.off); err != nil {
			return fmt.Errorf("read the part at %d: %w", p.off, err)
		}
		at = p.off + p.n
	}
	return nil
}

// copyPart appends a part from off on.
func (c *Cache) copyPart(w *store.Writer, check *integrity.Check, p part, off int64) error {
	o, err := c.store.Get(p.key)
	if err != nil {
		return err
	}
	defer o.Release()
	var to io.Writer = &storing{w: w, ctx: c.ctx}
	if check != nil {
		to = io.MultiWriter(to, check)
	}
	n, err := o.WriteRange(to, off, p.n-off)
	if err == nil && n < p.n-off {
		err = io.ErrShortWrite
	}
	return err
}
