package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// A group is a set of objects that have a bound in common, such as those of one rule of
// policy. What counts is what its records in force take; space on disk is given back
// with generations only, as everywhere. So a group that is at its bound goes on writing:
// its own least used objects are deleted for each new one, and being deleted are never
// carried forward. What it writes beyond its bound is to the others what a scan is: it
// goes with its generations, and pushes out nothing that is used.
type group struct {
	tag   uint64 // names it on disk; 0: there is none
	size  int64  // of its records, in bytes as record costs
	limit int64  // 0: none, or not known since Open
}

// errOverQuota says that a group must be shrunk before its next record.
var errOverQuota = errors.New("group is at its bound")

// shrinkShare is the part of its bound that a group is brought below it, so that the
// index is not gone through for each object, and shrinkMax the most.
const (
	shrinkShare = 8
	shrinkMax   = 64 << 20
)

// groupTag names a group on disk; 0 is no group.
func groupTag(name string) uint64 {
	if name == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(name))
	return max(1, binary.BigEndian.Uint64(sum[:]))
}

// groupOf returns the number of the group with this tag, made at need, 0 for none and
// when there are too many. The caller holds mu.
func (x *index) groupOf(tag uint64) uint16 {
	if tag == 0 {
		return 0
	}
	n, ok := x.byTag[tag]
	if !ok && len(x.groups) <= math.MaxUint16 {
		n = uint16(len(x.groups))
		x.groups = append(x.groups, group{tag: tag})
		x.byTag[tag] = n
	}
	return n
}

// join makes record i one of group n. The caller holds mu.
func (x *index) join(i uint32, n uint16) {
	r := x.records.at(i)
	if r.group == n {
		return
	}
	cost := x.cost(r)
	if r.group != 0 {
		x.groups[r.group].size -= cost
	}
	if r.group = n; n != 0 {
		x.groups[n].size += cost
	}
}

// cost is what a record counts for, with its body. Content of several counts for each.
// The caller holds mu.
func (x *index) cost(r *record) int64 {
	if r.body == 0 {
		return recordCost
	}
	return recordCost + x.bodies.at(r.body).size
}

// groupFor returns the number of the group that o names, and notes its bound.
func (s *Store) groupFor(o CommitOptions) uint16 {
	if o.Group == "" {
		return 0
	}
	x := s.index
	x.mu.Lock()
	defer x.mu.Unlock()
	n := x.groupOf(groupTag(o.Group))
	if n != 0 {
		x.groups[n].limit = o.MaxGroup
	}
	return n
}

// tagOf returns the tag of group n.
func (s *Store) tagOf(n uint16) uint64 {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	return s.index.groups[n].tag
}

// overQuota returns errOverQuota if a record of size bytes under key would bring its
// group above its bound, and ErrNoSpace if it would alone.
func (s *Store) overQuota(key *Key, n uint16, size int64) error {
	x := s.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	g := x.groups[n]
	if n == 0 || g.limit == 0 {
		return nil
	}
	size += recordCost
	if size > g.limit {
		return fmt.Errorf("%w: an object of %d bytes where its group may take %d", ErrNoSpace, size, g.limit)
	}
	if i := x.lookup(key); i != 0 && x.records.at(i).group == n {
		size -= x.cost(x.records.at(i))
	}
	if size > 0 && g.size+size > g.limit {
		return errOverQuota
	}
	return nil
}

// A member is a record of a group that is being shrunk.
type member struct {
	candidate
	key Key
}

// shrink deletes objects of group n, the least used first and of these the oldest, until
// there is room for size bytes more and then some.
func (s *Store) shrink(n uint16, size int64) error {
	s.shrinking.Lock()
	defer s.shrinking.Unlock()
	all, over := s.members(n, size+recordCost)
	if over <= 0 {
		return nil // somebody else did it
	}
	var gone []Key
	for _, m := range all {
		if over <= 0 {
			break
		}
		over -= m.cost
		if gone = append(gone, m.key); len(gone) < deleteBatch {
			continue
		}
		if err := s.deleteMembers(gone); err != nil {
			return err
		}
		gone = gone[:0]
	}
	return s.deleteMembers(gone)
}

// members returns the records of group n in the order in which they are to go, and by
// how many bytes it is to shrink for a record of size bytes. Their use counts are halved:
// two rounds without a use in between and an object goes, however hot it once was.
func (s *Store) members(n uint16, size int64) (all []member, over int64) {
	x := s.index
	x.mu.RLock()
	g := x.groups[n]
	slots := x.records.len()
	x.mu.RUnlock()
	if g.limit == 0 || g.size+size <= g.limit {
		return nil, 0
	}
	over = g.size + size - g.limit + min(g.limit/shrinkShare, shrinkMax)
	for first := uint32(1); first < slots; first += slabSize {
		x.mu.RLock()
		for i := first; i < min(first+slabSize, slots); i++ {
			if r := x.records.at(i); r.id != 0 && r.group == n {
				heat := r.heat.Load()
				r.heat.Store(heat / 2)
				all = append(all, member{candidate{slot: i, id: r.id, heat: heat, cost: x.cost(r), pinned: r.pinned}, r.key})
			}
		}
		x.mu.RUnlock()
	}
	slices.SortFunc(all, func(a, b member) int {
		if a.pinned != b.pinned {
			if b.pinned {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.heat, b.heat), cmp.Compare(a.id, b.id))
	})
	return all, over
}

func (s *Store) deleteMembers(keys []Key) error {
	n, err := s.DeleteAll(keys)
	s.metrics.counts.outgrown.Add(uint64(n))
	return err
}
