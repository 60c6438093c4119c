package store

import (
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// eventually waits until what is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("a minute has passed without this: %s", what)
		}
	}
}

// holds reports whether generation num is in the index.
func (s *Store) holds(num uint32) bool {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	return s.index.generations[num] != nil
}

// newest returns the number of the newest generation.
func (s *Store) newest() uint32 {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.last
}

// quiet waits until the store's own goroutines have nothing left to do: full
// generations are sealed, what may go is gone.
func quiet(t *testing.T, s *Store) {
	t.Helper()
	eventually(t, "the store is at rest", func() bool {
		if s.owes() || s.used() > s.softLimit() || len(s.sealing) > 0 {
			return false
		}
		s.writing.Lock()
		head := s.head
		s.writing.Unlock()
		s.index.mu.RLock()
		defer s.index.mu.RUnlock()
		for _, g := range s.dropped {
			if g.pins.Load() == 0 {
				return false
			}
		}
		for _, g := range s.index.generations {
			if g == head {
				continue
			}
			if g.writable() || !g.life.TryLock() {
				return false
			}
			g.life.Unlock()
		}
		return true
	})
}

// killed returns options with a copy of the store's folder as it is on disk: what the
// next process would find if this one were killed.
func killed(t *testing.T, s *Store) Options {
	t.Helper()
	quiet(t, s)
	o := s.opts
	o.Dir = t.TempDir()
	if err := os.CopyFS(o.Dir, os.DirFS(s.opts.Dir)); err != nil {
		t.Fatal(err)
	}
	return o
}

// churn fills objects that nobody reads until done.
func churn(t *testing.T, s *Store, from int, done func() bool) {
	t.Helper()
	for n := from; !done(); n++ {
		if n > from+5000 {
			t.Fatal("churned in vain")
		}
		fill(t, s, key(n), nil, content(n, 300<<10))
	}
}

// TestDroppingUndoesNoRemoval keeps the oldest generation in use while younger ones go
// in which objects of it were deleted and replaced.
func TestDroppingUndoesNoRemoval(t *testing.T) {
	t.Parallel()
	hold := map[string]func(t *testing.T, s *Store) (release func()){
		"by a writer": func(t *testing.T, s *Store) func() {
			w, err := s.Create(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(content(3, 300<<10)); err != nil {
				t.Fatal(err)
			}
			return func() { w.Close() }
		},
		"by a reader, as two are already": func(t *testing.T, s *Store) func() {
			o, err := s.Get(key(0))
			if err != nil {
				t.Fatal(err)
			}
			s.index.mu.Lock()
			defer s.index.mu.Unlock()
			for range maxPinnedDrops {
				g := s.newGeneration(0)
				g.pins.Add(1)
				s.dropped = append(s.dropped, g)
			}
			return func() {
				o.Release()
				s.index.mu.Lock()
				defer s.index.mu.Unlock()
				s.dropped = s.dropped[maxPinnedDrops:]
			}
		},
	}
	for name, hold := range hold {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := Options{Dir: t.TempDir(), MaxSize: 64 << 20}
			s := open(t, o)
			for n := range 5 {
				fill(t, s, key(n), []byte("old"), content(n, 100<<10))
			}
			release := hold(t, s)
			churn(t, s, 1000, func() bool { return s.newest() == 4 })
			if err := s.Delete(key(1)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.DeleteAll([]Key{key(2)}); err != nil {
				t.Fatal(err)
			}
			fill(t, s, key(3), []byte("new"), content(33, 40<<10))
			if err := s.SetMeta(key(4), []byte("new")); err != nil {
				t.Fatal(err)
			}
			taken := s.newest()
			churn(t, s, 2000, func() bool { return !s.holds(taken) })
			if !s.holds(1) {
				t.Fatal("the oldest generation was dropped")
			}
			none := func(s *Store) {
				t.Helper()
				for n := 1; n < 5; n++ {
					if n == 4 && s.holds(1) {
						// New metadata of a body in the oldest: with the one gone
						// the other may stay or go, but not be the old one.
						continue
					}
					absent(t, s, key(n))
				}
				if object, err := s.Get(key(4)); err == nil {
					if string(object.Meta()) != "new" {
						t.Errorf("metadata %q, want what it was replaced with", object.Meta())
					}
					object.Release()
				}
			}
			none(s)
			next := open(t, killed(t, s))
			none(next)
			// And so it stays for as long as the oldest one does.
			taken = s.newest()
			churn(t, s, 3000, func() bool { return !s.holds(taken) })
			if err := next.Close(); err != nil {
				t.Fatal(err)
			}
			release()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			none(open(t, o))
		})
	}
}

