package ledger

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// The index of a full segment is a header, its Bloom filter, the offsets of the entries
// that are events, and for each URL the hash and the offset of its latest entry in the
// segment, sorted by hash. Header, filter and events are read at the start; the rest is
// looked up on disk.
const (
	indexMagic = "larder ledger index 1\n"
	// indexHead: magic, the key's ID (8), the root (32), the number of URLs and of events
	// (4 each), and a CRC-32C of all that is read at the start (4).
	indexHead = len(indexMagic) + 8 + tlog.HashSize + 4 + 4 + 4
	// An item is a hash and an offset.
	itemSize = 8 + 4
	// bloomBits for each URL, with bloomProbes, let 1 in 120 URLs that are not there
	// through.
	bloomBits   = 10
	bloomProbes = 7
)

// sealed is what is in memory of a full segment.
type sealed struct {
	root   tlog.Hash
	urls   int
	bloom  []byte
	events []uint32
	latest map[uint64]uint32 // instead of the file and the filter, where there is no file
}

// item is where the latest entry of a URL is.
type item struct {
	hash   uint64
	offset uint32
}

func bloomSize(urls int) int { return max(8, (urls*bloomBits+7)/8) }

// eachBit calls visit with the bits of a hash in a filter, until it returns false.
func eachBit(filter []byte, hash uint64, visit func(byteAt int, bit byte) bool) bool {
	bits := uint64(len(filter)) * 8
	step := hash>>32 | 1
	for i := range uint64(bloomProbes) {
		at := (hash + i*step) % bits
		if !visit(int(at/8), 1<<(at%8)) {
			return false
		}
	}
	return true
}

// mayHave reports whether the segment may have an entry of a URL.
func (s *sealed) mayHave(hash uint64) bool {
	if s.latest != nil {
		return true
	}
	return eachBit(s.bloom, hash, func(at int, bit byte) bool { return s.bloom[at]&bit != 0 })
}

// encodeIndex makes the file of an index.
func encodeIndex(keyID [8]byte, root tlog.Hash, latest map[uint64]uint32, events []uint32) []byte {
	items := make([]item, 0, len(latest))
	filter := make([]byte, bloomSize(len(latest)))
	for hash, offset := range latest {
		items = append(items, item{hash, offset})
		eachBit(filter, hash, func(at int, bit byte) bool {
			filter[at] |= bit
			return true
		})
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.hash, b.hash) })
	b := append([]byte(indexMagic), keyID[:]...)
	b = append(b, root[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(items)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(events)))
	crcAt := len(b)
	b = append(b, 0, 0, 0, 0)
	b = append(b, filter...)
	for _, offset := range events {
		b = binary.BigEndian.AppendUint32(b, offset)
	}
	sum := checksum(append(slices.Clone(b[:crcAt]), b[indexHead:]...))
	binary.BigEndian.PutUint32(b[crcAt:], sum)
	for _, i := range items {
		b = binary.BigEndian.AppendUint64(b, i.hash)
		b = binary.BigEndian.AppendUint32(b, i.offset)
	}
	return b
}

var errIndex = errors.New("not the index of this segment")

// readIndex reads what is kept in memory of an index.
func readIndex(path string, keyID [8]byte, most int) (*sealed, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, indexHead)
	if _, err := io.ReadFull(f, head); err != nil {
		return nil, fmt.Errorf("%w: %w", errIndex, err)
	}
	at := len(indexMagic)
	if string(head[:at]) != indexMagic || [8]byte(head[at:]) != keyID {
		return nil, errIndex
	}
	s := &sealed{root: tlog.Hash(head[at+8:][:tlog.HashSize])}
	at += 8 + tlog.HashSize
	s.urls = int(binary.BigEndian.Uint32(head[at:]))
	events := int(binary.BigEndian.Uint32(head[at+4:]))
	if s.urls > most || events > most {
		return nil, errIndex
	}
	rest := make([]byte, bloomSize(s.urls)+4*events)
	if _, err := io.ReadFull(f, rest); err != nil {
		return nil, fmt.Errorf("%w: %w", errIndex, err)
	}
	if checksum(append(slices.Clone(head[:at+8]), rest...)) != binary.BigEndian.Uint32(head[at+8:]) {
		return nil, errIndex
	}
	info, err := f.Stat()
	if err != nil || info.Size() != int64(indexHead+len(rest)+s.urls*itemSize) {
		return nil, errIndex
	}
	s.bloom = rest[:bloomSize(s.urls)]
	for b := rest[len(s.bloom):]; len(b) > 0; b = b[4:] {
		s.events = append(s.events, binary.BigEndian.Uint32(b))
	}
	return s, nil
}

// find returns the offset of the latest entry of a URL in the segment.
func (s *sealed) find(path string, hash uint64) (offset uint32, ok bool, err error) {
	if s.latest != nil {
		offset, ok = s.latest[hash]
		return offset, ok, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	begin := int64(indexHead + len(s.bloom) + 4*len(s.events))
	var b [itemSize]byte
	low, high := 0, s.urls
	for low < high {
		mid := (low + high) / 2
		if _, err := f.ReadAt(b[:], begin+int64(mid)*itemSize); err != nil {
			return 0, false, fmt.Errorf("%w: %w", errIndex, err)
		}
		switch h := binary.BigEndian.Uint64(b[:]); {
		case h == hash:
			return binary.BigEndian.Uint32(b[8:]), true, nil
		case h < hash:
			low = mid + 1
		default:
			high = mid
		}
	}
	return 0, false, nil
}
