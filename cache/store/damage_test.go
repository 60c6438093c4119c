package store

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// files returns the files of all generations that match pattern and are not empty.
func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, generationPrefix+"*", pattern))
	if err != nil {
		t.Fatal(err)
	}
	var some []string
	for _, path := range all {
		if info, err := os.Stat(path); err == nil && info.Size() > 0 {
			some = append(some, path)
		}
	}
	return some
}

// flip flips a bit at off in the file.
func flip(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

// intact returns whether the object under k is there, and fails the test if what it
// reads is not exactly the body.
func intact(t *testing.T, s *Store, k Key, body []byte) (bool, error) {
	t.Helper()
	o, err := s.Get(k)
	if err != nil {
		return false, err
	}
	defer o.Release()
	got := make([]byte, o.Size())
	n, err := o.ReadAt(got, 0)
	if err != nil {
		if string(got[:n]) != string(body[:n]) {
			t.Errorf("before %v wrong bytes were returned", err)
		}
		return false, err
	}
	if string(got) != string(body) {
		t.Error("wrong bytes were returned")
	}
	return true, nil
}

// TestFlippedBitsAreNeverServed damages every value log in many places.
func TestFlippedBitsAreNeverServed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	const objects = 40
	size := func(n int) int { return []int{900, 20 << 10, 200 << 10, 2 << 20}[n%4] }
	for n := range objects {
		fill(t, s, key(n), make([]byte, 600), content(n, size(n)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for _, path := range files(t, dir, "*.vlog") {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			flip(t, path, rng.Int64N(info.Size()))
		}
	}
	s = open(t, Options{Dir: dir})
	damaged := 0
	for n := range objects {
		ok, err := intact(t, s, key(n), content(n, size(n)))
		if ok {
			continue
		}
		damaged++
		_, corrupt := errors.AsType[*CorruptError](err)
		if !corrupt && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("object %d: %v", n, err)
		}
		absent(t, s, key(n))
		// Fetched again it is there again, whatever lies damaged beside it.
		fill(t, s, key(n), make([]byte, 600), content(n, size(n)))
		check(t, s, key(n), make([]byte, 600), content(n, size(n)))
	}
	if damaged == 0 || damaged == objects {
		t.Errorf("%d of %d objects damaged", damaged, objects)
	}
	if n := s.Stats().Corrupt; n < uint64(damaged) {
		t.Errorf("%d counted, %d found", n, damaged)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir})
	for n := range objects {
		check(t, s, key(n), make([]byte, 600), content(n, size(n)))
	}
}

// TestPartialReadVerifiesOnlyItsBlocks damages one block and reads the others.
func TestPartialReadVerifiesOnlyItsBlocks(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, MaxSize: 2 << 30}
	s := open(t, o)
	body := content(1, 1<<20)
	fill(t, s, key(1), nil, body)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// The chunk is the first entry of the first log.
	flip(t, files(t, dir, "*.vlog")[0], 2*blockSize+1000)
	s = open(t, o)
	object, err := s.Get(key(1))
	if err != nil {
		t.Fatal(err)
	}
	defer object.Release()
	got := make([]byte, 2*blockSize)
	if _, err := object.ReadAt(got, 0); err != nil || string(got) != string(body[:len(got)]) {
		t.Errorf("the blocks before: %v", err)
	}
	if _, err := object.WriteRange(io.Discard, 3*blockSize+5, blockSize-5); err != nil {
		t.Errorf("the block behind: %v", err)
	}
	_, err = object.WriteRange(io.Discard, 2*blockSize+5, 1)
	if _, ok := errors.AsType[*CorruptError](err); !ok {
		t.Errorf("the damaged block: %v", err)
	}
	absent(t, s, key(1))
}

// TestDamagedTablesAreSurvived flips bits in every other file that Badger has:
// objects may be lost, wrong bytes and a store that does not open may not be.
func TestDamagedTablesAreSurvived(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"*.sst", "MANIFEST", "KEYREGISTRY", sealedFile} {
		for seed := range uint64(turns(3, 20)) {
			dir := t.TempDir()
			o := Options{Dir: dir, MaxSize: 32 << 20}
			s := open(t, o)
			for n := range 300 {
				fill(t, s, key(n), nil, content(n, 20<<10))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(seed, 1))
			for _, path := range files(t, dir, pattern) {
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				flip(t, path, rng.Int64N(info.Size()))
			}
			s = open(t, o)
			for n := range 300 {
				if ok, err := intact(t, s, key(n), content(n, 20<<10)); !ok {
					_, corrupt := errors.AsType[*CorruptError](err)
					if !corrupt && !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("%s, seed %d: object %d: %v", pattern, seed, n, err)
					}
				}
			}
			fill(t, s, key(1000), nil, content(1000, 300<<10))
			check(t, s, key(1000), nil, content(1000, 300<<10))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestTruncatedLogIsAMiss cuts value logs short under the store, which reads them
// through memory maps.
func TestTruncatedLogIsAMiss(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	body := content(1, 3<<20)
	fill(t, s, key(1), nil, body)
	// So much that the generation is not written to any more.
	fill(t, s, key(2), nil, content(2, 9<<20))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir})
	if s.head != nil {
		t.Fatal("there is a head")
	}
	object, err := s.Get(key(1))
	if err != nil {
		t.Fatal(err)
	}
	defer object.Release()
	for _, path := range files(t, dir, "*.vlog") {
		if err := os.Truncate(path, 4096); err != nil {
			t.Fatal(err)
		}
	}
	_, err = object.WriteRange(io.Discard, 0, object.Size())
	if _, ok := errors.AsType[*CorruptError](err); !ok {
		t.Errorf("got %v", err)
	}
	absent(t, s, key(1))
	fill(t, s, key(1), nil, body)
	check(t, s, key(1), nil, body)
}
