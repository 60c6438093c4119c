package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
)

// diskOf returns what the folder of s takes, as du says.
func diskOf(t *testing.T, s *Store) int64 {
	t.Helper()
	n, err := diskUsage(s.opts.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestIdenticalContentOfSeveralChunksIsStoredOnce(t *testing.T) {
	t.Parallel()
	const copies = 12
	o := Options{Dir: t.TempDir(), MaxSize: 1 << 30}
	s := open(t, o)
	chunk := int(s.geo.chunk)
	bodies := [][]byte{content(1, 3*chunk), content(2, 5*chunk+12345), content(3, chunk), content(4, chunk+1)}
	total := 0
	for b, body := range bodies {
		fill(t, s, key(1000*b), nil, body)
		total += len(body)
	}
	again := func(from, to int) {
		t.Helper()
		// What is reserved ahead, in steps of a chunk and of a memtable, is no copy.
		slack := s.geo.prealloc + s.geo.memTable
		written, disk := s.Stats().Written, diskOf(t, s)
		for n := from; n < to; n++ {
			for b, body := range bodies {
				fill(t, s, key(1000*b+n), fmt.Append(nil, n), body)
			}
		}
		if n := s.Stats().Written - written; n > 64<<10 {
			t.Errorf("%d bytes were written for %d copies of %d", n, to-from, total)
		}
		if n := diskOf(t, s) - disk; n > slack {
			t.Errorf("du has grown by %d KiB for %d copies of %d", n>>10, to-from, total>>10)
		}
	}
	again(1, copies)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	again(copies, 2*copies)
	// They depend on the content, not on the key that it first came under.
	for b := range bodies {
		if err := s.Delete(key(1000 * b)); err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n < 2*copies; n++ {
		for b, body := range bodies {
			check(t, s, key(1000*b+n), fmt.Append(nil, n), body)
		}
	}
}

// TestContentThatBeginsAlike stores what has more or less in common with something that
// is stored, and reads it while it is written and afterwards.
func TestContentThatBeginsAlike(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir(), MaxSize: 64 << 20}
	s := open(t, o)
	chunk := int(s.geo.chunk)
	first := content(1, 5*chunk+100)
	fill(t, s, key(0), nil, first)
	with := func(at int) []byte {
		b := bytes.Clone(first)
		b[at] ^= 1
		return b
	}
	tests := []struct {
		name  string
		body  []byte
		saves int // chunks
	}{
		{"its first bit is another", with(0), 0},
		{"the first bit of the second chunk is another", with(chunk), 1},
		{"the last bit of the third chunk is another", with(3*chunk - 1), 2},
		{"the last bit is another", with(len(first) - 1), 5},
		{"it ends with the second chunk", first[:2*chunk], 2},
		{"it ends in the third chunk", first[:2*chunk+1], 2},
		{"it ends before the first chunk", first[:chunk-1], 0},
		{"it goes on", append(bytes.Clone(first), 'x'), 5},
		{"it goes on for chunks", append(bytes.Clone(first), content(2, 2*chunk)...), 5},
		{"it differs and is the same again", append(with(chunk), first...), 1},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			// So that it is compared with this one, and not with the row before.
			if err := s.Delete(key(i)); i > 0 && err != nil {
				t.Fatal(err)
			}
			fill(t, s, key(0), nil, content(3, 10))
			fill(t, s, key(0), nil, first)
			before := s.Stats().Written
			w, err := s.Create(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			for part := range slices.Chunk(test.body, 100_000) {
				if _, err := w.Write(part); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, w.Size())
				if n, err := w.ReadAt(got, 0); err != nil || !bytes.Equal(got[:n], test.body[:w.Size()]) {
					t.Fatalf("while it is written: %d of %d bytes, %v", n, len(got), err)
				}
			}
			if _, err := w.Commit(key(i+1), nil); err != nil {
				t.Fatal(err)
			}
			check(t, s, key(i+1), nil, test.body)
			got := make([]byte, len(test.body))
			if _, err := w.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got, test.body) {
				t.Errorf("from the writer, after Commit: %v", err)
			}
			wrote := int(s.Stats().Written - before)
			if want := len(test.body) - test.saves*chunk; wrote < want || wrote > want+chunk/4 {
				t.Errorf("%d bytes were written, want %d and a little", wrote, want)
			}
		})
	}
	last := len(tests)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	check(t, s, key(last), nil, tests[last-1].body)
	if done, err := s.Scrub(t.Context(), 0, nil); err != nil || done.Damaged > 0 {
		t.Errorf("scrub: %+v, %v", done, err)
	}
}

// TestTwinsThatGoMeanwhile drops what a fill shares chunks with before it is committed.
func TestTwinsThatGoMeanwhile(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir(), MaxSize: 32 << 20}
	s := open(t, o)
	chunk := int(s.geo.chunk)
	whole := content(1, 6*chunk+100)
	fill(t, s, key(0), nil, whole)
	w, err := s.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write(whole[:4*chunk]); err != nil {
		t.Fatal(err)
	}
	if !w.shares {
		t.Fatal("nothing is shared")
	}
	for n := range 100 {
		fill(t, s, key(100+n), nil, content(100+n, 400<<10))
	}
	absent(t, s, key(0))
	if _, err := w.Write(whole[4*chunk:]); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(key(1), nil); err != nil {
		t.Fatal(err)
	}
	check(t, s, key(1), nil, whole)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	check(t, s, key(1), nil, whole)
}
