package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// du is what du says of dir, in bytes.
func du(t testing.TB, dir string) int64 {
	t.Helper()
	out, err := exec.Command("du", "-sk", dir).Output()
	// Files that go away while du walks make it exit with 1, the sum stands.
	var kib int64
	if _, serr := fmt.Sscan(strings.Fields(string(out) + " 0")[0], &kib); serr != nil || kib == 0 {
		t.Fatalf("du: %q, %v, %v", out, err, serr)
	}
	return kib << 10
}

// turns returns how often a test repeats itself: less in the default run than with
// LARDER_LONG=1, which "make soak" sets.
func turns(short, long int) int {
	if os.Getenv("LARDER_LONG") != "" {
		return long
	}
	return short
}

// TestDiskUseStaysBelowTheCapUnderChurn writes several times the cap (ten times with
// LARDER_LONG), in objects of mixed sizes with a hot set that is read all the time.
// It has the process to itself, whose writes it counts.
func TestDiskUseStaysBelowTheCapUnderChurn(t *testing.T) {
	tests := []struct {
		name  string
		cap   int64
		sizes []int
	}{
		{name: "tiny store, small objects", cap: 24 << 20, sizes: []int{300, 3000, 10 << 10, 30 << 10}},
		{name: "tiny store, mixed objects", cap: 24 << 20, sizes: []int{10 << 10, 100 << 10, 1 << 20, 6 << 20}},
		{name: "small store, mixed objects", cap: 48 << 20, sizes: []int{10 << 10, 300 << 10, 4 << 20, 9 << 20}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, Options{Dir: dir, MaxSize: tt.cap})
			const hot = 20
			var peak, written int64
			before := wroteToDisk(t)
			for i, measured := 0, int64(0); written < int64(turns(3, 10))*tt.cap; i++ {
				body := content(i, tt.sizes[i%len(tt.sizes)])
				fill(t, s, key(i), []byte("meta"), body)
				written += int64(len(body))
				o, err := s.Get(key(i % hot))
				if err == nil {
					o.Release()
				}
				if written-measured > tt.cap/64 {
					n, err := diskUsage(dir)
					if err != nil {
						t.Fatal(err)
					}
					peak, measured = max(peak, n), written
				}
			}
			peak = max(peak, du(t, dir))
			if limit := tt.cap + tt.cap/10; peak > limit {
				t.Errorf("du up to %d MiB with a cap of %d", peak>>20, tt.cap>>20)
			}
			st := s.Stats()
			disk := wroteToDisk(t) - before
			t.Logf("du at most %.3f of the cap; at the end %.3f, of which the store says %.3f; written %.3f by the store's count, %.3f by the kernel's; %d evicted, %d promoted, %d generations",
				float64(peak)/float64(tt.cap), float64(du(t, dir))/float64(tt.cap), float64(st.Bytes)/float64(tt.cap),
				float64(st.Written)/float64(written), float64(disk)/float64(written), st.Evicted, st.Promoted, st.Generations)
			if amplification := float64(st.Written) / float64(written); amplification > 1.2 {
				t.Errorf("%.3f bytes written per byte, by the store's count", amplification)
			}
			if disk < written/2 {
				// As on tmpfs, or where the kernel keeps no account.
				t.Logf("what is written to %s is not in the kernel's account; set TMPDIR to a disk to have it tested", dir)
			} else if amplification := float64(disk) / float64(written); amplification > 1.2 {
				t.Errorf("%.3f bytes written to disk per byte, by the kernel's", amplification)
			}
			if st.Evicted == 0 || st.Promoted == 0 {
				t.Errorf("%d evicted, %d promoted", st.Evicted, st.Promoted)
			}
		})
	}
}

