package mitm

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// rawOrigin answers each request head with fixed bytes and keeps the heads: what
// went over the wire, with nothing of net/http on this side.
type rawOrigin struct {
	t     testing.TB
	l     net.Listener
	heads chan string
}

func newRawOrigin(t testing.TB, config *tls.Config, answer func(head string, c net.Conn, r *bufio.Reader)) *rawOrigin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &rawOrigin{t: t, l: l, heads: make(chan string, 64)}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if config != nil {
				c = tls.Server(c, config)
			}
			conns.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				r := bufio.NewReader(c)
				for {
					head, err := readHead(r)
					if err != nil {
						return
					}
					o.heads <- head
					answer(head, c, r)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		conns.Wait()
	})
	return o
}

func (o *rawOrigin) addr() string { return o.l.Addr().String() }

func readHead(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return b.String(), err
		}
		b.WriteString(line)
		if line == "\r\n" {
			return b.String(), nil
		}
	}
}

// ask sends bytes and reads one response head and, if it has a length, body.
func ask(t testing.TB, c net.Conn, r *bufio.Reader, request string) (head string) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	head, err := readHead(r)
	if err != nil {
		t.Fatalf("%q answered %q: %v", request, head, err)
	}
	return head
}

func reply(s string) func(string, net.Conn, *bufio.Reader) {
	return func(_ string, c net.Conn, _ *bufio.Reader) { _, _ = io.WriteString(c, s) }
}

