package mitm

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestServerNameAuthorityAndHostMustAgree: whichever of the three is another, the
// answer is 421 and a line in the log.
func TestServerNameAuthorityAndHostMustAgree(t *testing.T) {
	roots := newAuthorityKey(t, "public")
	addr := tlsOrigin(t, roots, true, func(http.ResponseWriter, *http.Request) {}, "a.test", "b.test")
	for _, c := range []struct {
		connect, serverName, host string
		status                    int
	}{
		{"a.test:443", "a.test", "a.test", 200},
		{"a.test:443", "A.Test", "A.TEST.:443", 200},
		{"A.test.:443", "a.test", "a.test", 200},
		{"a.test:443", "", "a.test", 200},
		{"a.test:443", "a.test", "b.test", 421},
		{"a.test:443", "b.test", "a.test", 421},
		{"a.test:443", "b.test", "b.test", 421},
		{"a.test:443", "a.test", "a.test:8443", 421},
		{"a.test:443", "sub.a.test", "a.test", 421},
		{"127.0.0.1:443", "a.test", "127.0.0.1", 421},
	} {
		for _, protocol := range []string{"http/1.1", "h2"} {
			var log strings.Builder
			w := newWorld(t, passEverything, map[string]string{"a.test:443": addr, "b.test:443": addr}, roots, func(o *Options, _ *UpstreamOptions) {
				o.Logger = slog.New(slog.NewTextHandler(&log, nil))
			})
			raw := w.dial()
			w.connect(raw, c.connect, 200)
			// The certificate is that of CONNECT's authority; here only the name counts.
			conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, ServerName: c.serverName, NextProtos: []string{protocol}})
			if err := conn.HandshakeContext(t.Context()); err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
			status := 0
			if protocol == "h2" {
				h2 := &http.Transport{ForceAttemptHTTP2: true, DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
				r, err := http.NewRequest("GET", "https://"+c.host+"/", nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := h2.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = res.Body.Close()
				status = res.StatusCode
			} else {
				status = w.ask(conn, bufio.NewReader(conn), fmt.Sprintf("GET / HTTP/1.1\r\nHost: %s\r\n", c.host)).StatusCode
			}
			<-w.exchanges
			_ = raw.Close() // or Shutdown gives it time
			_ = w.server.Shutdown(t.Context())
			logged := strings.Contains(log.String(), "level=WARN") && strings.Contains(log.String(), "reason=misdirected")
			if status != c.status || logged != (c.status == 421) {
				t.Errorf("%+v over %s: %d, log %s", c, protocol, status, log.String())
			}
		}
	}
}
