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
	c.awaited.Store(true)
	b, _ := io.ReadAll(c) // memory does not fail
	if why := c.why.Load(); why != nil {
		return b, *why
	}
	return b, nil
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
		if !bytes.Equal(whole, data) {
			t.Fatalf("%q becomes %q", data, whole)
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