// TestRequestGoesOutAsItCame compares whole heads.
func TestRequestGoesOutAsItCame(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	config := &tls.Config{Certificates: []tls.Certificate{roots.leaf(t, nil, "a.test")}}
	const ok = "HTTP/1.1 204 No Content\r\n\r\n"
	secure := newRawOrigin(t, config, reply(ok))
	plain := newRawOrigin(t, nil, reply(ok))
	w := newWorld(t, passEverything, map[string]string{"a.test:443": secure.addr(), "a.test:80": plain.addr()}, roots)
	opened := w.open("a.test:443", "a.test")
	openedReader := bufio.NewReader(opened)
	direct := w.dial()
	directReader := bufio.NewReader(direct)
	for _, c := range []struct {
		name string
		line string // method and target
		in   string // fields
		want string // fields at the origin, sorted as net/http writes them
		at   string // target at the origin; "" as sent
	}{
		{name: "nothing is added", line: "GET /x"},
		{name: "an extension method", line: "BREW /pot"},
		{name: "percent-encoding as sent", line: "GET /a%2Fb%2fc%7e~%41;p=%2B+/%2e%2E/.././/x/"},
		{name: "an empty query", line: "GET /x?"},
		{name: "a query as sent", line: "GET /x?a=%20+%zz&&=;b"},
		{name: "two slashes first", line: "GET //x//y"},
		{name: "characters no URI may hold", line: "GET /{a}|b^c`\"<d>"},
		{name: "bytes above ASCII", line: "GET /b\xc3\xbccher/\xff"},
		{name: "the whole server", line: "OPTIONS *"},
		{name: "repeated and empty fields", line: "GET /x", in: "X-A: 1\r\nX-A: 2\r\nX-Empty:\r\n", want: "X-A: 1\r\nX-A: 2\r\nX-Empty: \r\n"},
		{name: "the client's own agent and coding", line: "GET /x", in: "User-Agent: pip/9\r\nAccept-Encoding: br;q=1, *;q=0\r\n", want: "User-Agent: pip/9\r\nAccept-Encoding: br;q=1, *;q=0\r\n"},
		{name: "fields of this hop", line: "GET /x", in: "Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic c2VjcmV0\r\nTE: gzip\r\nX-Stay: 1\r\n", want: "X-Stay: 1\r\n"},
		{name: "TE trailers", line: "GET /x", in: "TE: trailers\r\nConnection: TE\r\n", want: "Te: trailers\r\n"},
		{name: "h2c is not switched to", line: "GET /x", in: "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"},
		{name: "a length of zero", line: "GET /x", in: "Content-Length: 0\r\n", want: "content-length: 0\r\n"},
		{name: "a length of zero with DELETE", line: "DELETE /x", in: "Content-Length: 0\r\n", want: "content-length: 0\r\n"},
		{name: "DELETE without body", line: "DELETE /x"},
		{name: "POST without body or length", line: "POST /x"},
		{name: "PUT without body or length", line: "PUT /x"},
		{name: "PATCH without body or length", line: "PATCH /x"},
		{name: "POST with a length of zero", line: "POST /x", in: "Content-Length: 0\r\n", want: "Content-Length: 0\r\n"},
		{name: "freshness and credentials", line: "GET /x", in: "Cache-Control: max-age=0\r\nPragma: no-cache\r\nAuthorization: Bearer x\r\nCookie: a=b; c=d\r\nRange: bytes=0-5\r\n", want: "Authorization: Bearer x\r\nCache-Control: max-age=0\r\nCookie: a=b; c=d\r\nPragma: no-cache\r\nRange: bytes=0-5\r\n"},
	} {
		method, target, _ := strings.Cut(c.line, " ")
		for _, way := range []string{"opened", "plain"} {
			conn, reader, origin, sent := net.Conn(opened), openedReader, secure, target
			if way == "plain" {
				conn, reader, origin = direct, directReader, plain
				if sent = "http://a.test" + target; target == "*" {
					sent = "http://a.test"
				}
			}
			ask(t, conn, reader, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: a.test\r\n%s\r\n", method, sent, c.in))
			at := target
			if c.at != "" {
				at = c.at
			}
			want := sortHead(method + " " + at + " HTTP/1.1\r\nHost: a.test\r\n" + c.want + "\r\n")
			if got := sortHead(<-origin.heads); got != want {
				t.Errorf("%s, %s: origin got\n%q\nwant\n%q", c.name, way, got, want)
			}
		}
	}
}

// sortHead orders the fields, whose order net/http does not keep across names.
func sortHead(head string) string {
	lines := strings.SplitAfter(head, "\r\n")
	first, fields := lines[0], lines[1:]
	for i := range fields { // stable insertion by name: repeated fields keep their order
		for j := i; j > 0 && fieldName(fields[j]) < fieldName(fields[j-1]) && fields[j] != "\r\n" && fields[j] != ""; j-- {
			fields[j], fields[j-1] = fields[j-1], fields[j]
		}
	}
	return first + strings.Join(fields, "")
}

func fieldName(line string) string {
	name, _, _ := strings.Cut(line, ":")
	return strings.ToLower(name)
}

// TestResponseComesBackAsItWent compares whole heads and what follows.
func TestResponseComesBackAsItWent(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	config := &tls.Config{Certificates: []tls.Certificate{roots.leaf(t, nil, "a.test")}}
	for _, c := range []struct {
		name     string
		method   string
		response string
		want     string // "" as sent
	}{
		{"nothing is added", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html", ""},
		{"repeated and empty fields", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nX-Empty: \r\n\r\nx", ""},
		{"an odd status", "GET", "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 299 status code 299\r\nContent-Length: 0\r\n\r\n"},
		{"not found", "GET", "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nContent-Type: text/plain\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: x\r\n\r\nno", ""},
		{"gone", "GET", "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", ""},
		{"HEAD with a length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nContent-Type: a/b\r\n\r\n", ""},
		{"HEAD without", "HEAD", "HTTP/1.1 200 OK\r\nX: 1\r\n\r\n", ""},
		{"no content", "GET", "HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n", ""},
		{"reset content", "GET", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", ""},
		{"not modified", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nContent-Type: a/b\r\nEtag: \"x\"\r\n\r\n", ""},
		{"a redirect", "GET", "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: https://b.test/%2F?\r\n\r\n", ""},
		{"unknown length", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", ""},
		{"an empty body of unknown length", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ""},
		{"announced trailers", "GET", "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n", ""},
		{"trailers nobody announced", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n", ""},
		{"early hints", "GET", "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""},
		{"two kinds of 1xx", "GET", "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""},
		{"fields of that hop", "GET", "HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=3\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			origin := newRawOrigin(t, config, reply(c.response))
			w := newWorld(t, passEverything, map[string]string{"a.test:443": origin.addr()}, roots)
			conn := w.open("a.test:443", "a.test")
			if _, err := fmt.Fprintf(conn, "%s /x HTTP/1.1\r\nHost: a.test\r\n\r\n", c.method); err != nil {
				t.Fatal(err)
			}
			want := c.want
			if want == "" {
				want = c.response
			}
			got := make([]byte, len(want))
			n, err := io.ReadFull(conn, got)
			if err != nil {
				t.Logf("got %q: %v", got[:n], err)
			}
			if string(got) != want && sortHead(strings.ToLower(string(got))) != sortHead(strings.ToLower(want)) {
				t.Errorf("client got\n%q\nwant\n%q", got[:n], want)
			}
			<-origin.heads
			// Nothing may follow: a second request is answered in step.
			if _, err := fmt.Fprintf(conn, "%s /y HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", c.method); err != nil {
				t.Fatal(err)
			}
			next := make([]byte, 9)
			if _, err := io.ReadFull(conn, next); err != nil || string(next) != "HTTP/1.1 " {
				t.Errorf("then came %q, %v", next, err)
			}
		})
	}
}
