package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

const bigSize = 3<<20 + 12345 // several chunks

// The rows of TestContract: each holds of the store as it was left, and again
// after it was closed and opened.
func contract() []struct {
	name string
	do   func(t *testing.T, s *Store)
	hold func(t *testing.T, s *Store)
} {
	big, small := content(1, bigSize), content(2, 5000)
	return []struct {
		name string
		do   func(t *testing.T, s *Store)
		hold func(t *testing.T, s *Store)
	}{
		{
			name: "a store without objects has none",
			do:   func(*testing.T, *Store) {},
			hold: func(t *testing.T, s *Store) { absent(t, s, key(1)) },
		},
		{
			name: "a record without a body is an empty object",
			do: func(t *testing.T, s *Store) {
				if err := s.Put(key(1), []byte("404")); err != nil {
					t.Fatal(err)
				}
			},
			hold: func(t *testing.T, s *Store) { check(t, s, key(1), []byte("404"), nil) },
		},
		{
			name: "empty metadata is allowed",
			do:   func(t *testing.T, s *Store) { fill(t, s, key(1), nil, small) },
			hold: func(t *testing.T, s *Store) { check(t, s, key(1), nil, small) },
		},
		{
			name: "the last commit of a key wins",
			do: func(t *testing.T, s *Store) {
				fill(t, s, key(1), []byte("a"), big)
				fill(t, s, key(1), []byte("b"), small)
				fill(t, s, key(2), []byte("a"), small)
				fill(t, s, key(2), []byte("b"), big)
			},
			hold: func(t *testing.T, s *Store) {
				check(t, s, key(1), []byte("b"), small)
				check(t, s, key(2), []byte("b"), big)
			},
		},
		{
			name: "SetMeta keeps the body",
			do: func(t *testing.T, s *Store) {
				for i, body := range [][]byte{big, small, nil} {
					fill(t, s, key(i), []byte("old"), body)
					if err := s.SetMeta(key(i), []byte("new metadata")); err != nil {
						t.Fatal(err)
					}
				}
			},
			hold: func(t *testing.T, s *Store) {
				for i, body := range [][]byte{big, small, nil} {
					check(t, s, key(i), []byte("new metadata"), body)
				}
			},
		},
		{
			name: "SetMeta of an absent key is fs.ErrNotExist",
			do: func(t *testing.T, s *Store) {
				if err := s.SetMeta(key(1), []byte("x")); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("got %v", err)
				}
			},
			hold: func(t *testing.T, s *Store) { absent(t, s, key(1)) },
		},
		{
			name: "a deleted key is absent, the others are not",
			do: func(t *testing.T, s *Store) {
				fill(t, s, key(1), nil, big)
				fill(t, s, key(2), nil, small)
				fill(t, s, key(3), nil, small)
				for _, k := range []Key{key(1), key(2), key(2), key(99)} {
					if err := s.Delete(k); err != nil {
						t.Fatal(err)
					}
				}
			},
			hold: func(t *testing.T, s *Store) {
				absent(t, s, key(1))
				absent(t, s, key(2))
				check(t, s, key(3), nil, small)
			},
		},
		{
			name: "a deleted key can be stored again",
			do: func(t *testing.T, s *Store) {
				fill(t, s, key(1), nil, big)
				if err := s.Delete(key(1)); err != nil {
					t.Fatal(err)
				}
				fill(t, s, key(1), []byte("again"), big)
			},
			hold: func(t *testing.T, s *Store) { check(t, s, key(1), []byte("again"), big) },
		},
		{
			name: "a writer closed without commit leaves nothing",
			do: func(t *testing.T, s *Store) {
				w, err := s.Create(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write(big); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if err := w.Close(); err != nil {
						t.Error(err)
					}
				}
				if _, err := w.Commit(key(1), nil); !errors.Is(err, fs.ErrClosed) {
					t.Errorf("commit after close: %v", err)
				}
				if _, err := w.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
					t.Errorf("read after close: %v", err)
				}
			},
			hold: func(t *testing.T, s *Store) {
				absent(t, s, key(1))
				for info := range s.All() {
					t.Errorf("%x is stored", info.Key)
				}
			},
		},
		{
			name: "objects of the same content live on when one is deleted or replaced",
			do: func(t *testing.T, s *Store) {
				for i := range 3 {
					fill(t, s, key(i), fmt.Append(nil, i), big)
					fill(t, s, key(10+i), fmt.Append(nil, i), small)
				}
				for _, k := range []Key{key(0), key(10)} {
					if err := s.Delete(k); err != nil {
						t.Fatal(err)
					}
				}
				fill(t, s, key(1), nil, nil)
				fill(t, s, key(11), nil, nil)
			},
			hold: func(t *testing.T, s *Store) {
				check(t, s, key(2), []byte("2"), big)
				check(t, s, key(12), []byte("2"), small)
				absent(t, s, key(0))
				absent(t, s, key(10))
			},
		},
		{
			name: "All yields every object once",
			do: func(t *testing.T, s *Store) {
				fill(t, s, key(1), []byte("one"), big)
				fill(t, s, key(2), []byte("two"), small)
				fill(t, s, key(2), []byte("three"), small)
				fill(t, s, key(3), []byte("gone"), small)
				if err := s.Delete(key(3)); err != nil {
					t.Fatal(err)
				}
			},
			hold: func(t *testing.T, s *Store) {
				var got []Info
				for info, err := range s.All() {
					if err != nil {
						t.Error(err)
					}
					got = append(got, info)
				}
				want := []Info{
					{Key: key(1), Size: bigSize, SHA256: sha256.Sum256(big), Meta: []byte("one")},
					{Key: key(2), Size: 5000, SHA256: sha256.Sum256(small), Meta: []byte("three")},
				}
				less := func(a, b Info) bool { return bytes.Compare(a.Key[:], b.Key[:]) < 0 }
				if diff := cmp.Diff(want, got, cmpopts.SortSlices(less)); diff != "" {
					t.Errorf("All (-want +got):\n%s", diff)
				}
				if n := s.Stats().Objects; n != 2 {
					t.Errorf("%d objects", n)
				}
			},
		},
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	for _, tt := range contract() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := Options{Dir: t.TempDir()}
			s := open(t, o)
			tt.do(t, s)
			tt.hold(t, s)
			for range 2 {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, o)
				tt.hold(t, s)
			}
		})
	}
}

func TestIdenticalContentIsStoredOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, MaxSize: 1 << 30})
	body, small := content(1, 1<<20-1), content(2, 30<<10)
	fill(t, s, key(0), nil, body)
	fill(t, s, key(1000), nil, small)
	before := s.Stats().Written
	for i := 1; i < 50; i++ {
		fill(t, s, key(i), nil, body)
		fill(t, s, key(1000+i), nil, small)
	}
	if n := s.Stats().Written - before; n > 64<<10 {
		t.Errorf("%d bytes written for 98 copies", n)
	}
	check(t, s, key(49), nil, body)
	check(t, s, key(1049), nil, small)
}

func TestRangesReadExactlyTheirBytes(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	for seed, size := range []int{100, inlineMax, bigSize} {
		body := content(seed, size)
		fill(t, s, key(seed), nil, body)
		o, err := s.Get(key(seed))
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range []int{0, 1, 99, blockSize - 1, blockSize, blockSize + 1, 1<<20 - 3, size - 1, size} {
			for _, n := range []int{0, 1, 7, blockSize, blockSize + 2, size - off} {
				if off+n > size || off > size || n < 0 {
					continue
				}
				var got bytes.Buffer
				if m, err := o.WriteRange(&got, int64(off), int64(n)); err != nil || m != int64(n) || !bytes.Equal(got.Bytes(), body[off:off+n]) {
					t.Errorf("%d bytes at %d of %d: %d, %v", n, off, size, m, err)
				}
				p := make([]byte, n)
				if m, err := o.ReadAt(p, int64(off)); m != n || !bytes.Equal(p, body[off:off+n]) || err != nil && off < size {
					t.Errorf("read at: %d bytes at %d of %d: %d, %v", n, off, size, m, err)
				}
			}
		}
		for _, r := range [][2]int64{{-1, 1}, {0, int64(size) + 1}, {int64(size) + 1, 0}, {1, -1}, {1, 1<<63 - 1}} {
			if n, err := o.WriteRange(io.Discard, r[0], r[1]); err == nil || n != 0 {
				t.Errorf("range %v of %d: %d, %v", r, size, n, err)
			}
		}
		if n, err := o.ReadAt(make([]byte, 10), int64(size)-3); n != 3 || !errors.Is(err, io.EOF) {
			t.Errorf("read across the end: %d, %v", n, err)
		}
		o.Release()
		o.Release()
		if _, err := o.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("read after release: %v", err)
		}
	}
}

// countingWriter notes the length of each Write.
type countingWriter struct{ sizes []int }

func (w *countingWriter) Write(p []byte) (int, error) {
	w.sizes = append(w.sizes, len(p))
	return len(p), nil
}

func TestWriteRangeWritesABlockAtATime(t *testing.T) {
	s := open(t, Options{})
	fill(t, s, key(1), nil, content(1, 2*blockSize+10))
	o, err := s.Get(key(1))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Release()
	var w countingWriter
	if _, err := o.WriteRange(&w, 5, 2*blockSize); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{blockSize - 5, blockSize, 5}, w.sizes); diff != "" {
		t.Error(diff)
	}
}

