package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// How space is found. Bytes are only ever freed a generation at a time: the
// oldest goes when the store is within a quarter of a generation of its cap, so
// that writers seldom wait. Objects in it that were used since they were written
// (or copied) are copied to the head first, the most used first and of these the
// smallest, within a budget. What a scan leaves behind was
// never used, so it goes with its generation and pushes nothing out (as in S3-FIFO;
// "least recently used" is approximated, and no hit writes anything).

// promotionShare is how many bytes are written for each that may be copied
// forward: 8 makes for a write amplification of at most 1.125, over time. What one
// generation leaves of the budget serves the next.
const promotionShare = 8

// maxPinnedDrops is how many dropped generations may wait for their readers. One
// more that is in use is left in place and a younger one goes, since dropping it
// would lose objects and free nothing.
const maxPinnedDrops = 2

// maxFailedDrops is how many dropped generations may be on a disk that does not
// remove them before the others are spared: dropping them would free nothing either.
const maxFailedDrops = 2

// softLimit is where dropping begins, hardLimit where writers wait for it to end,
// copyLimit where promotion ends. Until the old generation is gone the store holds both
// copies, so there is room for a whole one (in stores of 64 MiB and more; smaller ones
// have few generations): objects that became hot together lie together, and what was
// promoted together does so for ever.
func (s *Store) softLimit() int64 { return s.geo.maxSize - s.geo.generation/4 }

func (s *Store) hardLimit() int64 {
	x := s.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.pinned > 0 {
		// A generation full of pinned objects needs room for all of it.
		return s.geo.maxSize - s.geo.generation/8
	}
	return s.geo.maxSize + s.geo.maxSize/64
}

func (s *Store) copyLimit() int64 { return s.geo.maxSize + s.geo.maxSize*2/25 }

func (s *Store) wakeEvictor() {
	select {
	case s.evict <- struct{}{}:
	default:
	}
}

// evictor keeps the store below its soft limit until quit is closed.
func (s *Store) evictor() {
	budget := promotionBudget{store: s, credit: s.geo.generation / 2}
	for {
		select {
		case <-s.quit:
			return
		case <-s.evict:
		}
		s.reap()
		s.settleOrTell()
		stuck := false
		for s.used() > s.softLimit() && !s.closed.Load() {
			v := s.victim()
			if v == nil {
				stuck = true
				break
			}
			s.promote(v, &budget)
			if s.closed.Load() {
				// What was not copied yet is not to be lost by a restart.
				break
			}
			if err := s.retire(v); err != nil {
				s.log.Warn("generation of the store cannot be dropped yet", "dir", v.dir, "err", err)
				stuck = true
				break
			}
			s.reap()
			s.settleOrTell()
		}
		s.writing.Lock()
		s.stuck = stuck
		s.rounds++
		s.room.Broadcast()
		s.writing.Unlock()
	}
}

// victim returns the oldest generation that may go, nil if there is none.
func (s *Store) victim() *generation {
	s.writing.Lock()
	defer s.writing.Unlock()
	x := s.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	if s.failed > maxFailedDrops {
		return nil
	}
	var v *generation
	for _, g := range x.generations {
		switch {
		case g == s.head, g.writers.Load() > 0:
		case g.pins.Load() > 0 && len(s.dropped) >= maxPinnedDrops:
		case v == nil || g.num < v.num:
			v = g
		}
	}
	return v
}

// retire drops g and makes sure that the next Open finds no more than the index
// holds. After an error g is still in use.
func (s *Store) retire(g *generation) error {
	if err := s.bury(g); err != nil {
		return err
	}
	if err := g.mark(); err != nil {
		return err
	}
	s.drop(g)
	return nil
}

// settleOrTell writes the tombstones that are owed, or says in the log why it cannot.
func (s *Store) settleOrTell() {
	if err := s.settle(); err != nil && !errors.Is(err, ErrNoSpace) && !errors.Is(err, fs.ErrClosed) {
		s.log.Warn("write deletions that the store owes", "dir", s.opts.Dir, "err", err)
	}
}

// drop takes g out of the index; its objects are misses from then on.
func (s *Store) drop(g *generation) {
	x := s.index
	x.mu.Lock()
	delete(x.generations, g.num)
	g.dropped.Store(true)
	s.dropped = append(s.dropped, g)
	n := x.records.len()
	x.mu.Unlock()
	var removed int
	var bodiless []Key // records that stay on disk without their body
	// A page at a time, so that hits go on.
	for first := uint32(1); first < n; first += slabSize {
		x.mu.Lock()
		for i := first; i < min(first+slabSize, n); i++ {
			if r := x.records.at(i); r.id != 0 && !x.alive(r) {
				if r.gen != g.num {
					bodiless = append(bodiless, r.key)
				}
				x.remove(i)
				removed++
			}
		}
		x.mu.Unlock()
	}
	s.writing.Lock()
	s.owe(bodiless...)
	s.writing.Unlock()
	s.metrics.counts.evicted.Add(uint64(removed))
	s.log.Debug("dropped a generation of the store", "dir", g.dir, "objects", removed)
}

