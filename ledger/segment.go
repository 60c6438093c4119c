package ledger

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const (
	segmentMagic = "larder ledger 1\n"
	// segmentHead: magic, and the number of the first entry (8).
	segmentHead = len(segmentMagic) + 8
	// segmentLevel: a full segment has 1<<segmentLevel entries, which make a perfect tree.
	segmentLevel = 17
)

func segmentPath(dir string, first int64) string {
	return filepath.Join(dir, fmt.Sprintf("%012d.log", first))
}

func indexPath(dir string, first int64) string {
	return filepath.Join(dir, fmt.Sprintf("%012d.idx", first))
}

// scanSegment calls each with the entries of a segment, in order, from the skip-th on, and
// their offsets. It returns how many there are, and where the last one ends: bytes behind
// that are no record. An error of each ends it.
func scanSegment(path string, first int64, skip int, each func(e *Entry, offset uint32) error) (count int, end int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	b := bufio.NewReaderSize(f, 1<<20)
	head := make([]byte, segmentHead)
	if _, err := io.ReadFull(b, head); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, 0, nil // not even that was written
		}
		return 0, 0, err
	}
	if string(head[:len(segmentMagic)]) != segmentMagic || binary.BigEndian.Uint64(head[len(segmentMagic):]) != uint64(first) {
		return 0, 0, fmt.Errorf("%s is not the segment of entry %d", path, first)
	}
	end = int64(segmentHead)
	for {
		raw, err := b.Peek(recordHead + maxRecord)
		if err != nil && !errors.Is(err, io.EOF) {
			return count, end, err
		}
		e, length, bad := parseRecord(raw)
		if bad != nil || e.N != first+int64(count) {
			return count, end, nil
		}
		if count >= skip {
			if err := each(&e, uint32(end)); err != nil {
				return count, end, err
			}
		}
		_, _ = b.Discard(length) // it was peeked at
		count++
		end += int64(length)
	}
}

// readRecord reads the record at an offset.
func readRecord(f io.ReaderAt, at position) (Entry, error) {
	buf := make([]byte, recordHead+maxRecord)
	n, err := f.ReadAt(buf, int64(at.offset))
	if err != nil && !errors.Is(err, io.EOF) {
		return Entry{}, err
	}
	e, _, err := parseRecord(buf[:n])
	return e, err
}
