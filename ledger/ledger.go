package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"
)

const (
	// syncEvery is how long an entry may be in memory of the kernel only, and signEvery
	// how old the checkpoint on disk may be.
	syncEvery = time.Second
	signEvery = 10 * time.Second
	// maxChanges bounds the entries Changed of one URL between two acceptances: a response
	// that is another one each time is not worth more.
	maxChanges = 16
	// maxChain bounds how far back the entries of one URL are followed.
	maxChain = 4096
)

// Errors that callers tell apart.
var (
	// ErrFull: the ledger has reached Options.MaxSize and takes no new URLs.
	ErrFull = errors.New("the ledger is full")
	// ErrDamaged: what is on disk is not what the last checkpoint was signed for.
	ErrDamaged = errors.New("the ledger is damaged")
	// ErrLocked: another process has it open.
	ErrLocked = errors.New("another process writes this ledger")
	// ErrTooLong: the URL is too long to be written down.
	ErrTooLong = errors.New("the URL is too long for the ledger")
)

// Options configure a Ledger.
type Options struct {
	// Dir is its folder, which is made if it is not there. Required.
	Dir string
	// MaxSize bounds the bytes of its entries on disk; 0: no bound.
	MaxSize int64
	// ReadOnly: nothing is written, and another process may be writing.
	ReadOnly bool
	// Logger is told what was cut off after a crash, and what cannot be written; nil: none.
	Logger *slog.Logger

	// level is another segmentLevel in tests.
	level int
	now   func() time.Time
}

// Ledger is a ledger on disk. It is safe for concurrent use.
type Ledger struct {
	dir      string
	maxSize  int64
	readOnly bool
	log      *slog.Logger
	now      func() time.Time
	level    int // of a full segment
	key      *key

	stop   chan struct{}
	closed sync.Once
	work   sync.WaitGroup
	lock   *os.File

	// mu guards what follows. Whoever only reads holds it for reading.
	mu     sync.RWMutex
	sealed []*sealed
	bytes  int64 // of all segments
	tree   frontier
	active active
	synced Checkpoint // of the entries that are on disk
	signed int64      // entries of the checkpoint on disk
	err    error      // why nothing is written any more
}

// active is the segment that is being written.
type active struct {
	first  int64
	tree   frontier // of this segment alone
	file   *os.File
	size   int64
	count  int
	latest map[uint64]uint32 // offset of a URL's latest entry in the segment
	events []uint32
}

// Open opens the ledger of a folder.
func Open(o Options) (*Ledger, error) {
	l := &Ledger{
		dir: o.Dir, maxSize: o.MaxSize, readOnly: o.ReadOnly, log: o.Logger, now: o.now, level: o.level,
		stop: make(chan struct{}),
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.level == 0 {
		l.level = segmentLevel
	}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("open the ledger %s: %w", o.Dir, errors.Join(err, l.release()))
	}
	if !l.readOnly {
		l.work.Go(l.tend) // ends with Close
	}
	return l, nil
}

func (l *Ledger) open() error {
	var err error
	if l.readOnly {
		if _, err := os.Stat(filepath.Join(l.dir, keyFile)); err != nil {
			return err
		}
	} else {
		if err := os.MkdirAll(l.dir, 0o700); err != nil {
			return err
		}
		if err := l.acquire(); err != nil {
			return err
		}
	}
	if l.key, err = openKey(l.dir); err != nil {
		return err
	}
	head, err := l.readCheckpoint()
	if err != nil {
		return err
	}
	return l.load(head)
}

// acquire takes the lock of the folder, which ends with the process.
func (l *Ledger) acquire() error {
	f, err := os.OpenFile(filepath.Join(l.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return ErrLocked
		}
		return err
	}
	l.lock = f
	return nil
}

// load reads what there is, and holds it to the checkpoint.
func (l *Ledger) load(head Checkpoint) error {
	full := int64(1) << l.level
	for first := int64(0); ; first += full {
		_, err := os.Stat(segmentPath(l.dir, first+full))
		if errors.Is(err, fs.ErrNotExist) {
			return l.loadLast(first, head)
		}
		if err != nil {
			return err
		}
		if err := l.loadSealed(first); err != nil {
			return err
		}
	}
}

