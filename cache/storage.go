package cache

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"larder/cache/store"
)

const (
	// checkEvery is how often a store that seems well is looked at: a disk that was
	// taken away is otherwise noticed by the next write only, and its place in the
	// file system takes writes all the same.
	checkEvery = 10 * time.Second
	// A store that is broken is tried again after firstTry, then after twice as long
	// each time up to lastTry.
	firstTry = time.Second
	lastTry  = 30 * time.Second
	// maxOwed bounds the deletions that are kept for a store that cannot take them.
	maxOwed = 1 << 16
)

// ErrStoreBroken is in the chain of errors while the store is broken and
// Options.RefuseWithoutStore is set: nothing is fetched that could not be stored.
var ErrStoreBroken = errors.New("the store is broken, and requests are not passed through without it")

// errAway says that the store is not asked, because it is known to be broken.
var errAway = errors.New("the store is broken")

// storage is the store as the cache uses it: it may break, as when its disk is gone,
// and come back. While it is broken nothing is written to it, so that no request
// waits for a dying disk; what it can still read it serves. One goroutine tries it
// again until it works.
type storage struct {
	current atomic.Pointer[store.Store] // nil while none is open
	open    func() (*store.Store, error)
	log     *slog.Logger
	metrics *metrics
	delay   func(try int) time.Duration
	every   time.Duration

	broken atomic.Bool   // err is not nil
	own    atomic.Bool   // the current one was opened here
	wake   chan struct{} // a break is to be tended
	work   sync.WaitGroup
	gone   *store.Store // of tend: the one whose folder was taken away

	mu    sync.Mutex // guards what follows
	err   error      // why it is broken
	since time.Time
	owed  map[store.Key]struct{} // deletions that it did not take
}

func newStorage(s *store.Store, open func() (*store.Store, error), why error, log *slog.Logger, m *metrics) *storage {
	g := &storage{
		open: open, log: log, metrics: m,
		wake: make(chan struct{}, 1), owed: make(map[store.Key]struct{}),
	}
	m.storeUp.Set(1)
	if s != nil {
		g.current.Store(s)
	} else {
		g.fail("open", why)
	}
	return g
}

// pace sets how often the store is looked at and tried; nil and 0: as documented
// above. It is called before tend.
func (g *storage) pace(delay func(try int) time.Duration, every time.Duration) {
	if delay == nil {
		delay = func(try int) time.Duration { return min(firstTry<<min(try, 10), lastTry) }
	}
	g.delay, g.every = delay, cmp.Or(every, checkEvery)
}

// Get and the methods below are those of store.Store.
func (g *storage) Get(key store.Key) (*store.Object, error) {
	s := g.current.Load()
	if s == nil {
		return nil, errAway
	}
	return s.Get(key)
}

// Hot is for what needs no disk, so it goes on whatever becomes of that.
func (g *storage) Hot(key store.Key) (*store.Hot, bool) {
	s := g.current.Load()
	if s == nil {
		return nil, false
	}
	return s.Hot(key)
}

func (g *storage) writable() (*store.Store, error) {
	s := g.current.Load()
	if s == nil || g.broken.Load() {
		return nil, errAway
	}
	return s, nil
}

func (g *storage) Create(ctx context.Context) (*store.Writer, error) {
	s, err := g.writable()
	if err != nil {
		return nil, err
	}
	return s.Create(ctx)
}

func (g *storage) PutWith(key store.Key, meta []byte, o store.CommitOptions) error {
	s, err := g.writable()
	if err != nil {
		return err
	}
	return s.PutWith(key, meta, o)
}

func (g *storage) LinkWith(key, other store.Key, meta []byte, o store.CommitOptions) error {
	s, err := g.writable()
	if err != nil {
		return err
	}
	return s.LinkWith(key, other, meta, o)
}

// Delete is never lost: what must not be served any more is removed before the
// store is used again.
func (g *storage) Delete(key store.Key) error {
	s := g.current.Load()
	err := errAway
	if s != nil {
		err = s.Delete(key)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.owed) < maxOwed {
		g.owed[key] = struct{}{}
		return err
	}
	return fmt.Errorf("%w; it may be back after a restart", err)
}

// judge looks at an error of the store, and says that it is broken if that follows.
func (g *storage) judge(op string, err error) {
	switch {
	case err == nil, errors.Is(err, errAway), errors.Is(err, store.ErrNoSpace), errors.Is(err, errMeta),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		// A full disk is no broken one: hits go on, and the store looks after itself.
		return
	case err == fs.ErrNotExist: //nolint:errorlint // an object's absence; a file's is wrapped
		return
	case errors.Is(err, fs.ErrClosed):
		return // it is being opened anew, or the program ends
	}
	if _, ok := errors.AsType[*store.CorruptError](err); ok {
		return // one object's trouble
	}
	g.fail(op, err)
}

