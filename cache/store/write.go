package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// checkFree returns ErrNoSpace if writing need bytes would eat into the reserve.
func (s *Store) checkFree(need int64) error {
	free, err := s.opts.free(s.opts.Dir)
	if err != nil {
		return fmt.Errorf("look for free space: %w", err)
	}
	if free < s.geo.reserve+need {
		return fmt.Errorf("%w: %d MiB free on the disk of %s, %d MiB are left alone",
			ErrNoSpace, free>>20, s.opts.Dir, s.geo.reserve>>20)
	}
	return nil
}

// mayClose reports whether there is space for what Badger writes when it is
// opened or closed: a memtable, a table, a new log; and whether that would go where
// it belongs. Badger tries for ever to write where it cannot.
func (s *Store) mayClose() bool {
	if s.ours() != nil {
		return false
	}
	free, err := s.opts.free(s.opts.Dir)
	return err == nil && free >= 2*s.geo.memTable
}

// used returns what the store occupies on disk, what waits for a last reader included.
func (s *Store) used() int64 {
	x := s.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	var sum int64
	for _, g := range x.generations {
		sum += g.used.Load()
	}
	for _, g := range s.dropped {
		sum += g.used.Load()
	}
	return sum
}

func (s *Store) drawID() uint64 {
	s.nextID++
	return s.nextID
}

// ensureRoom waits until need bytes more are within the cap. The caller holds
// writing, which is released meanwhile: nothing read under it before still holds.
func (s *Store) ensureRoom(need int64) error {
	// The evictor may be in the midst of a round that began before a reader gave
	// up what it held; the second verdict from here on is about the state of now.
	for verdict := s.rounds + 2; ; {
		if s.closed.Load() {
			return fs.ErrClosed
		}
		if s.used()+need <= s.hardLimit() {
			return nil
		}
		if s.stuck && s.rounds >= verdict {
			s.metrics.refused.Inc()
			return fmt.Errorf("%w: all of the %d MiB of %s are in use", ErrNoSpace, s.geo.maxSize>>20, s.opts.Dir)
		}
		s.wakeEvictor()
		s.room.Wait()
	}
}

// append commits entries to the head and returns the generation that took them.
// The caller holds writing.
func (s *Store) append(id uint64, entries ...keyValue) (*generation, error) {
	return s.appendWithin(0, id, entries...)
}

// appendWithin is append that may take spare bytes of the reserve.
func (s *Store) appendWithin(spare int64, id uint64, entries ...keyValue) (*generation, error) {
	if s.closed.Load() {
		return nil, fs.ErrClosed
	}
	logBytes, walBytes := sizes(entries)
	need := logBytes + walBytes
	if err := s.checkFree(need - spare); err != nil {
		s.metrics.refused.Inc()
		return nil, err
	}
	g, err := s.headFor(need)
	if err != nil {
		return nil, err
	}
	if err := g.commit(id, entries...); err != nil {
		if errors.Is(err, ErrNoSpace) {
			s.metrics.refused.Inc()
			return nil, err
		}
		// What state Badger is in after a failed write is unknown; the next write
		// goes to a fresh instance.
		s.retireHead()
		return nil, fmt.Errorf("write to %s: %w", g.dir, err)
	}
	s.metrics.counts.written.Add(uint64(need))
	if s.used() > s.softLimit() {
		s.wakeEvictor()
	}
	return g, nil
}

// headFor returns the generation that takes the next need bytes. The caller holds
// writing.
func (s *Store) headFor(need int64) (*generation, error) {
	// After a fault, Badger may wait for ever for a lock of its own.
	if s.head != nil && (s.head.used.Load()+need > s.geo.generation || s.head.faulted.Load()) {
		s.retireHead()
	}
	if s.head != nil {
		return s.head, nil
	}
	g := s.newGeneration(s.last + 1)
	if err := g.open(false); err != nil {
		// Half a generation must not be met at the next attempt.
		err = errors.Join(noSpace(err), os.RemoveAll(g.dir))
		if errors.Is(err, ErrNoSpace) {
			s.metrics.refused.Inc()
		}
		return nil, err
	}
	s.last++
	s.head = g
	s.index.mu.Lock()
	s.index.generations[g.num] = g
	s.index.mu.Unlock()
	return g, nil
}

// retireHead lets the next write begin a new generation. The caller holds writing.
func (s *Store) retireHead() {
	select {
	case s.sealing <- s.head:
	default: // the sealer is far behind: this one is recovered at the next Open
	}
	s.head = nil
}

func (s *Store) newGeneration(num uint32) *generation {
	return &generation{num: num, dir: generationDir(s.opts.Dir, num), geo: s.geo, log: s.log, abandoned: s.abandoned}
}

// checkMeta bounds metadata: it is held in memory for every object in use.
func (s *Store) checkMeta(meta []byte) error {
	if limit := s.geo.chunk / 2; int64(len(meta)) > limit {
		return fmt.Errorf("store metadata of %d bytes: at most %d are allowed", len(meta), limit)
	}
	return nil
}

// A recordWrite is a record to be written. The body is inline, or at place, or,
// when both are nil, known already by its SHA-256.
type recordWrite struct {
	key    Key
	meta   []byte
	sum    [32]byte
	size   int64
	inline []byte
	place  *place
	pinned bool
	group  uint16 // in index.groups
}

// writeRecord commits the record, after which the object exists. The caller
// holds writing.
func (s *Store) writeRecord(w recordWrite) error {
	id := s.drawID()
	e := indexEntry{key: w.key, pinned: w.pinned, group: s.tagOf(w.group), sum: w.sum, size: w.size}
	switch {
	case w.inline != nil:
		e.placed, e.inline = true, true
	case w.place != nil:
		e.placed, e.chunk, e.head = true, w.place.chunk, w.place.head
		e.extents = append([]extent{w.place.at}, w.place.others...)
	}
	g, err := s.append(id,
		keyValue{entryKey(id, kindIndex), e.appendTo(nil)},
		keyValue{entryKey(id, kindMeta), appendMeta(nil, w.meta, w.inline)})
	if err != nil {
		return err
	}
	p := w.place
	if w.inline != nil {
		p = &place{at: extent{gen: g.num, id: id}}
	}
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	i := s.index.put(&w.key, id, g.num, &w.sum, w.size, p)
	s.index.pin(i, w.pinned)
	s.index.join(i, w.group)
	return nil
}

// corrupt drops the record of key, if it is still the one with this id, and
// forgets that the bytes at p are there, for all records that share them.
func (s *Store) corrupt(key Key, id uint64, p place, cause error) {
	s.metrics.counts.corrupt.Add(1)
	s.log.Warn("stored object is damaged and dropped", "generation", p.at.gen, "err", cause)
	s.writing.Lock()
	defer s.writing.Unlock()
	x := s.index
	x.mu.Lock()
	i := x.lookup(&key)
	current := i != 0 && x.records.at(i).id == id
	if b := x.content(&p.sum, p.size); b != 0 && x.bodies.at(b).at == p.at {
		x.move(b, &place{})
	}
	x.mu.Unlock()
	if current {
		// Without a tombstone (no space for one) it is found damaged again after
		// the next start.
		_ = s.deleteLocked(key)
	}
}
