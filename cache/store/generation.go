package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/dgraph-io/badger/v4"
)

// A generation is one Badger instance in a folder of its own.
type generation struct {
	num uint32
	dir string
	geo geometry
	log *slog.Logger

	// folder tells dir from others of its name; it is set when dir was opened for
	// writing.
	folder os.FileInfo

	// used is what the folder occupies on disk; for the head an estimate between
	// two looks at the disk.
	used atomic.Int64
	// pins counts the objects and writers that rely on the generation, writers
	// those of them whose object has no record yet.
	pins    atomic.Int64
	writers atomic.Int64
	// faulted is set when a read of a memory map failed, which leaves a lock of
	// Badger's held for ever: such an instance is never closed.
	faulted atomic.Bool
	// dropped is set when the generation is out of the index.
	dropped atomic.Bool

	// abandoned counts, for the store, instances that were left behind in memory.
	abandoned *atomic.Int64

	// life serializes sealing and closing.
	life sync.Mutex
	// failures is how often the sealer could not open it again, told whether the evictor
	// has said that it cannot be removed.
	failures int
	told     bool

	// mu is held shared for the time of each read, exclusively while the Badger
	// instance is replaced or closed. It guards what follows.
	mu       sync.RWMutex
	db       *badger.DB
	txn      *badger.Txn // reads everything committed; safe for concurrent Get
	voice    *badgerLog  // of db
	readOnly bool

	// The head's own, guarded by Store.writing.
	ahead    *ahead
	measured int64 // bytes written since used was last measured
}

var (
	errMissing = errors.New("entry is missing from its generation")
	errFault   = errors.New("fault in a memory map")
)

const (
	generationPrefix = "g-"
	trashPrefix      = "trash-"
	sealedFile       = "SEALED"
)

func generationDir(root string, num uint32) string {
	return filepath.Join(root, fmt.Sprintf("%s%08x", generationPrefix, num))
}

// parseGeneration returns the number in a folder's name.
func parseGeneration(name string) (uint32, bool) {
	hex, ok := strings.CutPrefix(name, generationPrefix)
	if !ok || len(hex) != 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	return uint32(n), err == nil
}

// sealed reports whether the generation was closed cleanly and not opened for
// writing since.
func (g *generation) sealed() bool {
	_, err := os.Lstat(filepath.Join(g.dir, sealedFile))
	return err == nil
}

// open opens the Badger instance. For writing there must be free space: Badger
// creates and maps files.
func (g *generation) open(readOnly bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.start(readOnly)
}

// start is open for a caller who holds mu.
func (g *generation) start(readOnly bool) error {
	if !readOnly {
		if err := os.Remove(filepath.Join(g.dir, sealedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.MkdirAll(g.dir, 0o700); err != nil {
			return err
		}
		if err := capValueLog(g.dir); err != nil {
			return err
		}
	}
	voice := &badgerLog{log: g.log}
	db, err := openBadger(g.geo.badgerOptions(g.dir, readOnly, voice))
	if err != nil {
		if errors.Is(err, errFault) {
			voice.silence()
			g.abandoned.Add(1)
		}
		return fmt.Errorf("open generation %s: %w", g.dir, err)
	}
	if !readOnly {
		if g.ahead, err = newAhead(g.dir, g.geo); err != nil {
			db.Close()
			return err
		}
		chmodFiles(g.dir)
	}
	if info, err := os.Stat(g.dir); err == nil && !readOnly {
		g.folder = info
	}
	g.db, g.txn, g.voice, g.readOnly = db, db.NewTransactionAt(math.MaxUint64, false), voice, readOnly
	return g.measure()
}

// openBadger opens a Badger instance. It writes the beginnings of new files through
// maps: where no block is left, that is a fault, here an error. What Badger had
// begun by then is left to the process's end; nobody else knows of it.
func openBadger(o badger.Options) (db *badger.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(interface{ Addr() uintptr }); !ok {
				panic(r)
			}
			db, err = nil, fmt.Errorf("%w: %w", ErrNoSpace, errFault)
		}
	}()
	db, err = badger.OpenManaged(o)
	if err != nil && strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		// Not every error of Badger's wraps its cause.
		err = fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return db, err
}

