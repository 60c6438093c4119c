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
// Delete for many. After an error all of them are gone as well, but some may be back
// after the next Open.
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
	s.index.mu.RLock()
	known := make([]Key, 0, len(keys))
	for i := range keys {
		if s.index.lookup(&keys[i]) != 0 {
			known = append(known, keys[i])
		}
	}
	s.index.mu.RUnlock()
	if len(known) == 0 {
		return 0, nil
	}
	entries := make([]keyValue, len(known))
	var id uint64
	for i, key := range known {
		id = s.drawID()
		e := indexEntry{key: key, tombstone: true}
		entries[i] = keyValue{entryKey(id, kindIndex), e.appendTo(nil)}
	}
	_, err := s.append(id, entries...)
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	n := 0
	for i := range known {
		if slot := s.index.lookup(&known[i]); slot != 0 {
			s.index.remove(slot)
			n++
		}
	}
	return n, err
}
