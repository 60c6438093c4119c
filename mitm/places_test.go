package mitm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPlacesAreTakenInTurnAndWaitedForNoLongerThanAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(2, 10*time.Second)
		for range 2 {
			if err := p.take(t.Context(), "a.test:443"); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.take(t.Context(), "b.test:443"); err != nil {
			t.Errorf("another host: %v", err)
		}
		start := time.Now()
		err := p.take(t.Context(), "a.test:443")
		if _, ok := errors.AsType[*placeError](err); !ok || time.Since(start) != 10*time.Second {
			t.Errorf("got %v after %s", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.take(ctx, "a.test:443"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		var order []int
		var wait sync.WaitGroup
		var mu sync.Mutex
		for i := range 3 {
			wait.Go(func() {
				if err := p.take(t.Context(), "a.test:443"); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				p.leave("a.test:443")
			})
			synctest.Wait()
		}
		p.leave("a.test:443")
		wait.Wait()
		if fmt.Sprint(order) != "[0 1 2]" {
			t.Errorf("in order %v", order)
		}
		p.leave("a.test:443")
		p.leave("b.test:443")
		if len(p.hosts) != 0 {
			t.Errorf("%d hosts are remembered", len(p.hosts))
		}
	})
}

// TestConnectionsPerHost: as many as allowed at once; the rest wait, use what comes
// free, and are told when nothing does.
func TestConnectionsPerHost(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	release := make(chan struct{})
	arrived := make(chan string, 10)
	addr := tlsOrigin(t, roots, false, func(w http.ResponseWriter, r *http.Request) {
		arrived <- r.RemoteAddr
		<-release
		_, _ = io.WriteString(w, r.RemoteAddr)
	}, "a.test")
	w := newWorld(t, passEverything, map[string]string{"a.test:443": addr}, roots, func(_ *Options, u *UpstreamOptions) {
		u.MaxConnectionsPerHost, u.PlaceTimeout = 2, 300*time.Millisecond
	})
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			if res, _ := get(t, w.client(false), "https://a.test/held"); res.StatusCode != 200 {
				t.Errorf("held: %s", res.Status)
			}
		})
		<-arrived
	}
	res, body := get(t, w.client(false), "https://a.test/late")
	if res.StatusCode != 503 || !strings.HasPrefix(res.Header.Get("Proxy-Status"), "larder;error=connection_limit_reached;") {
		t.Errorf("got %s, Proxy-Status %q", res.Status, res.Header.Get("Proxy-Status"))
	}
	mustContain(t, "late", body, "2 connections to a.test:443", "max_connections_per_host")
	close(release)
	wait.Wait()
	seen := map[string]bool{}
	for range 4 {
		if res, body := get(t, w.client(false), "https://a.test/after"); res.StatusCode != 200 {
			t.Errorf("after: %s %s", res.Status, body)
		} else {
			seen[body] = true
		}
		<-arrived
	}
	if len(seen) > 2 {
		t.Errorf("%d connections were used", len(seen))
	}
}