// fail says that the store is broken: once in the log, until it works again.
func (g *storage) fail(op string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return
	}
	g.err, g.since = err, time.Now()
	g.broken.Store(true)
	g.metrics.storeUp.Set(0)
	g.log.Error("the store is broken: requests go on without it, and it is tried again", "op", op, "err", err)
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// works says that the store is well.
func (g *storage) works() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		return
	}
	g.log.Info("the store works again", "after", time.Since(g.since).Round(time.Millisecond))
	g.err = nil
	g.broken.Store(false)
	g.metrics.storeUp.Set(1)
}

// trouble returns why the store is broken, nil when it is not.
func (g *storage) trouble() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// tend looks after the store until ctx ends.
func (g *storage) tend(ctx context.Context) {
	tick := time.NewTicker(g.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
		case <-tick.C:
			if s := g.current.Load(); s != nil {
				g.judge("check", s.Check())
				g.judge("delete", g.settle(s))
			}
		}
		for try := 0; g.broken.Load(); try++ {
			select {
			case <-ctx.Done():
				return
			case <-time.After(g.delay(try)):
			}
			if err := g.try(); err != nil {
				g.log.Debug("the store is still broken", "try", try+1, "err", err)
				continue
			}
			g.works()
		}
	}
}

// try finds out whether the store works. One in its own folder mends itself if it
// can, with fresh files for what it writes next; one whose folder is away waits for
// it, and serves what it can still read; one whose folder is another one now is
// opened anew.
func (g *storage) try() error {
	s := g.current.Load()
	if s != nil {
		err := s.Check()
		if err == nil {
			return g.probe(s)
		}
		if !errors.Is(err, store.ErrReplaced) {
			return err
		}
		g.current.Store(nil)
		g.gone = s
	}
	var err error
	switch {
	case g.gone != nil:
		s, err = g.gone.Reopen()
	case g.open != nil:
		s, err = g.open()
	default:
		err = errAway
	}
	if err != nil {
		return err
	}
	g.gone = nil
	g.own.Store(true)
	g.current.Store(s)
	return g.probe(s)
}

// probe writes what nobody asks for, reads it again and removes it, and then removes
// what should have been before.
func (g *storage) probe(s *store.Store) error {
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails
	key := store.Key(sha256.Sum256([]byte("larder probe")))
	if err := s.Put(key, nonce[:]); err != nil && !errors.Is(err, store.ErrNoSpace) {
		return err
	} else if err == nil {
		o, err := s.Peek(key)
		if err != nil {
			return fmt.Errorf("read what was just written: %w", err)
		}
		same := string(o.Meta()) == string(nonce[:])
		o.Release()
		if !same {
			return errors.New("what is read is not what was just written")
		}
		if err := s.Delete(key); err != nil {
			return err
		}
	}
	return g.settle(s)
}

// settle does the deletions that are owed. (Those that a store refuses for lack of
// space it owes itself.)
func (g *storage) settle(s *store.Store) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key := range g.owed {
		if err := s.Delete(key); err != nil {
			return err
		}
		delete(g.owed, key)
	}
	return nil
}

// close waits for tend, whose context has ended, and closes the store if it was
// opened here; the first one is the caller's.
func (g *storage) close() error {
	g.work.Wait()
	s := g.current.Load()
	if s == nil {
		return nil
	}
	if err := g.settle(s); err != nil && !errors.Is(err, fs.ErrClosed) {
		g.log.Error("what was removed while the store could not be written to may be back after a restart", "err", err)
	}
	if g.own.Load() {
		return s.Close()
	}
	return nil
}

// StoreTrouble returns why the store is broken, or nil when it is not.
func (c *Cache) StoreTrouble() error { return c.store.trouble() }

// Store returns the store in use, or nil while none is open. It may be another one
// than that of Options when that had to be opened anew.
func (c *Cache) Store() *store.Store { return c.store.current.Load() }

// withoutStore refuses a request that finds the store broken, where that is wanted.
func (x *exchange) withoutStore() error {
	if !x.c.refuse || x.req.has("only-if-cached") || x.req.has("no-store") {
		return nil
	}
	if err := x.c.store.trouble(); err != nil {
		return fmt.Errorf("%w: %w", ErrStoreBroken, err)
	}
	return nil
}

// countWithoutStore counts a request that a broken store did not answer.
func (c *Cache) countWithoutStore(out *Outcome, err error) {
	switch {
	case !c.store.broken.Load() || out.Hit:
	case errors.Is(err, ErrStoreBroken):
		c.metrics.withoutStore.WithLabelValues("refused").Inc()
	default:
		c.metrics.withoutStore.WithLabelValues("passed").Inc()
	}
}
