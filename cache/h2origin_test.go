package cache

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2request is a request on a connection of an h2origin.
type h2request struct {
	*http2.Framer
	conn   net.Conn
	stream uint32
	fields map[string]string
	n      int // of all requests, from 1
}

// head sends a response header.
func (r *h2request) head(status int, fields ...string) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	e.WriteField(hpack.HeaderField{Name: ":status", Value: strconv.Itoa(status)})
	for i := 0; i < len(fields); i += 2 {
		e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	r.WriteHeaders(http2.HeadersFrameParam{StreamID: r.stream, BlockFragment: b.Bytes(), EndHeaders: true})
}

// data sends a part of a body, which must fit into the client's window.
func (r *h2request) data(p []byte, end bool) {
	for len(p) > 16<<10 {
		r.WriteData(r.stream, false, p[:16<<10])
		p = p[16<<10:]
	}
	r.WriteData(r.stream, end, p)
}

// h2origin is a TLS server of HTTP/2 frame by frame, to do what net/http would not.
type h2origin struct {
	listener net.Listener
	serve    func(*h2request) // one at a time; may close conn
	requests atomic.Int64
	mu       sync.Mutex
	conns    []net.Conn
	wg       sync.WaitGroup
}

// newH2World starts a world whose upstream speaks frames with serve.
func newH2World(t *testing.T, rule *Rule, o Options, serve func(*h2request)) (*world, *h2origin) {
	t.Helper()
	f := &failing{}
	o.Upstream = f
	w := newWorldWith(t, rule, http.NotFound, o, storeOptions())
	h := &h2origin{serve: serve}
	var err error
	if h.listener, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: w.origin.TLS.Certificates, NextProtos: []string{"h2"},
	}); err != nil {
		t.Fatal(err)
	}
	h.wg.Go(h.accept)
	tr := w.transport()
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, h.listener.Addr().String())
	}
	f.RoundTripper = tr
	t.Cleanup(func() {
		h.listener.Close()
		h.mu.Lock()
		for _, c := range h.conns {
			c.Close()
		}
		h.mu.Unlock()
		h.wg.Wait()
	})
	return w, h
}

func (h *h2origin) accept() {
	for {
		c, err := h.listener.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns = append(h.conns, c)
		h.mu.Unlock()
		h.wg.Go(func() { h.connection(c) })
	}
}

func (h *h2origin) connection(c net.Conn) {
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	fr := http2.NewFramer(c, c)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	fr.WriteSettings()
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				fr.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				fr.WritePing(true, f.Data)
			}
		case *http2.MetaHeadersFrame:
			r := &h2request{Framer: fr, conn: c, stream: f.StreamID, fields: map[string]string{}, n: int(h.requests.Add(1))}
			for _, field := range f.Fields {
				r.fields[field.Name] = field.Value
			}
			h.serve(r)
		}
	}
}

// wanted returns from where on a request asks for body, and the header to go with it.
func (r *h2request) wanted(body []byte, etag string) (from int) {
	if v, ok := strings.CutPrefix(r.fields["range"], "bytes="); ok && r.fields["if-range"] == etag {
		from, _ = strconv.Atoi(strings.TrimSuffix(v, "-"))
	}
	if from == 0 {
		r.head(200, "etag", etag, "content-length", strconv.Itoa(len(body)))
		return 0
	}
	r.head(206, "etag", etag, "content-length", strconv.Itoa(len(body)-from),
		"content-range", span{int64(from), int64(len(body) - from)}.contentRange(int64(len(body))))
	return from
}

// reset closes a connection so that the peer sees a reset.
func reset(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.Close()
}
