package mitm

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// countedConn counts writes to it.
type countedConn struct {
	net.Conn
	mu     sync.Mutex
	writes int
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.writes++
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func TestManyRecordsGoOutInFewWrites(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer near.Close()
	raw := &countedConn{Conn: far}
	pool := &sync.Pool{New: func() any { return new(make([]byte, gatherSize)) }}
	w := &gatherWriter{clientConn: &clientConn{timedConn: newTimedConn(raw, time.Minute)}, pool: pool}
	key := newAuthorityKey(t, "larder")
	server := tls.Server(w, &tls.Config{Certificates: []tls.Certificate{key.leaf(t, nil, "a.test")}, DynamicRecordSizingDisabled: true})
	c := &openedConn{tlsConn: server, writer: w}
	client := tls.Client(near, &tls.Config{InsecureSkipVerify: true}) // of no matter here
	var handshake sync.WaitGroup
	handshake.Go(func() {
		if err := server.Handshake(); err != nil {
			t.Errorf("handshake: %v", err)
		}
	})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	handshake.Wait()
	for _, size := range []int{1, maxRecord, maxRecord + 1, 256 << 10, 1 << 20} {
		want := bytes.Repeat([]byte("0123456789abcde\n"), size/16+1)[:size]
		raw.writes = 0
		var writing sync.WaitGroup
		writing.Go(func() {
			if n, err := c.Write(want); n != size || err != nil {
				t.Errorf("Write: %d of %d, %v", n, size, err)
			}
		})
		got := make([]byte, size)
		if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes arrived otherwise, %v", size, err)
		}
		writing.Wait()
		if most := (size + gatherRecords*maxRecord - 1) / (gatherRecords * maxRecord); raw.writes > most {
			t.Errorf("%d bytes took %d writes, want at most %d", size, raw.writes, most)
		}
		if w.buffer != nil || w.used != 0 {
			t.Error("a buffer is kept")
		}
	}
}

// lazyPair is a lazy gatherWriter and the other end of its connection.
func lazyPair(t *testing.T) (*gatherWriter, *countedConn, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { _ = near.Close() })
	raw := &countedConn{Conn: far}
	return &gatherWriter{
		clientConn: &clientConn{
			timedConn: newTimedConn(raw, time.Minute), pending: new(count),
			server: &Server{places: make(chan struct{}, 1), metrics: mustMetrics(t)},
		},
		pool: &sync.Pool{New: func() any { return new(make([]byte, gatherSize)) }}, lazy: true, yield: runtime.Gosched,
	}, raw, near
}

func mustMetrics(t *testing.T) *metrics {
	t.Helper()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSmallRecordsWaitForWhatFollowsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, raw, client := lazyPair(t)
		written := make(chan struct{})
		w.yield = func() { <-written } // whoever writes is ready to run
		large := bytes.Repeat([]byte("x"), smallRecord+1)
		var got []byte
		var reading sync.WaitGroup
		reading.Go(func() { got, _ = io.ReadAll(client) })
		want := []byte{}
		for range 3 {
			for _, p := range [][]byte{[]byte("head"), large, []byte("end")} {
				if n, err := w.Write(p); n != len(p) || err != nil {
					t.Fatalf("Write: %d, %v", n, err)
				}
				want = append(want, p...)
			}
		}
		close(written)
		synctest.Wait() // nobody writes more
		if w.buffer != nil {
			t.Error("something is held although nothing follows")
		}
		if raw.writes != 4 { // each large one with the small ones before it, the last end alone
			t.Errorf("9 records took %d writes", raw.writes)
		}
		_ = raw.Close()
		reading.Wait()
		if !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, want %d, or in another order", len(got), len(want))
		}
	})
}

func TestSmallRecordGoesOutAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, client := lazyPair(t)
		if _, err := w.Write([]byte("event")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(client, b); string(b) != "event" || err != nil {
			t.Errorf("got %q, %v", b, err)
		}
	})
}

func TestWhatIsHeldGoesOutBeforeTheConnectionCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, client := lazyPair(t)
		w.server.places <- struct{}{}
		w.server.conns = map[*clientConn]struct{}{w.clientConn: {}}
		w.pending.enter()
		var got []byte
		var reading sync.WaitGroup
		reading.Go(func() { got, _ = io.ReadAll(client) })
		if _, err := w.Write([]byte("goodbye")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		reading.Wait()
		if string(got) != "goodbye" {
			t.Errorf("got %q", got)
		}
	})
}

func TestNothingIsHeldOnceTheServerHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, client := lazyPair(t)
		if err := w.server.flushes.drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		var reading sync.WaitGroup
		reading.Go(func() { _, _ = io.ReadFull(client, make([]byte, 3)) })
		if _, err := w.Write([]byte("end")); err != nil || w.buffer != nil {
			t.Errorf("Write: %v, held: %v", err, w.buffer != nil)
		}
		reading.Wait()
	})
}
