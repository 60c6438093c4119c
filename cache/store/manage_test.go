package store

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLinkSharesABody(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	for i, size := range []int{0, 900, 3 << 20} {
		body := content(i, size)
		fill(t, s, key(i), []byte("one"), body)
		if err := s.Link(key(i+10), key(i), []byte("two")); err != nil {
			t.Fatal(err)
		}
		check(t, s, key(i+10), []byte("two"), body)
		// What was linked to may go.
		if err := s.Delete(key(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Link(key(20), key(99), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("link to what is absent: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir})
	for i, size := range []int{0, 900, 3 << 20} {
		check(t, s, key(i+10), []byte("two"), content(i, size))
		absent(t, s, key(i))
	}
}

func TestDeleteAll(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	const n = 3*deleteBatch + 7
	var keys []Key
	for i := range n {
		fill(t, s, key(i), nil, content(i, 100))
		if i%3 > 0 {
			keys = append(keys, key(i))
		}
	}
	want := len(keys)
	keys = append(keys, key(n+1), keys[0]) // absent, and twice
	held, err := s.Get(keys[1])
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	got, err := s.DeleteAll(keys)
	if err != nil || got != want {
		t.Errorf("removed %d, %v; want %d", got, err, want)
	}
	if _, err := held.ReadAt(make([]byte, 10), 0); err != nil {
		t.Errorf("an object in use: %v", err)
	}
	verify := func() {
		t.Helper()
		if got := s.Stats().Objects; got != n-want {
			t.Errorf("%d objects, want %d", got, n-want)
		}
		for i := range n {
			if i%3 > 0 {
				absent(t, s, key(i))
			} else {
				check(t, s, key(i), nil, content(i, 100))
			}
		}
	}
	verify()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeleteAll(keys); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	s = open(t, Options{Dir: dir})
	verify()
}

func TestPeekIsNoUse(t *testing.T) {
	s := open(t, Options{})
	fill(t, s, key(1), nil, content(1, 100))
	fill(t, s, key(2), nil, content(2, 100))
	for range 5 {
		for n, get := range map[int]func(Key) (*Object, error){1: s.Get, 2: s.Peek} {
			o, err := get(key(n))
			if err != nil {
				t.Fatal(err)
			}
			o.Release()
		}
	}
	for info, err := range s.All() {
		if err != nil {
			t.Fatal(err)
		}
		if want := map[Key]uint32{key(1): 5, key(2): 0}[info.Key]; info.Uses != want {
			t.Errorf("%d uses, want %d", info.Uses, want)
		}
	}
	if heat := s.index.records.at(s.index.lookup(new(key(2)))).heat.Load(); heat != 0 {
		t.Errorf("heat %d after Peek, want 0", heat)
	}
}

func TestCheckNoticesAnotherFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, Options{Dir: dir})
	if err := s.Check(); err != nil {
		t.Errorf("at first: %v", err)
	}
	away := dir + ".away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without its folder: %v", err)
	}
	other := open(t, Options{Dir: dir})
	if err := s.Check(); err == nil {
		t.Error("another store in its place is taken for it")
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); err != nil {
		t.Errorf("with its own folder again: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestScrubFindsNothingInAGoodStore(t *testing.T) {
	s := open(t, Options{MaxSize: 64 << 20})
	var want int64
	for i, size := range []int{0, 900, 40 << 10, 3 << 20} {
		fill(t, s, key(i), make([]byte, 100), content(i, size))
		fill(t, s, key(i+10), make([]byte, 100), content(i, size)) // the same once more
		want += int64(size) + 200
	}
	calls := 0
	got, err := s.Scrub(t.Context(), 0, func(Scrubbed) { calls++ })
	if err != nil || got != (Scrubbed{Objects: 8, Bytes: want, Total: 8}) || calls < 8 {
		t.Errorf("scrubbed %+v, %v in %d steps; want 8 objects, %d bytes, nothing damaged", got, err, calls, want)
	}
	if n := s.Stats().Corrupt; n != 0 {
		t.Errorf("%d counted as damaged", n)
	}
	for info := range s.All() {
		if info.Uses != 0 {
			t.Error("scrubbing counts as use")
		}
	}
}

// TestScrubDropsWhatIsDamaged flips bits in the value logs, scrubs, and then expects
// that whatever is still there is whole and that as many are missing as were counted.
func TestScrubDropsWhatIsDamaged(t *testing.T) {
	t.Parallel()
	for seed := range uint64(turns(3, 20)) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			dir := t.TempDir()
			o := Options{Dir: dir, MaxSize: 256 << 20}
			s := open(t, o)
			const objects = 40
			size := func(n int) int { return []int{900, 20 << 10, 200 << 10, 2 << 20}[n%4] }
			for n := range objects {
				fill(t, s, key(n), make([]byte, 600), content(n, size(n)))
				// Another URL of the same content, lost with it or kept with it.
				fill(t, s, key(n+100), make([]byte, 600), content(n, size(n)))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(seed, 7))
			for _, path := range files(t, dir, "*.vlog") {
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				for range 6 {
					flip(t, path, rng.Int64N(info.Size()))
				}
			}
			s = open(t, o)
			before := s.Stats()
			got, err := s.Scrub(t.Context(), 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			counted := s.Stats().Corrupt
			missing := 0
			for n := range objects {
				for _, k := range []Key{key(n), key(n + 100)} {
					if ok, err := intact(t, s, k, content(n, size(n))); !ok {
						missing++
						if !errors.Is(err, fs.ErrNotExist) {
							t.Errorf("after the scrub object %d is found damaged: %v", n, err)
						}
					}
				}
			}
			lostAtOpen := 2*objects - before.Objects
			if int64(missing-lostAtOpen) != got.Damaged || got.Damaged == 0 {
				t.Errorf("%d are missing, %d of them since the store was opened; %+v", missing, lostAtOpen, got)
			}
			if n := s.Stats().Corrupt; n != counted || counted == before.Corrupt {
				t.Errorf("%d counted as damaged before the scrub, %d after it, %d after reading all", before.Corrupt, counted, n)
			}
			again, err := s.Scrub(t.Context(), 0, nil)
			if err != nil || again.Damaged != 0 {
				t.Errorf("a second scrub: %+v, %v", again, err)
			}
		})
	}
}

// TestScrubKeepsItsRate measures in synthetic time, where reading takes none.
func TestScrubKeepsItsRate(t *testing.T) {
	s := open(t, Options{MaxSize: 64 << 20})
	for n := range 4 {
		fill(t, s, key(n), nil, content(n, 2<<20))
	}
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		got, err := s.Scrub(t.Context(), 1<<20, nil)
		if err != nil || got.Bytes != 8<<20 {
			t.Fatalf("%+v, %v", got, err)
		}
		if took := time.Since(begin); took < 7*time.Second || took > 9*time.Second {
			t.Errorf("8 MiB at 1 MiB/s took %v", took)
		}
	})
	// A stall, here of who is told, is not made up for by a burst.
	synctest.Test(t, func(t *testing.T) {
		var resumed time.Time
		_, err := s.Scrub(t.Context(), 1<<20, func(p Scrubbed) {
			if p.Bytes > 1<<20 && resumed.IsZero() {
				time.Sleep(time.Hour)
				resumed = time.Now()
			}
		})
		if took := time.Since(resumed); err != nil || took < 5*time.Second || took > 8*time.Second {
			t.Errorf("after a stall the last 7 MiB at 1 MiB/s took %v, %v", took, err)
		}
	})
}

