package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
)

// A Writer takes the body of a new object. One goroutine writes; any number may
// call ReadAt and Size meanwhile. Nothing of it is visible to Get before Commit,
// and nothing remains of it when the process dies before.
type Writer struct {
	store *Store
	id    uint64
	hash  hash.Hash
	size  atomic.Int64
	err   error // of a Write, returned by all later ones
	state writerState

	// mu guards what ReadAt uses: which bytes are in Badger and which are in
	// buf, and the pins that keep them there.
	mu     sync.RWMutex
	buf    []byte // body from flushed on
	place  place  // of the flushed chunks; place.size is how many bytes these are
	pins   pins
	closed bool

	// owned are the generations in which chunks of this body were written.
	owned []*generation
	// twin is stored content that has been the same so far, nil if there is none; shares
	// is set when the body refers to chunks of such.
	twin   *place
	shares bool
}

type writerState uint8

const (
	writing writerState = iota
	committed
	ended
)

func newWriter(s *Store) *Writer {
	w := &Writer{store: s, hash: sha256.New()}
	w.place.chunk = s.geo.chunk
	return w
}

// MaxObject returns the size in bytes of the largest body that is stored with options
// o: half of Options.MaxSize, and no more than its group may have.
func (s *Store) MaxObject(o CommitOptions) int64 {
	limit := s.geo.maxSize / 2
	if o.Group != "" && o.MaxGroup > 0 {
		limit = min(limit, max(0, o.MaxGroup-recordCost))
	}
	return limit
}

// Write appends p to the body. An error, ErrNoSpace among them, is final: the
// object cannot be committed any more, but what was written before remains
// readable until Close.
func (w *Writer) Write(p []byte) (int, error) {
	if w.state != writing {
		return 0, fs.ErrClosed
	}
	if w.err != nil {
		return 0, w.err
	}
	if limit := w.store.MaxObject(CommitOptions{}); w.size.Load()+int64(len(p)) > limit {
		w.err = fmt.Errorf("object larger than half of the store, %d MiB: %w", limit>>20, ErrNoSpace)
		return 0, w.err
	}
	n := 0
	for n < len(p) {
		m := w.fill(p[n:])
		n += m
		w.hash.Write(p[n-m : n])
		w.size.Add(int64(m))
		if int64(len(w.buf)) == w.store.geo.chunk {
			if w.err = w.flush(); w.err != nil {
				return n, w.err
			}
		}
	}
	return n, nil
}

// fill copies as much of p as fits to the buffer.
func (w *Writer) fill(p []byte) int {
	w.grow(len(p))
	// Readers see buf up to its length only, so the bytes beyond may be written
	// without the lock.
	b := w.buf
	n := copy(b[len(b):min(cap(b), int(w.store.geo.chunk))], p)
	w.mu.Lock()
	w.buf = b[:len(b)+n]
	w.mu.Unlock()
	return n
}

// grow sees to a buffer: a small one while the body may be stored inline, one
// for a chunk when it cannot.
func (w *Writer) grow(n int) {
	if w.buf != nil && (cap(w.buf) > inlineMax || len(w.buf)+n <= inlineMax) {
		return
	}
	pool := &w.store.buffers
	if w.buf == nil && n <= inlineMax {
		w.mu.Lock()
		w.buf = pool.small()
		w.mu.Unlock()
		return
	}
	old := w.buf
	bigger := append(pool.chunk(), old...)
	w.mu.Lock()
	w.buf = bigger
	w.mu.Unlock()
	if old != nil {
		pool.putSmall(old)
	}
}

// flush commits the buffer as the next chunk.
func (w *Writer) flush() error {
	s := w.store
	n := uint32(w.place.size / s.geo.chunk)
	size := len(w.buf)
	chunk := sealChunk(w.buf)
	if n == 0 && int64(size) == s.geo.chunk {
		w.findTwin()
	}
	if e, ok := w.shared(n, chunk); ok {
		w.flushed(e, size)
		return nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.ensureRoom(int64(len(chunk))); err != nil {
		return err
	}
	if w.id == 0 {
		w.id = s.drawID()
	}
	g, err := s.append(w.id, keyValue{chunkKey(w.id, n), chunk})
	if err != nil {
		return err
	}
	if !slices.Contains(w.owned, g) {
		w.owned = append(w.owned, g)
		g.writers.Add(1)
		w.mu.Lock()
		w.pins.add(g)
		w.mu.Unlock()
	}
	w.flushed(extent{gen: g.num, first: n, id: w.id}, size)
	return nil
}

// flushed notes that the buffer's size bytes are at e.
func (w *Writer) flushed(e extent, size int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch last := w.place.find(e.first); {
	case e.first == 0:
		w.place.at = e
	case last.gen != e.gen || last.id != e.id:
		w.place.others = append(w.place.others, e)
	}
	w.place.size += int64(size)
	w.buf = w.buf[:0]
}

// disown lets the generations go in which the body was written.
func (w *Writer) disown() {
	for _, g := range w.owned {
		g.writers.Add(-1)
	}
	w.owned = nil
}

// Size returns how many bytes have been written, all of which ReadAt can read.
func (w *Writer) Size() int64 { return w.size.Load() }

// Sum returns the SHA-256 of what has been written. It is for the goroutine that
// writes.
func (w *Writer) Sum() [32]byte {
	var sum [32]byte
	w.hash.Sum(sum[:0])
	return sum
}

// Hash returns the running SHA-256 of what was written, after an error of Write of that
// part of its bytes which it says it has taken, and ends writing: who goes on by other
// means goes on with it.
func (w *Writer) Hash() hash.Hash {
	h := w.hash
	if w.err == nil {
		w.err = fs.ErrClosed
	}
	w.hash = sha256.New()
	return h
}

// ReadAt reads what was written so far, before and after Commit, until Close. At
// the end of that it returns io.EOF, though more may follow.
func (w *Writer) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read object being written at %d: negative offset", off)
	}
	n := 0
	for n < len(p) {
		m, err := w.readSome(p[n:], off+int64(n))
		if err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

// readSome reads up to the end of a block or of the buffer.
func (w *Writer) readSome(p []byte, off int64) (int, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return 0, fs.ErrClosed
	}
	if off < w.place.size {
		return readBlock(&w.place, &w.pins, p, off)
	}
	if off -= w.place.size; off >= int64(len(w.buf)) {
		return 0, io.EOF
	}
	return copy(p, w.buf[off:]), nil
}

