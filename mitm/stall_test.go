package mitm

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestOriginThatStallsIsGivenUp although its connection moves: over HTTP/2 other
// streams, and pings, keep it alive.
func TestOriginThatStallsIsGivenUp(t *testing.T) {
	const idle = 300 * time.Millisecond
	pairings(t, func(t *testing.T, clientH2, originH2 bool) {
		roots := newAuthorityKey(t, "origins")
		stop := make(chan struct{})
		addr := tlsOrigin(t, roots, originH2, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "first")
			_ = http.NewResponseController(w).Flush()
			for r.URL.Path == "/busy" {
				select {
				case <-stop:
					return
				case <-r.Context().Done():
					return
				case <-time.After(idle / 6):
					_, _ = io.WriteString(w, ".")
					_ = http.NewResponseController(w).Flush()
				}
			}
			<-r.Context().Done()
		}, "a.test")
		w := newWorld(t, passEverything, map[string]string{"a.test:443": addr}, roots,
			func(_ *Options, uo *UpstreamOptions) { uo.IdleTimeout = idle })
		c := w.client(clientH2)
		busy, err := c.Get("https://a.test/busy")
		if err != nil {
			t.Fatal(err)
		}
		defer busy.Body.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://a.test/stall", nil)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if string(b) != "first" || err == nil || ctx.Err() != nil {
			t.Errorf("got %q, %v; want it cut", b, err)
		}
		if x := w.exchange(); x.Err != errStalled.Error() || x.Bytes != 5 || x.Class != ClassError {
			t.Errorf("exchange %+v", x)
		}
		close(stop)
		if b, err := io.ReadAll(busy.Body); err != nil || len(b) < 7 {
			t.Errorf("the other stream got %q, %v", b, err)
		}
	})
}

func TestStallCountsOnlyWhileTheOriginIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel, s := newStall(t.Context(), time.Minute)
		defer cancel()
		time.Sleep(time.Hour) // nobody waits
		s.moved()
		time.Sleep(time.Hour)
		s.begin()
		time.Sleep(50 * time.Second)
		s.moved() // the client uploads
		time.Sleep(50 * time.Second)
		s.end()
		time.Sleep(time.Hour) // the client is slow
		if ctx.Err() != nil {
			t.Fatal("ended early")
		}
		s.begin()
		time.Sleep(61 * time.Second)
		if !errors.Is(context.Cause(ctx), errStalled) || !errors.Is(stallOr(ctx, io.EOF), errStalled) {
			t.Errorf("cause %v", context.Cause(ctx))
		}
	})
}

// TestEndThatAClosingConnectionBringsIsNoEnd: an origin that sees the TLS close
// may end its body before the connection is quite gone.
func TestEndThatAClosingConnectionBringsIsNoEnd(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	watched, done, s := newStall(ctx, time.Minute)
	defer done()
	body := &stallingBody{io.NopCloser(strings.NewReader("")), watched, s}
	if _, err := body.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %v", err)
	}
	cancel(nil)
	if _, err := body.Read(make([]byte, 1)); err == io.EOF || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v after the client left", err)
	}
}
