package mitm

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// from dials the proxy from an address of loopback, as another client.
func (w *world) from(address string) *net.TCPConn {
	w.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	c, err := d.Dial("tcp", w.addr)
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		w.t.Skipf("loopback has no second address here: %v", err)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

func TestOneClientDoesNotTakeEveryPlace(t *testing.T) {
	w := newWorld(t, tunnelEverything, map[string]string{"x.test:443": tcpOrigin(t, echo)}, nil,
		func(o *Options, _ *UpstreamOptions) { o.MaxConnectionsPerClient = 2 })
	first, second := w.from("127.0.0.1"), w.from("127.0.0.1")
	w.connect(first, "x.test:443", 200)
	w.connect(second, "x.test:443", 200)
	third := w.from("127.0.0.1")
	res := w.connect(third, "x.test:443", http.StatusTooManyRequests)
	mustContain(t, "Proxy-Status", res.Header.Get("Proxy-Status"), "http_request_denied", "2 connections of this client")
	if _, err := io.Copy(io.Discard, third); err != nil {
		t.Errorf("the connection beyond the limit: %v", err)
	}
	w.connect(w.from("127.0.0.2"), "x.test:443", 200)
	_ = first.Close()
	for deadline := time.Now().Add(20 * time.Second); ; {
		c := w.from("127.0.0.1")
		_ = writeConnect(c)
		if res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "CONNECT"}); err == nil && res.StatusCode == 200 {
			return
		}
		_ = c.Close()
		if time.Now().After(deadline) {
			t.Fatal("the place of a connection that was closed is never free")
		}
	}
}

func writeConnect(c net.Conn) error {
	_, err := io.WriteString(c, "CONNECT x.test:443 HTTP/1.1\r\nHost: x.test:443\r\n\r\n")
	return err
}

// TestCrowdOfOneClientIsReset beyond those that are told why.
func TestCrowdOfOneClientIsReset(t *testing.T) {
	w := newWorld(t, tunnelEverything, map[string]string{"x.test:443": tcpOrigin(t, echo)}, nil,
		func(o *Options, _ *UpstreamOptions) { o.MaxConnectionsPerClient = 1 })
	w.connect(w.from("127.0.0.1"), "x.test:443", 200)
	for range 3 * maxTurnedAway {
		c, err := net.Dial("tcp", w.addr)
		if err == nil { // else it was reset at once
			defer c.Close() // says nothing and does not leave
		}
	}
	w.connect(w.from("127.0.0.2"), "x.test:443", 200)
}

func TestClientsByAddress(t *testing.T) {
	for _, c := range []struct{ addr, want string }{
		{"192.0.2.1:80", "192.0.2.1/32"},
		{"[::ffff:192.0.2.1]:80", "192.0.2.1/32"},
		{"[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::/64"},
		{"[fe80::1%eth0]:80", "fe80::/64"},
		{"[::1]:80", "::1/128"},
	} {
		addr := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.addr))
		if got := clientOfAddr(addr).String(); got != c.want {
			t.Errorf("%s: got %s, want %s", c.addr, got, c.want)
		}
	}
	if p := clientOfAddr(&net.UnixAddr{Name: "x", Net: "unix"}); p.IsValid() {
		t.Errorf("a socket of no network is %v", p)
	}
	standing := newClients(Options{MaxConnections: 40})
	for range 100 {
		if _, ok := standing.enter(&net.TCPAddr{IP: net.IPv6loopback, Port: 1}); !ok {
			t.Fatal("loopback is bounded without being told to")
		}
	}
	other := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
	var of netip.Prefix
	for i := range 21 {
		p, ok := standing.enter(other)
		if ok != (i < 20) {
			t.Fatalf("connection %d of 40 in all: %v", i+1, ok)
		}
		if ok {
			of = p
		}
	}
	for range 20 {
		standing.leave(of)
	}
	if len(standing.open) != 0 {
		t.Errorf("left over: %v", standing.open)
	}
}
