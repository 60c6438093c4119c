package store

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPowerLossCostsWhatWasNotSynced makes the folder that a loss of power leaves: of
// what was written after the last sync, some pages are on the disk and some are not, in
// no order. What is older must be there, and nothing may be false.
func TestPowerLossCostsWhatWasNotSynced(t *testing.T) {
	t.Parallel()
	const batch = 45
	body := func(n int) []byte { return content(n, []int{1, 700, 20 << 10, 100 << 10, 600 << 10}[n%5]) }
	s := open(t, Options{MaxSize: 256 << 20})
	store := func(from int) {
		for n := from; n < from+batch; n++ {
			fill(t, s, key(n), []byte("old"), body(n))
		}
	}
	store(0)
	s.syncHead()
	synced := killed(t, s).Dir
	store(batch)
	for n := range 10 {
		if err := errors.Join(s.SetMeta(key(n), []byte("new")), s.Delete(key(10+n))); err != nil {
			t.Fatal(err)
		}
	}
	written := killed(t, s).Dir
	if n := s.newest(); n != 1 {
		t.Fatalf("%d generations: the first was synced as a whole", n)
	}
	// How many of the pages are lost, and whether all from some page on are.
	for _, tt := range []struct {
		share float64
		tail  bool
	}{{share: 1}, {share: 0.5}, {share: 0.1}, {share: 0.01}, {tail: true}} {
		for seed := range uint64(turns(2, 20)) {
			t.Run(fmt.Sprintf("share %v, tail %v, seed %d", tt.share, tt.tail, seed), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 5))
				dir := t.TempDir()
				lost := mixed(t, dir, synced, written, func(pages int) func(int) bool {
					from := rng.IntN(pages)
					return func(i int) bool { return tt.tail && i >= from || rng.Float64() < tt.share }
				})
				if lost == 0 && tt.share > 0.1 {
					t.Fatal("no page was lost")
				}
				afterPowerLoss(t, dir, batch, body)
			})
		}
	}
}

// afterPowerLoss checks a store of which the first batch of objects was synced.
func afterPowerLoss(t *testing.T, dir string, batch int, body func(int) []byte) {
	t.Helper()
	s := open(t, Options{Dir: dir, MaxSize: 256 << 20})
	here := 0
	for n := range 2 * batch {
		o, err := s.Get(key(n))
		meta := ""
		if err == nil {
			meta = string(o.Meta())
			o.Release()
		}
		ok, err := intact(t, s, key(n), body(n))
		_, corrupt := errors.AsType[*CorruptError](err)
		switch {
		case ok && (meta == "old" || meta == "new" && n < 10):
			here++
		case ok:
			t.Errorf("object %d has metadata %q", n, meta)
		case !corrupt && !errors.Is(err, fs.ErrNotExist):
			t.Errorf("object %d: %v", n, err)
		case n >= 20 && n < batch:
			t.Errorf("object %d was synced and is lost: %v", n, err)
		}
	}
	t.Logf("%d of %d objects are there", here, 2*batch)
	fill(t, s, key(1000), nil, content(1000, 300<<10))
	check(t, s, key(1000), nil, content(1000, 300<<10))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// mixed makes in dir what is in written, but with some pages of logs as they are in
// synced, or empty where that has none. It returns how many differ for that.
func mixed(t *testing.T, dir, synced, written string, choose func(pages int) (lost func(page int) bool)) (differ int) {
	t.Helper()
	if err := os.CopyFS(dir, os.DirFS(written)); err != nil {
		t.Fatal(err)
	}
	for _, path := range append(files(t, dir, "*.vlog"), files(t, dir, "*.mem")...) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(filepath.Join(synced, strings.TrimPrefix(path, dir)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		before = append(before, make([]byte, max(0, len(b)-len(before)))...)
		var dirty []int
		for off := 0; off < len(b); off += 4096 {
			if end := min(off+4096, len(b)); string(b[off:end]) != string(before[off:end]) {
				dirty = append(dirty, off)
			}
		}
		if len(dirty) == 0 {
			continue
		}
		lost := choose(len(dirty))
		for i, off := range dirty {
			if lost(i) {
				copy(b[off:min(off+4096, len(b))], before[off:])
				differ++
			}
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return differ
}
