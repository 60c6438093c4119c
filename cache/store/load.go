package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// load opens every generation in the folder and fills the index.
func (s *Store) load() error {
	nums, err := s.list()
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	l := &loader{store: s, tombstones: make(map[Key]uint64)}
	s.index.loading = true
	// Two at a time: opening waits for the disk, scanning for the processor.
	limit := make(chan struct{}, 2)
	for _, open := range []bool{true, false} {
		var wg sync.WaitGroup
		for i, num := range nums {
			wg.Go(func() {
				limit <- struct{}{}
				defer func() { <-limit }()
				if open {
					l.open(num, i == len(nums)-1)
				} else {
					l.scan(num)
				}
			})
		}
		wg.Wait()
		if err := errors.Join(l.errs...); err != nil {
			return err
		}
	}
	s.index.loading = false
	s.index.mu.Lock()
	s.owe(s.index.prune()...)
	s.index.mu.Unlock()
	s.nextID = l.last
	if len(nums) > 0 {
		s.last = nums[len(nums)-1]
	}
	if s.index.objects > manyObjects {
		// Reading the entries leaves garbage, which the collector would give back late.
		debug.FreeOSMemory()
	}
	return nil
}

// manyObjects is from how many objects on a collection is worth its time at Open.
const manyObjects = 1 << 13

// list returns the numbers of the generations in order, and removes what an
// unfinished removal left.
func (s *Store) list() ([]uint32, error) {
	entries, err := os.ReadDir(s.opts.Dir)
	if err != nil {
		return nil, err
	}
	var nums []uint32
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), trashPrefix) {
			if err := os.RemoveAll(filepath.Join(s.opts.Dir, e.Name())); err != nil {
				return nil, err
			}
		}
		if n, ok := parseGeneration(e.Name()); ok && e.IsDir() {
			if err := s.checkLeft(filepath.Join(s.opts.Dir, e.Name())); err != nil {
				return nil, err
			}
			if marked(filepath.Join(s.opts.Dir, e.Name())) {
				if err := s.discard(s.newGeneration(n)); err != nil {
					return nil, err
				}
				continue
			}
			nums = append(nums, n)
		}
	}
	slices.Sort(nums)
	return nums, nil
}

// A loader is the state of one load.
type loader struct {
	store *Store

	// mu guards what follows.
	mu         sync.Mutex
	errs       []error
	tombstones map[Key]uint64
	last       uint64
}

func (l *loader) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err)
}

// open opens generation num. The newest becomes the head again if there is much
// room in it; the others are opened read-only, after recovery if a crash left them
// open. One of which nothing can be read is removed: its objects are misses.
func (l *loader) open(num uint32, newest bool) {
	s := l.store
	g := s.newGeneration(num)
	used, err := diskUsage(g.dir)
	if err != nil {
		l.fail(fmt.Errorf("open store: %w", err))
		return
	}
	g.used.Store(used)
	head := newest && used < s.geo.generation/2 && s.checkFree(0) == nil
	if err := l.openAs(g, head); err != nil {
		if errors.Is(err, ErrNoSpace) || readable(g.dir) != nil {
			l.fail(errors.Join(err, readable(g.dir)))
			return
		}
		s.log.Error("generation of the store cannot be read and is removed", "dir", g.dir, "err", err)
		s.metrics.lost.Inc()
		if err := s.discard(g); err != nil {
			l.fail(err)
		}
		return
	}
	l.mu.Lock()
	if head {
		s.head = g
	}
	l.mu.Unlock()
	s.index.mu.Lock()
	s.index.generations[num] = g
	s.index.mu.Unlock()
}

// openAs opens g for writing if it is to be the head, else read-only.
func (l *loader) openAs(g *generation, head bool) error {
	s := l.store
	if err := legible(g.dir); err != nil {
		return err
	}
	sealed := g.sealed()
	if sealed && !head {
		err := g.open(true)
		if err == nil {
			return nil
		}
		s.log.Warn("generation of the store needs recovery", "dir", g.dir, "err", err)
	}
	if !s.mayClose() {
		return fmt.Errorf("open store %s: recovery after a crash needs disk space: %w", s.opts.Dir, ErrNoSpace)
	}
	if !sealed {
		s.metrics.recovered.Inc()
		s.log.Info("recovering a generation of the store that was not closed", "dir", g.dir)
	}
	if err := g.open(false); err != nil || head {
		return err
	}
	err := g.seal()
	if err != nil && g.readable() {
		s.log.Warn("generation of the store is served, but has to be recovered again by the next start", "dir", g.dir, "err", err)
		return nil
	}
	return err
}

