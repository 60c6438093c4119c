package cache

import (
	"context"
	"errors"
	"hash"
	"io"
	"sync"
	"time"

	"larder/cache/store"
)

const (
	// windowSize bounds the memory of a fill whose bytes the store does not take.
	windowSize = 1 << 20
	// Readers that wait are woken for the first few bytes at once, then when there is
	// a batch of them or a moment has passed: upstream's reads are a TLS record each, and
	// clients are better served by fewer and larger writes.
	eagerSize   = 64 << 10
	wakeBatch   = bufferSize
	wakeLatency = time.Millisecond
)

// errNobody ends a fill that is neither stored nor read any more.
var errNobody = errors.New("nobody reads this fill and it is not stored")

// spool is the body of a running fill: one goroutine appends, any number of cursors
// read, each at its own pace, from what the store has taken already. When the store
// fails, or will not take an object so large, the rest passes through a window in
// memory and the slowest cursor sets the pace.
type spool struct {
	w *store.Writer
	// audience reports whether anybody reads or is about to.
	audience func() bool

	// mu guards what follows.
	mu      sync.Mutex
	size    int64 // bytes appended
	kept    int64 // of these, from the front, those that the store took
	base    int64 // offset of window[0]; kept until something is trimmed
	lost    error // why the store no longer takes bytes; nil while it does
	hold    int64 // of the bytes, the last ones that nobody sees before they are released
	window  []byte
	arrived bool // all bytes are there, whether or not they are shown
	done    bool
	err     error         // with done: how the body ended; nil is complete
	changed chan struct{} // closed at the next change; nil when nobody waits
	woken   int64         // size at the latest waking
	soon    bool          // a waking is under way
	cursors map[*cursor]struct{}

	// hash goes on where the store's has ended; of the goroutine that appends.
	hash hash.Hash
}

func newSpool(w *store.Writer, audience func() bool) *spool {
	return &spool{w: w, audience: audience, cursors: make(map[*cursor]struct{})}
}

// append adds p. It blocks only when the store has failed, and then returns
// errNobody or the context's error when there is no point in going on.
func (s *spool) append(ctx context.Context, p []byte) error {
	if s.lostTo() == nil {
		n, err := s.w.Write(p)
		if err == nil {
			s.mu.Lock()
			s.size += int64(len(p))
			s.kept = s.size
			s.announce()
			s.mu.Unlock()
			return nil
		}
		s.lose(err)
		s.hash = s.w.Hash()
		s.hash.Write(p[n:])
	} else {
		if s.hash == nil {
			s.hash = s.w.Hash()
		}
		s.hash.Write(p)
	}
	for len(p) > 0 {
		n, wait, err := s.appendWindow(p)
		if err != nil {
			return err
		}
		p = p[n:]
		if n == 0 {
			select {
			case <-wait:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// sum is the SHA-256 of what was appended; for the goroutine that appends.
func (s *spool) sum() [32]byte {
	if s.hash != nil {
		return [32]byte(s.hash.Sum(nil))
	}
	return s.w.Sum()
}

// holdBack keeps the last n bytes from everybody until the body has ended well.
func (s *spool) holdBack(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = n
}

// visible is how many bytes may be read. Called with mu held.
func (s *spool) visible() int64 {
	if s.done && s.err == nil {
		return s.size
	}
	return max(0, s.size-s.hold)
}

// shown is how many bytes may be read.
func (s *spool) shown() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.visible()
}

// lose stops storing; what the store has stays readable until close.
func (s *spool) lose(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost == nil {
		s.lost = why
		s.base = s.kept
		s.wake()
	}
}

func (s *spool) lostTo() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// appendWindow takes as much of p as the window has room for; none: wait for a change.
func (s *spool) appendWindow(p []byte) (n int, wait <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.audience() {
		return 0, nil, errNobody
	}
	if len(s.window)+len(p) > windowSize && len(s.cursors) > 0 {
		s.trim()
	}
	n = min(windowSize-len(s.window), len(p))
	if n == 0 {
		return 0, s.wait(), nil
	}
	s.window = append(s.window, p[:n]...)
	s.size += int64(n)
	s.wake()
	return n, nil, nil
}

// trim drops what every cursor has read.
func (s *spool) trim() {
	low := s.size
	for c := range s.cursors {
		low = min(low, c.off)
	}
	if drop := low - s.base; drop > 0 {
		s.window = s.window[:copy(s.window, s.window[drop:])]
		s.base = low
	}
}

// finish says that no more bytes come; err is nil when the body is complete.
func (s *spool) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done, s.err = true, err
	s.wake()
}

// progress returns the bytes so far and whether the body has ended.
func (s *spool) progress() (size int64, done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size, s.done
}

// reach waits until the body is longer than off, has ended, or is no longer stored: who
// waits without a cursor keeps the window from moving, so it is told then. whole says
// that all of it is there, in size bytes.
func (s *spool) reach(ctx context.Context, off int64) (size int64, whole bool, err error) {
	for {
		s.mu.Lock()
		if s.visible() > off || s.done || s.lost != nil {
			defer s.mu.Unlock()
			return s.visible(), s.done && s.err == nil, nil
		}
		wait := s.wait()
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return 0, false, context.Cause(ctx)
		}
	}
}

// poke lets a blocked append look for its audience again.
func (s *spool) poke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake()
}

