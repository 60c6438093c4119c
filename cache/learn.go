package cache

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"larder/cache/digests"
	"larder/cache/integrity"
	"larder/cache/store"
	"larder/registry/indexes"
)

const (
	// learnPatience is how long the end of an index waits until it was read: its client
	// asks for what it lists next.
	learnPatience = 300 * time.Millisecond
	// maxLearning bounds the indexes that are read while they pass, and maxLearnt what is
	// held of each; there are Debian's 70,000 packages in one. What is not read while it
	// passes is read from the store.
	maxLearning = 2
	maxLearnt   = 1 << 17
	// maxToLearn bounds the indexes that wait to be read from the store. One that finds no
	// room is met again with its next hit.
	maxToLearn = 256
	// learnBatch is how many digests are noted at once from the store.
	learnBatch = 4096
	// maxConfigured is the largest stored response that one index looks up for another.
	maxConfigured = 64 << 10
)

// learning is what the cache needs to learn digests from indexes.
type learning struct {
	table  *digests.Table // nil: nothing is learnt
	reader *indexes.Reader
	slots  chan struct{} // one for each index that is read while it passes
	queue  chan toLearn

	mu sync.Mutex
	// pending are the keys in the queue; done holds those that were read from the store,
	// with the digest of what was read, as far as their records do not say so.
	pending map[store.Key]struct{}
	done    map[store.Key][32]byte
}

// toLearn is an index in the store.
type toLearn struct {
	key    store.Key
	target *url.URL
	rule   *Rule
}

func (l *learning) init(table *digests.Table) {
	l.table, l.reader = table, indexes.NewReader()
	l.slots = make(chan struct{}, maxLearning)
	l.queue = make(chan toLearn, maxToLearn)
	l.pending, l.done = make(map[store.Key]struct{}), make(map[store.Key][32]byte)
}

// epoch changes whenever something new is known.
func (l *learning) epoch() uint64 {
	if l.table == nil {
		return 0
	}
	return l.table.Epoch()
}

// wants reports whether digests are to be learnt from a response.
func (l *learning) wants(rule *Rule, target *url.URL, status int) bool {
	return l.table != nil && rule.Index != nil && status == http.StatusOK && l.reader.Wants(rule.Index.Kind, target)
}

// fileKey names what is at a target URI in the table of digests.
func fileKey(u *url.URL, rule *Rule) digests.Key {
	var space [512]byte
	b := keyBuilder{buf: space[:0]}
	b.add(domainFile)
	b.addTarget(u, rule)
	return digests.Key(b.sum())
}

// learnt lists what indexes have said of the body at a target URI.
func (c *Cache) learnt(target *url.URL, rule *Rule) []integrity.Claim {
	if c.learning.table == nil || rule.Verify == VerifyOff {
		return nil
	}
	known, err := c.learning.table.Lookup(fileKey(target, rule))
	if err != nil {
		c.log.Warn("digests of indexes cannot be read", "err", err)
	}
	claims := make([]integrity.Claim, len(known))
	for i, d := range known {
		claims[i] = integrity.Claim{Digest: d, Source: integrity.FromIndex}
	}
	return claims
}

// mayVouch reports whether an index may speak for a file: one on its own host, or on one
// that its rule names, and never one that came unprotected for a file that does not.
func mayVouch(index *url.URL, rule *Index, file *url.URL) bool {
	switch {
	case file.Scheme != "https" && file.Scheme != "http" || file.User != nil:
		return false
	case index.Scheme == "http" && file.Scheme == "https":
		return false
	}
	samePort := portOf(file) == portOf(index)
	standard := portOf(file) == defaultPort(file.Scheme)
	if strings.EqualFold(file.Hostname(), index.Hostname()) {
		return samePort || standard && portOf(index) == defaultPort(index.Scheme)
	}
	return (samePort || standard) && rule.Vouches != nil && rule.Vouches(file.Hostname())
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return defaultPort(u.Scheme)
}