func TestWriterIsReadableWhileItIsWritten(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	body := content(1, 5<<20)
	w, err := s.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	more := sync.NewCond(new(sync.Mutex))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			// Each reader goes through the body as it grows, in steps of its own.
			buf := make([]byte, 1000+i*70001)
			for off := 0; off < len(body); {
				more.L.Lock()
				for w.Size() <= int64(off) {
					more.Wait()
				}
				more.L.Unlock()
				n, err := w.ReadAt(buf, int64(off))
				if err != nil && !errors.Is(err, io.EOF) || n == 0 {
					t.Errorf("read %d at %d: %v", n, off, err)
					return
				}
				if !bytes.Equal(buf[:n], body[off:off+n]) {
					t.Errorf("%d bytes at %d differ", n, off)
					return
				}
				off += n
			}
		})
	}
	for off, step := 0, 1; off < len(body); step = (step*3 + 1) % 1000003 {
		n := min(step+1, len(body)-off)
		if _, err := w.Write(body[off : off+n]); err != nil {
			t.Fatal(err)
		}
		off += n
		if off == n && w.Sum() != sha256.Sum256(body[:off]) {
			t.Error("Sum of the first write differs")
		}
		more.L.Lock()
		more.Broadcast()
		more.L.Unlock()
	}
	sum, err := w.Commit(key(1), nil)
	if err != nil || sum != sha256.Sum256(body) || sum != w.Sum() {
		t.Errorf("commit: %x, %v", sum, err)
	}
	wg.Wait()
	got := make([]byte, len(body))
	if n, err := w.ReadAt(got, 0); n != len(body) || err != nil || !bytes.Equal(got, body) {
		t.Errorf("read after commit: %d, %v", n, err)
	}
	if _, err := w.Write(body); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("write after commit: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	check(t, s, key(1), nil, body)
}

func TestUseAfterCloseFailsCleanly(t *testing.T) {
	s := open(t, Options{})
	fill(t, s, key(1), nil, content(1, bigSize))
	o, err := s.Get(key(1))
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content(2, bigSize)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, readErr := o.ReadAt(make([]byte, 10), 0)
	_, rangeErr := o.WriteRange(io.Discard, 0, 10)
	_, getErr := s.Get(key(1))
	_, createErr := s.Create(t.Context())
	_, commitErr := w.Commit(key(2), nil)
	_, writerErr := w.ReadAt(make([]byte, 10), 0)
	for name, err := range map[string]error{
		"read": readErr, "range": rangeErr, "get": getErr, "create": createErr, "commit": commitErr,
		"read of a writer": writerErr, "put": s.Put(key(3), nil), "set meta": s.SetMeta(key(1), nil), "delete": s.Delete(key(1)),
	} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	o.Release()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestCreateObservesItsContext(t *testing.T) {
	s := open(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Create(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestOnlyTheOwnerMayReadTheFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "store")
	s := open(t, Options{Dir: dir})
	fill(t, s, key(1), nil, content(1, bigSize))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestMetricsAreWellFormedAndLeaveTheRegistry(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	o := Options{Dir: t.TempDir(), Registerer: r}
	for range 2 {
		s := open(t, o)
		fill(t, s, key(1), nil, content(1, 1000))
		problems, err := testutil.GatherAndLint(r)
		if err != nil || len(problems) > 0 {
			t.Errorf("lint: %v, %v", problems, err)
		}
		if n, err := testutil.GatherAndCount(r); n < 8 || err != nil {
			t.Errorf("%d metrics, %v", n, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if n, err := testutil.GatherAndCount(r); n != 0 || err != nil {
			t.Errorf("%d metrics after close, %v", n, err)
		}
	}
}

func TestManyWritersAndReadersAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t, Options{MaxSize: 32 << 20})
	const workers, keys = 8, 40
	rounds := turns(25, 100)
	size := func(n int) int { return []int{50, 20 << 10, 300 << 10, 1 << 20}[n%4] }
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for i := range rounds {
				n := (worker*7 + i*3) % keys
				o, err := s.Get(key(n))
				if err == nil {
					var got bytes.Buffer
					if _, err := o.WriteRange(&got, 0, o.Size()); err != nil {
						t.Errorf("read: %v", err)
					} else if !bytes.Equal(got.Bytes(), content(n, size(n))) {
						t.Errorf("object %d differs", n)
					}
					o.Release()
					switch i % 5 {
					case 0:
						if err := s.SetMeta(key(n), fmt.Append(nil, i)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrNoSpace) {
							t.Errorf("set meta: %v", err)
						}
					case 1:
						if err := s.Delete(key(n)); err != nil {
							t.Errorf("delete: %v", err)
						}
					}
					continue
				}
				// The others may use all there is, if they are held up at bad moments.
				if err := tryFill(s, key(n), nil, content(n, size(n))); err != nil && !errors.Is(err, ErrNoSpace) {
					t.Errorf("fill: %v", err)
				}
				n = 1000 + worker*rounds + i
				for err := ErrNoSpace; errors.Is(err, ErrNoSpace); {
					if err = tryFill(s, key(n), nil, content(n, 200<<10)); err != nil && !errors.Is(err, ErrNoSpace) {
						t.Errorf("fill: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if n := s.Stats().Evicted; n == 0 {
		t.Error("nothing was evicted")
	}
}
