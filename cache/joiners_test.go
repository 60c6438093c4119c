package cache

import (
	"net/http"
	"strings"
	"sync"
	"testing"
)

// gather lets n requests wait for one fill before its origin answers. It returns what
// the origin waits for.
func gather(w *world, n int32) (ready func()) {
	return func() {
		eventually(w.t, "all wait for the fill", func() bool {
			t := &w.cache.flights
			t.mu.Lock()
			defer t.mu.Unlock()
			for _, f := range t.byKey {
				if f.readers.Load() == n {
					return true
				}
			}
			return false
		})
	}
}

func TestErrorGoesToAllWhoWait(t *testing.T) {
	const clients = 8
	for _, test := range []struct {
		name, control string
		gets          int64
	}{
		{"once for all", "", 1},
		{"private to each", "private", clients},
	} {
		t.Run(test.name, func(t *testing.T) {
			var ready func()
			var once sync.Once
			w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
				once.Do(ready)
				if test.control != "" {
					rw.Header().Set("Cache-Control", test.control)
				}
				rw.WriteHeader(503)
				rw.Write([]byte("overloaded"))
			})
			ready = gather(w, clients)
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					got := w.get("/x")
					if got.StatusCode != 503 || string(got.body) != "overloaded" {
						t.Errorf("%d %q %v", got.StatusCode, got.body, got.err)
					}
				})
			}
			wg.Wait()
			w.wantGets(test.gets)
			if n := w.stored(); n != 0 {
				t.Errorf("%d objects stored", n)
			}
		})
	}
}

func TestClientsOfOtherCodingsShareTheFillOfAnArtifact(t *testing.T) {
	for _, coded := range []bool{false, true} {
		var ready func()
		var once sync.Once
		w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
			once.Do(ready)
			if coded && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				rw.Header().Set("Content-Encoding", "gzip")
				rw.Write([]byte("coded"))
				return
			}
			rw.Write([]byte("plain"))
		})
		ready = gather(w, 4)
		var wg sync.WaitGroup
		for _, accept := range []string{"identity", "gzip", "gzip, br", "br"} {
			wg.Go(func() {
				got := w.get("/x", "Accept-Encoding", accept)
				if got.Header.Get("Content-Encoding") == "gzip" && !strings.Contains(accept, "gzip") {
					t.Errorf("Accept-Encoding %s gets gzip", accept)
				}
			})
		}
		wg.Wait()
		if n := w.gets.Load(); !coded && n != 1 || n > 4 {
			t.Errorf("coded %v: %d fetches", coded, n)
		}
	}
}
