package mitm

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// TestRequestsThatAreNotRepeated: an origin answers the first request on each
// connection and hangs up on the second, after it has read it. What is safe comes
// again on a new connection; nothing else does, whatever the client says of it.
func TestRequestsThatAreNotRepeated(t *testing.T) {
	const key = "Idempotency-Key: 1\r\n"
	for _, c := range []struct {
		head, body string
		times      int
	}{
		{"GET / HTTP/1.1\r\n", "", 2},
		{"HEAD / HTTP/1.1\r\n", "", 2},
		{"OPTIONS / HTTP/1.1\r\n", "", 2},
		{"POST / HTTP/1.1\r\nContent-Length: 4\r\n", "body", 1},
		{"POST / HTTP/1.1\r\nContent-Length: 0\r\n", "", 1},
		{"POST / HTTP/1.1\r\n", "", 1},
		{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", "4\r\nbody\r\n0\r\n\r\n", 1},
		{"POST / HTTP/1.1\r\n" + key, "", 1},
		{"POST / HTTP/1.1\r\nContent-Length: 0\r\nX-" + key, "", 1},
		{"POST / HTTP/1.1\r\nContent-Length: 4\r\n" + key, "body", 1},
		{"DELETE / HTTP/1.1\r\n" + key, "", 1},
		{"PATCH / HTTP/1.1\r\n" + key, "", 1},
		{"BREW / HTTP/1.1\r\n" + key, "", 1},
		{"GET / HTTP/1.1\r\nContent-Length: 4\r\n" + key, "body", 1}, // a body that was sent is gone
	} {
		var mu sync.Mutex
		times := 0
		origin := tcpOrigin(t, func(conn *net.TCPConn) {
			r := bufio.NewReader(conn)
			for first := true; ; first = false {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				if req.RequestURI != "/warm" {
					mu.Lock()
					times++
					mu.Unlock()
					if strings.Contains(c.head, key) && req.Header.Get("Idempotency-Key")+req.Header.Get("X-Idempotency-Key") == "" {
						t.Errorf("%q: the origin got %v", c.head, req.Header)
					}
				}
				if !first {
					return // it hangs up
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		})
		w := newWorld(t, passEverything, map[string]string{"a.test:80": origin}, nil)
		if res, _ := get(t, w.client(false), "http://a.test/warm"); res.StatusCode != 200 {
			t.Fatalf("warm: %s", res.Status)
		}
		conn := w.dial()
		fmt.Fprintf(conn, "%sHost: a.test\r\nConnection: close\r\n\r\n%s", strings.Replace(c.head, " /", " http://a.test/", 1), c.body)
		answer, _ := io.ReadAll(conn)
		mu.Lock()
		got := times
		mu.Unlock()
		want := "HTTP/1.1 502"
		if c.times == 2 {
			want = "HTTP/1.1 200"
		}
		if got != c.times || !strings.HasPrefix(string(answer), want) {
			t.Errorf("%q: sent %d times, want %d; answered %.60q", c.head, got, c.times, answer)
		}
	}
}