// TestEvictedObjectsStayAwayWhileTheirGenerationWaits deletes an object that was
// evicted with its generation, which is on disk for as long as somebody reads another.
func TestEvictedObjectsStayAwayWhileTheirGenerationWaits(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir(), MaxSize: 64 << 20}
	s := open(t, o)
	for n := range 3 {
		fill(t, s, key(n), nil, content(n, 100<<10))
	}
	held, err := s.Get(key(0))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	churn(t, s, 1000, func() bool { return !s.holds(1) })
	if err := s.Delete(key(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(generationDir(o.Dir, 1)); err != nil {
		t.Fatalf("the generation that is read is gone: %v", err)
	}
	next := open(t, killed(t, s))
	absent(t, next, key(1))
	absent(t, next, key(2))
	if _, err := os.Stat(generationDir(next.opts.Dir, 1)); err == nil {
		t.Error("a generation that was dropped is there after the next start")
	}
}

// TestRecordsWithoutTheirBodyStayAway loses the body of an object whose record is in a
// younger generation, deletes the object, and stores the same content again.
func TestRecordsWithoutTheirBodyStayAway(t *testing.T) {
	t.Parallel()
	body := content(1, 100<<10)
	// begin leaves the body in generation 1 and the record in a younger one.
	begin := func(t *testing.T, o Options) *Store {
		s := open(t, o)
		fill(t, s, key(1), nil, body)
		churn(t, s, 1000, func() bool { return s.newest() == 3 })
		if err := s.SetMeta(key(1), []byte("old")); err != nil {
			t.Fatal(err)
		}
		return s
	}
	end := func(t *testing.T, s *Store, o Options) {
		t.Helper()
		absent(t, s, key(1))
		if err := s.Delete(key(1)); err != nil {
			t.Fatal(err)
		}
		fill(t, s, key(2), nil, body)
		next := open(t, killed(t, s))
		absent(t, next, key(1))
		check(t, next, key(2), nil, body)
	}
	t.Run("evicted", func(t *testing.T) {
		t.Parallel()
		o := Options{Dir: t.TempDir(), MaxSize: 64 << 20}
		s := begin(t, o)
		churn(t, s, 2000, func() bool { return !s.holds(1) })
		if !s.holds(3) {
			t.Fatal("the generation of the record is gone too")
		}
		end(t, s, o)
	})
	t.Run("lost", func(t *testing.T) {
		t.Parallel()
		o := Options{Dir: t.TempDir(), MaxSize: 64 << 20}
		if err := begin(t, o).Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(generationDir(o.Dir, 1)); err != nil {
			t.Fatal(err)
		}
		end(t, open(t, o), o)
	})
}

// TestDeletionRefusedForSpaceIsDoneLater has the disk full when objects are deleted.
func TestDeletionRefusedForSpaceIsDoneLater(t *testing.T) {
	t.Parallel()
	removed := map[string]func(s *Store) error{
		"Delete":    func(s *Store) error { return s.Delete(key(1)) },
		"DeleteAll": func(s *Store) error { _, err := s.DeleteAll([]Key{key(1), key(3)}); return err },
	}
	for name, remove := range removed {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var free atomic.Int64
			free.Store(1 << 40)
			o := Options{
				Dir: t.TempDir(), syncEvery: time.Millisecond,
				free: func(string) (int64, error) { return free.Load(), nil },
			}
			s := open(t, o)
			for n := 1; n < 4; n++ {
				fill(t, s, key(n), nil, content(n, 1000))
			}
			// Writing needs the whole of the reserve, deleting half of it.
			free.Store(s.geo.reserve * 3 / 4)
			if err := s.Delete(key(2)); err != nil {
				t.Errorf("delete on a disk that is nearly full: %v", err)
			}
			free.Store(0)
			for range 2 {
				if err := remove(s); err == nil {
					t.Error("deleted on a full disk")
				}
			}
			absent(t, s, key(1))
			free.Store(1 << 40)
			next := open(t, killed(t, s))
			absent(t, next, key(1))
			absent(t, next, key(2))
		})
	}
}

// TestDeletionRefusedForSpaceIsDoneByClose is the same, with space only at the end.
func TestDeletionRefusedForSpaceIsDoneByClose(t *testing.T) {
	t.Parallel()
	var free atomic.Int64
	free.Store(1 << 40)
	o := Options{Dir: t.TempDir(), syncEvery: time.Hour, free: func(string) (int64, error) { return free.Load(), nil }}
	s := open(t, o)
	for n := range 2 * deleteBatch {
		if err := s.Put(key(n), []byte("old")); err != nil {
			t.Fatal(err)
		}
	}
	free.Store(0)
	for n := range 2*deleteBatch - 1 {
		if err := s.Delete(key(n)); err == nil {
			t.Error("deleted on a full disk")
		}
	}
	free.Store(1 << 40)
	// What is stored again meanwhile stays.
	fill(t, s, key(0), []byte("new"), nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	check(t, s, key(0), []byte("new"), nil)
	if n := s.Stats().Objects; n != 2 {
		t.Errorf("%d objects, want 2", n)
	}
}