// Commit makes the body an object under key, in place of what was there. If the
// same content is stored already, that is referred to and what was written here is
// given up. After an error there is no new object; the Writer remains readable.
func (w *Writer) Commit(key Key, meta []byte) (sum [32]byte, err error) {
	return w.CommitWith(key, meta, CommitOptions{})
}

// CommitOptions say how an object is kept.
type CommitOptions struct {
	// Pinned objects are carried forward, used or not, when their generation goes,
	// as long as all that are pinned take at most half of the store; beyond that
	// the oldest are like others. In stores of less than 64 MiB, some may be lost where a
	// whole generation is pinned. Carrying them is writing: a store a third of which
	// is pinned writes half as much again.
	Pinned bool
	// Group names the objects that MaxGroup bounds, "" for none.
	Group string
	// MaxGroup is how many bytes the objects of Group may take together: their bodies,
	// content of several counting for each, and 1 KiB for each record. For a new one above
	// that those of the group that were used least go. 0: no bound. The last call's value
	// holds for all of the group; one that is lower than what the group takes has its
	// effect with the next new object, after the next Open too.
	MaxGroup int64
}

// CommitWith is Commit with options. SetMeta keeps them.
func (w *Writer) CommitWith(key Key, meta []byte, o CommitOptions) (sum [32]byte, err error) {
	if w.state != writing {
		return sum, fs.ErrClosed
	}
	if w.err != nil {
		return sum, w.err
	}
	if err := w.store.checkMeta(meta); err != nil {
		return sum, err
	}
	sum = w.Sum()
	r := recordWrite{key: key, pinned: o.Pinned, group: w.store.groupFor(o), meta: meta, sum: sum, size: w.size.Load()}
	if w.err = w.commit(r); w.err != nil {
		return sum, w.err
	}
	w.state = committed
	w.disown()
	return sum, nil
}

func (w *Writer) commit(r recordWrite) error {
	for {
		if err := w.keepShared(&r); err != nil {
			return err
		}
		done, err := w.tryCommit(r)
		if errors.Is(err, errOverQuota) {
			if err := w.store.shrink(r.group, r.size); err != nil {
				return err
			}
			continue
		}
		if done || err != nil {
			return err
		}
		if err := w.flush(); err != nil {
			return err
		}
	}
}

// tryCommit writes the record, unless the last chunk must be flushed before.
func (w *Writer) tryCommit(r recordWrite) (done bool, err error) {
	s := w.store
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.ensureRoom(int64(len(r.meta)) + inlineMax); err != nil {
		return false, err
	}
	if err := s.overQuota(&r.key, r.group, r.size); err != nil {
		return false, err
	}
	switch {
	case r.size == 0, s.stored(&r.sum, r.size):
		r.place = nil
	case r.size <= inlineMax:
		r.inline = w.buf
	case r.place != nil:
	case w.place.size == r.size:
		p := w.place
		p.sum = r.sum
		r.place = &p
	default:
		return false, nil
	}
	return true, s.writeRecord(r)
}

// Close gives the Writer up. Without a Commit before, all that was written is
// forgotten. Calling it again does nothing.
func (w *Writer) Close() error {
	if w.state == ended {
		return nil
	}
	w.disown()
	w.state = ended
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if cap(w.buf) > inlineMax {
		w.store.buffers.putChunk(w.buf)
	} else if w.buf != nil {
		w.store.buffers.putSmall(w.buf)
	}
	w.buf = nil
	w.pins.release(w.store)
	return nil
}

// stored reports whether a body is stored in a place that will last: where it is about to
// go, a fresh copy is worth more.
func (s *Store) stored(sum *[32]byte, size int64) bool {
	x := s.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	i := x.content(sum, size)
	if i == 0 || !x.placed(i) {
		return false
	}
	p := x.place(i)
	return x.lasts(&p)
}
