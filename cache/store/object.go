package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync/atomic"
)

// An Object is a stored object in use. It pins the generations that it is in, so
// that its bytes stay readable until Release, whatever is evicted. Its methods are
// safe for concurrent use, Release after all others.
type Object struct {
	store    *Store
	key      Key
	id       uint64
	record   *generation
	place    place
	metaOnly bool // load leaves the body alone
	uses     uint32
	pinned   bool
	group    uint16
	meta     []byte
	inline   []byte // a small body, in a pooled buffer unless hot is set
	slot     uint32 // of the record in the index
	hot      *Hot   // where meta and inline come from, nil: from Badger
	admit    bool   // used often enough to be kept in memory
	pins     pins
	released atomic.Bool
}

// emptySum is the SHA-256 of nothing.
func emptySum() [32]byte { return sha256.Sum256(nil) }

// Meta returns the metadata. It is not changed by the store, also after Release.
func (o *Object) Meta() []byte { return o.meta }

// Value returns what decode makes of the metadata. For small objects that are used
// often the value is kept and shared with other Objects of the same record, so it
// must be of the same type each time and must not be changed.
func (o *Object) Value(decode func(meta []byte) (any, error)) (any, error) {
	if o.hot == nil {
		return decode(o.meta)
	}
	return o.hot.Value(decode)
}

// Size returns the length of the body in bytes.
func (o *Object) Size() int64 { return o.place.size }

// SHA256 returns the digest of the body.
func (o *Object) SHA256() [32]byte { return o.place.sum }

// Uses returns how often Get has found the object's key since Open.
func (o *Object) Uses() uint32 { return o.uses }

// Pinned reports whether the object was pinned when it was looked up, see CommitOptions.
func (o *Object) Pinned() bool { return o.pinned }

// Release gives up the object. Calling it again does nothing.
func (o *Object) Release() {
	if o.released.Swap(true) {
		return
	}
	if o.inline != nil {
		if o.hot == nil {
			o.store.buffers.putSmall(o.inline)
		}
		o.inline = nil
	}
	o.pins.release(o.store)
}

func (o *Object) pin(g *generation) { o.pins.add(g) }

// load reads the metadata, and with it the body if that is inline, from memory
// where they are hot.
func (o *Object) load() error {
	if o.hot != nil {
		o.meta, o.inline = o.hot.meta, o.hot.body
		return nil
	}
	if err := o.fetch(); err != nil || !o.admit {
		return err
	}
	if o.inline == nil && o.place.size > 0 {
		return nil // its body is in chunks
	}
	o.hot = &Hot{slot: o.slot, id: o.id, meta: o.meta, body: slices.Clone(o.inline), sum: o.place.sum}
	if o.inline != nil {
		o.store.buffers.putSmall(o.inline)
		o.inline = o.hot.body
	}
	o.store.hot.put(o.hot)
	return nil
}

// fetch is load from Badger.
func (o *Object) fetch() error {
	own := o.place.chunk == 0 && o.place.at == extent{gen: o.record.num, id: o.id}
	err := o.record.view(entryKey(o.id, kindMeta), func(v []byte) error {
		meta, body, err := decodeMeta(v)
		if err != nil {
			return err
		}
		o.meta = slices.Clone(meta)
		if own && !o.metaOnly {
			return o.loadInline(body)
		}
		return nil
	})
	if err != nil || own || o.metaOnly || o.place.chunk != 0 || o.place.size == 0 {
		return err
	}
	// The body came with another record of the same content.
	return o.pins.find(o.place.at.gen).view(entryKey(o.place.at.id, kindMeta), func(v []byte) error {
		_, body, err := decodeMeta(v)
		if err != nil {
			return err
		}
		return o.loadInline(body)
	})
}

func (o *Object) loadInline(body []byte) error {
	data, err := verifyInline(body, o.place.size)
	if err != nil {
		return err
	}
	o.inline = append(o.store.buffers.small(), data...)
	return nil
}

// ReadAt implements io.ReaderAt. What it returns has been verified; a mismatch
// is a *CorruptError.
func (o *Object) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read stored object at %d: negative offset", off)
	}
	if o.released.Load() {
		return 0, fs.ErrClosed
	}
	if off >= o.place.size {
		return 0, io.EOF
	}
	var err error
	if int64(len(p)) > o.place.size-off {
		p, err = p[:o.place.size-off], io.EOF
	}
	n, rerr := o.read(p, off)
	if rerr != nil {
		return n, rerr
	}
	return n, err
}

