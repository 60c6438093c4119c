package mitm

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"larder/policy"
)

// brokenCertificates has a bug.
type brokenCertificates struct{}

func (brokenCertificates) Leaf(context.Context, string) (*tls.Certificate, error) { panic("mint bug") }

// brokenConn panics where its listener's flag says so: it stands for a bug in
// peek or tunnel. It hides all methods but those of net.Conn.
type brokenConn struct {
	net.Conn
	read, write *atomic.Bool
}

func (c brokenConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.read.Load() {
		panic("read bug")
	}
	return n, err
}

func (c brokenConn) Write(p []byte) (int, error) {
	if c.write.Load() {
		panic("write bug")
	}
	return c.Conn.Write(p)
}

type brokenListener struct {
	net.Listener
	read, write atomic.Bool
}

func (l *brokenListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return brokenConn{c, &l.read, &l.write}, nil
}

// TestPanicEndsOneConnection and not the process: in peek, in minting, and in
// either half of a tunnel.
func TestPanicEndsOneConnection(t *testing.T) {
	origin := tcpOrigin(t, echo)
	for _, c := range []struct {
		name, policy, want string
		read, write        bool
		certificates       Certificates
		sent               string
	}{
		{name: "peek", policy: passEverything, want: "read bug", read: true, sent: "x"},
		{name: "minting", policy: passEverything, want: "mint bug", certificates: brokenCertificates{}},
		{name: "up", policy: tunnelEverything, want: "read bug", read: true, sent: "x"},
		{name: "down", policy: tunnelEverything, want: "write bug", write: true, sent: "x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log strings.Builder
			w := newWorld(t, c.policy, map[string]string{"a.test:443": origin}, nil, func(o *Options, _ *UpstreamOptions) {
				o.Logger = slog.New(slog.NewTextHandler(&log, nil))
				if c.certificates != nil {
					o.Certificates = c.certificates
				}
			})
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l := &brokenListener{Listener: inner}
			exchanges, served := make(chan Exchange, 1), make(chan error, 1)
			go func() { served <- w.server.Serve(l, func(x Exchange) { exchanges <- x }) }()
			w.addr = inner.Addr().String()
			conn := w.dial()
			w.connect(conn, "a.test:443", 200)
			l.read.Store(c.read)
			l.write.Store(c.write)
			if c.sent == "" {
				err = tls.Client(conn, &tls.Config{RootCAs: w.larder, ServerName: "a.test"}).Handshake()
			} else {
				_, _ = io.WriteString(conn, c.sent)
				_, err = conn.Read(make([]byte, 1))
			}
			if err == nil {
				t.Error("the connection lives on")
			}
			var x Exchange
			select {
			case x = <-exchanges:
			case <-time.After(10 * time.Second):
				t.Fatal("no exchange was reported")
			}
			_ = inner.Close()
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
			if x.Class != ClassError || !strings.Contains(x.Err, c.want) {
				t.Errorf("exchange %+v", x)
			}
			mustContain(t, "log", log.String(), "level=ERROR", c.want, "stack=", "contain.go")
			if n := testutil.ToFloat64(w.server.metrics.failures.WithLabelValues("panic")); n != 1 {
				t.Errorf("counted %v panics", n)
			}
		})
	}
}

// brokenPolicy has a bug.
type brokenPolicy struct{ *policy.Policy }

func (brokenPolicy) Connect(policy.Client, string, int) policy.Decision { panic("policy bug") }

// TestPanicOfTheDecisionKeepsNoListener: what a CONNECT had entered it leaves, whoever
// carries it out.
func TestPanicOfTheDecisionKeepsNoListener(t *testing.T) {
	for name, head := range map[string]string{
		"before net/http": "",
		"by net/http":     "Connection: close\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, passEverything, nil, nil, func(o *Options, _ *UpstreamOptions) {
				o.Policy = brokenPolicy{parsePolicy(t, passEverything)}
				o.Logger = slog.New(slog.DiscardHandler)
			})
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- w.server.Serve(l, nil) }()
			c := dialAt(t, l.Addr().String())
			_, _ = io.WriteString(c, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n"+head+"\r\n")
			_, _ = io.ReadAll(c)
			_ = l.Close()
			select {
			case err := <-served:
				if err != nil {
					t.Errorf("Serve: %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("Serve waits for an exchange that has ended")
			}
			if n := testutil.ToFloat64(w.server.metrics.failures.WithLabelValues("panic")); n != 1 {
				t.Errorf("counted %v panics", n)
			}
		})
	}
}
