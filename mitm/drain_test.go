package mitm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"larder/policy"
)

// TestRequestsOnOpenConnectionsAreServedWhileDraining, on an intercepted and on a
// plain connection that have sent half of one; only CONNECT is refused. (What has
// sent half of a later one is idle to net/http, and closed.)
func TestRequestsOnOpenConnectionsAreServedWhileDraining(t *testing.T) {
	rest := make(chan struct{})
	answer := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			_, _ = io.WriteString(w, "first ")
			_ = http.NewResponseController(w).Flush()
			<-rest
		}
		fmt.Fprint(w, "done")
	}
	roots := newAuthorityKey(t, "origins")
	w := newWorld(t, passEverything, map[string]string{
		"a.test:443": tlsOrigin(t, roots, false, answer, "a.test"), "a.test:80": plainOrigin(t, answer),
	}, roots)
	release := sync.OnceFunc(func() { close(rest) })
	t.Cleanup(release)
	// A long transfer keeps the server of plain connections busy meanwhile.
	slow, err := w.client(false).Get("http://a.test/slow")
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Body.Close()
	h2 := w.client(true)
	stream, err := h2.Get("https://a.test/slow")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	plain := net.Conn(w.dial())
	opened := net.Conn(w.open("a.test:443", "a.test"))
	readers := map[string]*bufio.Reader{}
	for name, c := range map[string]net.Conn{"plain": plain, "opened": opened} {
		target := "/x"
		if name == "plain" {
			target = "http://a.test/x"
		}
		readers[name] = bufio.NewReader(c)
		_, _ = io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: a.test\r\n")
	}
	connect := w.dial()
	_, _ = io.WriteString(connect, "CONNECT a.test:443 HTTP/1.1\r\n")
	w.accepted(5)
	ended := make(chan error, 1)
	go func() { ended <- w.server.Shutdown(context.Background()) }()
	for {
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			break
		}
		_ = c.Close()
	}
	for name, c := range map[string]net.Conn{"plain": plain, "opened": opened} {
		head := ask(t, c, readers[name], "\r\n")
		mustContain(t, name, head, "HTTP/1.1 200 ", "Connection: close\r\n")
	}
	head := ask(t, connect, bufio.NewReader(connect), "Host: a.test:443\r\n\r\n")
	mustContain(t, "CONNECT", head, "HTTP/1.1 503 ", "Connection: close\r\n", "Proxy-Status: larder;error=proxy_internal_response")
	release()
	for _, res := range []*http.Response{slow, stream} {
		if b, err := io.ReadAll(res.Body); string(b) != "first done" || err != nil {
			t.Errorf("got %q, %v", b, err)
		}
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Shutdown did not return")
	}
}

// TestShutdownTellsBothServersAtOnce: a plain download must not keep clients of
// intercepted connections uninformed.
func TestShutdownTellsBothServersAtOnce(t *testing.T) {
	rest := make(chan struct{})
	answer := func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-rest
	}
	roots := newAuthorityKey(t, "origins")
	w := newWorld(t, passEverything, map[string]string{
		"a.test:443": tlsOrigin(t, roots, false, func(http.ResponseWriter, *http.Request) {}, "a.test"), "a.test:80": plainOrigin(t, answer),
	}, roots, func(o *Options, _ *UpstreamOptions) { o.PeekTimeout = time.Minute })
	release := sync.OnceFunc(func() { close(rest) })
	t.Cleanup(release)
	slow, err := w.client(false).Get("http://a.test/slow")
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Body.Close()
	idle := w.open("a.test:443", "a.test")
	r := bufio.NewReader(idle)
	ask(t, idle, r, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	silent := w.dial() // after CONNECT it never says a word
	w.connect(silent, "a.test:443", 200)
	ended := make(chan error, 1)
	go func() { ended <- w.server.Shutdown(context.Background()) }()
	_ = idle.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("the idle connection: %v, want it closed while a download goes on", err)
	}
	_ = silent.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := silent.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the silent connection: %v, want it closed", err)
	}
	release()
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// accepted waits until the proxy has that many connections open.
func (w *world) accepted(n int) {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Second); len(w.server.connections()) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%d connections, want %d", len(w.server.connections()), n)
		}
	}
}

func TestRefusalWhileStoppingEndsTheConnection(t *testing.T) {
	for err, want := range map[error]string{errStopping: "close", errUpgrade: ""} {
		w := httptest.NewRecorder()
		writeFailure(w, httptest.NewRequest(http.MethodConnect, "a.test:443", nil), describe(err), "a.test:443")
		if got := w.Header().Get("Connection"); got != want {
			t.Errorf("%v: Connection %q, want %q", err, got, want)
		}
	}
}

// askSOCKS5 asks an entrance for a connection and leaves the reply to be read.
func askSOCKS5(t *testing.T, addr, host string, port uint16) *net.TCPConn {
	t.Helper()
	c := dialAt(t, addr)
	_, _ = io.WriteString(c, "\x05\x01\x00\x05\x01\x00\x03"+string(rune(len(host)))+host+string([]byte{byte(port >> 8), byte(port)}))
	if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestShutdownWaitsForTunnelsThatBeginLate: one that was dialling when Shutdown began
// is a tunnel like those that were there.
func TestShutdownWaitsForTunnelsThatBeginLate(t *testing.T) {
	dialled := make(chan struct{})
	release := make(chan struct{})
	parent := &parentProxy{t: t, origins: map[string]string{"a.test:7": tcpOrigin(t, echo)}, late: func() { close(dialled); <-release }}
	at := parent.start("http", nil)
	w := newWorld(t, tunnelEverything, nil, nil, func(o *Options, u *UpstreamOptions) {
		o.HandshakeTimeout = 50 * time.Millisecond
		u.Parents = []policy.Parent{through(t, at, nil)}
	})
	c := askSOCKS5(t, w.enter(Entrance{Mode: policy.ListenSOCKS5}), "a.test", 7)
	<-dialled
	ended := make(chan error, 1)
	go func() { ended <- w.server.Shutdown(context.Background()) }()
	drained := func(c *count) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.closed
	}
	for end := time.Now().Add(10 * time.Second); !drained(&w.server.active); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("Shutdown does not get on")
		}
	}
	for end := time.Now().Add(100 * time.Millisecond); !drained(&w.server.tunnels) && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // for one that counts them out too early
	}
	close(release)
	if _, err := io.ReadFull(c, make([]byte, 10)); err != nil {
		t.Fatalf("reply: %v", err)
	}
	_, _ = io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatalf("echo: %v", err)
	}
	select {
	case err := <-ended:
		t.Fatalf("Shutdown returned %v before the tunnel's end", err)
	case <-time.After(200 * time.Millisecond):
	}
	_ = c.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Shutdown did not return")
	}
}

// TestTunnelOverSOCKSHasMadeItsRequest: Shutdown gives it no time to.
func TestTunnelOverSOCKSHasMadeItsRequest(t *testing.T) {
	w := newWorld(t, tunnelEverything, map[string]string{"a.test:7": tcpOrigin(t, echo)}, nil)
	c := askSOCKS5(t, w.enter(Entrance{Mode: policy.ListenSOCKS5}), "a.test", 7)
	if _, err := io.ReadFull(c, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	for _, c := range w.server.connections() {
		if c.fresh.Load() {
			t.Error("it is waited for as one that has asked for nothing")
		}
	}
}