// read fills p from off, which must be within the body.
func (o *Object) read(p []byte, off int64) (int, error) {
	if o.inline != nil {
		return copy(p, o.inline[off:]), nil
	}
	n := 0
	for n < len(p) {
		m, err := readBlock(&o.place, &o.pins, p[n:], off+int64(n))
		if err != nil {
			return n, o.failed(err)
		}
		n += m
	}
	return n, nil
}

// failed turns an error of readBlock into the caller's.
func (o *Object) failed(err error) error {
	if errors.Is(err, fs.ErrClosed) {
		return err
	}
	o.store.corrupt(o.key, o.id, o.place, err)
	return &CorruptError{Key: o.key, Reason: err.Error()}
}

// WriteRange writes n bytes from off to w, in pieces of at most 256 KiB, each
// verified before it is written and each in one Write. It returns how many bytes
// w took. A range beyond the body is io.ErrUnexpectedEOF.
func (o *Object) WriteRange(w io.Writer, off, n int64) (int64, error) {
	if off < 0 || n < 0 || off > o.place.size || n > o.place.size-off {
		return 0, fmt.Errorf("range of %d bytes at %d of a stored object of %d: %w", n, off, o.place.size, io.ErrUnexpectedEOF)
	}
	if o.released.Load() {
		return 0, fs.ErrClosed
	}
	if n == 0 {
		return 0, nil
	}
	if o.inline != nil {
		m, err := w.Write(o.inline[off : off+n])
		return int64(m), err
	}
	buf := o.store.buffers.block()
	defer o.store.buffers.putBlock(buf)
	var done int64
	for done < n {
		m, err := readBlock(&o.place, &o.pins, buf[:min(n-done, blockSize)], off+done)
		if err != nil {
			return done, o.failed(err)
		}
		// No lock of Badger's is held here: w may be a slow client.
		written, err := w.Write(buf[:m])
		done += int64(written)
		if err != nil {
			return done, err
		}
		if written < m {
			return done, io.ErrShortWrite
		}
	}
	return done, nil
}

// readBlock copies to dst from off to the end of dst or of the block that off is
// in, after verifying that block.
func readBlock(p *place, in *pins, dst []byte, off int64) (n int, err error) {
	number := off / p.chunk
	within := off % p.chunk
	size := min(p.chunk, p.size-number*p.chunk)
	e := p.find(uint32(number))
	err = in.find(e.gen).view(chunkKey(e.id, uint32(number)), func(v []byte) error {
		block, sum, ok := chunkBlock(v, size, within/blockSize)
		if !ok {
			return fmt.Errorf("chunk %d has %d bytes, want %d", number, len(v), chunkLen(size))
		}
		if n = copy(dst, block[within%blockSize:]); n == len(block) {
			// The copy is in the processor's cache now, the original was in none.
			block = dst[:n]
		}
		if checksum(block) != sum {
			n = 0
			return fmt.Errorf("chunk %d does not match its checksum", number)
		}
		return nil
	})
	return n, err
}

// rawChunk appends chunk n as it is stored to buf, verified.
func (o *Object) rawChunk(buf []byte, n uint32) ([]byte, error) {
	e := o.place.find(n)
	size := o.place.chunkSize(n)
	err := o.pins.find(e.gen).view(chunkKey(e.id, n), func(v []byte) error {
		if int64(len(v)) != chunkLen(size) {
			return errMissing
		}
		buf = append(buf, v...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range blocks(size) {
		if block, sum, _ := chunkBlock(buf, size, i); checksum(block) != sum {
			return nil, fmt.Errorf("chunk %d does not match its checksum", n)
		}
	}
	return buf, nil
}

// pinBody pins the generations of the body of an object from Store.slot, as far
// as they are still there.
func (o *Object) pinBody() {
	x := o.store.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	if g := x.generations[o.place.at.gen]; g != nil {
		o.pin(g)
	}
	for _, e := range o.place.others {
		if g := x.generations[e.gen]; g != nil {
			o.pin(g)
		}
	}
}

// chunks returns how many chunks the body has.
func (p *place) chunks() uint32 { return uint32((p.size + p.chunk - 1) / p.chunk) }

// chunkSize returns how many bytes of body are in chunk n.
func (p *place) chunkSize(n uint32) int64 { return min(p.chunk, p.size-int64(n)*p.chunk) }

// touches reports whether part of the body is in generation num.
func (p *place) touches(num uint32) bool {
	return p.at.gen == num || slices.ContainsFunc(p.others, func(e extent) bool { return e.gen == num })
}
