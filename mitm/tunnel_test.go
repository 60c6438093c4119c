package mitm

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

const tunnelEverything = `
presets: none
default: tunnel
`

// tcpOrigin runs serve for each connection.
func tcpOrigin(t testing.TB, serve func(c *net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		conns.Wait()
	})
	return l.Addr().String()
}

// echo sends everything back and ends when the client does.
func echo(c *net.TCPConn) { _, _ = io.Copy(c, c) }

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// TestHalfThatEndedCleanlyNeedsNobodyToTell: a client such as curl closes both
// directions when it has its answer, and resets what still comes. By the time
// that the origin ends, there is nobody left to half-close to.
func TestHalfThatEndedCleanlyNeedsNobodyToTell(t *testing.T) {
	l := tcpOrigin(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1)) // once it is connected
		_ = c.SetLinger(0)
		_ = c.Close() // a reset
	})
	ended := tcpOrigin(t, func(*net.TCPConn) {})
	dial := func(addr string) *net.TCPConn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c.(*net.TCPConn)
	}
	to := dial(l)
	_, _ = to.Write([]byte("?"))
	if _, err := to.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read: %v, want a reset", err)
	}
	r := relay{client: to, origin: dial(ended), idle: time.Minute}
	if n, err := r.half(r.client, r.origin, nil, true); n != 0 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestTunnelIsByteExactBothWays(t *testing.T) {
	addr := tcpOrigin(t, echo)
	w := newWorld(t, tunnelEverything, map[string]string{"x.test:443": addr}, nil)
	sent := randomBytes(8 << 20)
	c := w.dial()
	w.connect(c, "x.test:443", 200)
	go func() { // ends when all is sent
		_, _ = c.Write(sent)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("got %d bytes of %d, %v", len(got), len(sent), err)
	}
	x := w.exchange()
	n := int64(len(sent))
	if x.Class != ClassTunnel || x.Method != "CONNECT" || x.URL != "x.test:443" || x.Status != 200 || x.Bytes != 2*n || x.UpstreamBytes != n || x.Err != "" {
		t.Errorf("exchange %+v", x)
	}
}

// TestTunnelOfBytesSentWithCONNECT: a client need not wait for the answer.
func TestTunnelOfBytesSentWithCONNECT(t *testing.T) {
	addr := tcpOrigin(t, echo)
	w := newWorld(t, tunnelEverything, map[string]string{"x.test:443": addr}, nil)
	c := w.dial()
	_, _ = io.WriteString(c, "CONNECT x.test:443 HTTP/1.1\r\nHost: x.test:443\r\n\r\nat once")
	_ = c.CloseWrite()
	b, err := io.ReadAll(c)
	if want := established + "at once"; string(b) != want {
		t.Errorf("got %q, %v; want %q", b, err, want)
	}
}

func TestTunnelHalfClose(t *testing.T) {
	addr := tcpOrigin(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c) // until the client has ended
		fmt.Fprintf(c, "%d bytes", len(b))
	})
	w := newWorld(t, tunnelEverything, map[string]string{"x.test:443": addr}, nil)
	c := w.dial()
	w.connect(c, "x.test:443", 200)
	_, _ = c.Write(make([]byte, 12345))
	_ = c.CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "12345 bytes" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestTunnelResetIsHandedOn(t *testing.T) {
	addr := tcpOrigin(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "some")
		_, _ = c.Read(make([]byte, 1))
		_ = c.SetLinger(0)
	})
	w := newWorld(t, tunnelEverything, map[string]string{"x.test:443": addr}, nil)
	c := w.dial()
	w.connect(c, "x.test:443", 200)
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte("x"))
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	if x := w.exchange(); x.Class != ClassTunnel || x.Err == "" {
		t.Errorf("exchange %+v", x)
	}
}

// TestTunnelIdle: what moves in one direction keeps both; what rests ends.
func TestTunnelIdle(t *testing.T) {
	const idle = 2 * time.Second // the kernel keeps this time, and a busy machine delays who moves bytes
	addr := tcpOrigin(t, func(c *net.TCPConn) {
		for range 8 {
			time.Sleep(idle / 4)
			_, _ = io.WriteString(c, "x")
		}
		_, _ = c.Read(make([]byte, 1)) // and then rests
	})
	w := newWorld(t, tunnelEverything, map[string]string{"x.test:443": addr}, nil,
		func(o *Options, _ *UpstreamOptions) { o.IdleTimeout = idle })
	c := w.dial()
	w.connect(c, "x.test:443", 200)
	b, err := io.ReadAll(c)
	if string(b) != "xxxxxxxx" || err == nil {
		t.Errorf("got %q, %v; want all that came and then a reset", b, err)
	}
	if x := w.exchange(); x.Duration < 3*idle-idle/4 || x.Err != errIdle.Error() {
		t.Errorf("exchange %+v", x)
	}
}

func TestRelayOfOtherConnectionsKeepsItsOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, client := net.Pipe()
		b, origin := net.Pipe()
		r := relay{client: client, origin: origin, idle: 200 * time.Millisecond}
		go func() { // ends with the pipes
			for range 3 {
				time.Sleep(100 * time.Millisecond)
				_, _ = a.Write([]byte("x"))
			}
		}()
		go func() { _, _ = io.Copy(io.Discard, b) }() // ends with the pipes
		start := time.Now()
		if err := r.run(nil, nil); !errors.Is(err, errIdle) {
			t.Errorf("got %v, want errIdle", err)
		}
		if d := time.Since(start); d < 450*time.Millisecond || d > 550*time.Millisecond || r.up != 3 {
			t.Errorf("ended after %v with %d bytes", d, r.up)
		}
	})
}

