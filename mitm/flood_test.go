package mitm

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// floods are what a client of HTTP/2 may send without end. Each step sends a part.
var floods = []struct {
	name  string
	step  func(f *flooder, i int) error
	steps int
	ends  bool // the connection is ended for it
}{
	{name: "rapid reset", steps: 5000, step: func(f *flooder, i int) error {
		id := uint32(2*i + 1)
		return errors.Join(f.ask(id, true, true), f.framer.WriteRSTStream(id, http2.ErrCodeCancel))
	}},
	{name: "streams beyond the limit", steps: 5000, step: func(f *flooder, i int) error {
		return f.ask(uint32(2*i+1), true, true)
	}},
	{name: "CONTINUATION", steps: 5000, ends: true, step: func(f *flooder, i int) error {
		if i == 0 {
			return f.ask(1, false, false)
		}
		return f.framer.WriteContinuation(1, false, f.junk)
	}},
	// Nothing is kept of it, and TestHeaderOfHTTP2ThatNeverEndsIsNotWaitedFor.
	{name: "empty CONTINUATION", steps: 20_000, step: func(f *flooder, i int) error {
		if i == 0 {
			return f.ask(1, false, false)
		}
		return f.framer.WriteContinuation(1, false, nil)
	}},
	{name: "SETTINGS", steps: 20_000, step: func(f *flooder, _ int) error {
		return f.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
	}},
	{name: "PING", steps: 20_000, step: func(f *flooder, _ int) error { return f.framer.WritePing(false, [8]byte{}) }},
	{name: "PRIORITY", steps: 20_000, step: func(f *flooder, i int) error {
		return f.framer.WritePriority(uint32(2*i+1), http2.PriorityParam{Weight: 1})
	}},
	{name: "window updates of nothing", steps: 10, ends: true, step: func(f *flooder, _ int) error {
		return f.framer.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 4))
	}},
	{name: "windows beyond their size", steps: 10, ends: true, step: func(f *flooder, _ int) error {
		return f.framer.WriteWindowUpdate(0, 1<<31-1)
	}},
	{name: "DATA of no stream", steps: 10, ends: true, step: func(f *flooder, _ int) error {
		return f.framer.WriteData(99, false, []byte("x"))
	}},
}

// flooder is a client that reads nothing but whether it is let.
type flooder struct {
	framer *http2.Framer
	junk   []byte
	block  []byte
}

func newFlooder(c io.ReadWriter) *flooder {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, p := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "a.test"}, {":path", "/slow"}} {
		_ = e.WriteField(hpack.HeaderField{Name: p[0], Value: p[1]})
	}
	f := &flooder{framer: http2.NewFramer(c, c), block: bytes.Clone(block.Bytes())}
	f.framer.AllowIllegalWrites = true
	// Fields that are never indexed, each of a name and a value of one byte.
	f.junk = bytes.Repeat([]byte{0x10, 1, 'x', 1, 'y'}, 3000)
	return f
}

func (f *flooder) ask(id uint32, endHeaders, endStream bool) error {
	return f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.block, EndHeaders: endHeaders, EndStream: endStream})
}

func TestFloodsOfHTTP2EndAndDisturbNobody(t *testing.T) {
	for _, c := range floods {
		t.Run(c.name, func(t *testing.T) {
			const streams = 20
			roots := newAuthorityKey(t, "origins")
			addr := tlsOrigin(t, roots, true, func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					<-r.Context().Done()
				}
			}, "a.test")
			w := newWorld(t, passEverything, map[string]string{"a.test:443": addr}, roots,
				func(o *Options, _ *UpstreamOptions) { o.MaxStreams = streams })
			most := countHandlers(w.server)
			conn := w.open("a.test:443", "a.test", "h2")
			_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
			ended := make(chan error, 1)
			go func() { // ends when the connection does
				_, err := io.Copy(io.Discard, conn)
				ended <- err
			}()
			f := newFlooder(conn)
			_, err := io.WriteString(conn, http2.ClientPreface)
			err = errors.Join(err, f.framer.WriteSettings())
			for i := 0; i < c.steps && err == nil; i++ {
				err = c.step(f, i)
			}
			if c.ends {
				if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the connection was never ended")
				}
			}
			if res, _ := get(t, w.client(true), "https://a.test/"); res.StatusCode != 200 {
				t.Errorf("another client got %s", res.Status)
			}
			if n := most(); n > streams+1 {
				t.Errorf("%d requests were served at once, of %d streams and the other client", n, streams)
			}
		})
	}
}

