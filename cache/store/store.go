package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Key names an object. Callers derive it by a cryptographic hash, evenly
// distributed in its first eight bytes.
type Key [32]byte

// Options say where a store is and how large it may become.
type Options struct {
	// Dir is the folder, made with mode 0700 when it does not exist.
	Dir string
	// MaxSize bounds the bytes that Dir occupies on disk as du counts them; at
	// least 16 MiB.
	MaxSize int64
	// Generations is in how many parts MaxSize is cut; 0 means 16. Small stores
	// have fewer, so that a part is never below 4 MiB.
	Generations int
	// Logger gets what an operator should know; nil means none.
	Logger *slog.Logger
	// Registerer takes the metrics until Close; nil means none.
	Registerer prometheus.Registerer

	// free replaces freeSpace in tests.
	free func(dir string) (int64, error)
	// syncEvery replaces syncInterval in tests.
	syncEvery time.Duration
}

// syncInterval is how much a power cut may cost. Killing the process costs nothing.
const syncInterval = 5 * time.Second

// A Store keeps objects on disk. All methods are safe for concurrent use.
type Store struct {
	opts    Options
	geo     geometry
	log     *slog.Logger
	lock    *os.File
	metrics *metrics
	index   *index
	hot     *hotCache
	buffers buffers

	// writing is held for every write to the head, so that the order of ids, of
	// commits in Badger and of changes to the index is one and the same.
	writing sync.Mutex
	// room is signalled, under writing, when space was freed or cannot be.
	room sync.Cond
	// head is the generation that is written to; nil until the first write.
	head *generation
	// stuck is set when over the cap nothing can be dropped, as of the evictor's
	// last round.
	stuck  bool
	rounds uint64
	// shrinking is held while a group is brought below its bound.
	shrinking sync.Mutex
	nextID    uint64
	last      uint32 // number of the newest generation
	// owed are keys whose tombstones are still to be written, see tombstone.go.
	owed   map[Key]struct{}
	closed atomic.Bool

	// dropped holds generations that are out of the index and wait for their
	// last reader; guarded by index.mu.
	dropped []*generation
	// failed is how many of them could not be removed; it is the evictor's own.
	failed int

	evict   chan struct{}    // wakes the evictor
	sealing chan *generation // full generations, for the sealer
	quit    chan struct{}
	workers sync.WaitGroup

	// left are folders of generations whose instances were given up, see Reopen.
	left []os.FileInfo
	// abandoned counts Badger instances that stay in memory until the process ends.
	abandoned *atomic.Int64
}

// Open opens the store in o.Dir, making it at need. Everything that was
// committed before is there again, whether the last process closed the store or was
// killed. A second process gets a *LockedError, a folder in another format a
// *FormatError.
func Open(o Options) (*Store, error) { return openAfter(o, &Store{abandoned: new(atomic.Int64)}) }

// openAfter is Open after an earlier Store of this process was closed, of which it
// takes the last number of a generation and what was not closed.
func openAfter(o Options, earlier *Store) (*Store, error) {
	if o.MaxSize < minSize {
		return nil, fmt.Errorf("open store %s: a size of %d bytes is too small, give at least %d", o.Dir, o.MaxSize, minSize)
	}
	if o.Generations < 0 || o.Generations > 1024 {
		return nil, fmt.Errorf("open store %s: %d generations, give 0 to 1024", o.Dir, o.Generations)
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.free == nil {
		o.free = freeSpace
	}
	s := &Store{
		opts:    o,
		geo:     newGeometry(o.MaxSize, max(4, cmp.Or(o.Generations, 16))),
		log:     o.Logger,
		index:   newIndex(),
		hot:     newHotCache(o.MaxSize),
		evict:   make(chan struct{}, 1),
		sealing: make(chan *generation, 64),
		quit:    make(chan struct{}),
		owed:    make(map[Key]struct{}),
		left:    earlier.left,

		abandoned: earlier.abandoned,
	}
	s.room.L = &s.writing
	s.buffers.chunkSize = s.geo.chunk
	if err := s.open(); err != nil {
		return nil, err
	}
	s.last = max(s.last, earlier.last)
	s.workers.Go(s.evictor)
	s.workers.Go(s.sealer)
	s.wakeEvictor()
	return s, nil
}

// open takes the folder and fills the index from it.
func (s *Store) open() (err error) {
	if err := os.MkdirAll(s.opts.Dir, 0o700); err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if s.lock, err = acquire(s.opts.Dir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.shutGenerations(), release(s.lock))
		}
	}()
	if err := os.Chmod(s.opts.Dir, 0o700); err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if err := checkFormat(s.opts.Dir, migrations(), s.log); err != nil {
		return err
	}
	if s.metrics, err = newMetrics(s, s.opts.Registerer); err != nil {
		return err
	}
	if err := s.load(); err != nil {
		s.metrics.unregister()
		return err
	}
	return nil
}