func TestTunnelFailuresAreAnswersToCONNECT(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := l.Addr().String()
	_ = l.Close()
	w := newWorld(t, tunnelEverything, map[string]string{"refused.test:443": refused}, nil)
	for _, c := range []struct{ authority, status, reason string }{
		{"refused.test:443", "502", "connection_refused"},
		{"127.0.0.1:1", "502", "destination_ip_prohibited"},
		{"[::ffff:169.254.169.254]:80", "502", "destination_ip_prohibited"},
		{"localhost:1", "502", "destination_ip_prohibited"},
		{w.addr, "502", "proxy_loop_detected"},
		{"u@x.test:443", "400", ""},    // refused by net/http
		{"x.test:443/path", "400", ""}, // so is this
		{"x.test:99999", "400", "http_request_error"},
		{"x.test", "400", "http_request_error"},
		{"127.1:443", "400", "http_request_error"},
	} {
		conn := w.dial()
		fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", c.authority, c.authority)
		b, _ := io.ReadAll(conn)
		if !bytes.HasPrefix(b, []byte("HTTP/1.1 "+c.status+" ")) || !bytes.Contains(b, []byte(c.reason)) {
			t.Errorf("CONNECT %s: got\n%s\nwant %s with %s", c.authority, b, c.status, c.reason)
		}
	}
}

// TestNonTLSAfterCONNECTIsTunnelled also for hosts that are intercepted.
func TestNonTLSAfterCONNECTIsTunnelled(t *testing.T) {
	addr := tcpOrigin(t, echo)
	w := newWorld(t, passEverything, map[string]string{"a.test:443": addr}, nil)
	c := w.dial()
	w.connect(c, "a.test:443", 200)
	_, _ = io.WriteString(c, "SSH-2.0-client\r\n")
	_ = c.CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "SSH-2.0-client\r\n" {
		t.Errorf("got %q, %v", b, err)
	}
	if x := w.exchange(); x.Class != ClassTunnel || x.Bytes != 32 || x.Rule != "all" {
		t.Errorf("exchange %+v", x)
	}
}

func TestServerThatSpeaksFirstIsTunnelled(t *testing.T) {
	addr := tcpOrigin(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "220 hello\r\n")
		echo(c)
	})
	w := newWorld(t, passEverything, map[string]string{"a.test:443": addr}, nil,
		func(o *Options, _ *UpstreamOptions) { o.PeekTimeout = 20 * time.Millisecond })
	c := w.dial()
	w.connect(c, "a.test:443", 200)
	b := make([]byte, 11)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "220 hello\r\n" {
		t.Fatalf("got %q, %v", b, err)
	}
	_, _ = io.WriteString(c, "\x16\x03\x01 whatever")
	_ = c.CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "\x16\x03\x01 whatever" {
		t.Errorf("got %q, %v", b, err)
	}
	if x := w.exchange(); x.Class != ClassTunnel {
		t.Errorf("exchange %+v", x)
	}
}

// TestWaitingIsNoWayPastThePolicy: a client that is silent for longer than the
// peek, or dribbles its hello, is still intercepted.
func TestWaitingIsNoWayPastThePolicy(t *testing.T) {
	addr := tcpOrigin(t, echo)
	w := newWorld(t, passEverything, map[string]string{"a.test:443": addr}, nil,
		func(o *Options, _ *UpstreamOptions) { o.PeekTimeout = 20 * time.Millisecond })
	for _, pause := range []int{0, 1, 6} {
		c := w.dial()
		w.connect(c, "a.test:443", 200)
		slow := &pausingConn{Conn: c, after: pause, pause: 100 * time.Millisecond}
		err := tls.Client(slow, &tls.Config{RootCAs: w.larder, ServerName: "a.test"}).Handshake()
		if err != nil {
			t.Errorf("pause after %d bytes: %v", pause, err)
		}
	}
}

// pausingConn pauses once, after that many bytes.
type pausingConn struct {
	net.Conn
	after int
	pause time.Duration
	done  bool
}

func (p *pausingConn) Write(b []byte) (int, error) {
	if p.done {
		return p.Conn.Write(b)
	}
	p.done = true
	n, err := p.Conn.Write(b[:p.after])
	if err != nil {
		return n, err
	}
	time.Sleep(p.pause)
	m, err := p.Conn.Write(b[p.after:])
	return n + m, err
}

func TestSilentClientOfADeadOriginIsDropped(t *testing.T) {
	w := newWorld(t, passEverything, map[string]string{"a.test:443": "127.0.0.1:1"}, nil,
		func(o *Options, _ *UpstreamOptions) { o.PeekTimeout = 20 * time.Millisecond })
	c := w.dial()
	w.connect(c, "a.test:443", 200)
	if b, _ := io.ReadAll(c); len(b) != 0 {
		t.Errorf("got %q", b)
	}
	if x := w.exchange(); x.Class != ClassError {
		t.Errorf("exchange %+v", x)
	}
}

func TestManyTunnelsAtOnce(t *testing.T) {
	addr := tcpOrigin(t, echo)
	w := newWorld(t, tunnelEverything, map[string]string{"x.test:443": addr}, nil)
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			sent := randomBytes(200_000 + i)
			want := sha256.Sum256(sent)
			c := w.dial()
			w.connect(c, "x.test:443", 200)
			go func() { // ends when all is sent
				_, _ = c.Write(sent)
				_ = c.CloseWrite()
			}()
			if b, err := io.ReadAll(c); sha256.Sum256(b) != want {
				t.Errorf("tunnel %d: %d bytes, %v", i, len(b), err)
			}
		})
	}
	all.Wait()
}