func TestScrubEndsWithItsContextAndTheStore(t *testing.T) {
	s := open(t, Options{MaxSize: 64 << 20})
	for n := range 4 {
		fill(t, s, key(n), nil, content(n, 2<<20))
	}
	ctx, cancel := context.WithCancel(t.Context())
	got, err := s.Scrub(ctx, 0, func(p Scrubbed) {
		if p.Bytes > 3<<20 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || got.Damaged != 0 || got.Bytes > 5<<20 {
		t.Errorf("cancelled: %+v, %v", got, err)
	}
	var closing sync.WaitGroup
	closing.Go(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	defer closing.Wait()
	for {
		got, err := s.Scrub(t.Context(), 0, nil)
		if got.Damaged != 0 {
			t.Fatalf("closing counts as damage: %+v", got)
		}
		if err != nil {
			if !errors.Is(err, fs.ErrClosed) {
				t.Errorf("closed: %v", err)
			}
			return
		}
	}
}

// BenchmarkManage lists and removes a million objects, as "larder store rm" does.
func BenchmarkManage(b *testing.B) {
	const n = 1_000_000
	s := open(b, Options{MaxSize: 8 << 30})
	body, meta := content(1, 2000), make([]byte, 400)
	for b.Loop() {
		b.StopTimer()
		for i := range n {
			k := key(i)
			copy(body, k[:])
			fill(b, s, k, meta, body)
		}
		b.StartTimer()
		begin := time.Now()
		keys := make([]Key, 0, n)
		for info, err := range s.All() {
			if err != nil {
				b.Fatal(err)
			}
			keys = append(keys, info.Key)
		}
		b.ReportMetric(time.Since(begin).Seconds(), "s/list")
		begin = time.Now()
		if got, err := s.DeleteAll(keys); err != nil || got != n {
			b.Fatal(got, err)
		}
		b.ReportMetric(time.Since(begin).Seconds(), "s/remove")
	}
}
