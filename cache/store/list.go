package store

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"iter"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// Info describes a stored object.
type Info struct {
	Key    Key
	Size   int64 // of the body, in bytes
	SHA256 [32]byte
	Meta   []byte
	// Uses counts how often Get found the key since Open.
	Uses uint32
}

// All yields every object once, in no particular order, without counting as use.
// Objects that come or go meanwhile may or may not be among them. An object that is
// found to be damaged is yielded with an error and, as after Get, is gone.
//
// It reads the generations from one end to the other, from the oldest on: what is
// copied forward meanwhile is met again in a newer one.
func (s *Store) All() iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		l := &lister{store: s}
		for g := l.next(); g != nil; g = l.next() {
			if !l.generation(g, yield) {
				return
			}
		}
		if s.closed.Load() {
			yield(Info{}, fs.ErrClosed)
		}
	}
}

const (
	// A batch of entries is read under the lock of its generation, which sealing
	// waits for, and given away outside.
	listBatch = 1024
	listBytes = 1 << 20
)

// lister is one walk through the store.
type lister struct {
	store *Store
	last  uint32 // generation
	pins  pins
	seen  []uint64 // one bit for each slot of the index
	found []listed
	arena []byte
}

// listed is a record as read from its generation.
type listed struct {
	id       uint64
	key      Key
	from, to int // of the metadata in arena
	err      error
}

// next pins the generation after the last one, nil at the end.
func (l *lister) next() *generation {
	x := l.store.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	var next *generation
	for num, g := range x.generations {
		if num > l.last && (next == nil || num < next.num) {
			next = g
		}
	}
	if next == nil || l.store.closed.Load() {
		return nil
	}
	l.last = next.num
	l.pins.add(next)
	return next
}

// generation yields what is in g; it returns false when there is to be no more.
func (l *lister) generation(g *generation, yield func(Info, error) bool) bool {
	defer l.pins.release(l.store)
	for from, more := uint64(0), true; more; {
		var err error
		from, more, err = l.read(g, from)
		if err != nil {
			return yield(Info{}, err) && !errors.Is(err, fs.ErrClosed)
		}
		if !l.give(g, yield) {
			return false
		}
	}
	return true
}

// read collects a batch of records whose ids begin at from, and returns where the
// next one begins.
func (l *lister) read(g *generation, from uint64) (next uint64, more bool, err error) {
	l.found, l.arena = l.found[:0], l.arena[:0]
	err = g.iterate(func(it *badger.Iterator) {
		var seek [8]byte
		binary.BigEndian.PutUint64(seek[:], from)
		for it.Seek(seek[:]); it.Valid(); it.Next() {
			item := it.Item()
			id, kind, ok := parseKey(item.Key())
			if !ok || kind == kindChunk {
				continue
			}
			if kind == kindIndex && (len(l.found) >= listBatch || len(l.arena) >= listBytes) {
				next, more = id, true
				return
			}
			l.entry(id, kind, item)
		}
	})
	return next, more, err
}

// entry takes an index entry, or the metadata that follows it.
func (l *lister) entry(id uint64, kind byte, item *badger.Item) {
	if kind == kindIndex {
		_ = item.Value(func(v []byte) error {
			// One that cannot be read is known to Scrub and to the next Open.
			if e, err := decodeIndexEntry(v); err == nil && !e.tombstone {
				l.found = append(l.found, listed{id: id, key: e.key, err: errMissing})
			}
			return nil
		})
		return
	}
	if len(l.found) == 0 || l.found[len(l.found)-1].id != id {
		return
	}
	f := &l.found[len(l.found)-1]
	f.err = item.Value(func(v []byte) error {
		meta, _, err := decodeMeta(v)
		f.from = len(l.arena)
		l.arena = append(l.arena, meta...)
		f.to = len(l.arena)
		return err
	})
}

// give yields of a batch what is current and was not yielded before.
func (l *lister) give(g *generation, yield func(Info, error) bool) bool {
	for _, f := range l.found {
		info, p, ok := l.current(g, &f)
		if !ok {
			continue
		}
		if f.err != nil {
			l.store.corrupt(f.key, f.id, p, f.err)
			if !yield(Info{Key: f.key}, &CorruptError{Key: f.key, Reason: f.err.Error()}) {
				return false
			}
			continue
		}
		info.Meta = slices.Clone(l.arena[f.from:f.to])
		if !yield(info, nil) {
			return false
		}
	}
	return true
}

// current says what the index knows of a record, if that is the one in force.
func (l *lister) current(g *generation, f *listed) (Info, place, bool) {
	x := l.store.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	i := x.lookup(&f.key)
	if i == 0 {
		return Info{}, place{}, false
	}
	r := x.records.at(i)
	if r.id != f.id || r.gen != g.num || !x.alive(r) || !l.mark(i) {
		return Info{}, place{}, false
	}
	p := place{sum: emptySum()}
	if r.body != 0 {
		p = x.place(r.body)
	}
	return Info{Key: f.key, Size: p.size, SHA256: p.sum, Uses: r.uses.Load()}, p, true
}

// mark reports whether slot i was not marked before.
func (l *lister) mark(i uint32) bool {
	word, bit := int(i/64), uint64(1)<<(i%64)
	for len(l.seen) <= word {
		l.seen = append(l.seen, 0)
	}
	first := l.seen[word]&bit == 0
	l.seen[word] |= bit
	return first
}
