package mitm

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"larder/cache"
)

// serveAnother adds a listener with an observer, as a run does.
func (w *world) serveAnother(observe func(Exchange)) (l net.Listener, served chan error) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	served = make(chan error, 1)
	go func() { served <- w.server.Serve(l, observe) }() // ends when l and its connections are closed
	w.addr = l.Addr().String()
	return l, served
}

// TestServeReturnsWhenEverythingWasObserved: the exchange of a client that
// closed at the last byte, while the cache still commits.
func TestServeReturnsWhenEverythingWasObserved(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2=%v", h2), func(t *testing.T) {
			commit, gone := make(chan struct{}), make(chan struct{})
			w := newWorld(t, "presets: none\nrules: [{name: r, hosts: [\"*.test\"], action: immutable}]\n", nil, nil)
			w.cache.outcome = cache.Outcome{Status: 200, Stored: true}
			w.cache.serve = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "4")
				_, _ = io.WriteString(w, "body")
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
				close(gone)
				<-commit
			})
			var observed atomic.Int32
			l, served := w.serveAnother(func(x Exchange) {
				if x.Err != "" {
					t.Errorf("exchange %+v", x)
				}
				observed.Add(1)
			})
			c := w.client(h2)
			res, err := c.Get("https://a.test/")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(res.Body, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			c.CloseIdleConnections()
			_ = l.Close()
			<-gone
			select {
			case <-served:
				t.Error("Serve returned while an exchange was under way")
			case <-time.After(50 * time.Millisecond):
			}
			close(commit)
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
			if n := observed.Load(); n != 1 {
				t.Errorf("observed %d exchanges", n)
			}
		})
	}
}

// TestServeReturnsAfterEveryKindOfConnection: none is counted for ever.
func TestServeReturnsAfterEveryKindOfConnection(t *testing.T) {
	w := passing(t, true, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	var observed atomic.Int32
	l, served := w.serveAnother(func(Exchange) { observed.Add(1) })
	for _, h2 := range []bool{false, true} {
		c := w.client(h2)
		get(t, c, "https://a.test/")
		c.CloseIdleConnections()
	}
	dropped := w.dial()
	w.connect(dropped, "a.test:443", 200)
	_ = dropped.Close()
	tunnel := w.dial()
	w.connect(tunnel, "a.test:443", 200)
	_, _ = io.WriteString(tunnel, "not TLS\r\n\r\n")
	_, _ = io.Copy(io.Discard, tunnel)
	_ = tunnel.Close()
	_ = l.Close()
	select {
	case err := <-served:
		if err != nil || observed.Load() != 4 {
			t.Errorf("Serve: %v, %d exchanges", err, observed.Load())
		}
	case <-time.After(10 * time.Second):
		t.Error("Serve did not return")
	}
}

// TestClientThatClosesAtTheLastByteHasLostNothing: the origin says that it has
// ended only later.
func TestClientThatClosesAtTheLastByteHasLostNothing(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		gone := make(chan struct{})
		w := passing(t, true, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "4")
			_, _ = io.WriteString(w, "body")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			close(gone)
		})
		ctx, cancel := context.WithCancel(context.Background())
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://a.test/", nil)
		c := w.client(h2)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		cancel()
		_ = res.Body.Close()
		c.CloseIdleConnections()
		<-gone
		if x := w.exchange(); x.Class != ClassPass || x.Err != "" || x.Bytes != 4 || !strings.HasPrefix(x.SHA256, "230d8358dc8e") {
			t.Errorf("h2=%v: exchange %+v", h2, x)
		}
	}
}

func TestCountDrains(t *testing.T) {
	var c count
	for range 2 {
		if !c.enter() {
			t.Fatal("a new count is closed")
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.drain(ctx); err == nil {
		t.Error("drained while two are under way")
	}
	c.leave()
	done := make(chan error, 1)
	go func() { done <- c.drain(context.Background()) }()
	if !c.enter() {
		t.Error("closed while one is under way")
	}
	c.leave()
	c.leave()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if c.enter() {
		t.Error("entered after the drain")
	}
	var none *count
	if !none.enter() {
		t.Error("a nil count counts")
	}
	none.leave()
}
