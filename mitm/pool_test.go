package mitm

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// unpooled are exchanges after which the connection to the origin is not used for
// another: what comes over it next may not be HTTP, or not the next response.
var unpooled = []struct{ name, request, response string }{
	{"an upgrade", "GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"},
	{"an upgrade that is declined", "GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{"an upgrade that nobody asked for", "GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"},
	{"an error before the body is there", "POST http://a.test/x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\nbegun", "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"},
	{"a success before the body is there", "POST http://a.test/x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{"a refusal to be sent the body", "POST http://a.test/x HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n"},
	{"a response longer than it says", "GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"},
	{"a body where none may be", "HEAD http://a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"},
	{"a body of a 304", "GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\n\r\nsmuggled"},
	{"Connection: close", "GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"},
}

func TestConnectionsThatAreNeverPooled(t *testing.T) {
	for _, c := range unpooled {
		t.Run(c.name, func(t *testing.T) {
			conns := make(chan net.Conn, 8)
			origin := newRawOrigin(t, nil, func(head string, conn net.Conn, _ *bufio.Reader) {
				conns <- conn
				if strings.Contains(head, "/next ") {
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
					return
				}
				_, _ = io.WriteString(conn, c.response)
			})
			w := newWorld(t, passEverything, map[string]string{"a.test:80": origin.addr()}, nil)
			client := w.dial()
			head := ask(t, client, bufio.NewReader(client), c.request)
			if !strings.HasPrefix(head, "HTTP/1.1 ") {
				t.Errorf("the client got %q", head)
			}
			first := <-conns
			for range 2 { // the second time it may be pooled
				if _, body := get(t, w.client(false), "http://a.test/next"); body != "next" {
					t.Fatalf("the next got %q", body)
				}
				if next := <-conns; next == first {
					t.Error("the connection was used for the next request")
				}
			}
			_ = client.Close()
		})
	}
}

// TestUploadTakesNoMemory: a body passes, however long it is.
func TestUploadTakesNoMemory(t *testing.T) {
	const size, most = 48 << 20, 24 << 20
	piece := make([]byte, 1<<20)
	pairings(t, func(t *testing.T, clientH2, originH2 bool) {
		w := passing(t, originH2, sinkHandler)
		var before, now runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var peak uint64
		pr, pw := io.Pipe()
		go func() { // ends when the body is read, or the request
			for range size / len(piece) {
				if _, err := pw.Write(piece); err != nil {
					return
				}
				runtime.ReadMemStats(&now)
				peak = max(peak, now.HeapInuse)
			}
			_ = pw.Close()
		}()
		res, err := w.client(clientH2).Post("https://a.test/", "a/b", pr)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if string(b) != strconv.Itoa(size) {
			t.Errorf("the origin counted %s bytes of %d", b, size)
		}
		if peak > before.HeapInuse+most {
			t.Errorf("%d MiB of heap at the most, before %d MiB", peak>>20, before.HeapInuse>>20)
		}
	})
}

// TestTunnelsAreSpliced: what goes through a tunnel is neither read nor written by
// this process, only by the two ends that are in it too.
func TestTunnelsAreSpliced(t *testing.T) {
	if _, _, err := processIO(); err != nil {
		t.Skipf("the kernel does not count reads: %v", err)
	}
	const size = 64 << 20
	for _, direction := range []string{"up", "down"} {
		t.Run(direction, func(t *testing.T) {
			send := func(c net.Conn) {
				piece := make([]byte, 1<<20)
				for range size / len(piece) {
					if _, err := c.Write(piece); err != nil {
						t.Errorf("write: %v", err)
						return
					}
				}
				_ = closeWrite(c)
			}
			receive := func(c net.Conn) {
				if n, err := io.Copy(io.Discard, onlyReader{c}); n != size || err != nil {
					t.Errorf("got %d bytes of %d, %v", n, size, err)
				}
			}
			near, far := send, receive
			if direction == "down" {
				near, far = receive, send
			}
			addr := tcpOrigin(t, func(c *net.TCPConn) { far(c); _ = c.CloseWrite() })
			w := newWorld(t, tunnelEverything, map[string]string{"x.test:443": addr}, nil)
			c := w.dial()
			_ = c.SetDeadline(time.Now().Add(60 * time.Second))
			w.connect(c, "x.test:443", 200)
			readBefore, writtenBefore, _ := processIO()
			near(c)
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			if x := w.exchange(); x.Bytes != size || x.Err != "" {
				t.Errorf("exchange %+v", x)
			}
			read, written, _ := processIO()
			if r, wr := read-readBefore, written-writtenBefore; r > size*5/4 || wr > size*5/4 {
				t.Errorf("%d MiB were read and %d MiB written for %d MiB: the tunnel copies", r>>20, wr>>20, size>>20)
			}
		})
	}
}

// onlyReader keeps io.Copy from anything but reading.
type onlyReader struct{ io.Reader }

// processIO is what this process has read and written by system calls that move
// bytes through it, which splice does not.
func processIO() (read, written int64, err error) {
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0, 0, err
	}
	_, err = fmt.Sscanf(string(b), "rchar: %d\nwchar: %d\n", &read, &written)
	return read, written, err
}
