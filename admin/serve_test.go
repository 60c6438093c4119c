package admin

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestServeEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	asked := make(chan struct{})
	h := New(Options{Checks: []Check{{Name: "slow", Ready: func(context.Context) error {
		close(asked)
		<-ctx.Done() // Serve is told to end while this answer is under way
		return nil
	}}}})
	go func() { served <- Serve(ctx, l, h) }()
	answered := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + l.Addr().String() + "/-/ready")
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answered <- resp.Status + " " + string(b)
	}()
	<-asked
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if got := <-answered; !strings.HasPrefix(got, "200 OK") {
		t.Errorf("the answer under way: %s", got)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
}

func TestServeReportsABrokenListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Serve(t.Context(), l, New(Options{})); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("Serve = %v, want an error that names the address", err)
	}
}
