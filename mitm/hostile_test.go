package mitm

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// hostileRequests are what a client may send to be read in two ways, or to see
// what breaks: the bytes and the status that they are answered with, after which
// the connection is closed. A target of origin form becomes one of absolute form
// where the proxy is spoken to directly. What follows a request that is refused
// is never read as another.
var hostileRequests = []struct{ name, raw, status string }{
	{"both lengths", "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	{"both lengths, the other way round", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400"},
	{"both lengths, spelt otherwise", "POST /x HTTP/1.1\r\nHost: a.test\r\ncONTENT-lENGTH:4\r\ntransfer-encoding:\tChunked\r\n\r\n0\r\n\r\n", "400"},
	{"a length twice", "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "400"},
	{"two lengths", "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy", "400"},
	{"a list of lengths", "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1, 1\r\n\r\nx", "400"},
	{"a signed length", "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: +1\r\n\r\nx", "400"},
	{"a negative length", "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: -1\r\n\r\nx", "400"},
	{"a hexadecimal length", "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0x1\r\n\r\nx", "400"},
	{"an empty length", "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length:\r\n\r\n", "400"},
	{"a length beyond 63 bits", "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9223372036854775808\r\n\r\n", "400"},
	{"a length in two words", "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1 1\r\n\r\nx", "400"},
	{"codings twice", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	{"identity and chunked", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	{"a list of codings", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"},
	{"chunked twice in a list", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "501"},
	{"a coding that is not chunked", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501"},
	{"chunked with a parameter", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", "501"},
	{"chunked with a vertical tab", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "400"},
	{"codings over HTTP/1.0", "POST /x HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	{"codings before a space", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400"},
	{"a space before the colon", "GET /x HTTP/1.1\r\nHost: a.test\r\nX-A : 1\r\n\r\n", "400"},
	{"a tab before the colon", "GET /x HTTP/1.1\r\nHost: a.test\r\nX-A\t: 1\r\n\r\n", "400"},
	{"no name", "GET /x HTTP/1.1\r\nHost: a.test\r\n: 1\r\n\r\n", "400"},
	{"no colon", "GET /x HTTP/1.1\r\nHost: a.test\r\nX-A\r\n\r\n", "400"},
	{"a name that is no token", "GET /x HTTP/1.1\r\nHost: a.test\r\nX(A): 1\r\n\r\n", "400"},
	{"a name beyond ASCII", "GET /x HTTP/1.1\r\nHost: a.test\r\nX-\xc3\xa9: 1\r\n\r\n", "400"},
	{"a folded field", "GET /x HTTP/1.1\r\nHost: a.test\r\nX-A: 1\r\n 2\r\n\r\n", "400"},
	{"a field folded with a tab", "GET /x HTTP/1.1\r\nHost: a.test\r\nX-A: 1\r\n\t2\r\n\r\n", "400"},
	{"a field folded to nothing", "GET /x HTTP/1.1\r\nHost: a.test\r\nX-A: 1\r\n \r\n\r\n", "400"},
	{"a folded coding", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "400"},
	{"a first field folded", "GET /x HTTP/1.1\r\n Host: a.test\r\nHost: a.test\r\n\r\n", "400"},
	{"LF after the request line", "GET /x HTTP/1.1\nHost: a.test\r\n\r\n", "400"},
	{"LF after a field", "GET /x HTTP/1.1\r\nHost: a.test\nX: 1\r\n\r\n", "400"},
	{"LF after the head", "GET /x HTTP/1.1\r\nHost: a.test\r\n\n", "400"},
	{"CR in a request line", "GET /x\rHTTP/1.1 HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"CR in a field", "GET /x HTTP/1.1\r\nHost: a.test\r\nX: a\rContent-Length: 5\r\n\r\n", "400"},
	{"CR CR LF after a field", "GET /x HTTP/1.1\r\nHost: a.test\r\r\n\r\n", "400"},
	{"CR alone for an empty line", "GET /x HTTP/1.1\r\nHost: a.test\r\n\rGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"NUL in a field", "GET /x HTTP/1.1\r\nHost: a.test\r\nX: a\x00b\r\n\r\n", "400"},
	{"NUL in a name", "GET /x HTTP/1.1\r\nHost: a.test\r\nX\x00: a\r\n\r\n", "400"},
	{"NUL in a target", "GET /x\x00y HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"DEL in a field", "GET /x HTTP/1.1\r\nHost: a.test\r\nX: a\x7fb\r\n\r\n", "400"},
	{"a space in a target", "GET /x /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"two spaces before the target", "GET  /x HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"two spaces behind the target", "GET /x  HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"tabs in a request line", "GET\t/x\tHTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"no version", "GET /x\r\nHost: a.test\r\n\r\n", "400"},
	{"a version that is none", "GET /x HTTP/1.1x\r\nHost: a.test\r\n\r\n", "400"},
	{"HTTP/0.9", "GET /x HTTP/0.9\r\nHost: a.test\r\n\r\n", "505"},
	{"HTTP/2 in a request line", "GET /x HTTP/2.0\r\nHost: a.test\r\n\r\n", "505"},
	{"HTTP/11", "GET /x HTTP/11\r\nHost: a.test\r\n\r\n", "400"},
	{"a method that is no token", "GE(T /x HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"an empty line first", "\r\nGET /x HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"no Host", "GET /x HTTP/1.1\r\n\r\n", "400"},
	{"two Hosts", "GET /x HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n", "400"},
	{"two other Hosts", "GET /x HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", "400"},
	{"a Host with a path", "GET /x HTTP/1.1\r\nHost: a.test/y\r\n\r\n", "400"},
	{"a Host with a space", "GET /x HTTP/1.1\r\nHost: a.test b.test\r\n\r\n", "400"},
	{"a fragment", "GET /x#y HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"half a percent-encoding", "GET /%2 HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"an expectation nobody knows", "GET /x HTTP/1.1\r\nHost: a.test\r\nExpect: 200-ok\r\n\r\n", "417"},
	{"a chunk without size", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\r\nx\r\n0\r\n\r\n", "400"},
	{"a chunk with 0x", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n", "400"},
	{"a chunk of negative size", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n", "400"},
	{"a chunk with an underscore", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1_0\r\nx\r\n0\r\n\r\n", "400"},
	{"a chunk of more than 64 bits", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000001\r\nx\r\n0\r\n\r\n", "400"},
	{"a chunk ended by LF", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n", "400"},
	{"an extension ended by LF", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1;a\nx\r\n0\r\n\r\n", "400"},
	{"CR in an extension", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1;a\rb\r\nx\r\n0\r\n\r\n", "400"},
	{"a chunk longer than it says", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n", "400"},
	{"a chunk without end", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx0\r\n\r\n", "400"},
	{"a folded trailer", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: 1\r\n 2\r\n\r\n", "400"},
	{"a length among trailers", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nContent-Length: 5\r\n\r\n", "400"},
	{"a trailer ended by LF", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: 1\n\r\n", "400"},
	{"CONNECT with a body", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nContent-Length: 5\r\n\r\nhello", "400"},
	{"CONNECT with user information", "CONNECT u:p@a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", "400"},
	{"CONNECT with a path", "CONNECT a.test:443/x HTTP/1.1\r\nHost: a.test:443\r\n\r\n", "400"},
	{"CONNECT of a path", "CONNECT /x HTTP/1.1\r\nHost: a.test:443\r\n\r\n", "400"},
	{"CONNECT of a URI", "CONNECT https://a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", "400"},
	{"CONNECT with a query", "CONNECT a.test:443?x HTTP/1.1\r\nHost: a.test:443\r\n\r\n", "400"},
	{"CONNECT without port", "CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"CONNECT with an empty port", "CONNECT a.test: HTTP/1.1\r\nHost: a.test:\r\n\r\n", "400"},
	{"CONNECT to port 0", "CONNECT a.test:0 HTTP/1.1\r\nHost: a.test:0\r\n\r\n", "400"},
	{"CONNECT to port 65536", "CONNECT a.test:65536 HTTP/1.1\r\nHost: a.test:65536\r\n\r\n", "400"},
	{"CONNECT to a port of many digits", "CONNECT a.test:18446744073709552059 HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"CONNECT to a negative port", "CONNECT a.test:-443 HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"CONNECT to a signed port", "CONNECT a.test:+443 HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"CONNECT to a port by name", "CONNECT a.test:https HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"CONNECT to two ports", "CONNECT a.test:443:80 HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"CONNECT with a zone", "CONNECT [fe80::1%25lo]:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"CONNECT with doubled brackets", "CONNECT [[::1]]:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
	{"a header too large", "GET /x HTTP/1.1\r\nHost: a.test\r\nX: " + strings.Repeat("x", 160<<10) + "\r\n\r\n", "431"},
	{"too many fields", "GET /x HTTP/1.1\r\nHost: a.test\r\n" + strings.Repeat("A:\r\n", 40<<10) + "\r\n", "431"},
	{"a target too long", "GET /" + strings.Repeat("x", 160<<10) + " HTTP/1.1\r\nHost: a.test\r\n\r\n", "431"},
}

// smuggled is what must not be read as a request behind one that is refused.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"

func TestHostileRequestsAreRefusedAndClosed(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	answer := func(head string, c net.Conn, _ *bufio.Reader) {
		if strings.Contains(head, "smuggled") {
			t.Errorf("the origin got %q", head)
		}
		if !strings.Contains(head, "chunked") { // and waits for the body
			_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	}
	secure := newRawOrigin(t, &tls.Config{Certificates: []tls.Certificate{roots.leaf(t, nil, "a.test")}}, answer)
	plain := newRawOrigin(t, nil, answer)
	w := newWorld(t, passEverything, map[string]string{"a.test:443": secure.addr(), "a.test:80": plain.addr()}, roots)
	for _, way := range []string{"opened", "direct"} {
		for _, c := range hostileRequests {
			t.Run(way+"/"+c.name, func(t *testing.T) {
				raw := c.raw
				var conn net.Conn
				if way == "opened" {
					conn = w.open("a.test:443", "a.test")
				} else {
					conn = w.dial()
					raw = absolute(raw)
				}
				_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
				go func() { _, _ = io.WriteString(conn, raw+smuggled) }() // ends when it is read, or the connection closed
				b, err := io.ReadAll(conn)
				if got := string(b); !strings.HasPrefix(got, "HTTP/1.1 "+c.status+" ") || strings.Count(got, "HTTP/1.1 ") != 1 {
					t.Errorf("%.200q is answered %.300q, %v; want one %s", raw, got, err, c.status)
				}
			})
		}
	}
}

// hostileResponses are what an origin may send to be read in two ways, in answer to a
// GET. Those that are refused become a 502; "200" is let through.
var hostileResponses = []struct{ name, raw, status string }{
	{"a clean one", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "200"},
	{"a hint before it", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "200"},
	{"what may stand in a body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\n x\r\x00\n\r\n\r", "200"},
	{"HTTP/1.0 until the end", "HTTP/1.0 200 OK\r\n\r\nx", "200"},
	{"both lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "502"},
	{"both lengths behind a hint", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1\r\nx\r\n0\r\n\r\n", "502"},
	{"a length twice", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "502"},
	{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy", "502"},
	{"a signed length", "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx", "502"},
	{"a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx", "502"},
	{"codings twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "502"},
	{"a coding that is not chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx", "502"},
	{"codings over HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "502"},
	{"a folded field", "HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 1\r\n\r\nx", "502"},
	{"LF after the status line", "HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\nx", "502"},
	{"LF after a field", "HTTP/1.1 200 OK\r\nX-A: 1\nContent-Length: 1\r\n\r\nx", "502"},
	{"CR in a field", "HTTP/1.1 200 OK\r\nX-A: 1\rContent-Length: 5\r\nContent-Length: 1\r\n\r\nx", "502"},
	{"NUL in a field", "HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 1\r\n\r\nx", "502"},
	{"NUL in a status line", "HTTP/1.1 200 O\x00K\r\nContent-Length: 1\r\n\r\nx", "502"},
	{"a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nx", "502"},
	{"no colon", "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 1\r\n\r\nx", "502"},
	{"a status that is none", "HTTP/1.1 2x0 OK\r\nContent-Length: 1\r\n\r\nx", "502"},
	{"no HTTP", "SSH-2.0-server\r\n\r\n", "502"},
	{"a header too large", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2<<20) + "\r\n\r\n", "502"},
}

func TestHostileResponsesBecome502(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	config := &tls.Config{Certificates: []tls.Certificate{roots.leaf(t, nil, "a.test")}}
	for _, c := range hostileResponses {
		for _, size := range []int{1 << 30, 7, 1} { // bytes at once
			if size < 1<<30 && len(c.raw) > 1000 {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", c.name, size), func(t *testing.T) {
				answer := func(_ string, conn net.Conn, _ *bufio.Reader) {
					for rest := c.raw; rest != ""; {
						n, err := io.WriteString(conn, rest[:min(size, len(rest))])
						if rest = rest[n:]; err != nil {
							break
						}
					}
					_ = closeWrite(conn)
				}
				secure, plain := newRawOrigin(t, config, answer), newRawOrigin(t, nil, answer)
				w := newWorld(t, passEverything, map[string]string{"a.test:443": secure.addr(), "a.test:80": plain.addr()}, roots)
				for _, target := range []string{"http://a.test/", "https://a.test/"} {
					res, body := get(t, w.client(false), target)
					if got := fmt.Sprint(res.StatusCode); got != c.status {
						t.Errorf("%s: %.200q becomes %s %q, want %s", target, c.raw, res.Status, body, c.status)
					}
					if c.status == "502" && !strings.Contains(res.Header.Get("Proxy-Status"), "error=http_") {
						t.Errorf("%s: Proxy-Status %q", target, res.Header.Get("Proxy-Status"))
					}
				}
			})
		}
	}
}

// hostileHTTP2 are requests of HTTP/2, and the status or the error code of the reset
// that each is answered with.
var hostileHTTP2 = []struct {
	name   string
	pseudo [][2]string // besides or instead of the usual ones
	fields []string
	want   string
}{
	{"a clean one", nil, lines("host: a.test"), "204"},
	{"a Host in another case", nil, lines("host: A.test"), "204"},
	{"another Host", nil, lines("host: b.test"), "400"},
	{"two Hosts", nil, lines("host: a.test", "host: a.test"), "400"},
	{"two lengths", nil, lines("content-length: 0", "content-length: 1"), "400"},
	{"codings", nil, lines("transfer-encoding: chunked"), "400"},
	{"a field of the connection", nil, lines("connection: close"), "400"},
	{"an upgrade", nil, lines("upgrade: websocket"), "400"},
	{"TE that is not trailers", nil, lines("te: gzip"), "400"},
	{"a name with capitals", nil, lines("X-A: 1"), "PROTOCOL_ERROR"},
	{"a name with a space", nil, lines("x a: 1"), "PROTOCOL_ERROR"},
	{"LF in a field", nil, lines("x-a: 1\nx-b: 2"), "PROTOCOL_ERROR"},
	{"CR in a field", nil, lines("x-a: 1\rx-b: 2"), "PROTOCOL_ERROR"},
	{"NUL in a field", nil, lines("x-a: 1\x00"), "PROTOCOL_ERROR"},
	{"another authority", [][2]string{{":authority", "b.test"}}, nil, "421"},
	{"another port", [][2]string{{":authority", "a.test:8443"}}, nil, "421"},
	{"user information", [][2]string{{":authority", "u:p@a.test"}}, nil, "PROTOCOL_ERROR"},
	{"an authority with a path", [][2]string{{":authority", "a.test/x"}}, nil, "400"},
	{"a fragment", [][2]string{{":path", "/x#y"}}, nil, "400"},
	{"a path without slash", [][2]string{{":path", "x"}}, nil, "PROTOCOL_ERROR"},
	{"an empty path", [][2]string{{":path", ""}}, nil, "PROTOCOL_ERROR"},
	{"a path with a space", [][2]string{{":path", "/x /y"}}, nil, "400"},
	{"the whole server with GET", [][2]string{{":path", "*"}}, nil, "400"},
	{"another scheme", [][2]string{{":scheme", "ftp"}}, nil, "PROTOCOL_ERROR"},
	// net/http tells nobody; it is served as what the connection is for, over https.
	{"http over TLS", [][2]string{{":scheme", "http"}}, nil, "204"},
	{"a pseudo field nobody knows", [][2]string{{":x", "1"}}, nil, "PROTOCOL_ERROR"},
	{"an extended CONNECT for what is not carried", [][2]string{{":method", "CONNECT"}, {":protocol", "connect-udp"}}, nil, "501"},
	{"a protocol without CONNECT", [][2]string{{":protocol", "websocket"}}, nil, "400"},
	{"a method that is no token", [][2]string{{":method", "GE T"}}, nil, "400"},
}

func TestHostileRequestsOfHTTP2(t *testing.T) {
	w := passing(t, false, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	for _, c := range hostileHTTP2 {
		t.Run(c.name, func(t *testing.T) {
			client := newWire2(t, w.open("a.test:443", "a.test", "h2"), true)
			client.framer.AllowIllegalWrites = true
			pseudo := [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "a.test"}, {":path", "/"}}
			for _, p := range c.pseudo {
				i := slices.IndexFunc(pseudo, func(q [2]string) bool { return q[0] == p[0] })
				if i < 0 {
					i, pseudo = len(pseudo), append(pseudo, p)
				}
				pseudo[i] = p
			}
			client.stream = 1
			client.headers(pseudo, c.fields, true)
			m := client.receive("GET")
			if m.start != c.want && !strings.HasSuffix(m.body, ": "+c.want) {
				t.Errorf("answered %q %q, want %s", m.start, m.body, c.want)
			}
		})
	}
}

// absolute turns the target in the first line of a request to absolute form.
func absolute(raw string) string {
	line, rest, ok := strings.Cut(raw, " /")
	if !ok || strings.ContainsAny(line, "\n:") || strings.HasPrefix(line, "CONNECT") {
		return raw
	}
	return line + " http://a.test/" + rest
}
