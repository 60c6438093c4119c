package mitm

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestUpstreamFailures: each row is an origin that fails; TestUpstreamCertificates
// has those whose certificates do.
func TestUpstreamFailures(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := l.Addr().String()
	_ = l.Close()
	answer := func(s string) string {
		return tcpOrigin(t, func(c *net.TCPConn) {
			_, _ = readHeadOf(c)
			_, _ = io.WriteString(c, s)
		})
	}
	silent := tcpOrigin(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	w := newWorld(t, passEverything, map[string]string{
		"refused.test:80":   refused,
		"refused.test:443":  refused,
		"closes.test:80":    answer(""),
		"nothttp.test:80":   answer("SSH-2.0-x\r\n\r\n"),
		"badheader.test:80": answer("HTTP/1.1 200 OK\r\nbad header\r\n\r\n"),
		"huge.test:80":      answer("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n"),
		"silent.test:80":    silent,
		"silent.test:443":   silent,
		"plain.test:443":    answer("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"name.test:80":      "no-such-name.invalid:80",
	}, nil, func(_ *Options, u *UpstreamOptions) {
		u.ResponseHeaderTimeout = 100 * time.Millisecond
		u.HandshakeTimeout = 100 * time.Millisecond
		u.MaxHeaderBytes = 16 << 10
	})
	for _, c := range []struct {
		url    string
		status int
		kind   string
		label  string
	}{
		{"http://refused.test/", 502, "connection_refused", "refused"},
		{"https://refused.test/", 502, "connection_refused", "refused"},
		{"http://closes.test/", 502, "connection_terminated", "terminated"},
		{"http://nothttp.test/", 502, "http_protocol_error", "protocol"},
		{"http://badheader.test/", 502, "http_protocol_error", "protocol"},
		{"http://huge.test/", 502, "http_response_header_section_size", "response_header"},
		{"http://silent.test/", 504, "http_response_timeout", "response_timeout"},
		{"https://silent.test/", 504, "connection_timeout", "tls_timeout"},
		{"https://plain.test/", 502, "tls_protocol_error", "tls"},
		{"http://127.0.0.1:1/", 502, "destination_ip_prohibited", "address"},
		{"http://" + w.addr + "/", 502, "proxy_loop_detected", "loop"},
	} {
		res, body := get(t, w.client(false), c.url)
		if res.StatusCode != c.status || !strings.Contains(res.Header.Get("Proxy-Status"), "larder;error="+c.kind+";") {
			t.Errorf("%s: got %s, Proxy-Status %q", c.url, res.Status, res.Header.Get("Proxy-Status"))
		}
		mustContain(t, c.url, body, c.url)
		w.exchange()
	}
}

func readHeadOf(c net.Conn) (int, error) { return c.Read(make([]byte, 64<<10)) }
