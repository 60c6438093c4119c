package mitm

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

func TestConnectHeadTakesOnlyWhatSaysNothingButWhereTo(t *testing.T) {
	const line = "CONNECT a.test:443 HTTP/1.1\r\n"
	const host = "Host: a.test:443\r\n"
	for _, c := range []struct {
		name, head string
		ok         bool
	}{
		{"what curl sends", line + host + "User-Agent: curl/8.0\r\nProxy-Connection: Keep-Alive\r\n\r\n", true},
		{"the beginning of a tunnel behind it", line + host + "\r\n\x16\x03\x01", true},
		{"an IPv6 address", "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n", true},
		{"credentials", line + host + "Proxy-Authorization: Basic YTpi\r\n\r\n", false},
		{"another method", "GET a.test:443 HTTP/1.1\r\n" + host + "\r\n", false},
		{"HTTP/1.0", "CONNECT a.test:443 HTTP/1.0\r\n" + host + "\r\n", false},
		{"no host", line + "\r\n", false},
		{"two hosts", line + host + host + "\r\n", false},
		{"another host", line + "Host: b.test:443\r\n\r\n", false},
		{"a length", line + host + "Content-Length: 0\r\n\r\n", false},
		{"a coding", line + host + "Transfer-Encoding: chunked\r\n\r\n", false},
		{"an end of the connection", line + host + "Connection: close\r\n\r\n", false},
		{"user information", "CONNECT u:p@a.test:443 HTTP/1.1\r\nHost: u:p@a.test:443\r\n\r\n", false},
		{"a bare LF", "CONNECT a.test:443 HTTP/1.1\n" + host + "\r\n", false},
		{"a bare LF in the header", line + host + "User-Agent: a\nX: b\r\n\r\n", false},
		{"a folded field", line + host + "User-Agent: a\r\n b\r\n\r\n", false},
		{"a space before the colon", line + "Host : a.test:443\r\n\r\n", false},
		{"two spaces", "CONNECT  a.test:443 HTTP/1.1\r\n" + host + "\r\n", false},
		{"a head that is not all there", line + host, false},
		{"a name that only folds to one it knows", line + "Ho\u017ft: a.test:443\r\n\r\n", false},
		{"a control character", line + host + "User-Agent: a\x00\r\n\r\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, ok := parseConnectHead([]byte(c.head))
			if ok != c.ok {
				t.Fatalf("taken: %v, want %v", ok, c.ok)
			}
			if end := strings.Index(c.head, "\r\n\r\n") + 4; ok && h.length != end {
				t.Errorf("length %d, want %d", h.length, end)
			}
		})
	}
}

// FuzzConnectHeadAgrees: whatever is taken, net/http takes for the same request of the
// same length.
func FuzzConnectHeadAgrees(f *testing.F) {
	f.Add([]byte("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"))
	f.Add([]byte("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nUser-Agent: pip/23 {\"x\"}\r\nProxy-Connection: keep-alive\r\n\r\nrest"))
	f.Add([]byte("CONNECT [::1]:1 HTTP/1.1\r\nhost:[::1]:1\r\nConnection:\tkeep-alive \r\n\r\n"))
	f.Add([]byte("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nU\u017fer-Agent: x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, ok := parseConnectHead(data)
		if !ok {
			return
		}
		in := bytes.NewReader(data)
		buffered := bufio.NewReaderSize(in, 16)
		r, err := http.ReadRequest(buffered)
		if err != nil {
			t.Fatalf("%q: net/http refuses it: %v", data, err)
		}
		if left := in.Len() + buffered.Buffered(); len(data)-left != h.length {
			t.Errorf("%q: length %d, net/http's %d", data, h.length, len(data)-left)
		}
		if r.Method != http.MethodConnect || r.RequestURI != string(h.target) || r.Host != string(h.target) || r.Proto != "HTTP/1.1" ||
			r.ContentLength != 0 || len(r.TransferEncoding) > 0 || r.UserAgent() != string(h.agent) || r.Header.Get("Proxy-Authorization") != "" {
			t.Errorf("%q: net/http reads it as %+v", data, r)
		}
	})
}
