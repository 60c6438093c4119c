package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
)

// Content of one chunk or less is compared with what is stored by its SHA-256 before
// anything is written. Of larger content the digest comes too late: when it is known
// all but the last chunk would have been written. So the digest of the first chunk leads
// to stored content that begins alike, its twin, and as long as the chunks that come are
// equal to the twin's, byte by byte, they are referred to where they are.

// findTwin looks for stored content that begins with the chunk in buf, which is full.
func (w *Writer) findTwin() {
	sum := w.Sum()
	w.place.head = binary.BigEndian.Uint64(sum[:8])
	x := w.store.index
	w.mu.Lock()
	defer w.mu.Unlock()
	x.mu.RLock()
	defer x.mu.RUnlock()
	i := x.byHead[w.place.head]
	if i == 0 || !x.placed(i) {
		return
	}
	p := x.place(i)
	if p.chunk != w.place.chunk || !x.lasts(&p) {
		return
	}
	w.twin = &p
	w.pins.add(x.generations[p.at.gen])
	for _, e := range p.others {
		w.pins.add(x.generations[e.gen])
	}
}

// shared returns where the twin has chunk n, if that is equal to the sealed one. Where
// it is not, or cannot be read, the twin is one no more.
func (w *Writer) shared(n uint32, sealed []byte) (e extent, ok bool) {
	if w.twin == nil {
		return extent{}, false
	}
	if n < w.twin.chunks() {
		e = w.twin.find(n)
		err := w.pins.find(e.gen).view(chunkKey(e.id, n), func(v []byte) error {
			// With its checksums: a chunk in which those are damaged is worth nothing.
			if !bytes.Equal(v, sealed) {
				return errOther
			}
			return nil
		})
		if err == nil {
			w.shares = true
			return extent{gen: e.gen, first: n, id: e.id}, true
		}
	}
	w.twin = nil
	return extent{}, false
}

// errOther says that content differs.
var errOther = errors.New("another content")

// keepShared copies to the head what the body shares with stored content that is gone
// by now, or about to go, and sets the record's place accordingly.
func (w *Writer) keepShared(r *recordWrite) error {
	s := w.store
	if !w.shares || r.place != nil || w.place.size != r.size || s.stored(&r.sum, r.size) {
		return nil
	}
	o := &Object{store: s, place: w.place, pins: w.pins}
	o.place.sum = r.sum
	var err error
	w.pins.each(func(g *generation) {
		if err != nil || slices.Contains(w.owned, g) || !o.place.touches(g.num) || s.lasting(g) {
			return
		}
		var moved *place
		if moved, err = s.copyChunks(o, g); err == nil && moved == nil {
			err = errMissing
		}
		if err == nil {
			o.place = *moved
		}
	})
	r.place = &o.place
	return err
}

// lasting reports whether g is neither gone nor about to go.
func (s *Store) lasting(g *generation) bool {
	x := s.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.generations[g.num] != nil && x.lasts(&place{at: extent{gen: g.num}})
}

// lasts reports whether content at p will last: the oldest quarter of the store is about
// to go. The caller holds mu.
func (x *index) lasts(p *place) bool {
	oldest := p.at.gen
	for _, e := range p.others {
		oldest = min(oldest, e.gen)
	}
	older := 0
	for num := range x.generations {
		if num < oldest {
			older++
		}
	}
	return older >= len(x.generations)/4
}

// setHead notes how body i begins, 0: not worth noting. Of several that begin alike
// the latest is found. The caller holds mu.
func (x *index) setHead(i uint32, head uint64) {
	old := x.heads[i]
	if old == head {
		return
	}
	if old != 0 && x.byHead[old] == i {
		delete(x.byHead, old)
	}
	if head == 0 {
		delete(x.heads, i)
		return
	}
	x.heads[i] = head
	x.byHead[head] = i
}