// pupil reads one index and collects, or notes, what it says.
type pupil struct {
	c       *Cache
	target  *url.URL
	rule    *Rule
	log     *slog.Logger
	entries []digests.Entry
	most    int                         // entries before full is called
	full    func([]digests.Entry) error // with all of them
	changed []string                    // files of which something else was known
}

// errFull ends the reading of an index that says more than is held.
var errFull = errors.New("more digests than are held at once")

// read reads an index to its end. body is in the content coding of header.
func (p *pupil) read(header http.Header, body io.Reader) error {
	coding, ok := integrity.Coding(header["Content-Encoding"])
	if !ok {
		return errors.New("it is in several content codings")
	}
	content, err := integrity.Decode(coding, body)
	if err != nil {
		return err
	}
	return p.c.learning.reader.Read(p.rule.Index.Kind, &indexes.Index{
		URL: p.target, ContentType: header.Get("Content-Type"), Body: content, Hosts: p.rule.Index.Hosts, Stored: p.stored,
	}, p.note)
}

// maxChanged bounds how many changes of one index are named in the log.
const maxChanged = 8

// note takes what the index says of one file.
func (p *pupil) note(file *url.URL, d integrity.Digest) error {
	if !mayVouch(p.target, p.rule.Index, file) {
		p.c.metrics.notVouched.Inc()
		return nil
	}
	key := fileKey(file, &Rule{})
	known, err := p.c.learning.table.Lookup(key)
	if err != nil {
		return err
	}
	for _, old := range known {
		switch {
		case old == d:
		case old.Algorithm() == d.Algorithm() && len(p.changed) < maxChanged:
			p.changed = append(p.changed, logURL(file))
		}
	}
	p.entries = append(p.entries, digests.Entry{Key: key, Digest: d})
	if len(p.entries) < p.most {
		return nil
	}
	err = p.full(p.entries)
	p.entries = p.entries[:0]
	return err
}

// keep writes what was collected down.
func (p *pupil) keep(entries []digests.Entry) error {
	changes, err := p.c.learning.table.Add(entries)
	p.c.metrics.learnt.Add(float64(len(entries)))
	if len(changes) > 0 {
		p.log.Info("index names other digests than before", "files", len(changes), "among", p.changed)
	}
	return err
}

// stored returns a small stored response to a GET of target, under the rule of the index.
func (p *pupil) stored(target *url.URL) ([]byte, bool) {
	s := p.c.store.current.Load()
	if s == nil {
		return nil, false
	}
	o, err := s.Peek(primaryKey(target, p.rule))
	if err != nil {
		return nil, false
	}
	defer o.Release()
	rec, err := decodeRecord(o.Meta())
	if err != nil || rec.kind != kindObject || rec.status != http.StatusOK || o.Size() > maxConfigured {
		return nil, false
	}
	coding, _ := integrity.Coding(rec.header["Content-Encoding"])
	body, err := integrity.Decode(coding, io.NewSectionReader(o, 0, o.Size()))
	if err != nil {
		return nil, false
	}
	content, err := io.ReadAll(io.LimitReader(body, maxConfigured+1))
	return content, err == nil && len(content) <= maxConfigured
}

// lesson is an index that is read while it passes, in a goroutine that ends with the
// body, or with stop.
type lesson struct {
	pupil
	stop context.CancelFunc
	done chan struct{}
	err  error // set when done is closed
}

// attend begins to read the response of f as an index. It returns nil where too many are
// being read already.
func (f *fill) attend() *lesson {
	slots := f.c.learning.slots
	select {
	case slots <- struct{}{}:
	default:
		return nil
	}
	l := &lesson{
		pupil: pupil{c: f.c, target: f.sent.URL, rule: f.rule, log: f.log, most: maxLearnt, full: func([]digests.Entry) error { return errFull }},
		done:  make(chan struct{}),
	}
	ctx, stop := context.WithCancel(f.ctx)
	l.stop = stop
	cur := f.spool.openWhole()
	header := f.common
	f.c.wg.Go(func() { // ends with the body, or with ctx
		defer func() {
			cur.close()
			close(l.done)
			<-slots
		}()
		l.err = l.read(header, &passingReader{cur, ctx})
	})
	return l
}

