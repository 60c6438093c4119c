package mitm

import (
	"net"
	"testing"
	"time"
)

func TestConnectionsForALimitOfOpenFiles(t *testing.T) {
	for files, want := range map[uint64]int{0: 16, 64: 24, 1024: 384, 1 << 20: 393216, 1<<63 - 1: 1 << 20, 1<<64 - 1: 1 << 20} {
		if got := connectionsFor(files); got != want {
			t.Errorf("%d files: got %d connections, want %d", files, got, want)
		}
	}
	if n := openFiles(); n < 64 {
		t.Errorf("%d open files", n)
	}
	if w := newWorld(t, passEverything, nil, nil); cap(w.server.places) != connectionsFor(openFiles()) {
		t.Errorf("%d places by default", cap(w.server.places))
	}
}

// TestClosedListenerDoesNotWaitForAPlace: another run's connections hold them all.
func TestClosedListenerDoesNotWaitForAPlace(t *testing.T) {
	addr := tcpOrigin(t, echo)
	w := newWorld(t, tunnelEverything, map[string]string{"x.test:443": addr}, nil,
		func(o *Options, _ *UpstreamOptions) { o.MaxConnections = 1 })
	holder := w.dial()
	w.connect(holder, "x.test:443", 200)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(l, nil) }()
	time.Sleep(20 * time.Millisecond) // most likely it waits by now; the outcome is the same
	_ = l.Close()
	select {
	case err := <-served:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Serve waits for a place on a closed listener")
	}
}
