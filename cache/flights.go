package cache

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"larder/cache/store"
)

const (
	// aloneFor is how long requests do not wait for each other after one of them
	// brought a response that could not be shared, and maxAlone bounds how many
	// such keys are remembered.
	aloneFor = 5 * time.Second
	maxAlone = 4096
)

// errSaved: something was stored since the look-up.
var errSaved = fmt.Errorf("a fill has ended: %w", errAgain)

// flights is the table of running fills.
type flights struct {
	mu    sync.Mutex
	byKey map[store.Key]*fill // that others may join
	// all are those, and the ones that nobody may join (any more), by primary key.
	all    map[store.Key]map[*fill]struct{}
	alone  map[store.Key]time.Time // until when
	closed bool
	// saves counts what fills have stored, by the first byte of the primary key. A
	// request that found nothing and now finds no fill either has to look again when
	// one has ended in between.
	saves [256]uint64
}

// savesOf returns the count to be given to board after a look-up.
func (t *flights) savesOf(primary store.Key) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.saves[primary[0]]
}

func (t *flights) init() {
	t.byKey = make(map[store.Key]*fill)
	t.all = make(map[store.Key]map[*fill]struct{})
	t.alone = make(map[store.Key]time.Time)
}

func (t *flights) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}

// peek reports whether a fill for key is running. Its error is errSaved when one has
// ended since the look-up that seen belongs to.
func (t *flights) peek(key, primary store.Key, seen uint64) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byKey[key] != nil {
		return true, nil
	}
	if t.saves[primary[0]] != seen {
		return false, errSaved
	}
	return false, nil
}

// outdate keeps the running fills for a target URI from being stored or joined.
func (t *flights) outdate(primary store.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for f := range t.all[primary] {
		t.outdateOne(f)
	}
}

// outdateOne is called with mu held.
func (t *flights) outdateOne(f *fill) {
	f.outdated.Store(true)
	if t.byKey[f.key] == f {
		delete(t.byKey, f.key)
	}
}

// add and remove keep all. Called with mu held.
func (t *flights) add(f *fill) {
	same := t.all[f.primary]
	if same == nil {
		same = make(map[*fill]struct{}, 1)
		t.all[f.primary] = same
	}
	same[f] = struct{}{}
}

func (t *flights) remove(f *fill) {
	same := t.all[f.primary]
	delete(same, f)
	if len(same) == 0 {
		delete(t.all, f.primary)
	}
}

// boarding is what a request brings to a fill that it starts.
type boarding struct {
	key, primary store.Key
	request      *http.Request
	content      *Content
	rule         *Rule
	set          []string  // fields that the canonical request carries on
	stored       *selected // to be validated, or nil; the fill takes a copy of its facts
	private      bool      // may not be joined
	noStore      bool
	background   bool   // nobody waits for it
	seen         uint64 // savesOf before the look-up
}

// board joins the running fill for b.key or starts one. The caller must leave the
// fill it gets, except with b.background, which gets none where there is no point.
func (c *Cache) board(b boarding) (f *fill, leader bool, err error) {
	t := &c.flights
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, false, errClosed
	}
	if !b.private {
		if f := t.byKey[b.key]; f != nil {
			if !b.background {
				f.readers.Add(1)
			}
			return f, false, nil
		}
		if until, ok := t.alone[b.key]; ok {
			if b.private = c.now().Before(until); !b.private {
				delete(t.alone, b.key)
			}
		}
		if b.private && b.background {
			return nil, false, nil // it would bring nothing that can be kept
		}
	}
	if t.saves[b.primary[0]] != b.seen {
		return nil, false, errSaved
	}
	f = c.newFill(b)
	t.add(f)
	if !b.private {
		t.byKey[b.key] = f
	}
	c.wg.Go(f.run)
	return f, true, nil
}

// newFill prepares a fill. Its context keeps the values of the request that started
// it but not its end, since others may wait for the same bytes.
func (c *Cache) newFill(b boarding) *fill {
	f := &fill{
		c: c, primary: b.primary, rule: b.rule, noStore: b.noStore, stored: b.stored.facts(),
		decided: make(chan struct{}), finished: make(chan struct{}),
		began: time.Now(), hints: clientClaims(b.request.Header),
		log: c.log.With("url", logURL(b.request.URL), "rule", b.rule.Name),
	}
	f.key, f.private, f.content = b.key, b.private, b.content
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(b.request.Context()))
	stop := context.AfterFunc(c.ctx, func() { cancel(errClosed) })
	if !b.background {
		f.interim = make(chan interim, maxInterim)
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: f.inform})
	}
	f.ctx = ctx
	f.cancel = func(cause error) { stop(); cancel(cause) }
	f.sent = canonicalRequest(ctx, b.request, b.rule, b.set)
	b.content.inCanonical(f.sent, b.request)
	if b.background {
		f.keep.Store(true)
		f.orphaned = true
	} else {
		f.readers.Store(1)
	}
	return f
}

// leave ends one client's interest in f.
func (c *Cache) leave(f *fill) {
	t := &c.flights
	t.mu.Lock()
	last := f.readers.Add(-1) == 0
	abandon := last && !f.worthFinishing()
	if abandon && t.byKey[f.key] == f {
		delete(t.byKey, f.key)
	}
	t.mu.Unlock()
	if abandon {
		f.cancel(errAbandoned)
	}
	if last {
		f.release()
	}
}

// withdraw takes f out of the table; who is aboard stays. With alone, what comes for
// f's key shall for a while not wait to find out that it cannot be shared.
func (c *Cache) withdraw(f *fill, alone bool) {
	t := &c.flights
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.private {
		return
	}
	if t.byKey[f.key] == f {
		delete(t.byKey, f.key)
	}
	if !alone {
		return
	}
	now := c.now()
	if len(t.alone) >= maxAlone {
		for key, until := range t.alone {
			if !now.Before(until) {
				delete(t.alone, key)
			}
		}
	}
	if len(t.alone) < maxAlone {
		t.alone[f.key] = now.Add(aloneFor)
	}
}

// retire takes a fill that has ended out of the table, and only then says so: who
// waited for the end must not find it there once more.
func (c *Cache) retire(f *fill) {
	t := &c.flights
	t.mu.Lock()
	if t.byKey[f.key] == f {
		delete(t.byKey, f.key)
	}
	t.remove(f)
	if f.saved {
		delete(t.alone, f.key)
		t.saves[f.primary[0]]++
	}
	t.mu.Unlock()
	close(f.finished)
	f.release()
}

// release gives up the writer, once the fill has ended and nobody reads from it.
func (f *fill) release() {
	select {
	case <-f.decided:
	default:
		return
	}
	if f.spool != nil {
		f.spool.poke()
	}
	select {
	case <-f.finished:
	default:
		return
	}
	if f.readers.Load() > 0 {
		return
	}
	// The last client and the fill itself may both come here.
	f.released.Do(func() {
		if f.spool != nil {
			f.spool.w.Close()
		}
		f.cancel(nil)
	})
}
