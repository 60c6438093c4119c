package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The kinds of entry, the byte that follows the id in a Badger key.
const (
	kindIndex = 'i'
	kindMeta  = 'm'
	kindChunk = 'c'
)

// indexVersion is the first byte of every index entry. Version 1 had no groups
// and no heads.
const indexVersion = 2

const (
	flagTombstone = 1 << iota // the key is deleted
	flagPlaced                // the entry says where the body is
	flagInline                // with flagPlaced: the body is beside the metadata
	flagPinned                // the object outlives its generation, see CommitOptions
	flagGroup                 // the object is one of a group
	flagHead                  // with flagPlaced: how the body begins, see place.head
)

// maxExtents bounds what a decoder allocates: 2^16 changes of generation within
// one body are more than any store has.
const maxExtents = 1 << 16

var errBadRecord = errors.New("malformed index entry")

// An extent says that from chunk first on, the chunks of a body are in
// generation gen under the number id, up to the next extent.
type extent struct {
	gen   uint32
	first uint32
	id    uint64
}

// An indexEntry is what Open needs to know of a record, without its metadata.
type indexEntry struct {
	key       Key
	tombstone bool
	pinned    bool
	group     uint64 // its tag, 0: none
	sum       [32]byte
	size      int64
	placed    bool     // the fields below are set
	inline    bool     // the body is in the metadata entry of the same id
	head      uint64   // see place.head, 0: not there
	chunk     int64    // bytes per chunk, when not inline
	extents   []extent // at least one, when not inline
}

// appendTo appends the encoded entry to b.
func (e *indexEntry) appendTo(b []byte) []byte {
	start := len(b)
	var flags byte
	if e.tombstone {
		flags |= flagTombstone
	}
	if e.placed {
		flags |= flagPlaced
	}
	if e.placed && e.inline {
		flags |= flagInline
	}
	if e.pinned {
		flags |= flagPinned
	}
	if e.group != 0 {
		flags |= flagGroup
	}
	if e.placed && e.head != 0 {
		flags |= flagHead
	}
	b = append(b, indexVersion, flags)
	b = append(b, e.key[:]...)
	if !e.tombstone {
		b = append(b, e.sum[:]...)
		b = binary.AppendUvarint(b, uint64(e.size))
		if e.placed && !e.inline {
			b = binary.AppendUvarint(b, uint64(e.chunk))
			b = binary.AppendUvarint(b, uint64(len(e.extents)))
			for _, x := range e.extents {
				b = binary.AppendUvarint(b, uint64(x.gen))
				b = binary.AppendUvarint(b, uint64(x.first))
				b = binary.AppendUvarint(b, x.id)
			}
		}
		if e.group != 0 {
			b = binary.LittleEndian.AppendUint64(b, e.group)
		}
		if flags&flagHead != 0 {
			b = binary.LittleEndian.AppendUint64(b, e.head)
		}
	}
	return binary.LittleEndian.AppendUint32(b, checksum(b[start:]))
}

// decodeIndexEntry decodes what appendTo made. Whatever b is, it does not panic
// and allocates no more than b's size warrants.
func decodeIndexEntry(b []byte) (indexEntry, error) {
	var e indexEntry
	if len(b) < 2+len(e.key)+4 {
		return e, errBadRecord
	}
	if b[0] == 0 || b[0] > indexVersion {
		return e, fmt.Errorf("index entry of version %d, want at most %d", b[0], indexVersion)
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if checksum(body) != sum {
		return e, errors.New("index entry does not match its checksum")
	}
	flags := body[1]
	d := decoder{b: body[2:]}
	d.bytes(e.key[:])
	if flags&flagTombstone != 0 {
		e.tombstone = true
		return e, d.finish()
	}
	e.pinned = flags&flagPinned != 0
	d.bytes(e.sum[:])
	e.size = int64(d.uvarint(1 << 62))
	e.placed = flags&flagPlaced != 0
	e.inline = e.placed && flags&flagInline != 0
	if e.placed && !e.inline {
		e.chunk = int64(d.uvarint(1 << 30))
		n := d.uvarint(maxExtents)
		// An extent takes three bytes at the least.
		if d.bad || e.chunk == 0 || n == 0 || n > uint64(len(d.b)/3) {
			return e, errBadRecord
		}
		e.extents = make([]extent, n)
		for i := range e.extents {
			e.extents[i] = extent{
				gen:   uint32(d.uvarint(1<<32 - 1)),
				first: uint32(d.uvarint(1<<32 - 1)),
				id:    d.uvarint(1<<64 - 1),
			}
		}
		if !ascending(e.extents) {
			return e, errBadRecord
		}
	}
	if flags&flagGroup != 0 && b[0] > 1 {
		e.group = d.uint64()
	}
	if flags&flagHead != 0 && e.placed && b[0] > 1 {
		e.head = d.uint64()
	}
	return e, d.finish()
}

// ascending reports whether the extents begin at chunk 0 and go on in order.
func ascending(extents []extent) bool {
	for i, x := range extents {
		if i == 0 && x.first != 0 || i > 0 && x.first <= extents[i-1].first {
			return false
		}
	}
	return true
}

// A decoder takes fields off the front of b; after a field that is not there or
// exceeds its limit, bad is set and everything reads as zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) bytes(dst []byte) {
	if d.bad || len(d.b) < len(dst) {
		d.bad = true
		return
	}
	copy(dst, d.b)
	d.b = d.b[len(dst):]
}