// legible returns an error if a table or write-ahead log in dir cannot be read.
// Badger reads them through maps and in goroutines of its own, where a bad sector is the
// end of the process. What is read here it finds in the page cache.
func legible(dir string) error {
	for _, pattern := range []string{"*.sst", "*.mem"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := readThrough(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func readThrough(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

// readable returns an error if the files in dir cannot be read for a reason that
// says nothing about what is in them: permissions, too many open files. A sector that
// is bad is as if it had been overwritten.
func readable(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		_, err = f.Read(make([]byte, 1))
		f.Close()
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.EIO) {
			return err
		}
	}
	return nil
}

// scan puts the index entries of generation num into the index.
func (l *loader) scan(num uint32) {
	x := l.store.index
	x.mu.RLock()
	g := x.generations[num]
	x.mu.RUnlock()
	if g == nil {
		return
	}
	last, err := g.scan(func(id uint64, value []byte) {
		e, err := decodeIndexEntry(value)
		if err != nil {
			l.store.metrics.counts.corrupt.Add(1)
			l.store.log.Warn("index entry of the store cannot be read", "dir", g.dir, "err", err)
			return
		}
		l.apply(num, id, &e)
	})
	if err != nil {
		l.store.metrics.lost.Inc()
		l.store.log.Error("generation of the store cannot be read to its end; the rest of its objects are misses", "dir", g.dir, "err", err)
	}
	l.mu.Lock()
	l.last = max(l.last, last)
	l.mu.Unlock()
}

// apply notes an entry. Entries come in any order: the highest id of a key wins.
func (l *loader) apply(num uint32, id uint64, e *indexEntry) {
	x := l.store.index
	x.mu.Lock()
	defer x.mu.Unlock()
	i := x.lookup(&e.key)
	newer := (i == 0 || x.records.at(i).id < id) && l.tombstones[e.key] < id
	if e.tombstone {
		l.tombstones[e.key] = max(l.tombstones[e.key], id)
		if newer && i != 0 {
			x.remove(i)
		}
		return
	}
	// Where bytes are counts even if the record that says so was replaced since.
	if e.placed && e.size > 0 {
		x.learn(&e.sum, e.size, e.place(num, id))
	}
	if newer {
		i = x.put(&e.key, id, num, &e.sum, e.size, nil)
		x.pin(i, e.pinned)
		x.join(i, x.groupOf(e.group))
	}
}

// place returns where the entry, written under id in generation num, says that
// the body is.
func (e *indexEntry) place(num uint32, id uint64) *place {
	if e.inline {
		return &place{at: extent{gen: num, id: id}}
	}
	return &place{chunk: e.chunk, at: e.extents[0], others: e.extents[1:], head: e.head}
}

// learn notes a place of a body; of two that can be read the one that begins in
// the newer generation wins, for it will last longer. The caller holds mu.
func (x *index) learn(sum *[32]byte, size int64, p *place) {
	i := x.intern(sum, size)
	if x.placed(i) && x.bodies.at(i).at.gen > p.at.gen {
		return
	}
	old := x.place(i)
	had := x.placed(i)
	x.move(i, p)
	if had && !x.placed(i) {
		x.move(i, &old)
	}
}

// prune forgets records whose bytes are gone, the keys of which it returns, and
// bodies without a record. The caller holds mu.
func (x *index) prune() (removed []Key) {
	for i := uint32(1); i < x.records.len(); i++ {
		if r := x.records.at(i); r.id != 0 && !x.alive(r) {
			removed = append(removed, r.key)
			x.remove(i)
		}
	}
	for i := uint32(1); i < x.bodies.len(); i++ {
		if b := x.bodies.at(i); b.refs == 0 && b.size > 0 {
			x.forget(i)
		}
	}
	return removed
}
