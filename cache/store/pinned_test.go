package store

import (
	"testing"
)

// fillPinned stores body under k, pinned.
func fillPinned(t *testing.T, s *Store, k Key, body []byte) {
	t.Helper()
	w, err := s.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CommitWith(k, nil, CommitOptions{Pinned: true}); err != nil {
		t.Fatal(err)
	}
}

// scan fills objects that nobody reads and returns the most that the folder took.
func scan(t *testing.T, s *Store, from, n, size int) (peak int64) {
	t.Helper()
	for i := range n {
		fill(t, s, key(from+i), nil, content(from+i, size))
		if i%16 == 0 {
			used, err := diskUsage(s.opts.Dir)
			if err != nil {
				t.Fatal(err)
			}
			peak = max(peak, used)
		}
	}
	return peak
}

func TestPinnedObjectsOutliveTheirGenerations(t *testing.T) {
	t.Parallel()
	const maxSize, size = 64 << 20, 100 << 10
	o := Options{Dir: t.TempDir(), MaxSize: maxSize}
	s := open(t, o)
	// A quarter of the store, never read: large and small ones, and one that is
	// given new metadata.
	sizes := func(n int) int { return []int{size, 3 * size, 10 << 10}[n%3] }
	const pinned = 120
	for n := range pinned {
		fillPinned(t, s, key(n), content(n, sizes(n)))
	}
	if err := s.SetMeta(key(1), []byte("changed")); err != nil {
		t.Fatal(err)
	}
	peak := scan(t, s, 1000, turns(2, 6)*maxSize/size, size)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	peak = max(peak, scan(t, s, 100_000, maxSize/size*3/2, size))
	for n := range pinned {
		var meta []byte
		if n == 1 {
			meta = []byte("changed")
		}
		check(t, s, key(n), meta, content(n, sizes(n)))
	}
	if peak > maxSize+maxSize/10 {
		t.Errorf("du up to %d MiB with a cap of %d", peak>>20, maxSize>>20)
	}
	t.Logf("du at most %.3f of the cap, %d promoted", float64(peak)/maxSize, s.Stats().Promoted)

	// Deleted, and replaced by one that is not, they are carried no further.
	for n := range pinned {
		if n%2 == 0 {
			if err := s.Delete(key(n)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		fill(t, s, key(n), nil, content(n+10_000, 1000))
	}
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	if s.index.pinned != 0 {
		t.Errorf("%d bytes count as pinned when nothing is", s.index.pinned)
	}
}

// TestPinningIsBounded pins more than the store has room for.
func TestPinningIsBounded(t *testing.T) {
	t.Parallel()
	const maxSize, size = 64 << 20, 200 << 10
	s := open(t, Options{MaxSize: maxSize})
	for n := range maxSize / size * 5 / 4 {
		fillPinned(t, s, key(n), content(n, size))
	}
	peak := scan(t, s, 10_000, maxSize/size, size)
	if peak > maxSize+maxSize/10 {
		t.Errorf("du up to %d MiB with a cap of %d", peak>>20, maxSize>>20)
	}
	s.index.mu.RLock()
	pinned := s.index.pinned
	s.index.mu.RUnlock()
	if pinned > maxSize/2 || pinned < maxSize/4 {
		t.Errorf("%d MiB are pinned in a store of %d", pinned>>20, maxSize>>20)
	}
	// Others find room beside them.
	here := 0
	for n := range 50 {
		if ok, _ := intact(t, s, key(10_000+maxSize/size-1-n), content(10_000+maxSize/size-1-n, size)); ok {
			here++
		}
	}
	if here < 50 {
		t.Errorf("%d of the 50 latest objects are stored", here)
	}
}
