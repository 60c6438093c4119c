package mitm

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// chunkConn reads from memory, no more than size bytes at once.
type chunkConn struct {
	net.Conn
	in shortReader
}

func (c *chunkConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// answeredBy is what a transport reads of a response that arrives in such pieces.
func answeredBy(data []byte, size int) ([]byte, error) {
	c := &originConn{Conn: &chunkConn{in: shortReader{bytes.NewReader(data), size}}}
	c.await(false)
	b, _ := io.ReadAll(c) // memory does not fail
	if why := c.why.Load(); why != nil {
		return b, *why
	}
	return b, nil
}

// TestNothingIsReadBehindAResponse: it would be in the transport's buffer when the next
// request gets the connection, and be taken for the response to that.
func TestNothingIsReadBehindAResponse(t *testing.T) {
	const extra = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"
	for _, c := range []struct {
		name, response string
		head           bool
	}{
		{name: "a length", response: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"},
		{name: "a length of none", response: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{name: "chunks", response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nbody\r\n0\r\nX-Trailer: 1\r\n\r\n"},
		{name: "HEAD", response: "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n", head: true},
		{name: "HEAD of chunks", response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", head: true},
		{name: "HEAD without a length", response: "HTTP/1.1 200 OK\r\n\r\n", head: true},
		{name: "204", response: "HTTP/1.1 204 No Content\r\n\r\n"},
		{name: "304 with a length", response: "HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\n\r\n"},
		{name: "304 behind two spaces", response: "HTTP/1.1  304 Not Modified\r\nContent-Length: 8\r\n\r\n"},
		{name: "HEAD behind 103", response: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n", head: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{1, 7, 1 << 10} {
				c2 := &originConn{Conn: &chunkConn{in: shortReader{strings.NewReader(c.response + extra), size}}}
				c2.await(c.head)
				got, err := io.ReadAll(c2)
				if string(got) != c.response || err != nil {
					t.Errorf("%d at a time: read %q, %v", size, got, err)
				}
			}
		})
	}
	toTheEnd := "HTTP/1.1 200 OK\r\n\r\n" + extra
	if got, _ := answeredBy([]byte(toTheEnd), 7); string(got) != toTheEnd {
		t.Errorf("a body to the end of the connection: read %q", got)
	}
}

// FuzzResponseHeads: it does not matter how a response is cut, and what net/http makes
// of one that is let through has one length at the most.
func FuzzResponseHeads(f *testing.F) {
	for _, c := range hostileResponses {
		if len(c.raw) < 1000 {
			f.Add([]byte(c.raw), uint8(7))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		whole, why := answeredBy(data, 1<<20)
		cut, whyCut := answeredBy(data, int(size)+1)
		if why != nil { // and where there was no room, what spoils it is cut short
			n := min(len(whole), len(cut))
			whole, cut = whole[:n], cut[:n]
		}
		if !bytes.Equal(whole, cut) || (why == nil) != (whyCut == nil) {
			t.Fatalf("%q becomes %q (%v), cut %q (%v)", data, whole, why, cut, whyCut)
		}
		res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(whole)), nil)
		if why != nil {
			if err == nil && res.StatusCode/100 != 1 {
				t.Fatalf("%q is refused (%v) and becomes %q, which net/http reads", data, why, whole)
			}
			return
		}
		if !bytes.HasPrefix(data, whole) {
			t.Fatalf("%q becomes %q", data, whole)
		}
		in := bytes.NewReader(data)
		if direct, err := http.ReadResponse(bufio.NewReader(in), nil); err == nil && direct.StatusCode/100 != 1 && len(direct.Trailer) == 0 {
			if body, err := io.ReadAll(direct.Body); err == nil {
				if got, err := io.ReadAll(res.Body); err == nil && !bytes.Equal(got, body) {
					t.Fatalf("%q has the body %q, and through here %q", data, body, got)
				}
			}
		}
		if err != nil || res.StatusCode/100 == 1 {
			return
		}
		head, _, ok := bytes.Cut(data, []byte("\r\n\r\n"))
		if !ok {
			t.Fatalf("%q: net/http sees a head in it", data)
		}
		lengths := 0
		for _, line := range strings.Split(strings.ToLower(string(head)), "\r\n")[1:] {
			if strings.HasPrefix(line, "content-length:") || strings.HasPrefix(line, "transfer-encoding:") {
				lengths++
			}
		}
		if lengths > 1 {
			t.Fatalf("%q is let through", data)
		}
	})
}
