package store

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// geometry is what follows from the cap: how the store is cut in generations,
// and a generation in files. Small caps are for tests and tiny machines.
type geometry struct {
	maxSize    int64 // cap on what the folder occupies
	generation int64 // share of one generation
	chunk      int64 // bytes of body per chunk
	valueLog   int64 // bytes after which Badger begins a new value log file
	memTable   int64 // bytes of Badger's memtable, and of its write-ahead log
	prealloc   int64 // step in which space is reserved ahead of writing
	reserve    int64 // free disk space below which nothing is written
}

// minSize is the smallest cap: below it four generations would hold less than
// Badger's own files.
const minSize = 16 << 20

// newGeometry derives the sizes from the cap and the wanted number of generations.
func newGeometry(maxSize int64, generations int) geometry {
	// A large memtable makes for few tables: a hit asks the filter of each.
	g := geometry{maxSize: maxSize, chunk: 1 << 20, memTable: 8 << 20}
	g.generation = max(maxSize/int64(generations), minSize/4)
	switch {
	case g.generation < 64<<20:
		g.chunk, g.memTable = 256<<10, 512<<10
	case g.generation < 512<<20:
		g.memTable = 2 << 20
	}
	// One value log for the whole generation, up to Badger's limit: at every change
	// to the next Badger writes to a page that nobody can reserve, see space.go. It
	// must exceed a chunk, since Badger maps twice this size, and a write beyond the
	// mapping would move it under the feet of readers.
	g.valueLog = min(g.generation+4*g.chunk, 2<<30-1)
	g.prealloc = min(max(g.generation/64, g.chunk), 4<<20)
	g.reserve = min(max(maxSize/32, 4<<20), 64<<20)
	return g
}

// valueThreshold is the size from which Badger puts a value in the value log,
// where it is written once, rather than in the LSM tree, where it is written at
// least twice. Index entries must stay below it, Open reads them all.
const valueThreshold = 512

// badgerOptions are the options that served (measured in the design).
func (g geometry) badgerOptions(dir string, readOnly bool, log *badgerLog) badger.Options {
	o := badger.DefaultOptions(dir)
	o.ReadOnly = readOnly
	o.Logger = log
	// The store's own lock keeps other processes out. Badger's would be held for a
	// moment longer by any child that happens to be between fork and exec while a
	// generation is closed and opened again.
	o.BypassLockGuard = true
	o.SyncWrites = false
	o.DetectConflicts = false
	o.MetricsEnabled = false
	o.Compression = options.None
	o.BlockCacheSize = 0
	o.IndexCacheSize = 0
	// Blocks of tables are checked when read: a flipped bit there must not be
	// followed as a pointer.
	o.ChecksumVerificationMode = options.OnBlockRead
	o.ValueThreshold = valueThreshold
	o.ValueLogFileSize = g.valueLog
	// Rotation by count would take the place of the log by surprise, see space.go.
	o.ValueLogMaxEntries = math.MaxUint32
	o.MemTableSize = g.memTable
	o.BaseTableSize = g.memTable
	// A generation has a dozen tables at most, with keys in order that are never
	// overwritten: compaction would only write them again. Level 0 never stalls.
	o.NumCompactors = 0
	o.NumLevelZeroTablesStall = math.MaxInt
	return o
}

// badgerLog hands Badger's messages to slog: its errors are warnings of ours,
// for whatever follows from them is reported by the store itself.
type badgerLog struct {
	log *slog.Logger

	mu     sync.RWMutex // held shared while a message is written
	silent bool
}

func (l *badgerLog) Errorf(format string, a ...any)   { l.print(slog.LevelWarn, format, a) }
func (l *badgerLog) Warningf(format string, a ...any) { l.print(slog.LevelWarn, format, a) }
func (l *badgerLog) Infof(format string, a ...any)    { l.print(slog.LevelDebug, format, a) }
func (l *badgerLog) Debugf(format string, a ...any)   { l.print(slog.LevelDebug, format, a) }

// silence ends all messages, of an instance that is left behind: Badger tells of each
// try to write what it holds, once a second and for ever. When it returns none is
// being written any more.
func (l *badgerLog) silence() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silent = true
}

func (l *badgerLog) print(level slog.Level, format string, a []any) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.silent {
		return
	}
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "badger", "msg", strings.TrimSpace(fmt.Sprintf(format, a...)))
	}
}