// countHandlers returns what tells how many requests of opened connections were
// served at once.
func countHandlers(s *Server) func() int {
	var mu sync.Mutex
	var now, most int
	inner := s.opened.Handler
	s.opened.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			now--
		}()
		inner.ServeHTTP(w, r)
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return most
	}
}

func TestHeaderOfHTTP2ThatNeverEndsIsNotWaitedFor(t *testing.T) {
	w := newWorld(t, passEverything, map[string]string{"a.test:443": "127.0.0.1:1"}, nil,
		func(o *Options, _ *UpstreamOptions) { o.KeepAlive = 300 * time.Millisecond })
	conn := w.open("a.test:443", "a.test", "h2")
	f := newFlooder(conn)
	_, err := io.WriteString(conn, http2.ClientPreface)
	err = errors.Join(err, f.framer.WriteSettings(), f.ask(1, false, false))
	go func() { // ends when the connection does
		for err == nil {
			err = f.framer.WriteContinuation(1, false, nil)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection was never ended")
	}
}

// TestHelloInPieces opens TLS with a ClientHello that comes by the byte, and in
// records of few bytes.
func TestHelloInPieces(t *testing.T) {
	w := passing(t, false, func(http.ResponseWriter, *http.Request) {})
	for _, c := range []struct {
		name            string
		segment, record int // bytes
	}{
		{"segments of a byte", 1, 0},
		{"segments of 100 bytes", 100, 0},
		{"records of a byte", 1 << 20, 1},
		{"records of 5 bytes", 1 << 20, 5},
		{"records of 100 bytes in segments of 7", 7, 100},
	} {
		conn := w.dial()
		w.connect(conn, "a.test:443", 200)
		pieces := &piecesConn{Conn: conn, segment: c.segment, record: c.record}
		client := tls.Client(pieces, &tls.Config{RootCAs: w.larder, ServerName: "a.test"})
		if err := client.Handshake(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if !client.ConnectionState().HandshakeComplete || pieces.hello < 1000 {
			t.Errorf("%s: a hello of %d bytes, which is none of a post-quantum key share", c.name, pieces.hello)
		}
	}
}

// piecesConn cuts the first write, a ClientHello.
type piecesConn struct {
	net.Conn
	segment, record int
	hello           int
}

func (p *piecesConn) Write(b []byte) (int, error) {
	if p.hello > 0 {
		return p.Conn.Write(b)
	}
	p.hello = len(b)
	cut := b
	if p.record > 0 {
		cut = recut(b, p.record)
	}
	for len(cut) > 0 {
		n, err := p.Conn.Write(cut[:min(p.segment, len(cut))])
		if err != nil {
			return 0, err
		}
		cut = cut[n:]
	}
	return len(b), nil
}

// TestHandshakeHasItsTimeInAll however it is drawn out.
func TestHandshakeHasItsTimeInAll(t *testing.T) {
	const limit = 300 * time.Millisecond
	hello := helloOf(t, &tls.Config{ServerName: "a.test"})
	for name, dribble := range map[string][]byte{
		"a hello by the byte":   hello,
		"a hello and then junk": append(bytes.Clone(hello), bytes.Repeat([]byte{20, 3, 3, 0, 1, 1}, 1000)...), // change_cipher_spec
		"a record by the byte":  append([]byte{22, 3, 1, 0x40, 0}, make([]byte, 16384)...),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, passEverything, map[string]string{"a.test:443": "127.0.0.1:1"}, nil,
				func(o *Options, _ *UpstreamOptions) { o.HandshakeTimeout = limit })
			c := w.dial()
			w.connect(c, "a.test:443", 200)
			start := time.Now()
			go func() { // ends when the connection is closed
				for i := range dribble {
					if _, err := c.Write(dribble[i : i+1]); err != nil {
						return
					}
					if name != "a hello and then junk" || i >= len(hello) {
						time.Sleep(limit / 30)
					}
				}
			}()
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("still open after %v", time.Since(start))
			}
		})
	}
}
