package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// apiProxy is a proxy with an API, whose calls end when told.
type apiProxy struct {
	begun, end chan struct{}
	offline    chan bool
}

func (p *apiProxy) API() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/slow" {
			close(p.begun)
			<-p.end
		}
		fmt.Fprint(w, "answered")
	})
}

func (p *apiProxy) Serve(l net.Listener, _ func(Exchange)) error {
	o, ok := l.(interface{ Offline() bool })
	p.offline <- ok && o.Offline()
	for {
		c, err := l.Accept()
		if err != nil {
			return nil
		}
		c.Close()
	}
}

func (p *apiProxy) Trust(RunRequest) (TrustFiles, func(), error) { return TrustFiles{}, func() {}, nil }
func (p *apiProxy) Close(context.Context) error                  { return nil }

// TestControlSocketAnswersTheAPI keeps a daemon alive by a call that takes longer
// than its idle time.
func TestControlSocketAnswersTheAPI(t *testing.T) {
	dir := t.TempDir()
	paths := Paths{State: dir, Store: filepath.Join(dir, "store")}
	p := &apiProxy{begun: make(chan struct{}), end: make(chan struct{}), offline: make(chan bool, 2)}
	s, err := New(Options{Paths: paths, Build: "b", Idle: time.Millisecond, Open: func(context.Context) (Proxy, error) { return p, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DialAdmin(t.Context(), paths); !errors.Is(err, ErrNoLarder) {
		t.Errorf("before there is a daemon: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context()) }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return DialAdmin(ctx, paths)
	}, DisableKeepAlives: true}}
	get := func(path string) (string, error) {
		res, err := client.Get("http://localhost" + path)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		return string(b), err
	}
	eventually(t, "the daemon answers", func() bool {
		_, err := os.Stat(paths.Socket())
		return err == nil
	})
	slow := make(chan string, 1)
	go func() {
		text, err := get("/api/slow")
		slow <- fmt.Sprint(text, err)
	}()
	<-p.begun
	for _, offline := range []bool{true, false} {
		c, err := Connect(t.Context(), StartOptions{Paths: paths, Build: "b"})
		if err != nil {
			t.Fatal(err)
		}
		run, err := c.StartRun(t.Context(), RunRequest{Offline: offline})
		if err != nil {
			t.Fatal(err)
		}
		if got := <-p.offline; got != offline {
			t.Errorf("the port of a run says %v, want %v", got, offline)
		}
		run.Close()
	}
	select {
	case err := <-ended:
		t.Fatalf("the daemon ended under a call: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(p.end)
	if got := <-slow; got != "answered<nil>" {
		t.Errorf("the call: %s", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("the daemon: %v", err)
	}
	if _, err := DialAdmin(t.Context(), paths); !errors.Is(err, ErrNoLarder) {
		t.Errorf("after its end: %v", err)
	}
}

func TestAdminSocketIsPrivateAndRemoved(t *testing.T) {
	dir := t.TempDir()
	paths := Paths{State: dir, Store: filepath.Join(dir, "store")}
	if err := paths.Create(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds what a crash left
		l, err := ListenAdmin(paths)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(paths.AdminSocket())
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
		}
		accepted := make(chan error, 1)
		go func() {
			c, err := l.Accept()
			if err == nil {
				err = c.Close()
			}
			accepted <- err
		}()
		c, err := DialAdmin(t.Context(), paths)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if err := <-accepted; err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(paths.AdminSocket()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
		if err := os.WriteFile(paths.AdminSocket(), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
