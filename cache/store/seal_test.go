package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// retired fills s until the generation that is written to is not the one that was, and
// returns that.
func retired(t *testing.T, s *Store, from int) *generation {
	t.Helper()
	s.writing.Lock()
	g := s.head
	s.writing.Unlock()
	churn(t, s, from, func() bool { return s.newest() > g.num })
	return g
}

// TestGenerationThatCannotBeMarkedIsServed has no room for the file that says that a
// generation was closed cleanly.
func TestGenerationThatCannotBeMarkedIsServed(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir(), MaxSize: 64 << 20}
	s := open(t, o)
	for n := range 10 {
		fill(t, s, key(n), nil, content(n, 100<<10))
	}
	inTheWay := filepath.Join(s.head.dir, sealedFile+".tmp", "in the way")
	if err := os.MkdirAll(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	g := retired(t, s, 100)
	quiet(t, s)
	all := func(s *Store) {
		t.Helper()
		for n := range 10 {
			check(t, s, key(n), nil, content(n, 100<<10))
		}
		if lost := testutil.ToFloat64(s.metrics.lost); lost != 0 || !s.holds(g.num) {
			t.Errorf("%v generations are lost", lost)
		}
	}
	all(s)
	if g.writable() || g.sealed() {
		t.Errorf("the generation is writable: %v, marked: %v", g.writable(), g.sealed())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// The next start cannot mark it either.
	s = open(t, o)
	all(s)
	if n := testutil.ToFloat64(s.metrics.recovered); n != 1 {
		t.Errorf("%v generations were recovered, want 1", n)
	}
}

// TestGenerationThatCannotBeOpenedIsTriedAgain hides a file of a generation while it is
// sealed, which is what a process without file descriptors sees.
func TestGenerationThatCannotBeOpenedIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := open(t, Options{MaxSize: 64 << 20, syncEvery: time.Millisecond})
	for n := range 10 {
		fill(t, s, key(n), nil, content(n, 100<<10))
	}
	manifest := filepath.Join(s.head.dir, "MANIFEST")
	if err := errors.Join(os.Rename(manifest, manifest+".away"), os.Symlink("nowhere", manifest)); err != nil {
		t.Fatal(err)
	}
	g := retired(t, s, 100)
	eventually(t, "the generation is closed", func() bool { return !g.readable() })
	if _, err := s.Get(key(1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("get meanwhile: %v, want fs.ErrClosed", err)
	}
	if err := os.Rename(manifest+".away", manifest); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the generation is open again", g.readable)
	for n := range 10 {
		check(t, s, key(n), nil, content(n, 100<<10))
	}
	if lost := testutil.ToFloat64(s.metrics.lost); lost != 0 {
		t.Errorf("%v generations are lost", lost)
	}
}

// TestGenerationThatIsDestroyedUndoesNoRemoval loses a generation that has said that
// an object of an older one is gone.
func TestGenerationThatIsDestroyedUndoesNoRemoval(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir(), MaxSize: 64 << 20, syncEvery: time.Millisecond}
	s := open(t, o)
	fill(t, s, key(1), nil, content(1, 1000))
	fill(t, s, key(2), nil, content(2, 1000))
	retired(t, s, 100)
	if err := s.Delete(key(1)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.head.dir, "MANIFEST"), []byte("not a manifest"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := retired(t, s, 200)
	eventually(t, "the generation is given up", func() bool { return !s.holds(g.num) })
	if lost := testutil.ToFloat64(s.metrics.lost); lost != 1 {
		t.Errorf("%v generations are lost, want 1", lost)
	}
	check(t, s, key(2), nil, content(2, 1000))
	next := open(t, killed(t, s))
	absent(t, next, key(1))
	check(t, next, key(2), nil, content(2, 1000))
}

// TestSpaceThatIsNotGivenBackIsCountedAndTriedAgain has something in the way of the
// removal of generations.
func TestSpaceThatIsNotGivenBackIsCountedAndTriedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, MaxSize: 64 << 20, syncEvery: time.Millisecond})
	var inTheWay []string
	for n := range 100 {
		path := filepath.Join(dir, fmt.Sprintf("%s%08x", trashPrefix, n))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		inTheWay = append(inTheWay, path)
	}
	var err error
	stored := 0
	for ; err == nil && stored < 1000; stored++ {
		err = tryFill(s, key(stored), nil, content(stored, 300<<10))
	}
	if !errors.Is(err, ErrNoSpace) {
		t.Fatalf("after %d objects in a store that cannot remove any: %v, want ErrNoSpace", stored, err)
	}
	if used := du(t, dir); used > s.opts.MaxSize+s.opts.MaxSize/10 {
		t.Errorf("du says %d MiB, the cap is %d", used>>20, s.opts.MaxSize>>20)
	}
	if n := s.Stats().Objects; n < stored/2 {
		t.Errorf("%d of %d objects are left", n, stored)
	}
	for _, path := range inTheWay {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	quiet(t, s)
	for _, path := range inTheWay {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	fill(t, s, key(2000), nil, content(2000, 300<<10))
}

// TestInstancesLeftBehindAreSilent takes away the folder of a store, so that Badger
// cannot write what it holds and would say so once a second.
func TestInstancesLeftBehindAreSilent(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var text bytes.Buffer
	handler := slog.NewTextHandler(lockedWriter{&mu, &text}, nil)
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, Options{Dir: dir, Logger: slog.New(handler)})
	fill(t, s, key(1), nil, content(1, 1<<20))
	g := s.head
	voice := g.voice
	voice.Warningf("before")
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	// As when the disk goes while the store closes: it has begun to write by then.
	if err := g.close(); !errors.Is(err, errStuck) {
		t.Fatalf("close: %v, want errStuck", err)
	}
	voice.Errorf("after")
	mu.Lock()
	said := text.String()
	mu.Unlock()
	if !bytes.Contains([]byte(said), []byte("before")) || bytes.Contains([]byte(said), []byte("after")) {
		t.Errorf("logged %q", said)
	}
	if n := s.abandoned.Load(); n != 1 {
		t.Errorf("%d instances are counted as left behind, want 1", n)
	}
}

// lockedWriter is a buffer for several goroutines.
type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// TestFaultInATableLosesItsEntriesOnly cuts a table short under an open generation,
// as a bad sector does, and reads it.
func TestFaultInATableLosesItsEntriesOnly(t *testing.T) {
	t.Parallel()
	s := open(t, Options{MaxSize: 64 << 20})
	for n := range 20 {
		fill(t, s, key(n), nil, content(n, 100<<10))
	}
	g := retired(t, s, 100)
	fill(t, s, key(50), nil, content(50, 1000))
	quiet(t, s)
	tables, err := filepath.Glob(filepath.Join(g.dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("tables %v, %v", tables, err)
	}
	for _, path := range tables {
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.scan(func(uint64, []byte) {}); !errors.Is(err, errFault) {
		t.Errorf("scan: %v, want a fault", err)
	}
	l := &loader{store: s, tombstones: make(map[Key]uint64)}
	l.scan(g.num)
	if lost := testutil.ToFloat64(s.metrics.lost); lost != 1 {
		t.Errorf("%v generations are counted as lost, want 1", lost)
	}
	for n := range 20 {
		if ok, err := intact(t, s, key(n), content(n, 100<<10)); !ok && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("object %d: %v", n, err)
		}
	}
	check(t, s, key(50), nil, content(50, 1000))
}
