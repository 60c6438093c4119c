package store

import (
	"bytes"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func indexEntries() []indexEntry {
	return []indexEntry{
		{key: key(1), tombstone: true},
		{key: key(2), sum: key(3)},
		{key: key(2), sum: key(3), pinned: true, group: math.MaxUint64},
		{key: key(2), sum: key(3), size: math.MaxInt32, placed: true, inline: true},
		{key: key(2), sum: key(3), size: 1, placed: true, chunk: 1 << 20, extents: []extent{{gen: 1, id: 1}}, group: 1, head: 2},
		{key: key(4), sum: key(5), size: 1 << 40, placed: true, chunk: 1 << 20, extents: []extent{
			{gen: 1, id: 1}, {gen: 2, first: 7, id: 1}, {gen: math.MaxUint32, first: math.MaxUint32, id: math.MaxUint64},
		}},
	}
}

func TestIndexEntriesSurviveEncoding(t *testing.T) {
	for _, want := range indexEntries() {
		got, err := decodeIndexEntry(want.appendTo(nil))
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(indexEntry{}, extent{})); diff != "" {
			t.Error(diff)
		}
	}
}

func TestEveryFlippedBitOfAnIndexEntryIsNoticed(t *testing.T) {
	for _, e := range indexEntries() {
		b := e.appendTo(nil)
		for i := range len(b) * 8 {
			b[i/8] ^= 1 << (i % 8)
			if _, err := decodeIndexEntry(b); err == nil {
				t.Errorf("bit %d flipped, decoded all the same", i)
			}
			b[i/8] ^= 1 << (i % 8)
		}
		for i := range b {
			if _, err := decodeIndexEntry(b[:i]); err == nil {
				t.Errorf("decoded %d of %d bytes", i, len(b))
			}
		}
	}
}

func FuzzDecodeIndexEntry(f *testing.F) {
	for _, e := range indexEntries() {
		f.Add(e.appendTo(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// Without this the checksum would keep the fuzzer from all that follows it.
		if len(b) >= 4 {
			body := b[:len(b)-4]
			c := checksum(body)
			b = append(bytes.Clone(body), byte(c), byte(c>>8), byte(c>>16), byte(c>>24))
		}
		e, err := decodeIndexEntry(b)
		if err != nil {
			return
		}
		again, err := decodeIndexEntry(e.appendTo(nil))
		if err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		if diff := cmp.Diff(e, again, cmp.AllowUnexported(indexEntry{}, extent{})); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzDecodeMeta(f *testing.F) {
	f.Add(appendMeta(nil, nil, nil))
	f.Add(appendMeta(nil, []byte("meta"), []byte("body")))
	f.Add(appendMeta(nil, make([]byte, 300), nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		meta, body, err := decodeMeta(b)
		if err != nil {
			return
		}
		if len(meta)+len(body) > len(b) {
			t.Errorf("%d and %d bytes out of %d", len(meta), len(body), len(b))
		}
		if len(body) <= 4 {
			return
		}
		if data, err := verifyInline(body, int64(len(body))-4); err == nil {
			m2, b2, err := decodeMeta(appendMeta(nil, meta, data))
			if err != nil || !bytes.Equal(m2, meta) || !bytes.Equal(b2, body) {
				t.Errorf("encoded again it differs: %v", err)
			}
		}
	})
}

func TestChunkBlocksAreChecked(t *testing.T) {
	for _, n := range []int{1, 100, blockSize - 1, blockSize, blockSize + 1, 4 * blockSize} {
		body := content(n, n)
		chunk := sealChunk(bytes.Clone(body))
		if int64(len(chunk)) != chunkLen(int64(n)) {
			t.Fatalf("chunk of %d has %d bytes, want %d", n, len(chunk), chunkLen(int64(n)))
		}
		var got []byte
		for i := range blocks(int64(n)) {
			block, sum, ok := chunkBlock(chunk, int64(n), i)
			if !ok || checksum(block) != sum {
				t.Errorf("block %d of %d: %v", i, n, ok)
			}
			got = append(got, block...)
		}
		if !bytes.Equal(got, body) {
			t.Errorf("chunk of %d differs", n)
		}
		if _, _, ok := chunkBlock(chunk[1:], int64(n), 0); ok {
			t.Error("a chunk cut short was taken")
		}
		if _, _, ok := chunkBlock(nil, int64(n), 0); ok {
			t.Error("an empty chunk was taken")
		}
	}
}