// loadSealed takes a full segment in, whose index is made anew where it cannot be used.
func (l *Ledger) loadSealed(first int64) error {
	info, err := os.Stat(segmentPath(l.dir, first))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	s, err := readIndex(indexPath(l.dir, first), l.key.id(), 1<<l.level)
	if err != nil {
		if s, err = l.index(first); err != nil {
			return err
		}
	}
	l.sealed = append(l.sealed, s)
	l.bytes += info.Size()
	l.tree.push(l.level, s.root)
	return nil
}

// index makes the index of a full segment.
func (l *Ledger) index(first int64) (*sealed, error) {
	var tree frontier
	latest := make(map[uint64]uint32)
	var events []uint32
	count, _, err := scanSegment(segmentPath(l.dir, first), first, 0, func(e *Entry, offset uint32) error {
		tree.push(0, e.leaf())
		latest[l.key.hash(e.URL)] = offset
		if e.Kind != First {
			events = append(events, offset)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if count != 1<<l.level {
		return nil, fmt.Errorf("%w: segment %d has %d entries that can be read", ErrDamaged, first, count)
	}
	return l.writeIndex(first, tree.root(), latest, events)
}

// writeIndex puts the index of a full segment beside it. Who may not write keeps it in
// memory.
func (l *Ledger) writeIndex(first int64, root tlog.Hash, latest map[uint64]uint32, events []uint32) (*sealed, error) {
	if l.readOnly {
		return &sealed{root: root, events: events, latest: latest}, nil
	}
	path := indexPath(l.dir, first)
	if err := writeNew(path, string(encodeIndex(l.key.id(), root, latest, events)), 0o600); err != nil {
		return nil, err
	}
	return readIndex(path, l.key.id(), 1<<l.level)
}

// loadLast reads the last segment, cuts off what a crash has left of a record, and holds
// all to the checkpoint.
func (l *Ledger) loadLast(first int64, head Checkpoint) error {
	l.active = active{first: first, latest: make(map[uint64]uint32)}
	path := segmentPath(l.dir, first)
	var size int64
	if info, err := os.Stat(path); err == nil {
		size = info.Size()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if size > 0 {
		held := head.Size == l.tree.size && head.Root == l.tree.root()
		count, end, err := scanSegment(path, first, 0, func(e *Entry, offset uint32) error {
			l.take(e, offset)
			held = held || head.Size == l.tree.size && head.Root == l.tree.root()
			return nil
		})
		if err != nil {
			return err
		}
		l.active.count, l.active.size = count, end
		if head.Size > first && !held {
			return fmt.Errorf("%w: its checkpoint is of %d entries, and what there is of them is something else", ErrDamaged, head.Size)
		}
	}
	if err := l.heldTo(head); err != nil {
		return err
	}
	if l.readOnly {
		return nil
	}
	return l.openLast(path, size)
}

// heldTo compares what was read with a checkpoint that may end in a segment before.
func (l *Ledger) heldTo(head Checkpoint) error {
	switch {
	case head.Size == 0 || head.Size > l.active.first && l.active.count > 0:
		return nil // that was seen to
	case head.Size > l.tree.size:
		return fmt.Errorf("%w: its checkpoint is of %d entries, and there are %d", ErrDamaged, head.Size, l.tree.size)
	}
	root, err := l.rootAt(head.Size)
	if err != nil {
		return err
	}
	if root != head.Root {
		return fmt.Errorf("%w: its first %d entries are not those that were signed", ErrDamaged, head.Size)
	}
	return nil
}

// take adds an entry of the last segment to what is in memory.
func (l *Ledger) take(e *Entry, offset uint32) {
	leaf := e.leaf()
	l.tree.push(0, leaf)
	l.active.tree.push(0, leaf)
	l.active.latest[l.key.hash(e.URL)] = offset
	if e.Kind != First {
		l.active.events = append(l.active.events, offset)
	}
}

// openLast makes the last segment ready to be written to.
func (l *Ledger) openLast(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	l.active.file = f
	if cut := size - l.active.size; cut > 0 {
		l.log.Warn("the end of the ledger was not whole and is cut off", "bytes", cut, "entries", l.tree.size)
	}
	if err := f.Truncate(l.active.size); err != nil {
		return err
	}
	if l.active.size == 0 {
		if _, err := f.WriteAt(segmentHeader(l.active.first), 0); err != nil {
			return err
		}
		l.active.size = int64(segmentHead)
		if err := errors.Join(f.Sync(), syncDir(l.dir)); err != nil {
			return err
		}
	}
	l.bytes += l.active.size
	l.signed = -1 // what is there may be more than what is signed
	if l.active.count == 1<<l.level {
		return l.seal()
	}
	return nil
}

// Close writes what is not on disk yet.
func (l *Ledger) Close() (err error) {
	l.closed.Do(func() {
		close(l.stop)
		l.work.Wait()
		if !l.readOnly {
			err = l.Sync()
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.err == nil {
			l.err = fs.ErrClosed
		}
		err = errors.Join(err, l.release())
	})
	return err
}

func (l *Ledger) release() error {
	var err error
	if l.active.file != nil {
		err = l.active.file.Close()
		l.active.file = nil
	}
	if l.lock != nil {
		err = errors.Join(err, l.lock.Close())
		l.lock = nil
	}
	return err
}

// Verifier is the public key, as golang.org/x/mod/sumdb/note writes it.
func (l *Ledger) Verifier() string { return l.key.verifier }

// Conceal stands for a text that may be a secret, a query for example, in URLs of this
// ledger: the same one for the same text.
func (l *Ledger) Conceal(text string) string { return l.key.conceal(text) }

// Stats are figures of a Ledger.
type Stats struct {
	// Entries that there are, and Bytes that they take on disk, of at most MaxBytes; 0: no
	// bound.
	Entries, Bytes, MaxBytes int64
	// Err is why nothing is written any more, nil while it is.
	Err error
}

// Stats returns the present figures.
func (l *Ledger) Stats() Stats {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return Stats{Entries: l.tree.size, Bytes: l.bytes, MaxBytes: l.maxSize, Err: l.err}
}

// Current returns the entry that is the latest of a URL and variant. The error is
// fs.ErrNotExist where there is none.
func (l *Ledger) Current(url, variant string) (Entry, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.current(url, variant)
}

// current is called with mu held.
func (l *Ledger) current(url, variant string) (Entry, error) {
	var found Entry
	err := l.back(url, func(e *Entry) bool {
		if e.Variant == variant {
			found = *e
			return false
		}
		return true
	})
	if err != nil {
		return Entry{}, err
	}
	if found.Kind == 0 {
		return Entry{}, fs.ErrNotExist
	}
	return found, nil
}

// History returns the entries of a URL, of all its variants, the oldest first.
func (l *Ledger) History(url string) ([]Entry, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var all []Entry
	err := l.back(url, func(e *Entry) bool {
		all = append(all, *e)
		return true
	})
	slices.Reverse(all)
	return all, err
}

// back visits the entries of a URL from the latest on, until visit returns false. It is
// called with mu held.
func (l *Ledger) back(url string, visit func(*Entry) bool) error {
	at, ok, err := l.latest(url)
	if err != nil || !ok {
		return err
	}
	for range maxChain {
		e, err := l.read(at)
		if err != nil {
			return fmt.Errorf("read the ledger at %d in its segment %d: %w", at.offset, at.segment, err)
		}
		if e.URL != url {
			return nil // another one with its hash
		}
		if !visit(&e) || e.prev.offset == 0 {
			return nil
		}
		at = e.prev
	}
	return nil
}

// latest finds the latest entry of a URL.
func (l *Ledger) latest(url string) (position, bool, error) {
	hash := l.key.hash(url)
	if offset, ok := l.active.latest[hash]; ok {
		return position{l.active.first >> l.level, offset}, true, nil
	}
	for i := len(l.sealed) - 1; i >= 0; i-- {
		if !l.sealed[i].mayHave(hash) {
			continue
		}
		offset, ok, err := l.sealed[i].find(indexPath(l.dir, int64(i)<<l.level), hash)
		if err != nil {
			return position{}, false, fmt.Errorf("look into the index of the ledger: %w", err)
		}
		if ok {
			return position{int64(i), offset}, true, nil
		}
	}
	return position{}, false, nil
}

// read reads the record at a position.
func (l *Ledger) read(at position) (Entry, error) {
	if l.active.file != nil && at.segment == l.active.first>>l.level {
		return readRecord(l.active.file, at)
	}
	f, err := os.Open(segmentPath(l.dir, at.segment<<l.level))
	if err != nil {
		return Entry{}, err
	}
	defer f.Close()
	return readRecord(f, at)
}
