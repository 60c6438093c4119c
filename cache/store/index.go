package store

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// The index says for every key in which generation its record is and where its
// bytes are. It is held in slabs and maps without pointers, about 225 bytes per
// object, so that a million objects cost the garbage collector nothing.
type index struct {
	// mu guards everything below; heat counters alone are written under the
	// shared lock.
	mu sync.RWMutex

	generations map[uint32]*generation // those that may be read

	records slab[record]
	byKey   map[uint64]uint32 // first 8 bytes of the key → first record of the chain
	objects int
	pinned  int64 // bytes of all pinned records
	groups  []group
	byTag   map[uint64]uint16

	bodies  slab[body]
	bySum   map[uint64]uint32   // first 8 bytes of the SHA-256 → body
	extents map[uint32][]extent // of bodies that span generations
	byHead  map[uint64]uint32   // place.head → body
	heads   map[uint32]uint64   // the same the other way round

	// loading is set while Open reads entries in any order: bodies that nothing
	// refers to are kept, since a record that does may be still to come.
	loading bool
}

// A record is what the index knows of one key.
type record struct {
	key    Key
	id     uint64 // 0: the slot is free
	gen    uint32
	body   uint32        // 0: the object is empty
	next   uint32        // with the same first 8 bytes of the key
	heat   atomic.Uint32 // uses since it was written, up to maxHeat
	uses   atomic.Uint32 // look-ups since Open, for people
	pinned bool          // carried forward, used or not
	group  uint16        // in index.groups, 0: none
}

// maxHeat is where counting stops. S3-FIFO (Yang et al., SOSP 2023) found 3 enough;
// here it also says who comes first when the budget does not do for all.
const maxHeat = 7

// A body is stored content, shared by all records with the same SHA-256.
type body struct {
	sum   [32]byte
	size  int64
	chunk uint32 // bytes per chunk, 0: inline
	refs  uint32 // records that refer to it
	// at is where it begins; at.gen 0 means that it is not known (yet).
	at extent
	// spans is set when further extents are in index.extents.
	spans bool
}

// A place is a copy of what the index knows of a body.
type place struct {
	sum    [32]byte
	size   int64
	chunk  int64 // 0: inline
	at     extent
	others []extent // further extents, never modified
	// head is the beginning of the SHA-256 of the first chunk, 0 where that is not full
	// or not known.
	head uint64
}

// find returns the extent that chunk n is in.
func (p *place) find(n uint32) extent {
	x := p.at
	for _, o := range p.others {
		if o.first > n {
			break
		}
		x = o
	}
	return x
}

func newIndex() *index {
	return &index{
		generations: make(map[uint32]*generation),
		byKey:       make(map[uint64]uint32),
		bySum:       make(map[uint64]uint32),
		extents:     make(map[uint32][]extent),
		groups:      make([]group, 1),
		byTag:       make(map[uint64]uint16),
		byHead:      make(map[uint64]uint32),
		heads:       make(map[uint32]uint64),
	}
}

func keyTag(k *Key) uint64        { return binary.BigEndian.Uint64(k[:8]) }
func sumTag(sum *[32]byte) uint64 { return binary.BigEndian.Uint64(sum[:8]) }

// lookup returns the record's slot, 0 when there is none. The caller holds mu.
func (x *index) lookup(k *Key) uint32 {
	for i := x.byKey[keyTag(k)]; i != 0; {
		r := x.records.at(i)
		if r.key == *k {
			return i
		}
		i = r.next
	}
	return 0
}

// alive reports whether the record and all of its bytes are in generations that
// may be read. The caller holds mu.
func (x *index) alive(r *record) bool {
	if x.generations[r.gen] == nil {
		return false
	}
	if r.body == 0 {
		return true
	}
	if b := x.bodies.at(r.body); b.at.gen == r.gen && !b.spans {
		return true
	}
	return x.placed(r.body)
}

// placed reports whether all of a body is in generations that may be read. The
// caller holds mu.
func (x *index) placed(i uint32) bool {
	b := x.bodies.at(i)
	if x.generations[b.at.gen] == nil {
		return false
	}
	if b.spans {
		for _, e := range x.extents[i] {
			if x.generations[e.gen] == nil {
				return false
			}
		}
	}
	return true
}

// place copies what is known of body i. The caller holds mu.
func (x *index) place(i uint32) place {
	b := x.bodies.at(i)
	p := place{sum: b.sum, size: b.size, chunk: int64(b.chunk), at: b.at}
	if b.chunk != 0 {
		p.head = x.heads[i]
	}
	if b.spans {
		p.others = x.extents[i]
	}
	return p
}

// content returns the body with this SHA-256 and size, 0 when there is none. The
// caller holds mu.
func (x *index) content(sum *[32]byte, size int64) uint32 {
	i := x.bySum[sumTag(sum)]
	if i == 0 {
		return 0
	}
	if b := x.bodies.at(i); b.sum != *sum || b.size != size {
		return 0
	}
	return i
}

