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
	secret := []string{"Authorization", "Basic x"}
	for _, test := range []struct {
		name    string
		rule    *Rule
		status  int
		control string
		others  []string // what all but one send
		gets    int64
	}{
		{"503 once for all", immutable, 503, "", nil, 1},
		{"503 private to each", immutable, 503, "private", nil, clients},
		{"404 once for all", immutable, 404, "", nil, 1},
		{"410 once for all", immutable, 410, "", nil, 1},
		{"404 of an index once for all", &Rule{Mode: Revalidate}, 404, "", nil, 1},
		{"404 private to each", immutable, 404, "private", nil, clients},
		{"404 for who says who he is", immutable, 404, "", secret, clients},
		{"404 for who says more than the canonical request", immutable, 404, "", []string{"Private-Token", "x"}, 1 + 2*(clients-1)},
		{"RFC 9111, 4: 404 under HTTP, which could not be reused", web, 404, "no-cache", nil, clients},
		{"403 each for himself", immutable, 403, "", nil, clients},
	} {
		t.Run(test.name, func(t *testing.T) {
			var ready func()
			var once sync.Once
			arrived := make(chan struct{})
			w := newWorld(t, test.rule, func(rw http.ResponseWriter, r *http.Request) {
				once.Do(func() { close(arrived); ready() })
				if test.control != "" {
					rw.Header().Set("Cache-Control", test.control)
				}
				rw.WriteHeader(test.status)
				rw.Write([]byte("an error"))
			})
			ready = gather(w, clients)
			ask := func(fields ...string) {
				got := w.get("/x", fields...)
				if got.StatusCode != test.status || string(got.body) != "an error" {
					t.Errorf("%d %q %v", got.StatusCode, got.body, got.err)
				}
			}
			var wg sync.WaitGroup
			wg.Go(func() { ask() })
			<-arrived
			for range clients - 1 {
				wg.Go(func() { ask(test.others...) })
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
