package mitm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"larder/policy"
)

// TestCrowdBehindABalancerIsNoClient: many clients at once, each within its share.
func TestCrowdBehindABalancerIsNoClient(t *testing.T) {
	origin := plainOrigin(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	w := newWorld(t, passEverything, map[string]string{"a.test:80": origin}, nil)
	w.server.clients.most, w.server.clients.loopback = 4, true
	addr := w.enter(Entrance{Balancers: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	for range 8 {
		dialAt(t, addr) // says nothing, and takes nobody's share
	}
	var crowd sync.WaitGroup
	var served atomic.Int32
	const clients = 100
	for i := range clients {
		crowd.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, "PROXY TCP4 192.0.2.%d 192.0.2.1 4711 3128\r\nGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", i+1)
			if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil && res.StatusCode == 200 {
				served.Add(1)
			}
		})
	}
	crowd.Wait()
	if n := served.Load(); n != clients {
		t.Errorf("%d of %d clients were served", n, clients)
	}
}

// TestShutdownCutsWhatIsBeingDialled, when its time is over.
func TestShutdownCutsWhatIsBeingDialled(t *testing.T) {
	for _, test := range []struct {
		name string
		mode policy.ListenMode
		say  string
	}{
		{"SOCKS", policy.ListenSOCKS5, "\x05\x01\x00\x05\x01\x00\x03\x06a.test\x01\xbb"},
		{"CONNECT", policy.ListenProxy, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, tunnelEverything, nil, nil)
			asked := make(chan struct{})
			w.server.options.Upstream.resolver.look = func(ctx context.Context, _ string) ([]netip.Addr, time.Duration, error) {
				close(asked)
				<-ctx.Done()
				return nil, 0, ctx.Err()
			}
			c := dialAt(t, w.enter(Entrance{Mode: test.mode}))
			_, _ = io.WriteString(c, test.say)
			<-asked
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			done := make(chan struct{})
			go func() { // ends when Shutdown does, at the latest with the dial
				_ = w.server.Shutdown(ctx)
				close(done)
			}()
			select {
			case <-done:
			case <-time.After(w.server.options.Upstream.options.DialTimeout / 2):
				t.Error("Shutdown waits for the dial")
				<-done
			}
		})
	}
}

// TestNameThatNobodyKnowsIsNotAskedOfAParentAtAnOwnPort: the parent may know it, and
// be on this machine.
func TestNameThatNobodyKnowsIsNotAskedOfAParentAtAnOwnPort(t *testing.T) {
	p := &parentProxy{t: t}
	at := p.start("http", nil)
	w := newWorld(t, parentPolicy, nil, nil, func(_ *Options, u *UpstreamOptions) { u.Parents = []policy.Parent{through(t, at, nil)} })
	_, port, _ := net.SplitHostPort(w.addr)
	w.server.options.Upstream.resolver.look = func(_ context.Context, host string) ([]netip.Addr, time.Duration, error) {
		if host == "localhost" || host == "127.0.0.1" {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, 0, nil
		}
		return nil, 0, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	res, body := get(t, w.client(false), "http://larder.other:"+port+"/")
	if res.StatusCode != http.StatusBadGateway || !strings.Contains(body, "loop") && !strings.Contains(res.Header.Get("Proxy-Status"), "loop") {
		t.Errorf("%s, %q, %s", res.Status, body, res.Header.Get("Proxy-Status"))
	}
	if asked := p.asked(); len(asked) > 0 {
		t.Errorf("the parent was asked: %v", asked)
	}
}

// TestCredentialIsForReading: not for what means another method to the origin, or
// may become anything.
func TestCredentialIsForReading(t *testing.T) {
	o := &origin{}
	o.credential.Store(&credential{field: "Bearer secret"})
	for _, test := range []struct {
		name   string
		change func(*http.Request)
		with   bool
	}{
		{"a plain GET", func(*http.Request) {}, true},
		{"Upgrade", func(r *http.Request) { r.Header.Set("Upgrade", "websocket") }, false},
		{"another method by a field", func(r *http.Request) { r.Header.Set("X-HTTP-Method-Override", "DELETE") }, false},
		{"a body", func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("x")) }, false},
	} {
		r, err := http.NewRequest("GET", "https://a.test/", nil)
		if err != nil {
			t.Fatal(err)
		}
		test.change(r)
		if sent, with := o.inject(r); with != test.with || (sent.Header.Get("Authorization") != "") != test.with {
			t.Errorf("%s: with the credential %v, want %v", test.name, with, test.with)
		}
	}
}
