package store

import (
	"errors"
	"io/fs"
	"slices"
)

// deleteBatch is how many records one transaction of Badger removes: far below what
// it takes at once, and enough that the transaction costs nothing beside them.
const deleteBatch = 512

// DeleteAll removes the objects under keys and returns how many there were; it is
// Delete for many, after an error too.
func (s *Store) DeleteAll(keys []Key) (n int, err error) {
	var errs []error
	for batch := range slices.Chunk(keys, deleteBatch) {
		m, err := s.deleteSome(batch)
		n += m
		if errors.Is(err, fs.ErrClosed) {
			return n, err
		}
		errs = append(errs, err)
	}
	return n, errors.Join(errs...)
}

func (s *Store) deleteSome(keys []Key) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	// Where nothing more fits, removing still does: it is why one removes.
	if err := s.ensureRoom(int64(len(keys)) * entryOverhead); errors.Is(err, fs.ErrClosed) {
		return 0, err
	}
	known := make([]Key, 0, len(keys))
	for i := range keys {
		if s.onDisk(&keys[i]) {
			known = append(known, keys[i])
		}
	}
	return s.deleteKnown(known)
}

// deleteKnown writes tombstones for keys, owes them where that fails, and forgets what
// the index holds of them. The caller holds writing.
func (s *Store) deleteKnown(keys []Key) (n int, err error) {
	if err = s.appendTombstones(keys); err == nil {
		for _, key := range keys {
			delete(s.owed, key)
		}
	} else if !errors.Is(err, fs.ErrClosed) {
		s.owe(keys...)
	}
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	for i := range keys {
		if slot := s.index.lookup(&keys[i]); slot != 0 {
			s.index.remove(slot)
			n++
		}
	}
	return n, err
}