// capValueLog puts an empty value log behind the last one. When it opens for
// writing, Badger reads the whole of the last log and cuts it off at the first entry
// that does not match its checksum, so that a flipped bit would cost all that
// follows. Entries are checked when they are read; there is nothing to cut.
func capValueLog(dir string) error {
	logs, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	if err != nil || len(logs) == 0 {
		return err
	}
	last := slices.Max(logs)
	n, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(last), ".vlog"))
	if err != nil {
		return err
	}
	if info, err := os.Stat(last); err != nil || info.Size() <= fileHeader {
		return err
	}
	// The header is the number of an encryption key, of which there is none, and
	// what that would be mixed with.
	return os.WriteFile(filepath.Join(dir, fmt.Sprintf("%06d.vlog", n+1)), make([]byte, fileHeader), 0o600)
}

// chmodFiles takes group and others' rights away: Badger creates its files with
// the umask's modes. The folder's own 0700 covers those still to come.
func chmodFiles(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		_ = os.Chmod(filepath.Join(dir, e.Name()), 0o600)
	}
}

// measure sets used to what the disk says.
func (g *generation) measure() error {
	n, err := diskUsage(g.dir)
	if err != nil {
		return err
	}
	g.used.Store(n)
	g.measured = 0
	return nil
}

// view calls fn with the value of key, which is valid only for the time of the
// call; fn must be brief, since Badger's writer may wait for it, and must not
// touch the network. A nil generation holds nothing.
func (g *generation) view(key []byte, fn func(value []byte) error) (err error) {
	if g == nil {
		return errMissing
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.txn == nil {
		return fs.ErrClosed
	}
	// A bad sector or a file cut short under the map is a fault on access; as a
	// panic it costs this object and not the process.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer g.caught(&err)
	item, err := g.txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return errMissing
	}
	if err != nil {
		return err
	}
	// On corruption Badger hands out an empty value and no error.
	return item.Value(func(v []byte) error {
		if len(v) == 0 {
			return errMissing
		}
		return fn(v)
	})
}

// caught turns a fault on access of a memory map into an error. It is deferred by
// who reads through txn.
func (g *generation) caught(err *error) {
	if r := recover(); r != nil {
		if _, ok := r.(interface{ Addr() uintptr }); !ok {
			panic(r)
		}
		g.faulted.Store(true)
		*err = errFault
	}
}

