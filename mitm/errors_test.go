package mitm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/dunglas/httpsfv"
)

func TestDescribe(t *testing.T) {
	dial := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}, Err: err}
	}
	for _, c := range []struct {
		err    error
		status int
		kind   string
		label  string
		reason string
	}{
		{&deniedError{"r"}, 403, "http_request_denied", "denied", `denied by rule "r"`},
		{&misdirectedError{"b", "a", "request for"}, 421, "http_request_error", "misdirected", `request for "b"`},
		{&requestError{errors.New("why")}, 400, "http_request_error", "bad_request", "why"},
		{fmt.Errorf("x: %w", &AddressError{netip.MustParseAddr("10.0.0.1"), "private"}), 502, "destination_ip_prohibited", "address", "refused to dial 10.0.0.1: private address"},
		{dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), 502, "connection_refused", "refused", "connection refused (192.0.2.1:443)"},
		{dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), 502, "destination_ip_unroutable", "unroutable", "no route"},
		{dial(os.ErrDeadlineExceeded), 504, "connection_timeout", "connect_timeout", "connecting timed out (192.0.2.1:443)"},
		{dial(&net.DNSError{Err: "no such host", Name: "x.test", IsNotFound: true}), 502, "dns_error", "dns", "does not exist (x.test"},
		{&net.DNSError{Err: "i/o timeout", Name: "x.test", IsTimeout: true}, 504, "dns_timeout", "dns_timeout", "timed out"},
		{&net.DNSError{Err: "server misbehaving", Name: "x.test"}, 502, "dns_error", "dns", "failed"},
		{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, 502, "tls_protocol_error", "tls", "does not speak TLS"},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: handshake failure")}, 502, "tls_alert_received", "tls_alert", "handshake failure"},
		{context.Canceled, 499, "connection_terminated", "client_gone", "the client went away"},
		{context.DeadlineExceeded, 504, "connection_read_timeout", "read_timeout", "stopped answering"},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, 504, "connection_read_timeout", "read_timeout", "stopped answering"},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, 502, "connection_terminated", "terminated", "reset"},
		{io.ErrUnexpectedEOF, 502, "http_response_incomplete", "incomplete", "unexpected EOF"},
		{io.EOF, 502, "connection_terminated", "terminated", "closed the connection"},
		{dial(os.NewSyscallError("socket", syscall.EMFILE)), 502, "connection_limit_reached", "files", "too many open files"},
		{errors.New("something new"), 502, "proxy_internal_error", "internal", "something new"},
	} {
		f := describe(c.err)
		if f.Status != c.status || f.Type != c.kind || f.Label != c.label || !strings.Contains(f.Reason, c.reason) {
			t.Errorf("describe(%v) = %+v, want %+v", c.err, f, c)
		}
		if _, err := httpsfv.UnmarshalList([]string{f.proxyStatus()}); err != nil {
			t.Errorf("describe(%v): Proxy-Status %q: %v", c.err, f.proxyStatus(), err)
		}
	}
}

// TestOwnFailuresAreNeverNotFound: Go and Maven take 404 and 410 for "try the
// next registry".
func TestOwnFailuresAreNeverNotFound(t *testing.T) {
	for _, row := range failureTable() {
		if row.status == 404 || row.status == 410 || row.status < 400 {
			t.Errorf("%s is %d", row.label, row.status)
		}
	}
}

func TestFailureTextIsPlainAndUncacheable(t *testing.T) {
	for _, method := range []string{"GET", "HEAD"} {
		w := httptest.NewRecorder()
		w.Header().Set("Etag", "x")
		r := httptest.NewRequest(method, "http://a.test/", nil)
		writeFailure(w, r, describe(errors.New("odd \x01\u00fc\"")), "http://a.test/\r\nX: 1")
		res := w.Result()
		if res.StatusCode != http.StatusBadGateway || res.Header.Get("Etag") != "" || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s %v", method, res.Status, res.Header)
		}
		body, _ := io.ReadAll(res.Body)
		want := "larder: GET http://a.test/??X: 1: odd ??\"\n"
		if method == "HEAD" {
			want = ""
		}
		if string(body) != want {
			t.Errorf("%s: got %q, want %q", method, body, want)
		}
		if got := w.Header().Get("Content-Length"); got == "" || got == "0" {
			t.Errorf("%s: Content-Length %q", method, got)
		}
	}
}