// Close waits for the store's goroutines and closes it. Objects and writers
// still in use fail with fs.ErrClosed from then on.
func (s *Store) Close() error {
	if !s.closed.Load() {
		if err := s.settle(); err != nil && !errors.Is(err, fs.ErrClosed) {
			s.log.Error("deletions that the store could not take are undone by the next start", "dir", s.opts.Dir, "err", err)
		}
	}
	s.writing.Lock()
	if s.closed.Swap(true) {
		s.writing.Unlock()
		return nil
	}
	close(s.quit)
	s.room.Broadcast()
	s.writing.Unlock()
	s.workers.Wait()
	s.metrics.unregister()
	return errors.Join(s.shutGenerations(), release(s.lock))
}

// shutGenerations closes every generation.
func (s *Store) shutGenerations() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.index.mu.Lock()
	all := s.dropped
	for _, g := range s.index.generations {
		all = append(all, g)
	}
	s.dropped = nil
	s.index.mu.Unlock()
	var errs []error
	for _, g := range all {
		if g.writable() && !s.mayClose() {
			s.log.Warn("store closed without a clean end: its disk is full or gone", "dir", g.dir)
			g.abandon()
			s.leftBehind(g)
			continue
		}
		err := g.close()
		if errors.Is(err, errStuck) {
			s.leftBehind(g)
		}
		errs = append(errs, err)
	}
	s.head = nil
	return errors.Join(errs...)
}

// Get returns the object under key, which must be released. The error is
// fs.ErrNotExist when there is none. The use is noted in memory only.
func (s *Store) Get(key Key) (*Object, error) { return s.get(key, true) }

// Peek is Get without counting as a use, for those who look at everything.
func (s *Store) Peek(key Key) (*Object, error) { return s.get(key, false) }

func (s *Store) get(key Key, use bool) (*Object, error) {
	if s.closed.Load() {
		return nil, fs.ErrClosed
	}
	o, ok := s.find(key, use)
	if !ok {
		return nil, fs.ErrNotExist
	}
	if err := o.load(); err != nil {
		o.Release()
		if errors.Is(err, fs.ErrClosed) {
			return nil, err
		}
		// What cannot be read is not there: a miss, counted and forgotten.
		s.corrupt(key, o.id, o.place, err)
		return nil, fs.ErrNotExist
	}
	return o, nil
}

// find looks key up and pins the generations that the object is in.
func (s *Store) find(key Key, use bool) (*Object, bool) {
	x := s.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	i := x.lookup(&key)
	if i == 0 {
		return nil, false
	}
	r := x.records.at(i)
	if !x.alive(r) {
		return nil, false
	}
	o := &Object{store: s, key: key, id: r.id, slot: i, record: x.generations[r.gen], uses: r.uses.Load(), pinned: r.pinned}
	if use {
		o.admit = r.touch() >= hotUses
	}
	if r.body == 0 {
		o.place.sum = emptySum()
	} else {
		o.place = x.place(r.body)
	}
	if o.admit {
		if o.hot = s.hot.get(i, r.id); o.hot != nil {
			return o, true // in memory: it relies on no generation
		}
	}
	o.pin(o.record)
	if r.body == 0 {
		return o, true
	}
	o.pin(x.generations[o.place.at.gen])
	for _, e := range o.place.others {
		o.pin(x.generations[e.gen])
	}
	return o, true
}

// Create begins a new object. The error is ErrNoSpace when there would be no room
// for any.
func (s *Store) Create(ctx context.Context) (*Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.closed.Load() {
		return nil, fs.ErrClosed
	}
	if err := s.checkFree(0); err != nil {
		s.metrics.refused.Inc()
		return nil, err
	}
	return newWriter(s), nil
}

// Put stores a record without a body under key, in place of what was there.
func (s *Store) Put(key Key, meta []byte) error { return s.PutWith(key, meta, CommitOptions{}) }

// PutWith is Put with options.
func (s *Store) PutWith(key Key, meta []byte, o CommitOptions) error {
	w := newWriter(s)
	defer w.Close()
	_, err := w.CommitWith(key, meta, o)
	return err
}

// SetMeta replaces the metadata of the object under key and keeps its body. The
// error is fs.ErrNotExist when there is none.
func (s *Store) SetMeta(key Key, meta []byte) error { return s.Link(key, key, meta) }

// Link stores a record under key, in place of what was there, with the body that is
// stored under another key, pinned if that is. The error is fs.ErrNotExist when there is none.
func (s *Store) Link(key, other Key, meta []byte) error { return s.link(key, other, meta, 0, nil) }