func (d *decoder) uvarint(limit uint64) uint64 {
	if d.bad {
		return 0
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > limit {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint64() uint64 {
	var b [8]byte
	d.bytes(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// finish returns an error unless everything was well-formed and used up.
func (d *decoder) finish() error {
	if d.bad || len(d.b) != 0 {
		return errBadRecord
	}
	return nil
}

// metaVersion is the first byte of every metadata entry.
const metaVersion = 1

// appendMeta appends the encoded metadata entry: version, length of meta, meta,
// its checksum, and, if there is a body, the body and its checksum.
func appendMeta(b, meta, body []byte) []byte {
	start := len(b)
	b = append(b, metaVersion)
	b = binary.AppendUvarint(b, uint64(len(meta)))
	b = append(b, meta...)
	b = binary.LittleEndian.AppendUint32(b, checksum(b[start:]))
	if len(body) > 0 {
		b = append(b, body...)
		b = binary.LittleEndian.AppendUint32(b, checksum(body))
	}
	return b
}

// decodeMeta returns the metadata in b, verified, and the inline body, not yet
// verified (see verifyInline), both aliasing b.
func decodeMeta(b []byte) (meta, body []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errors.New("metadata is missing")
	}
	if b[0] != metaVersion {
		return nil, nil, fmt.Errorf("metadata of version %d, want %d", b[0], metaVersion)
	}
	n, w := binary.Uvarint(b[1:])
	if w <= 0 || n > uint64(len(b)) {
		return nil, nil, errors.New("malformed metadata")
	}
	end := 1 + w + int(n)
	if len(b) < end+4 {
		return nil, nil, errors.New("metadata is cut short")
	}
	if checksum(b[:end]) != binary.LittleEndian.Uint32(b[end:]) {
		return nil, nil, errors.New("metadata does not match its checksum")
	}
	return b[1+w : end], b[end+4:], nil
}

// verifyInline checks the body part that decodeMeta returned and cuts its checksum off.
func verifyInline(body []byte, size int64) ([]byte, error) {
	if int64(len(body)) != size+4 {
		return nil, fmt.Errorf("inline body has %d bytes, want %d", len(body)-4, size)
	}
	data := body[:size]
	if checksum(data) != binary.LittleEndian.Uint32(body[size:]) {
		return nil, errors.New("inline body does not match its checksum")
	}
	return data, nil
}

// blockSize is the unit of verification: a read of one byte reads and checks
// this much, and it is the size of the buffers that go to clients.
const blockSize = 256 << 10

// chunkLen returns the length of a stored chunk that holds n bytes of body.
func chunkLen(n int64) int64 { return n + 4*blocks(n) }

func blocks(n int64) int64 { return (n + blockSize - 1) / blockSize }

// sealChunk appends to the body bytes in b the checksum of each block.
func sealChunk(b []byte) []byte {
	n := len(b)
	for off := 0; off < n; off += blockSize {
		b = binary.LittleEndian.AppendUint32(b, checksum(b[off:min(off+blockSize, n)]))
	}
	return b
}

// chunkBlock returns block i of a stored chunk that holds n bytes of body, and
// the checksum it must have; ok is false if the chunk has not the right length.
func chunkBlock(chunk []byte, n, i int64) (block []byte, sum uint32, ok bool) {
	if int64(len(chunk)) != chunkLen(n) {
		return nil, 0, false
	}
	off := i * blockSize
	return chunk[off:min(off+blockSize, n)], binary.LittleEndian.Uint32(chunk[n+4*i:]), true
}

// checksum is CRC-32C (RFC 3720, section 12.1), which amd64 and arm64 compute in hardware.
func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// entryKey returns the Badger key of an index or metadata entry.
func entryKey(id uint64, kind byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 9), id), kind)
}

// chunkKey returns the Badger key of a chunk.
func chunkKey(id uint64, n uint32) []byte {
	b := append(binary.BigEndian.AppendUint64(make([]byte, 0, 13), id), kindChunk)
	return binary.BigEndian.AppendUint32(b, n)
}

// parseKey takes the id and the kind out of a Badger key.
func parseKey(b []byte) (id uint64, kind byte, ok bool) {
	if len(b) < 9 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(b), b[8], true
}