// reap removes dropped generations that nobody reads any more. They count as
// used until their files are gone. Only the evictor calls it.
func (s *Store) reap() {
	s.failed = 0
	for _, g := range s.free() {
		if g.writable() && !s.mayClose() {
			g.abandon()
		} else if err := g.close(); err != nil {
			s.log.Warn("close a dropped generation of the store", "err", err)
		}
		if err := s.remove(g); err != nil {
			s.failed++
			if !g.told {
				g.told = true
				s.log.Error("a dropped generation of the store cannot be removed; its space counts as used, and it is tried again", "dir", g.dir, "err", err)
			}
			continue
		}
		s.index.mu.Lock()
		s.dropped = slices.DeleteFunc(s.dropped, func(d *generation) bool { return d == g })
		s.index.mu.Unlock()
	}
}

// free returns the dropped generations that nobody reads any more.
func (s *Store) free() []*generation {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	var done []*generation
	for _, g := range s.dropped {
		if g.pins.Load() == 0 {
			done = append(done, g)
		}
	}
	return done
}

// remove removes the folder of g, if it is in the store's own.
func (s *Store) remove(g *generation) error {
	if err := s.ours(); err != nil {
		return err
	}
	return s.discard(g)
}

// discard removes the folder of g. It is renamed first: half a generation must
// not be found at the next Open.
func (s *Store) discard(g *generation) error {
	trash := filepath.Join(s.opts.Dir, fmt.Sprintf("%s%08x", trashPrefix, g.num))
	// It may have been renamed by an earlier try.
	if err := os.Rename(g.dir, trash); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(trash)
}

// A candidate is a record that may be copied forward.
type candidate struct {
	slot uint32
	id   uint64
	heat uint32
	cost int64 // bytes to be copied
	// pinned is left false for those beyond the bound on pinned bytes.
	pinned bool
}

// A promotionBudget bounds what is copied forward.
type promotionBudget struct {
	store  *Store
	credit int64
	seen   uint64 // bytes written, promotions included, when credit was last computed
}

// grant returns how much may be copied from one generation.
func (b *promotionBudget) grant() int64 {
	written := b.store.metrics.counts.written.Load()
	generation := b.store.geo.generation
	b.credit = min(b.credit+int64(written-b.seen)/promotionShare, 2*generation)
	b.seen = written
	return min(b.credit, generation)
}

// spend takes n off the credit; what was copied earns none.
func (b *promotionBudget) spend(n int64) {
	b.credit -= n
	b.seen += uint64(n)
}

// promote copies the objects in v that were used to the head, within the budget.
func (s *Store) promote(v *generation, budget *promotionBudget) {
	left := budget.grant()
	lost := 0
	defer func() {
		if lost > 0 {
			s.log.Warn("pinned objects are dropped for lack of room to carry them", "dir", v.dir, "objects", lost)
		}
	}()
	for _, c := range s.candidates(v) {
		switch used := s.used() + c.cost; {
		case c.pinned && used <= s.copyLimit():
		case c.pinned:
			lost++
			continue
		case c.cost > left, used > s.copyLimit():
			continue
		}
		if s.closed.Load() {
			return
		}
		if err := s.copyForward(v, c); err != nil {
			s.log.Debug("promotion ended early", "dir", v.dir, "err", err)
			return
		}
		if c.pinned {
			// Pinning has its own bound, and earns the others nothing.
			budget.seen += uint64(c.cost)
			continue
		}
		left -= c.cost
		budget.spend(c.cost)
	}
}

// candidates returns the used and the pinned records that lose something with v, best first.
func (s *Store) candidates(v *generation) []candidate {
	x := s.index
	var all []candidate
	x.mu.RLock()
	n := x.records.len()
	mayPin := x.pinned <= s.geo.maxSize/2
	x.mu.RUnlock()
	for first := uint32(1); first < n; first += slabSize {
		x.mu.RLock()
		for i := first; i < min(first+slabSize, n); i++ {
			r := x.records.at(i)
			heat, pinned := r.heat.Load(), r.pinned && mayPin
			if r.id == 0 || heat == 0 && !pinned || !x.alive(r) {
				continue
			}
			cost, in := x.costIn(r, v.num)
			if in {
				all = append(all, candidate{slot: i, id: r.id, heat: heat, cost: cost, pinned: pinned})
			}
		}
		x.mu.RUnlock()
	}
	slices.SortFunc(all, func(a, b candidate) int {
		if a.pinned != b.pinned {
			if a.pinned {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.heat, a.heat), cmp.Compare(a.cost, b.cost), cmp.Compare(a.id, b.id))
	})
	return all
}

// costIn returns how many bytes of the record's body are in generation num, and
// whether anything of the record is. The caller holds mu.
func (x *index) costIn(r *record, num uint32) (cost int64, in bool) {
	if r.body == 0 {
		return recordCost, r.gen == num
	}
	p := x.place(r.body)
	if p.chunk == 0 {
		if p.at.gen == num {
			return recordCost + p.size, true
		}
		return recordCost, r.gen == num
	}
	in, cost = r.gen == num, recordCost
	end := p.chunks()
	for i := len(p.others); i >= 0; i-- {
		e := p.at
		if i > 0 {
			e = p.others[i-1]
		}
		if e.gen == num {
			in = true
			cost += min(int64(end)*p.chunk, p.size) - int64(e.first)*p.chunk
		}
		end = e.first
	}
	return cost, in
}

