package store

import (
	"runtime"
	"testing"
)

// TestOpenGivesBackWhatReadingTook counts collections that were asked for: how much they
// free is the runtime's business.
func TestOpenGivesBackWhatReadingTook(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	s := open(t, o)
	keys := make([]Key, manyObjects+1)
	for n := range keys {
		keys[n] = key(n)
		if err := s.Put(keys[n], nil); err != nil {
			t.Fatal(err)
		}
	}
	collections := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	reopen := func() uint32 {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		before := collections()
		s = open(t, o)
		return collections() - before
	}
	if n := reopen(); n != 1 {
		t.Errorf("%d collections after reading many objects, want 1", n)
	}
	if _, err := s.DeleteAll(keys[1:]); err != nil {
		t.Fatal(err)
	}
	if n := reopen(); n != 0 {
		t.Errorf("%d collections after reading one object", n)
	}
}
