package digests

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"larder/cache/integrity"
)

const (
	// magic begins the file. A file that begins otherwise is begun anew.
	magic = "larder digests 1\n"
	// A page is the head of the file or a bucket: 42 slots in which all of a key's are.
	pageSize = 4096
	slotSize = 96
	perPage  = pageSize / slotSize

	// DefaultBuckets make room for a million digests, in 100 MB of which only what is
	// used takes space on disk.
	DefaultBuckets = 25_000

	// refreshAfter is how old a slot gets before it is written again only to say that it
	// is still in use.
	refreshAfter = 24 * time.Hour
)

// A slot is the tag of its key (16 bytes), the algorithm, three bytes that are zero, when
// it was written (seconds since 1970, 4 bytes), the digest (64) and a CRC-32C of all
// before it (4). One whose checksum is wrong, as after a power cut in the middle of a
// write, is empty.
const (
	tagSize   = 16
	atAlg     = tagSize
	atTime    = tagSize + 4
	atSum     = tagSize + 8
	atCheck   = atSum + 64
	atBuckets = len(magic) + 8 // in the head, behind the file's ID
)

// Key names the file that a digest is of. It must be a digest itself.
type Key [32]byte

// Entry is a digest of a file.
type Entry struct {
	Key    Key
	Digest integrity.Digest
}

// Table is the file. It is safe for concurrent use; no other process may have it open.
type Table struct {
	file    *os.File
	buckets uint64
	id      [8]byte
	now     func() time.Time
	epoch   atomic.Uint64

	mu sync.RWMutex // a bucket is read and written whole
}

// Open opens the table at path, or begins one with that number of buckets of 42 slots.
func Open(path string, buckets int) (*Table, error) {
	t, err := open(path, buckets)
	if err != nil {
		return nil, fmt.Errorf("open the digests that indexes have named: %w", err)
	}
	return t, nil
}

func open(path string, buckets int) (*Table, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	t := &Table{file: f, now: time.Now}
	if t.readHead() != nil {
		err = t.begin(uint64(buckets))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return t, nil
}

var errNoTable = errors.New("not such a file")

func (t *Table) readHead() error {
	head := make([]byte, atBuckets+8)
	if _, err := t.file.ReadAt(head, 0); err != nil {
		return err
	}
	info, err := t.file.Stat()
	if err != nil {
		return err
	}
	copy(t.id[:], head[len(magic):])
	t.buckets = binary.BigEndian.Uint64(head[atBuckets:])
	if string(head[:len(magic)]) != magic || t.buckets == 0 || t.buckets > 1<<40 || info.Size() != int64(t.buckets+1)*pageSize {
		return errNoTable
	}
	return nil
}

// begin makes the file an empty table.
func (t *Table) begin(buckets uint64) error {
	t.buckets = buckets
	rand.Read(t.id[:]) // never fails
	head := append([]byte(magic), t.id[:]...)
	head = binary.BigEndian.AppendUint64(head, buckets)
	if err := t.file.Truncate(0); err != nil {
		return err
	}
	if err := t.file.Truncate(int64(buckets+1) * pageSize); err != nil {
		return err
	}
	_, err := t.file.WriteAt(head, 0)
	return err
}

// ID is another one for each table that was begun: what was learnt before is not in it.
func (t *Table) ID() [8]byte { return t.id }

// Epoch changes whenever something new is known.
func (t *Table) Epoch() uint64 { return t.epoch.Load() }

// Close closes the file.
func (t *Table) Close() error { return t.file.Close() }

// Lookup returns the digests that are known of a file, at most one for each algorithm.
func (t *Table) Lookup(key Key) ([]integrity.Digest, error) {
	page := getPage()
	defer putPage(page)
	t.mu.RLock()
	err := t.read(t.bucket(key), page)
	t.mu.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("look up what indexes say of a file: %w", err)
	}
	var found []integrity.Digest
	for i := range perPage {
		s := slot(page[i*slotSize:][:slotSize])
		if !bytes.Equal(s[:tagSize], key[:tagSize]) || !s.whole() {
			continue
		}
		if d, ok := s.digest(); ok {
			found = append(found, d)
		}
	}
	return found, nil
}

