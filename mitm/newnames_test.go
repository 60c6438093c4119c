package mitm

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"larder/ca"
	"larder/policy"
)

// TestNewNamesOfAClientAreLimitedAtConnect: a client, told by the balancer before
// larder, that asks for too many names is told so in words, and others go on.
func TestNewNamesOfAClientAreLimitedAtConnect(t *testing.T) {
	const limit = 5
	w := newWorld(t, passEverything, nil, nil, func(o *Options, _ *UpstreamOptions) {
		authority, err := ca.Open(ca.Options{Dir: filepath.Join(t.TempDir(), "ca"), NewNames: limit})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = authority.Close() })
		o.Certificates = authority
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		entrance := Entrance{Mode: policy.ListenProxy, Balancers: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
		if err := w.server.ServeEntrance(l, entrance, nil); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	w.addr = l.Addr().String()
	connect := func(client, host string, status int) string {
		t.Helper()
		conn := w.dial()
		fmt.Fprintf(conn, "PROXY TCP4 %s 192.0.2.1 4711 3128\r\n", client)
		res := w.connect(conn, host+":443", status)
		if status != 200 {
			defer conn.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Error(err)
			}
			return res.Header.Get("Proxy-Status") + "\n" + string(body)
		}
		c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: host}) // the name is what counts here
		defer c.Close()
		if err := c.Handshake(); err != nil {
			t.Errorf("%s for %s: %v", client, host, err)
		}
		return ""
	}
	for i := range limit {
		connect("10.1.1.1", fmt.Sprintf("h%d.test", i), 200)
	}
	said := connect("10.1.1.1", "one-more.test", http.StatusTooManyRequests)
	if !strings.Contains(said, "10.1.1.1 asks for more than 5 new names a minute") || !strings.Contains(said, "error=http_request_denied") {
		t.Errorf("larder says %q", said)
	}
	connect("10.1.1.1", "h0.test", 200)
	connect("10.1.1.2", "one-more.test", 200)
	connect("10.1.1.1", "one-more.test", 200) // now that it is in memory
	if n := testutil.ToFloat64(w.server.metrics.failures.WithLabelValues("new_names")); n != 1 {
		t.Errorf("counted %v refusals", n)
	}
}
