package mitm

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// TestServeEndsKeptConnectionsWhenItsListenerIsClosed: they would keep it for as
// long as clients are told to keep theirs.
func TestServeEndsKeptConnectionsWhenItsListenerIsClosed(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2=%v", h2), func(t *testing.T) {
			w := passing(t, true, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
			var observed atomic.Int32
			l, served := w.serveAnother(func(Exchange) { observed.Add(1) })
			get(t, w.client(h2), "https://a.test/") // keeps its connection
			silent := w.dial()
			opened := w.open("a.test:443", "a.test")
			begin := time.Now()
			_ = l.Close()
			select {
			case err := <-served:
				if took := time.Since(begin); err != nil || took > 5*time.Second {
					t.Errorf("Serve: %v after %v", err, took)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("Serve did not return")
			}
			for _, c := range []io.Reader{silent, opened} {
				if _, err := c.Read(make([]byte, 1)); err == nil {
					t.Error("an idle connection is still open")
				}
			}
			if n := observed.Load(); n != 1 {
				t.Errorf("observed %d exchanges, want 1", n)
			}
		})
	}
}

// TestServeLeavesOthersAlone: a run that ends does not end another's connections,
// nor what is under way on its own.
func TestServeLeavesOthersAlone(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2=%v", h2), func(t *testing.T) {
			rest := make(chan struct{})
			w := passing(t, true, func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, "first ")
				if r.URL.Path == "/slow" {
					_ = http.NewResponseController(w).Flush()
					<-rest
				}
				fmt.Fprint(w, "rest")
			})
			kept := w.open("a.test:443", "a.test") // on the first listener
			l, served := w.serveAnother(func(Exchange) {})
			res, err := w.client(h2).Get("https://a.test/slow")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			_ = l.Close()
			select {
			case err := <-served:
				t.Errorf("Serve returned while an exchange was under way: %v", err)
			case <-time.After(10 * overPoll):
			}
			close(rest)
			if body, err := io.ReadAll(res.Body); err != nil || string(body) != "first rest" {
				t.Errorf("body %q, %v", body, err)
			}
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
			_, _ = io.WriteString(kept, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			if n, err := kept.Read(make([]byte, 1)); n != 1 {
				t.Errorf("another listener's connection: %v", err)
			}
		})
	}
}

// TestServeEndsQuietTunnelsWhenItsListenerIsClosed, and no others.
func TestServeEndsQuietTunnelsWhenItsListenerIsClosed(t *testing.T) {
	origin := plainOrigin(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	w := newWorld(t, "presets: none\n", map[string]string{"b.test:443": origin}, nil)
	classes := make(chan string, 8)
	l, served := w.serveAnother(func(x Exchange) { classes <- x.Class })
	c := w.dial()
	w.connect(c, "b.test:443", 200)
	_ = l.Close()
	select {
	case err := <-served:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Serve did not return")
	}
	if class := <-classes; class != ClassTunnel {
		t.Errorf("observed a %s", class)
	}
}