// TestHotObjectsSurviveAScan reads a small hot set while many times the cap of
// objects passes that are never read again. First come, first gone would lose the
// hot set once per turn.
func TestHotObjectsSurviveAScan(t *testing.T) {
	t.Parallel()
	const maxSize = 64 << 20
	s := open(t, Options{MaxSize: maxSize})
	// A sixteenth of the cap, all of it in one generation at first, of which
	// the room above the soft limit allows but a part to be copied.
	const hot, size = 100, 40 << 10
	for i := range hot {
		fill(t, s, key(i), nil, content(i, size))
	}
	early, late := 0, 0
	for i := range turns(4, 12) * maxSize / size {
		fill(t, s, key(1000+i), nil, content(1000+i, size))
		o, err := s.Get(key(i % hot))
		if err == nil {
			o.Release()
			continue
		}
		fill(t, s, key(i%hot), nil, content(i%hot, size))
		if i < 2*maxSize/size {
			early++
		} else {
			late++
		}
	}
	t.Logf("%d misses in the first two turns, %d later, %d promotions", early, late, s.Stats().Promoted)
	// First come, first gone would lose all of it every turn. A few are lost when
	// writers leave less room for the copies than a whole generation.
	if early > hot || late > hot/10 {
		t.Errorf("%d and %d reads of the hot set missed", early, late)
	}
}

// TestLargeObjectSpansGenerations writes one object larger than a generation.
func TestLargeObjectSpansGenerations(t *testing.T) {
	t.Parallel()
	const maxSize = 64 << 20
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, MaxSize: maxSize})
	body := content(1, 20<<20)
	fill(t, s, key(1), []byte("large"), body)
	if n := s.Stats().Generations; n < 5 {
		t.Errorf("%d generations", n)
	}
	check(t, s, key(1), []byte("large"), body)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir, MaxSize: maxSize})
	check(t, s, key(1), []byte("large"), body)
	// When the generation with its beginning goes, it is a miss as a whole.
	for i := range 48 {
		fill(t, s, key(100+i), nil, content(100+i, 1<<20))
	}
	absent(t, s, key(1))

	w, err := s.Create(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for range 64 {
		if _, err = w.Write(make([]byte, 1<<20)); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("an object as large as the store was taken")
	}
}

// TestReadersGoOnWhileTheirGenerationIsDropped holds an object open through a churn.
func TestReadersGoOnWhileTheirGenerationIsDropped(t *testing.T) {
	t.Parallel()
	const maxSize = 32 << 20
	s := open(t, Options{MaxSize: maxSize})
	body := content(1, 3<<20)
	fill(t, s, key(1), nil, body)
	o, err := s.Get(key(1))
	if err != nil {
		t.Fatal(err)
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	for reader := range 2 {
		wg.Go(func() {
			got := make([]byte, 100_000)
			for i := reader; !done.Load(); i++ {
				off := i * 77_777 % (len(body) - len(got))
				if _, err := o.ReadAt(got, int64(off)); err != nil {
					t.Errorf("read: %v", err)
					return
				}
				if string(got) != string(body[off:off+len(got)]) {
					t.Errorf("%d bytes at %d differ", len(got), off)
					return
				}
			}
		})
	}
	for i := range 60 {
		fill(t, s, key(100+i), nil, content(100+i, 1<<20))
	}
	done.Store(true)
	wg.Wait()
	s.index.mu.RLock()
	waiting := len(s.dropped)
	s.index.mu.RUnlock()
	if waiting == 0 || s.Stats().Evicted < 30 {
		t.Errorf("%d generations wait for readers, %d objects evicted", waiting, s.Stats().Evicted)
	}
	o.Release()
}

// TestStoreInUseThroughoutRefusesUntilReleased holds objects of all generations.
func TestStoreInUseThroughoutRefusesUntilReleased(t *testing.T) {
	t.Parallel()
	s := open(t, Options{MaxSize: minSize})
	var held []*Object
	var err error
	for n := 0; err == nil && n < 1000; n++ {
		if err = tryFill(s, key(n), nil, content(n, 300<<10)); err != nil {
			break
		}
		o, gerr := s.Get(key(n))
		if gerr != nil {
			t.Fatal(gerr)
		}
		held = append(held, o)
	}
	if !errors.Is(err, ErrNoSpace) {
		t.Fatalf("after %d objects, all held: %v", len(held), err)
	}
	for n, o := range held {
		got := make([]byte, o.Size())
		if _, err := o.ReadAt(got, 0); err != nil || string(got) != string(content(n, 300<<10)) {
			t.Errorf("held object %d: %v", n, err)
		}
		o.Release()
	}
	fill(t, s, key(2000), nil, content(2000, 300<<10))
	check(t, s, key(2000), nil, content(2000, 300<<10))
}
