package store

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// The next Open knows only what is on disk: of the records of a key it finds the
// newest in force, unless that is a tombstone. So for a key that the index does not
// hold, nothing older than a tombstone or than a record without a body may be on disk.
// Three things could undo that: a generation with tombstones and newer records may go
// before an older one that is still in use (bury), a record may outlive the generation
// that its body is in and come into force when the same content is stored again, and a
// tombstone may be refused for lack of space (both: owe, settle).

// maxOwed bounds the keys whose tombstones are still to be written: 32 MiB of them.
const maxOwed = 1 << 20

// owe notes that keys, which the index does not hold, are to have tombstones. Beyond
// the bound they are forgotten. The caller holds writing.
func (s *Store) owe(keys ...Key) {
	for _, key := range keys {
		if len(s.owed) >= maxOwed {
			s.log.Error("so many deletions wait for space in the store that further ones may be undone by a restart", "dir", s.opts.Dir, "waiting", len(s.owed))
			return
		}
		s.owed[key] = struct{}{}
	}
}

// settle writes the tombstones that are owed, a batch at a time, until the first error.
func (s *Store) settle() error {
	for {
		s.writing.Lock()
		more, err := s.settleSome()
		s.writing.Unlock()
		if !more || err != nil {
			return err
		}
	}
}

// settleSome is a step of settle. The caller holds writing.
func (s *Store) settleSome() (more bool, err error) {
	batch := make([]Key, 0, min(len(s.owed), deleteBatch))
	for key := range s.owed {
		if batch = append(batch, key); len(batch) == deleteBatch {
			break
		}
	}
	if err := s.tombstones(batch, 0); err != nil {
		return false, err
	}
	for _, key := range batch {
		delete(s.owed, key)
	}
	return len(s.owed) > 0, nil
}

// owes reports whether tombstones are still to be written.
func (s *Store) owes() bool {
	s.writing.Lock()
	defer s.writing.Unlock()
	return len(s.owed) > 0
}

// tombstones writes that those of keys are gone which the index does not hold, or
// holds in generation going. The caller holds writing.
func (s *Store) tombstones(keys []Key, going uint32) error {
	x := s.index
	x.mu.RLock()
	gone := make([]Key, 0, len(keys))
	for i := range keys {
		if x.missing(&keys[i], going) {
			gone = append(gone, keys[i])
		}
	}
	x.mu.RUnlock()
	return s.appendTombstones(gone)
}

// missing reports whether the index does not hold key any more once generation
// going has gone. The caller holds mu.
func (x *index) missing(key *Key, going uint32) bool {
	i := x.lookup(key)
	return i == 0 || x.records.at(i).gen == going
}

// appendTombstones commits a tombstone for each of keys. They may take half of the
// reserve, for removing is how one makes space. The caller holds writing.
func (s *Store) appendTombstones(keys []Key) error {
	if len(keys) == 0 {
		return nil
	}
	entries := make([]keyValue, len(keys))
	var id uint64
	for i, key := range keys {
		id = s.drawID()
		e := indexEntry{key: key, tombstone: true}
		entries[i] = keyValue{entryKey(id, kindIndex), e.appendTo(nil)}
	}
	_, err := s.appendWithin(s.geo.reserve/2, id, entries...)
	return err
}

// bury writes to the head what would be forgotten if g went before generations
// that are older: that keys of theirs are deleted, or were replaced in g.
func (s *Store) bury(g *generation) error {
	for _, older := range s.olderThan(g) {
		ghosts, err := s.ghosts(older, g.num)
		if err != nil {
			// What cannot be read here is read no better by the next Open.
			s.log.Warn("generation of the store cannot be read to its end", "dir", older.dir, "err", err)
		}
		for batch := range slices.Chunk(ghosts, deleteBatch) {
			s.writing.Lock()
			err := s.tombstones(batch, g.num)
			s.writing.Unlock()
			if err != nil {
				return fmt.Errorf("carry over deletions from %s: %w", g.dir, err)
			}
		}
	}
	return nil
}

// olderThan returns the generations in the index that are older than g.
func (s *Store) olderThan(g *generation) []*generation {
	x := s.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	var older []*generation
	for num, o := range x.generations {
		if num < g.num {
			older = append(older, o)
		}
	}
	return older
}

// ghosts returns the keys of records in g that the index does not hold, or holds in
// generation going.
func (s *Store) ghosts(g *generation, going uint32) ([]Key, error) {
	found := make(map[Key]struct{})
	_, err := g.scan(func(_ uint64, value []byte) {
		e, err := decodeIndexEntry(value)
		if err != nil || e.tombstone {
			return
		}
		s.index.mu.RLock()
		defer s.index.mu.RUnlock()
		if s.index.missing(&e.key, going) {
			found[e.key] = struct{}{}
		}
	})
	return slices.Collect(maps.Keys(found)), err
}

// droppedFile marks a generation that is out of the index and waits for its
// readers: what is in it was evicted, and is not to be found by the next Open.
const droppedFile = "DROPPED"

// mark notes in the folder of g that it was dropped.
func (g *generation) mark() error {
	if err := os.WriteFile(filepath.Join(g.dir, droppedFile), nil, 0o600); err != nil {
		return fmt.Errorf("mark a generation as dropped: %w", err)
	}
	return syncPath(g.dir)
}

// marked reports whether the generation in dir was dropped.
func marked(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, droppedFile))
	return err == nil
}