// passingReader reads from a cursor until ctx ends.
type passingReader struct {
	cur *cursor
	ctx context.Context // of the one body that this struct lives for
}

func (r *passingReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, _, err := r.cur.read(r.ctx, p)
	return n, err
}

// heed waits a moment for an index that is being read and whose body is whole, and
// reports whether that was enough.
func (l *lesson) heed() bool {
	t := time.NewTimer(learnPatience)
	defer t.Stop()
	select {
	case <-l.done:
		return true
	case <-t.C:
		l.stop()
		<-l.done // it may not read from the body any more
		return false
	}
}

// teaches reports whether the body is an index from which digests are to be learnt.
func (f *fill) teaches() bool {
	return f.content == nil && f.c.learning.wants(f.rule, f.sent.URL, f.status)
}

// dismiss ends the reading of an index.
func (f *fill) dismiss() {
	if f.lesson != nil {
		f.lesson.stop()
		<-f.lesson.done
		f.lesson = nil
	}
}

// learn has the index that f has brought taken to heart: what was read while it passed,
// or else what is in the store.
func (f *fill) learn() {
	l := f.lesson
	if l == nil {
		return
	}
	switch {
	case !l.heed():
	case errors.Is(l.err, errFull):
	case l.err != nil:
		f.c.unreadable(f.log, l.err)
		f.taught = true // it will not get better
		return
	default:
		if err := l.keep(l.entries); err != nil {
			f.log.Warn("digests of an index cannot be kept", "err", err)
		}
		f.taught = true
	}
}

func (c *Cache) unreadable(log *slog.Logger, err error) {
	c.metrics.unreadable.Inc()
	log.Info("index cannot be read, so nothing is learnt from it", "err", err)
}

// learnStored has an index in the store read, soon.
func (c *Cache) learnStored(key store.Key, target *url.URL, rule *Rule) {
	l := &c.learning
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, waits := l.pending[key]; waits {
		return
	}
	select {
	case l.queue <- toLearn{key, target, rule}:
		l.pending[key] = struct{}{}
	default:
	}
}

// teach has a stored index read if that was not done, as by a larder that did not know
// how, or since the table of digests was lost.
func (c *Cache) teach(s *selected, target *url.URL, rule *Rule) {
	if c.learning.wants(rule, target, s.rec.status) && !c.learning.taught(s) {
		c.learnStored(s.key, target, rule)
	}
}

// taught reports whether a stored index was read already.
func (l *learning) taught(s *selected) bool {
	if s.rec.taught == l.table.ID() {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	sum, ok := l.done[s.key]
	return ok && sum == s.sum
}

// study reads the indexes in the queue, one by one, until ctx ends.
func (c *Cache) study(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-c.learning.queue:
			c.studyOne(ctx, t)
			c.learning.mu.Lock()
			delete(c.learning.pending, t.key)
			c.learning.mu.Unlock()
		}
	}
}

// maxDone bounds learning.done.
const maxDone = 4096

func (c *Cache) studyOne(ctx context.Context, t toLearn) {
	s := c.store.current.Load()
	if s == nil {
		return
	}
	o, err := s.Peek(t.key)
	if err != nil {
		return // it has gone, or there is another soon
	}
	defer o.Release()
	rec, err := decodeRecord(o.Meta())
	if err != nil || rec.kind != kindObject {
		return
	}
	log := c.log.With("url", logURL(t.target), "rule", t.rule.Name)
	p := pupil{c: c, target: t.target, rule: t.rule, log: log, most: learnBatch}
	p.full = p.keep
	err = p.read(rec.header, &contextReader{ctx, bufio.NewReaderSize(io.NewSectionReader(o, 0, o.Size()), 256<<10)})
	if err == nil {
		err = p.keep(p.entries)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		c.unreadable(log, err)
	}
	c.learning.mu.Lock()
	defer c.learning.mu.Unlock()
	if len(c.learning.done) >= maxDone {
		clear(c.learning.done)
	}
	c.learning.done[t.key] = o.SHA256()
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context // of the one body that this struct lives for
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
