package ledger

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

const (
	// A record is the length of what follows (4 bytes), a CRC-32C of it (4) and the entry.
	recordHead = 8
	// maxURL bounds a URL and a variant each; what has longer ones is not written down.
	maxURL    = 8 << 10
	maxRecord = 2*maxURL + 256
)

// errRecord: what is there is not a record.
var errRecord = errors.New("not a record")

// position is where a record is: the number of its segment and its offset in that. The
// zero value is nowhere, since every segment begins with a header.
type position struct {
	segment int64
	offset  uint32
}

// appendRecord writes e as a record.
func appendRecord(b []byte, e *Entry) []byte {
	at := len(b)
	b = append(b, make([]byte, recordHead)...)
	flags := byte(0)
	if e.Refused {
		flags = 1
	}
	b = append(b, byte(e.Kind), flags)
	b = binary.AppendUvarint(b, uint64(e.N))
	b = binary.AppendVarint(b, e.Time.UnixMilli())
	b = binary.AppendVarint(b, e.Size)
	b = append(b, e.SHA256[:]...)
	if e.Kind != First {
		b = append(b, e.Was[:]...)
		b = binary.AppendUvarint(b, e.changes)
	}
	b = binary.AppendUvarint(b, uint64(e.prev.segment))
	b = binary.AppendUvarint(b, uint64(e.prev.offset))
	b = binary.AppendUvarint(b, uint64(len(e.URL)))
	b = append(b, e.URL...)
	b = append(b, e.Variant...)
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-recordHead))
	binary.BigEndian.PutUint32(b[at+4:], checksum(b[at+recordHead:]))
	return b
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// parseRecord reads the record at the beginning of b, and returns its length.
func parseRecord(b []byte) (e Entry, length int, err error) {
	if len(b) < recordHead {
		return e, 0, errRecord
	}
	size := binary.BigEndian.Uint32(b)
	if size == 0 || size > maxRecord || int(size) > len(b)-recordHead {
		return e, 0, errRecord
	}
	body := b[recordHead:][:size]
	if checksum(body) != binary.BigEndian.Uint32(b[4:]) {
		return e, 0, errRecord
	}
	d := decoder{b: body}
	e.Kind, e.Refused = Kind(d.byte()), d.byte() == 1
	e.N = int64(d.uvarint())
	e.Time = time.UnixMilli(d.varint()).UTC()
	e.Size = d.varint()
	copy(e.SHA256[:], d.take(len(e.SHA256)))
	if e.Kind != First {
		copy(e.Was[:], d.take(len(e.Was)))
		e.changes = d.uvarint()
	}
	e.prev = position{segment: int64(d.uvarint()), offset: uint32(d.uvarint())}
	e.URL = string(d.take(int(min(d.uvarint(), uint64(len(d.b))))))
	e.Variant = string(d.b)
	if d.failed || e.Kind < First || e.Kind > Accepted || e.N < 0 || e.prev.segment < 0 {
		return Entry{}, 0, errRecord
	}
	return e, recordHead + int(size), nil
}

// decoder cuts fields off.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.failed = true
		n = 0
	}
	head := d.b[:n]
	d.b = d.b[n:]
	return head
}

func (d *decoder) byte() byte {
	if head := d.take(1); len(head) == 1 {
		return head[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.failed = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.failed = true
		return 0
	}
	d.b = d.b[n:]
	return v
}
