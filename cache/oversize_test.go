package cache

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"larder/cache/store"
)

// TestOversizedObjectsLeaveTheStoreAlone: an object that the store will not take must not
// push out what it holds, and nobody is to be told that it was stored.
func TestOversizedObjectsLeaveTheStoreAlone(t *testing.T) {
	const objects, maxSize = 10, 32 << 20
	body := noise(1 << 20)
	large := noise(maxSize/2 + 1)
	w := newWorldWith(t, &Rule{Mode: Immutable}, func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/large"):
			rw.Write(large) // in chunks, for it exceeds net/http's buffer
		case strings.HasPrefix(r.URL.Path, "/measured"):
			http.ServeContent(rw, r, "", time.Time{}, strings.NewReader(string(large)))
		default:
			rw.Write(append([]byte(r.URL.Path), body...))
		}
	}, Options{}, store.Options{MaxSize: maxSize})
	kept := func(n int) string { return "/kept/" + string(rune('a'+n)) }
	for n := range objects {
		w.get(kept(n))
		w.last()
	}
	if n := w.stored(); n != objects {
		t.Fatalf("%d objects are stored", n)
	}
	ask := func(path, status string, writes bool) {
		t.Helper()
		before := w.store.Stats().Written
		w.get(path).want(t, 200, large, status)
		if out, err := w.last(); out.Stored || err != nil {
			t.Errorf("%s: stored %v, %v", path, out.Stored, err)
		}
		if wrote := w.store.Stats().Written != before; wrote != writes {
			t.Errorf("%s: written to the store: %v, want %v", path, wrote, writes)
		}
	}
	for range 3 {
		ask("/measured", "larder; fwd=uri-miss; detail=too-large", false)
	}
	for n := range objects {
		w.get(kept(n)).want(t, 200, append([]byte(kept(n)), body...), "larder; hit")
		w.last()
	}
	// Without a length it is found out once.
	ask("/large", "larder; fwd=uri-miss; stored", true)
	ask("/large", "larder; fwd=uri-miss; detail=too-large", false)
	w.clock.advance(oversizeFor)
	ask("/large", "larder; fwd=uri-miss; stored", true)
}

func TestOversizeIsBoundedAndForgets(t *testing.T) {
	var o oversize
	now := time.Unix(1e9, 0)
	for n := range maxOversize + 10 {
		o.note(store.Key{byte(n), byte(n >> 8)}, 100, now)
	}
	if len(o.seen) != maxOversize {
		t.Errorf("%d are remembered", len(o.seen))
	}
	k := store.Key{1}
	if !o.exceeds(k, 99, now) || o.exceeds(k, 100, now) || o.exceeds(store.Key{2: 1}, 1, now) {
		t.Error("what is remembered is not what was noted")
	}
	later := now.Add(oversizeFor)
	if o.exceeds(k, 99, later) {
		t.Error("it is remembered for longer than that")
	}
	o.note(store.Key{2: 1}, 100, later)
	if len(o.seen) != 1 {
		t.Errorf("%d are remembered after their time", len(o.seen))
	}
}
