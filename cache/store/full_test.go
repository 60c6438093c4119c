package store

import (
	"errors"
	"sync/atomic"
	"testing"
)

// TestLittleFreeSpaceRefusesWritesOnly has the disk report what it likes.
func TestLittleFreeSpaceRefusesWritesOnly(t *testing.T) {
	t.Parallel()
	var free atomic.Int64
	free.Store(1 << 40)
	s := open(t, Options{free: func(string) (int64, error) { return free.Load(), nil }})
	fill(t, s, key(1), []byte("meta"), content(1, 1<<20))
	w, err := s.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write(content(2, 1<<20)); err != nil {
		t.Fatal(err)
	}

	free.Store(s.geo.reserve)
	if _, err := w.Write(content(2, 1<<20)); !errors.Is(err, ErrNoSpace) {
		t.Errorf("write: %v", err)
	}
	if _, err := w.Commit(key(2), nil); !errors.Is(err, ErrNoSpace) {
		t.Errorf("commit: %v", err)
	}
	// What was taken before is still there for those who wait for it.
	got := make([]byte, 1<<20)
	if _, err := w.ReadAt(got, 0); err != nil || string(got) != string(content(2, 1<<20)) {
		t.Errorf("read of the writer: %v", err)
	}
	free.Store(s.geo.reserve - 1)
	_, createErr := s.Create(t.Context())
	for name, err := range map[string]error{
		"create": createErr, "put": s.Put(key(3), nil), "set meta": s.SetMeta(key(1), nil),
	} {
		if !errors.Is(err, ErrNoSpace) {
			t.Errorf("%s: %v", name, err)
		}
	}
	check(t, s, key(1), []byte("meta"), content(1, 1<<20))

	free.Store(1 << 40)
	fill(t, s, key(2), nil, content(2, 1<<20))
	check(t, s, key(2), nil, content(2, 1<<20))
}

// TestReadOnlyDiskServesOn takes the space away as a file system does that the kernel
// mounts read-only after an error: hits go on, writes are refused, the store closes, and
// opens again with all that was stored.
func TestReadOnlyDiskServesOn(t *testing.T) {
	t.Parallel()
	var free atomic.Int64
	free.Store(1 << 40)
	o := Options{Dir: t.TempDir(), free: func(string) (int64, error) { return free.Load(), nil }}
	s := open(t, o)
	for n := range 30 {
		fill(t, s, key(n), []byte("meta"), content(n, 900<<10))
	}
	free.Store(0)
	if err := tryFill(s, key(100), nil, content(100, 1<<20)); !errors.Is(err, ErrNoSpace) {
		t.Errorf("fill: %v", err)
	}
	if err := s.Delete(key(29)); !errors.Is(err, ErrNoSpace) {
		t.Errorf("delete: %v", err)
	}
	absent(t, s, key(29))
	for n := range 29 {
		check(t, s, key(n), []byte("meta"), content(n, 900<<10))
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	free.Store(1 << 40)
	s = open(t, o)
	for n := range 29 {
		check(t, s, key(n), []byte("meta"), content(n, 900<<10))
	}
	fill(t, s, key(100), nil, content(100, 1<<20))
	check(t, s, key(100), nil, content(100, 1<<20))
}
