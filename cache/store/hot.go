package store

import (
	"sync"
	"sync/atomic"
)

// Small objects that are asked for again and again (the indexes and wheels that
// every job of a fleet fetches) are kept in memory as they were read and
// verified: Badger's way to them costs more than all else that a hit does.
// Nothing here decides what exists. An entry is used only for the record that the
// index still holds, by the record's id, which no other ever gets; so replacing,
// deleting and evicting need no word to this cache.

// hotShare is the part of Options.MaxSize, and hotMax the most, that it may take.
const (
	hotShare = 64
	hotMax   = 16 << 20
)

// hotUses is how often a small object was used before it is kept in memory.
const hotUses = 3

// hotShards keeps cores out of each other's way.
const hotShards = 16

// hotOverhead is what an entry costs besides metadata and body: the structs, the
// map, and about what a decoded value takes.
const hotOverhead = 1 << 10

// hotCache holds entries by the slot of their record.
type hotCache struct {
	shards [hotShards]hotShard
}

// hotShard is a second-chance queue: what was used since it last came to the
// front goes to the back once more.
type hotShard struct {
	mu      sync.RWMutex
	entries map[uint32]*Hot
	queue   []*Hot // of entries, oldest first from head on
	head    int
	bytes   int
	limit   int
}

// A Hot is a small object in memory. What its methods return stays valid for as
// long as anybody holds it, whatever becomes of the object, and must not be changed.
// It is safe for concurrent use.
type Hot struct {
	slot  uint32
	id    uint64
	meta  []byte
	body  []byte
	sum   [32]byte
	used  atomic.Bool
	value atomic.Value
}

// Hot returns the object under key, and notes its use, if it is in memory, which
// only small ones are that were used a few times; Get finds these too.
func (s *Store) Hot(key Key) (h *Hot, ok bool) {
	x := s.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	i := x.lookup(&key)
	if i == 0 {
		return nil, false
	}
	r := x.records.at(i)
	if r.heat.Load() < hotUses || !x.alive(r) {
		return nil, false
	}
	if h = s.hot.get(i, r.id); h == nil {
		return nil, false
	}
	r.touch()
	return h, true
}

// Meta returns the metadata.
func (h *Hot) Meta() []byte { return h.meta }

// Body returns the whole body.
func (h *Hot) Body() []byte { return h.body }

// SHA256 returns the digest of the body.
func (h *Hot) SHA256() [32]byte { return h.sum }

// Value returns what decode makes of the metadata. It is worked out once and then
// shared, so it must be of the same type each time.
func (h *Hot) Value(decode func(meta []byte) (any, error)) (any, error) {
	if v := h.value.Load(); v != nil {
		return v, nil
	}
	v, err := decode(h.meta)
	if err == nil {
		h.value.Store(v)
	}
	return v, err
}

func (h *Hot) cost() int { return len(h.meta) + len(h.body) + hotOverhead }

func newHotCache(maxSize int64) *hotCache {
	c := &hotCache{}
	limit := int(min(maxSize/hotShare, hotMax)) / hotShards
	for i := range c.shards {
		c.shards[i] = hotShard{entries: make(map[uint32]*Hot), limit: limit}
	}
	return c
}

func (c *hotCache) shard(slot uint32) *hotShard { return &c.shards[slot%hotShards] }

// get returns the entry of the record in slot if it is the one with this id.
func (c *hotCache) get(slot uint32, id uint64) *Hot {
	s := c.shard(slot)
	s.mu.RLock()
	e := s.entries[slot]
	s.mu.RUnlock()
	if e == nil || e.id != id {
		return nil
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	return e
}

// put takes e, in place of an older entry of its slot, unless it is too large for
// its shard.
func (c *hotCache) put(e *Hot) {
	s := c.shard(e.slot)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.cost() > s.limit/4 {
		return
	}
	if old := s.entries[e.slot]; old != nil {
		if old.id == e.id {
			return // two readers at once
		}
		s.bytes -= old.cost() // its place in the queue is found stale below
	}
	s.entries[e.slot] = e
	s.bytes += e.cost()
	s.queue = append(s.queue, e)
	for s.bytes > s.limit {
		s.evictOne()
	}
}

// evictOne takes the front of the queue. The caller holds mu.
func (s *hotShard) evictOne() {
	e := s.queue[s.head]
	s.queue[s.head] = nil
	s.head++
	switch {
	case s.entries[e.slot] != e: // replaced
	case e.used.Swap(false):
		s.queue = append(s.queue, e)
	default:
		delete(s.entries, e.slot)
		s.bytes -= e.cost()
	}
	if s.head > len(s.queue)/2 {
		s.queue = s.queue[:copy(s.queue, s.queue[s.head:])]
		clear(s.queue[len(s.queue):cap(s.queue)])
		s.head = 0
	}
}
