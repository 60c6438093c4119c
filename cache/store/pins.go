package store

import "sync"

// pins are the generations that an object or a writer relies on, each pinned once.
type pins struct {
	first *generation // nearly always the only one
	more  []*generation
}

// add pins g. Against eviction the caller holds index.mu or, for the head, Store.writing.
func (p *pins) add(g *generation) {
	if p.has(g.num) {
		return
	}
	g.pins.Add(1)
	if p.first == nil {
		p.first = g
		return
	}
	p.more = append(p.more, g)
}

func (p *pins) has(num uint32) bool { return p.find(num) != nil }

// find returns the pinned generation with this number, nil if there is none.
func (p *pins) find(num uint32) *generation {
	if p.first != nil && p.first.num == num {
		return p.first
	}
	for _, g := range p.more {
		if g.num == num {
			return g
		}
	}
	return nil
}

// each calls fn for every pinned generation.
func (p *pins) each(fn func(*generation)) {
	if p.first != nil {
		fn(p.first)
	}
	for _, g := range p.more {
		fn(g)
	}
}

// release unpins all; the evictor learns of a dropped one that is free now.
func (p *pins) release(s *Store) {
	p.each(func(g *generation) {
		if g.pins.Add(-1) == 0 && g.dropped.Load() {
			s.wakeEvictor()
		}
	})
	*p = pins{}
}

// inlineMax is the size up to which a body is kept beside the metadata: one
// look-up and one copy serve the whole object, for index pages and the many
// small files of package registries.
const inlineMax = 32 << 10

// buffers are the pools of one store.
type buffers struct {
	chunkSize             int64
	smalls, blocks, whole sync.Pool
}

func take(p *sync.Pool, n int64) []byte {
	if b, ok := p.Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, n)
}

func (b *buffers) small() []byte     { return take(&b.smalls, inlineMax) }
func (b *buffers) block() []byte     { return take(&b.blocks, blockSize)[:blockSize] }
func (b *buffers) chunk() []byte     { return take(&b.whole, chunkLen(b.chunkSize)) }
func (b *buffers) putSmall(p []byte) { b.smalls.Put(&p) }
func (b *buffers) putBlock(p []byte) { b.blocks.Put(&p) }
func (b *buffers) putChunk(p []byte) { b.whole.Put(&p) }