// wait returns a channel that is closed at the next change. Called with mu held.
func (s *spool) wait() <-chan struct{} {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// announce wakes those who wait for bytes, now or soon. Called with mu held.
func (s *spool) announce() {
	switch {
	case s.changed == nil || s.soon:
		if s.size-s.woken >= wakeBatch {
			s.wake()
		}
	case s.size <= eagerSize || s.size-s.woken >= wakeBatch:
		s.wake()
	default:
		s.soon = true
		time.AfterFunc(wakeLatency, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.soon = false
			s.wake()
		})
	}
}

// wake wakes all who wait. Called with mu held.
func (s *spool) wake() {
	s.woken = s.size
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// arrive says that no more bytes come, to those who see them all: what becomes of the
// body is still open.
func (s *spool) arrive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrived = true
	s.wake()
}

// cursor is one reader's place in a spool.
type cursor struct {
	s   *spool
	off int64 // guarded by s.mu
	// whole: it sees what is held back too, and gives up when the store takes no more.
	whole bool
}

// openWhole returns a cursor at the beginning for who only looks on.
func (s *spool) openWhole() *cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &cursor{s: s, whole: true}
	s.cursors[c] = struct{}{}
	return c
}

// ahead is how many bytes are there for c. Called with mu held.
func (s *spool) ahead(c *cursor) int64 {
	if c.whole {
		return s.size - c.off
	}
	return s.visible() - c.off
}

// open returns a cursor at off, or nil when those bytes are gone already.
func (s *spool) open(off int64) *cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost != nil && off < s.base && s.base > s.kept {
		return nil
	}
	c := &cursor{s: s, off: off}
	s.cursors[c] = struct{}{}
	return c
}

func (c *cursor) close() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	delete(c.s.cursors, c)
	c.s.wake()
}

// read waits for bytes and returns some; more tells whether others are there
// already. At the end it returns io.EOF, or how the fill failed.
func (c *cursor) read(ctx context.Context, p []byte) (n int, more bool, err error) {
	s := c.s
	for {
		s.mu.Lock()
		ahead := s.ahead(c)
		switch {
		case c.whole && s.lost != nil:
			err := s.lost
			s.mu.Unlock()
			return 0, false, err
		case ahead > 0:
			return c.take(p, ahead)
		case c.whole && s.arrived:
			s.mu.Unlock()
			return 0, false, io.EOF
		case s.done:
			err := s.err
			s.mu.Unlock()
			if err == nil {
				err = io.EOF
			}
			return 0, false, err
		}
		wait := s.wait()
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return 0, false, context.Cause(ctx)
		}
	}
}

// take copies bytes that are there. It is called with s.mu held, and releases it.
func (c *cursor) take(p []byte, ahead int64) (int, bool, error) {
	s := c.s
	if c.off >= s.kept {
		defer s.mu.Unlock()
		n := copy(p[:min(int64(len(p)), ahead)], s.window[c.off-s.base:])
		c.off += int64(n)
		s.wake()
		return n, int64(n) < ahead, nil
	}
	off := c.off
	n := int(min(int64(len(p)), ahead, s.kept-off))
	s.mu.Unlock()
	// Outside the lock: the store may read from disk. c.off pins nothing in the
	// store, which keeps all it was given until the writer is closed.
	n, err := s.w.ReadAt(p[:n], off)
	if err != nil && !(errors.Is(err, io.EOF) && n > 0) {
		return n, false, err
	}
	s.mu.Lock()
	c.off += int64(n)
	if s.lost != nil {
		s.wake()
	}
	s.mu.Unlock()
	return n, int64(n) < ahead, nil
}