// copyForward writes to the head what the candidate has in v. An object that
// went away meanwhile, or cannot be read, is no error.
func (s *Store) copyForward(v *generation, c candidate) error {
	o, ok := s.slot(c.slot)
	if !ok || o.id != c.id {
		if ok {
			o.Release()
		}
		return nil
	}
	defer o.Release()
	o.pinBody()
	o.metaOnly = o.place.chunk == 0 && o.place.at.gen != v.num
	if err := o.load(); err != nil {
		return nil
	}
	w := recordWrite{key: o.key, pinned: o.pinned, group: o.group, meta: o.meta, sum: o.place.sum, size: o.place.size, inline: o.inline}
	if o.place.chunk != 0 && o.place.touches(v.num) {
		moved, err := s.copyChunks(o, v)
		if moved == nil || err != nil {
			return err
		}
		w.place = moved
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	s.index.mu.RLock()
	r := s.index.records.at(c.slot)
	current := r.id == c.id && r.key == o.key && s.index.alive(r)
	s.index.mu.RUnlock()
	if !current {
		return nil
	}
	if err := s.writeRecord(w); err != nil {
		return err
	}
	// Two drops without a use in between and it goes, however hot it once was.
	r.heat.Store(r.heat.Load() / 2)
	s.metrics.counts.promoted.Add(1)
	return nil
}

// copyChunks copies the object's chunks that are in v and returns where all of
// them are then; nil if one cannot be read.
func (s *Store) copyChunks(o *Object, v *generation) (*place, error) {
	s.writing.Lock()
	id := s.drawID()
	s.writing.Unlock()
	var extents []extent
	buf := s.buffers.chunk()
	defer s.buffers.putChunk(buf)
	for n := range o.place.chunks() {
		e := o.place.find(n)
		if e.gen == v.num {
			chunk, err := o.rawChunk(buf[:0], n)
			if err != nil {
				return nil, nil
			}
			s.writing.Lock()
			g, err := s.append(id, keyValue{chunkKey(id, n), chunk})
			s.writing.Unlock()
			if err != nil {
				return nil, err
			}
			e = extent{gen: g.num, id: id}
		}
		if k := len(extents) - 1; k < 0 || extents[k].gen != e.gen || extents[k].id != e.id {
			extents = append(extents, extent{gen: e.gen, first: n, id: e.id})
		}
	}
	return &place{sum: o.place.sum, size: o.place.size, chunk: o.place.chunk, at: extents[0], others: extents[1:], head: o.place.head}, nil
}

// sealer seals full generations and writes the head to the disk now and then,
// until quit is closed.
func (s *Store) sealer() {
	tick := time.NewTicker(cmp.Or(s.opts.syncEvery, syncInterval))
	defer tick.Stop()
	// Generations that could not be sealed for lack of disk space.
	var later []*generation
	for {
		select {
		case <-s.quit:
			return
		case g := <-s.sealing:
			if !s.seal(g) {
				later = append(later, g)
			}
		case <-tick.C:
			s.syncHead()
			later = slices.DeleteFunc(later, s.seal)
			if s.owes() || len(s.free()) > 0 {
				s.wakeEvictor()
			}
		}
	}
}

// seal seals g; false means that it must be tried again. It is dropped only when it
// cannot be read any more, and not for want of something that may pass.
func (s *Store) seal(g *generation) (done bool) {
	if g.dropped.Load() {
		return true
	}
	if !s.mayClose() {
		return false
	}
	err := g.seal()
	stuck := errors.Is(err, errStuck)
	switch {
	case err == nil:
		return true
	case g.readable():
		s.log.Warn("generation of the store is complete, but will have to be recovered by the next start", "dir", g.dir, "err", err)
		return true
	case !stuck && (g.failures < sealTries || readable(g.dir) != nil):
		s.log.Warn("generation of the store cannot be opened again; it is tried again soon", "dir", g.dir, "err", err)
		return false
	}
	if stuck {
		s.leftBehind(g)
	}
	s.log.Error("generation of the store cannot be opened again and is dropped", "dir", g.dir, "err", err)
	s.metrics.lost.Inc()
	if err := errors.Join(s.bury(g), g.mark()); err != nil {
		s.log.Error("what was in a generation that is dropped may be back after the next start", "dir", g.dir, "err", err)
	}
	s.drop(g)
	s.wakeEvictor()
	return true
}

// sealTries is how often a generation is opened that was closed before it is given
// up, if its files can be read.
const sealTries = 3

func (s *Store) syncHead() {
	s.writing.Lock()
	g := s.head
	s.writing.Unlock()
	if g == nil {
		return
	}
	if err := g.sync(); err != nil {
		s.log.Warn("sync the store", "dir", g.dir, "err", err)
	}
}
