package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Scrubbed counts what Scrub has done so far.
type Scrubbed struct {
	Objects int64 // looked at
	Bytes   int64 // read, metadata included; content of several objects once
	Damaged int64 // objects that were dropped
	Total   int64 // objects at the start
}

// Scrub reads everything that is stored, at no more than rate bytes per second (0:
// as fast as the disk goes), and verifies index entries, metadata, the checksum of
// each block and the SHA-256 of each body. What is damaged is dropped, as when it is
// found by a reader. It calls progress, which may be nil, after each chunk. Reading
// so is no use, hits and writes go on, and a generation waits with its end for the
// object that is being read. The error is that of ctx, or fs.ErrClosed.
func (s *Store) Scrub(ctx context.Context, rate int64, progress func(Scrubbed)) (Scrubbed, error) {
	c := &scrub{store: s, ctx: ctx, rate: rate, begin: time.Now(), tell: progress}
	s.index.mu.RLock()
	c.done.Total = int64(s.index.objects)
	slots := s.index.records.len()
	c.seen = make([]uint64, s.index.bodies.len()/64+1)
	s.index.mu.RUnlock()
	c.buf = s.buffers.chunk()
	defer func() { s.buffers.putChunk(c.buf) }()
	for i := uint32(1); i < slots; i++ {
		if err := c.slot(i); err != nil {
			return c.done, err
		}
	}
	return c.done, nil
}

// scrubBurst bounds how much may be read at once after a stall: the rate times this.
const scrubBurst = time.Second

// scrub is one call of Scrub.
type scrub struct {
	store *Store
	ctx   context.Context // of the one call that this struct lives for
	rate  int64
	begin time.Time // from when on the rate counts
	tell  func(Scrubbed)
	done  Scrubbed
	buf   []byte
	// seen has a bit for each body that was verified. A slot of the index that is
	// taken by another body meanwhile is one that was just written.
	seen []uint64
}

// slot verifies the object in a slot of the index.
func (c *scrub) slot(i uint32) error {
	o, body, ok := c.find(i)
	if !ok {
		return nil
	}
	defer o.Release()
	c.done.Objects++
	err := c.verify(o, body)
	switch {
	case err == nil:
		return c.step(0)
	case c.ctx.Err() != nil, errors.Is(err, fs.ErrClosed):
		return err
	}
	c.done.Damaged += c.sharers(body)
	c.store.corrupt(o.key, o.id, o.place, err)
	return c.step(0)
}

// find pins the object in a slot, with the slot of its body, 0 if it has none.
func (c *scrub) find(i uint32) (o *Object, body uint32, ok bool) {
	x := c.store.index
	x.mu.RLock()
	r := x.records.at(i)
	key := r.key
	live := r.id != 0 && x.alive(r)
	body = r.body
	x.mu.RUnlock()
	if !live {
		return nil, 0, false
	}
	o, ok = c.store.find(key, false)
	return o, body, ok
}

// sharers counts the objects that have the same body: all of them are lost with it.
func (c *scrub) sharers(body uint32) int64 {
	x := c.store.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	if body == 0 {
		return 1
	}
	return max(1, int64(x.bodies.at(body).refs))
}

func (c *scrub) verify(o *Object, body uint32) error {
	if err := o.record.view(entryKey(o.id, kindIndex), func(v []byte) error {
		e, err := decodeIndexEntry(v)
		if err == nil && e.key != o.key {
			err = errBadRecord
		}
		return err
	}); err != nil {
		return fmt.Errorf("index entry: %w", err)
	}
	if err := o.load(); err != nil {
		return err
	}
	if err := c.step(int64(len(o.meta))); err != nil {
		return err
	}
	if word, bit := body/64, uint64(1)<<(body%64); body != 0 && int(word) < len(c.seen) {
		if c.seen[word]&bit != 0 {
			return nil
		}
		c.seen[word] |= bit
	}
	return c.body(o)
}

// body verifies a body.
func (c *scrub) body(o *Object) error {
	digest := sha256.New()
	if o.place.chunk == 0 {
		digest.Write(o.inline)
		if err := c.step(int64(len(o.inline))); err != nil {
			return err
		}
	} else {
		for n := range o.place.chunks() {
			raw, err := o.rawChunk(c.buf[:0], n)
			if err != nil {
				return err
			}
			size := o.place.chunkSize(n)
			digest.Write(raw[:size])
			if err := c.step(size); err != nil {
				return err
			}
		}
	}
	if [32]byte(digest.Sum(nil)) != o.place.sum {
		return errors.New("the body does not match its SHA-256")
	}
	return nil
}

// step counts n bytes and waits until the rate allows more.
func (c *scrub) step(n int64) error {
	c.done.Bytes += n
	if c.tell != nil {
		c.tell(c.done)
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if c.store.closed.Load() {
		return fs.ErrClosed
	}
	if c.rate <= 0 {
		return nil
	}
	ahead := time.Duration(float64(c.done.Bytes)/float64(c.rate)*float64(time.Second)) - time.Since(c.begin)
	if late := -ahead - scrubBurst; late > 0 {
		c.begin = c.begin.Add(late) // what a stall has cost is not made up for
	}
	if ahead < time.Millisecond {
		return nil
	}
	t := time.NewTimer(ahead)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}