// Change is a digest that has taken the place of another one.
type Change struct {
	Key      Key
	Old, New integrity.Digest
}

// Add notes digests, and returns those that differ from what was known. The order of
// entries does not matter; a key's later digest by an algorithm replaces the earlier.
func (t *Table) Add(entries []Entry) ([]Change, error) {
	var changes []Change
	page := getPage()
	defer putPage(page)
	now := uint32(t.now().Unix())
	for i := range entries {
		if entries[i].Digest.IsZero() {
			continue
		}
		change, err := t.add(&entries[i], now, page)
		if err != nil {
			return changes, fmt.Errorf("note what an index says: %w", err)
		}
		if change != nil {
			changes = append(changes, *change)
		}
	}
	return changes, nil
}

func (t *Table) add(e *Entry, now uint32, page []byte) (*Change, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	bucket := t.bucket(e.Key)
	if err := t.read(bucket, page); err != nil {
		return nil, err
	}
	at, old := place(page, e)
	if old == e.Digest && now-slot(page[at*slotSize:]).time() < uint32(refreshAfter/time.Second) {
		return nil, nil
	}
	s := newSlot(e, now)
	if _, err := t.file.WriteAt(s[:], int64(bucket+1)*pageSize+int64(at*slotSize)); err != nil {
		return nil, err
	}
	if old == e.Digest {
		return nil, nil
	}
	t.epoch.Add(1)
	if old.IsZero() {
		return nil, nil
	}
	return &Change{Key: e.Key, Old: old, New: e.Digest}, nil
}

// place returns the slot for an entry, and the digest it holds of the same file by the
// same algorithm, if any: that one's, else an empty one, else the oldest.
func place(page []byte, e *Entry) (at int, old integrity.Digest) {
	oldest, free := 0, -1
	for i := range perPage {
		s := slot(page[i*slotSize:][:slotSize])
		switch {
		case !s.whole():
			if free < 0 {
				free = i
			}
			continue
		case bytes.Equal(s[:tagSize], e.Key[:tagSize]) && integrity.Algorithm(s[atAlg]) == e.Digest.Algorithm():
			d, _ := s.digest()
			return i, d
		}
		if s.time() < slot(page[oldest*slotSize:]).time() {
			oldest = i
		}
	}
	if free >= 0 {
		return free, integrity.Digest{}
	}
	return oldest, integrity.Digest{}
}

// bucket takes bytes that are not in the tag.
func (t *Table) bucket(key Key) uint64 {
	return binary.BigEndian.Uint64(key[tagSize:]) % t.buckets
}

func (t *Table) read(bucket uint64, page []byte) error {
	_, err := t.file.ReadAt(page, int64(bucket+1)*pageSize)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF // somebody has cut it
	}
	return err
}

// slot is the bytes of one.
type slot []byte

func newSlot(e *Entry, now uint32) [slotSize]byte {
	var s [slotSize]byte
	copy(s[:tagSize], e.Key[:])
	s[atAlg] = byte(e.Digest.Algorithm())
	binary.BigEndian.PutUint32(s[atTime:], now)
	copy(s[atSum:], e.Digest.Sum())
	binary.BigEndian.PutUint32(s[atCheck:], checksum(s[:atCheck]))
	return s
}

func (s slot) whole() bool {
	return s[atAlg] != 0 && binary.BigEndian.Uint32(s[atCheck:]) == checksum(s[:atCheck])
}

func (s slot) time() uint32 { return binary.BigEndian.Uint32(s[atTime:]) }

func (s slot) digest() (integrity.Digest, bool) {
	a := integrity.Algorithm(s[atAlg])
	return integrity.NewDigest(a, s[atSum:][:a.Size()])
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli()) }

// castagnoli is made once by the library.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// pages are buffers for buckets.
var pages = sync.Pool{New: func() any { return new([pageSize]byte) }}

func getPage() []byte  { return pages.Get().(*[pageSize]byte)[:] }
func putPage(p []byte) { pages.Put((*[pageSize]byte)(p)) }