// iterate calls fn with an iterator, under the same conditions as view.
func (g *generation) iterate(fn func(*badger.Iterator)) (err error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.txn == nil {
		return fs.ErrClosed
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer g.caught(&err)
	it := g.txn.NewIterator(badger.IteratorOptions{})
	defer it.Close()
	fn(it)
	return nil
}

// A keyValue is an entry to be written.
type keyValue struct{ key, value []byte }

// sizes bounds what the entries take in the value log and in the write-ahead log.
func sizes(entries []keyValue) (logBytes, walBytes int64) {
	for _, e := range entries {
		n := int64(len(e.key)) + int64(len(e.value)) + entryOverhead
		if len(e.value) >= valueThreshold {
			logBytes += n
			n = int64(len(e.key)) + entryOverhead
		}
		walBytes += n
	}
	return logBytes, walBytes
}

// commit writes the entries in one transaction. When it returns nil they are in
// the page cache and survive the process. The caller holds Store.writing.
func (g *generation) commit(id uint64, entries ...keyValue) error {
	logBytes, walBytes := sizes(entries)
	if err := g.ahead.reserve(logBytes, walBytes); err != nil {
		return err
	}
	txn := g.db.NewTransactionAt(math.MaxUint64, true)
	defer txn.Discard()
	for _, e := range entries {
		if err := txn.Set(e.key, e.value); err != nil {
			return err
		}
	}
	// Keys are never written twice, any timestamp would do.
	if err := txn.CommitAt(id, nil); err != nil {
		return err
	}
	g.ahead.wrote(logBytes, walBytes)
	g.used.Add(logBytes + walBytes)
	if g.measured += logBytes + walBytes; g.measured >= g.geo.generation/32 {
		return g.measure()
	}
	return nil
}

// sync writes what was committed to the disk, bytes before the log that
// refers to them. It goes through file descriptors of its own, since Badger's Sync
// stops writers for as long and forgets value logs that are already full.
func (g *generation) sync() error {
	for _, pattern := range []string{"*.vlog", "*.mem"} {
		paths, err := filepath.Glob(filepath.Join(g.dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := syncPath(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// seal closes the generation cleanly and opens it again read-only. Reads wait
// meanwhile, so the bulk is synced before. After an error it may be readable all the
// same: what is then missing is the mark, or the certainty that all of it is on the
// disk, and the next Open recovers it as after a crash.
func (g *generation) seal() error {
	g.life.Lock()
	defer g.life.Unlock()
	if g.readOnly || g.faulted.Load() {
		return nil
	}
	unclean := g.sync()
	if err := g.turn(); err != nil {
		unclean = errors.Join(unclean, err)
	}
	if unclean != nil {
		return unclean
	}
	return g.markSealed()
}

// turn exchanges the instance that writes for one that only reads. If it could only
// not be closed cleanly the error says so, and it is exchanged all the same.
func (g *generation) turn() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	unclean := g.shut()
	if errors.Is(unclean, errStuck) {
		return unclean
	}
	if err := g.start(true); err != nil {
		g.failures++
		return err
	}
	return unclean
}

// readable reports whether reads find an open instance.
func (g *generation) readable() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.txn != nil
}

// close ends the Badger instance; reads fail with fs.ErrClosed from then on.
func (g *generation) close() error {
	g.life.Lock()
	defer g.life.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	clean := g.db != nil && !g.readOnly && !g.faulted.Load()
	if err := g.shut(); err != nil || !clean {
		return err
	}
	return g.markSealed()
}

// shut closes the Badger instance. The caller holds mu.
func (g *generation) shut() error {
	db := g.forget()
	if db == nil {
		return nil
	}
	if g.faulted.Load() {
		g.leave()
		return nil
	}
	if err := g.closeDB(db); err != nil {
		return fmt.Errorf("close generation %s: %w", g.dir, err)
	}
	return nil
}

// markSealed notes that the generation was closed cleanly.
func (g *generation) markSealed() error {
	chmodFiles(g.dir)
	if err := writeFileSync(filepath.Join(g.dir, sealedFile), nil); err != nil {
		return fmt.Errorf("mark generation %s as complete: %w", g.dir, noSpace(err))
	}
	return syncPath(g.dir)
}

// abandon forgets the Badger instance without closing it, as a crash would: on
// a full disk closing would write through a memory map and end the process.
func (g *generation) abandon() {
	g.life.Lock()
	defer g.life.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.forget() != nil {
		g.leave()
	}
}

// forget takes the Badger instance away from readers and writers, and returns it. The
// caller holds mu.
func (g *generation) forget() *badger.DB {
	db := g.db
	g.db, g.txn = nil, nil
	if g.ahead != nil {
		g.ahead.close()
		g.ahead = nil
	}
	return db
}

// leave leaves the instance that was forgotten in memory, silent from now on. The
// caller holds mu.
func (g *generation) leave() {
	g.voice.silence()
	g.abandoned.Add(1)
}

// scanBatch is how many entries are read at a time under the generation's lock, which
// sealing waits for.
const scanBatch = 4096

// scan calls fn for the id and value of each index entry and returns the highest id in
// use. An entry that cannot be read is skipped: it is a miss. So is what follows a
// fault, the error says.
func (g *generation) scan(fn func(id uint64, value []byte)) (last uint64, err error) {
	for from, more := []byte(nil), true; more && err == nil; {
		err = g.iterate(func(it *badger.Iterator) {
			n := 0
			for it.Seek(from); it.Valid() && n < scanBatch; it.Next() {
				item := it.Item()
				n++
				from = append(item.KeyCopy(from[:0]), 0) // the next one, if this was the last
				if id, kind, ok := parseKey(item.Key()); ok {
					last = max(last, id)
					if kind == kindIndex {
						_ = item.Value(func(v []byte) error {
							fn(id, v)
							return nil
						})
					}
				}
			}
			more = n == scanBatch
		})
	}
	return last, err
}

// writable reports whether the Badger instance is open for writing.
func (g *generation) writable() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.db != nil && !g.readOnly
}