// intern returns the body with this SHA-256 and size, made at need without a
// place. Two bodies whose SHA-256 begin alike are not shared. The caller holds mu.
func (x *index) intern(sum *[32]byte, size int64) uint32 {
	if i := x.content(sum, size); i != 0 {
		return i
	}
	i := x.bodies.add()
	b := x.bodies.at(i)
	b.sum, b.size = *sum, size
	if x.bySum[sumTag(sum)] == 0 {
		x.bySum[sumTag(sum)] = i
	}
	return i
}

// move notes where body i is now. The caller holds mu.
func (x *index) move(i uint32, p *place) {
	b := x.bodies.at(i)
	b.at, b.chunk, b.spans = p.at, uint32(p.chunk), len(p.others) > 0
	x.setHead(i, p.head)
	if b.spans {
		x.extents[i] = p.others
	} else {
		delete(x.extents, i)
	}
}

// put makes the record of key the one written under id in generation gen. If the
// body has a place in p it is noted. It is not pinned and in no group. The caller holds mu.
func (x *index) put(key *Key, id uint64, gen uint32, sum *[32]byte, size int64, p *place) (slot uint32) {
	var bodyIndex uint32
	if size > 0 {
		bodyIndex = x.intern(sum, size)
		x.bodies.at(bodyIndex).refs++
		if p != nil {
			x.move(bodyIndex, p)
		}
	}
	i := x.lookup(key)
	if i == 0 {
		i = x.records.add()
		r := x.records.at(i)
		r.key, r.next = *key, x.byKey[keyTag(key)]
		x.byKey[keyTag(key)] = i
		x.objects++
	} else {
		x.pin(i, false)
		x.join(i, 0)
		x.unref(x.records.at(i).body)
	}
	r := x.records.at(i)
	r.id, r.gen, r.body = id, gen, bodyIndex
	return i
}

// pin notes whether record i is pinned, and what all that are take. Content of
// several counts for each. The caller holds mu.
func (x *index) pin(i uint32, pinned bool) {
	r := x.records.at(i)
	if r.pinned == pinned {
		return
	}
	r.pinned = pinned
	size := x.cost(r)
	if !pinned {
		size = -size
	}
	x.pinned += size
}

// recordCost is about what a record takes without its body.
const recordCost = 1 << 10

// remove forgets record i. The caller holds mu.
func (x *index) remove(i uint32) {
	x.pin(i, false)
	x.join(i, 0)
	r := x.records.at(i)
	tag := keyTag(&r.key)
	if x.byKey[tag] == i {
		if r.next == 0 {
			delete(x.byKey, tag)
		} else {
			x.byKey[tag] = r.next
		}
	} else {
		for j := x.byKey[tag]; j != 0; {
			p := x.records.at(j)
			if p.next == i {
				p.next = r.next
				break
			}
			j = p.next
		}
	}
	x.unref(r.body)
	r.key, r.id, r.gen, r.body, r.next = Key{}, 0, 0, 0, 0
	r.heat.Store(0)
	r.uses.Store(0)
	x.records.free(i)
	x.objects--
}

// unref forgets body i when its last record is gone. The caller holds mu.
func (x *index) unref(i uint32) {
	if i == 0 {
		return
	}
	b := x.bodies.at(i)
	if b.refs--; b.refs > 0 || x.loading {
		return
	}
	x.forget(i)
}

// forget frees body i. The caller holds mu.
func (x *index) forget(i uint32) {
	b := x.bodies.at(i)
	if x.bySum[sumTag(&b.sum)] == i {
		delete(x.bySum, sumTag(&b.sum))
	}
	delete(x.extents, i)
	x.setHead(i, 0)
	*b = body{}
	x.bodies.free(i)
}

// touch counts a use, up to maxHeat, and returns how many came before. The caller
// holds mu, shared at least.
func (r *record) touch() uint32 {
	r.uses.Add(1)
	h := r.heat.Load()
	if h < maxHeat {
		r.heat.CompareAndSwap(h, h+1)
	}
	return h
}

// slabSize is the number of values that are allocated together.
const slabSize = 1 << 12

// A slab hands out numbered values that never move. Number 0 is never used.
type slab[T any] struct {
	pages  []*[slabSize]T
	next   uint32
	unused []uint32
}

func (s *slab[T]) at(i uint32) *T { return &s.pages[i/slabSize][i%slabSize] }

func (s *slab[T]) add() uint32 {
	if n := len(s.unused); n > 0 {
		i := s.unused[n-1]
		s.unused = s.unused[:n-1]
		return i
	}
	s.next++
	for int(s.next/slabSize) >= len(s.pages) {
		s.pages = append(s.pages, new([slabSize]T))
	}
	return s.next
}

func (s *slab[T]) free(i uint32) { s.unused = append(s.unused, i) }

// len is one more than the highest number handed out.
func (s *slab[T]) len() uint32 { return s.next + 1 }