// LinkWith is Link, kept as o says whatever the other one is. With one key for both it
// gives an object other metadata and other options.
func (s *Store) LinkWith(key, other Key, meta []byte, o CommitOptions) error {
	return s.link(key, other, meta, 0, &o)
}

// Amend gives the object other metadata and other options, if its record is still the one
// that was looked up; the error is fs.ErrNotExist when it is not.
func (o *Object) Amend(meta []byte, c CommitOptions) error {
	return o.store.link(o.key, o.key, meta, o.id, &c)
}

// link is LinkWith; without o, what holds for the other one holds. With id, the other
// record must be that one.
func (s *Store) link(key, other Key, meta []byte, id uint64, o *CommitOptions) error {
	if err := s.checkMeta(meta); err != nil {
		return err
	}
	w := recordWrite{key: key, meta: meta}
	if o != nil {
		w.pinned, w.group = o.Pinned, s.groupFor(*o)
	}
	for {
		err := s.tryLink(&w, other, id, o == nil)
		if !errors.Is(err, errOverQuota) {
			return err
		}
		if err := s.shrink(w.group, w.size); err != nil {
			return err
		}
	}
}

// tryLink writes w with the body of the other record, and kept like that if alike is set.
func (s *Store) tryLink(w *recordWrite, other Key, id uint64, alike bool) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.ensureRoom(int64(len(w.meta)) + inlineMax); err != nil {
		return err
	}
	x := s.index
	x.mu.RLock()
	i := x.lookup(&other)
	var p place
	known := i != 0 && x.alive(x.records.at(i)) && (id == 0 || x.records.at(i).id == id)
	if known && alike {
		w.pinned, w.group = x.records.at(i).pinned, x.records.at(i).group
	}
	if known && x.records.at(i).body != 0 {
		p = x.place(x.records.at(i).body)
	}
	x.mu.RUnlock()
	if !known {
		return fs.ErrNotExist
	}
	if p.size == 0 {
		p.sum = emptySum()
	}
	w.sum, w.size = p.sum, p.size
	if err := s.overQuota(&w.key, w.group, w.size); err != nil {
		return err
	}
	return s.writeRecord(*w)
}

// Delete removes the object under key; that there is none is no error. Objects in
// use go on being readable. After an error the object is gone too, and the store goes
// on trying to note that on disk, to the last in Close; if it cannot, the object is
// back after the next Open.
func (s *Store) Delete(key Key) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if !s.onDisk(&key) {
		if s.closed.Load() {
			return fs.ErrClosed
		}
		return nil
	}
	return s.deleteLocked(key)
}

// onDisk reports whether the next Open would find the object under key, which it
// may though the index does not hold it. The caller holds writing.
func (s *Store) onDisk(key *Key) bool {
	if _, owed := s.owed[*key]; owed {
		return true
	}
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	return s.index.lookup(key) != 0
}

// deleteLocked writes that key is gone and forgets it. The caller holds writing.
func (s *Store) deleteLocked(key Key) error {
	_, err := s.deleteKnown([]Key{key})
	return err
}

// slot returns the object in record slot i with only its metadata in view.
func (s *Store) slot(i uint32) (*Object, bool) {
	x := s.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	r := x.records.at(i)
	if r.id == 0 || !x.alive(r) {
		return nil, false
	}
	o := &Object{store: s, key: r.key, id: r.id, record: x.generations[r.gen], metaOnly: true, uses: r.uses.Load(), pinned: r.pinned, group: r.group}
	o.pin(o.record)
	o.place.sum = emptySum()
	if r.body != 0 {
		o.place = x.place(r.body)
	}
	return o, true
}

// Stats are figures of the moment.
type Stats struct {
	Objects     int
	Bytes       int64 // on disk, close to what du says
	MaxSize     int64
	Generations int
	Evicted     uint64 // objects dropped for space since Open
	Promoted    uint64 // objects copied forward since Open
	Corrupt     uint64 // objects dropped because their bytes were damaged since Open
	Written     uint64 // bytes handed to Badger since Open
}

// Stats returns the store's figures.
func (s *Store) Stats() Stats {
	s.index.mu.RLock()
	objects, generations := s.index.objects, len(s.index.generations)
	s.index.mu.RUnlock()
	return Stats{
		Objects: objects, Bytes: s.used(), MaxSize: s.geo.maxSize, Generations: generations,
		Evicted: s.metrics.counts.evicted.Load(), Promoted: s.metrics.counts.promoted.Load(),
		Corrupt: s.metrics.counts.corrupt.Load(), Written: s.metrics.counts.written.Load(),
	}
}
