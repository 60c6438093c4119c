package mitm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http/httpguts"

	"larder/cache"
	"larder/cache/store"
)

// FuzzPlainHead: what is taken for a plain head, net/http reads as the same
// request of the same length, and of a kind that isPlain takes too.
func FuzzPlainHead(f *testing.F) {
	for _, s := range heads {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, ok := parsePlainHead(data)
		if !ok {
			return
		}
		rest := bytes.NewReader(data)
		buffered := bufio.NewReader(rest)
		r, err := http.ReadRequest(buffered)
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", data, err)
		}
		if used := len(data) - rest.Len() - buffered.Buffered(); used != h.length {
			t.Errorf("the head has %d bytes, net/http read %d", h.length, used)
		}
		if n, err := io.Copy(io.Discard, r.Body); n != 0 || err != nil || r.ContentLength != 0 || len(r.TransferEncoding) > 0 || r.Trailer != nil || r.Close {
			t.Errorf("a body of %d bytes, %v; %+v", n, err, r)
		}
		if r.Method != http.MethodGet || r.Proto != "HTTP/1.1" || r.Host != string(h.host) || !isPlain(r) || upgradeOf(1, r.Header) != "" {
			t.Errorf("net/http reads %+v", r)
		}
		for name, values := range r.Header {
			for _, v := range values {
				if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(v) {
					t.Errorf("net/http's server refuses %s: %q", name, v)
				}
			}
		}
		a := authority{Host: "a.test", Port: 443}
		r.Host, r.TLS = a.Host, &tls.ConnectionState{}
		target, err := targetOf(r, a)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(target, h.url(a.Host)); diff != "" {
			t.Errorf("the target differs from net/http's:\n%s", diff)
		}
	})
}

// heads are requests of all kinds, plain and not.
var heads = []string{
	"GET /hot HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET /hot HTTP/1.1\r\nHost: a.test\r\nUser-Agent: pip/24\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n",
	"GET /hot HTTP/1.1\r\nhost:a.test\r\nnpm-command: ci\r\npacote-req-type: packument\r\nCACHE-CONTROL: no-cache\r\n\r\n",
	"GET /hot? HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET /hot?a=b?c HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET /hot HTTP/1.1\nHost: a.test\n\n",
	"GET /hot HTTP/1.1\r\nHost: a.test\r\nAccept: a\r\n b\r\n\r\n",
	"GET /hot HTTP/1.1\r\nHost: a.test\r\nAccept : a\r\n\r\n",
	"GET /hot HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n",
	"GET /hot HTTP/1.1\r\nHost: b.test\r\n\r\n",
	"GET /hot HTTP/1.1\r\nHost: A.test\r\n\r\n",
	"GET /hot HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
	"GET /hot HTTP/1.1\r\nHost: \r\n\r\n",
	"GET /hot HTTP/1.1\r\n\r\n",
	"GET /hot HTTP/1.0\r\nHost: a.test\r\n\r\n",
	"GET  /hot HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET /ho%74 HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET //hot HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET /hot#x HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET /x/../hot HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET https://a.test/hot HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET http://a.test/hot HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"HEAD /hot HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"POST /hot HTTP/1.1\r\nHost: a.test\r\nContent-Length: 43\r\n\r\nGET /hot HTTP/1.1\r\nHost: a.test\r\nAccept: *\r\n\r\n",
	"POST /hot HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n25\r\nGET /hot HTTP/1.1\r\nHost: a.test\r\n\r\n\r\n\r\n0\r\n\r\n",
	"GET /hot HTTP/1.1\r\nHost: a.test\r\nContent-Length: 37\r\n\r\nGET /hot HTTP/1.1\r\nHost: a.test\r\n\r\n\r\n",
	"GET /hot HTTP/1.1\r\nHost: a.test\r\nRange: bytes=1-2\r\n\r\n",
	"GET /hot HTTP/1.1\r\nHost: a.test\r\nIf-None-Match: \"hot\"\r\n\r\n",
	"GET /hot HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
	"GET /hot HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, accept\r\n\r\n",
	"GET /hot HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\n\r\n",
	"GET /hot HTTP/1.1\r\nHost: a.test\r\nTrailer: x\r\n\r\n",
	"GET /hot HTTP/1.1\r\nHost: a.test\r\nAccept: \x00\r\n\r\n",
	"GET /hot HTTP/1.1\r\nHost: a.test\r\nX-Unknown: 1\r\n\r\n",
	"GET /denied HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"GET /denied HTTP/1.1\r\nHost: a.test\r\nX-Long: " + strings.Repeat("x", 9000) + "\r\n\r\n",
	"\r\nGET /hot HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"junk\r\n\r\n",
}

const plainEnd = "GET /hot HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"

// FuzzOpenedConnAgrees: a client cannot tell, by a byte, whether plain requests are
// answered before net/http sees them, whatever it sends and however it is cut.
func FuzzOpenedConnAgrees(f *testing.F) {
	for i, s := range heads {
		f.Add([]byte(s), uint16(len(s)/2))
		f.Add([]byte(heads[0]+s+heads[1]), uint16(len(heads[0])+5))
		f.Add([]byte(s+heads[(i+7)%len(heads)]+s), uint16(len(s)))
	}
	c := hotCache(f)
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		sent := append(bytes.Clone(data), plainEnd...)
		at := min(int(cut), len(sent))
		var with, without []byte
		synctest.Test(t, func(t *testing.T) {
			k := c()
			defer k.Close()
			with = answers(t, k, sent[:at], sent[at:])
		})
		synctest.Test(t, func(t *testing.T) {
			k := c()
			defer k.Close()
			without = answers(t, struct{ Cache }{k}, sent[:at], sent[at:])
		})
		if !bytes.Equal(with, without) {
			t.Errorf("the answers to %q differ:\n%s", sent, cmp.Diff(string(without), string(with)))
		}
	})
}

// hotCache returns what makes caches over one store with a hot object at
// https://a.test/hot.
func hotCache(t testing.TB) func() *cache.Cache {
	t.Helper()
	s, err := store.Open(store.Options{Dir: t.TempDir(), MaxSize: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	open := func(upstream http.RoundTripper) *cache.Cache {
		c, err := cache.New(cache.Options{Store: s, Upstream: upstream})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open(hotOrigin{})
	defer c.Close()
	for range 6 {
		r := httptest.NewRequest(http.MethodGet, "https://a.test/hot", nil)
		if _, err := c.Serve(httptest.NewRecorder(), r, &cache.Rule{Mode: cache.Immutable}); err != nil {
			t.Fatal(err)
		}
	}
	target, _ := url.Parse("https://a.test/hot")
	if _, ok := c.Ready(target, &cache.Rule{Mode: cache.Immutable}); !ok {
		t.Fatal("the object is not hot")
	}
	// Badger's goroutines are outside of the bubbles in which these are used, so
	// nothing more may be stored.
	return func() *cache.Cache { return open(noOrigin{}) }
}

type noOrigin struct{}

func (noOrigin) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("no origin") }

// hotOrigin has one resource.
type hotOrigin struct{}

func (hotOrigin) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Etag": {`"hot"`}, "Content-Type": {"text/plain"}, "Date": {"Mon, 06 Jan 2025 10:00:00 GMT"}},
		Body:   io.NopCloser(strings.NewReader("hot body")), ContentLength: 8,
	}, nil
}

const hotPolicy = `
presets: none
default: deny
rules:
  - {name: hot, hosts: [a.test], methods: [GET, HEAD], paths: ["/hot"], action: immutable}
  - {name: rest, hosts: [a.test], action: deny}
`

// answers is all that a client gets that sends parts over an opened connection,
// with a pause between them. It is called in a bubble of synctest.
func answers(t *testing.T, c Cache, parts ...[]byte) []byte {
	s, conn, end := openedPair(t, c)
	defer end()
	if r, ok := c.(io.Closer); ok {
		defer r.Close()
	}
	_ = s
	var writing sync.WaitGroup
	writing.Go(func() { // ends when all is written, or the server hangs up
		for _, p := range parts {
			if _, err := conn.Write(p); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	got, _ := io.ReadAll(conn) // to where the server hangs up, if only for idleness
	_ = conn.Close()
	writing.Wait()
	return got
}

// stateConn is a connection that says it was TLS.
type stateConn struct{ net.Conn }

func (stateConn) ConnectionState() tls.ConnectionState {
	return tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, NegotiatedProtocol: "http/1.1"}
}

func (stateConn) CloseWrite() error { return errors.ErrUnsupported }

// openedPair returns a server, the client's end of a connection to a.test whose
// TLS it has opened, and what ends both.
func openedPair(t *testing.T, c Cache) (*Server, net.Conn, func()) {
	t.Helper()
	upstream, err := NewUpstream(UpstreamOptions{ConnectTo: redirections(t, map[string]string{"a.test:443": "127.0.0.1:1"})})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{
		Policy: parsePolicy(t, hotPolicy), Certificates: noCertificates{}, Cache: c, Upstream: upstream,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.running.Go(func() { _ = s.opened.Serve(s.handoff) })
	near, far := net.Pipe()
	client := &clientConn{
		timedConn: newTimedConn(far, time.Hour), server: s, pending: new(count), remote: "pipe",
		authority: authority{Host: "a.test", Port: 443},
	}
	s.places <- struct{}{}
	client.pending.enter()
	s.track(client)
	s.handoff.deliver(&openedConn{
		tlsConn: stateConn{client}, client: client, server: s,
		writer: &gatherWriter{clientConn: client, pool: &s.gathers},
	})
	return s, near, func() {
		_ = near.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	}
}

type noCertificates struct{}

func (noCertificates) Leaf(context.Context, string) (*tls.Certificate, error) {
	return nil, errors.New("no certificates here")
}

// answered reads one answer with the hot body.
func answered(t *testing.T, r *bufio.Reader) {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(res.Body); string(b) != "hot body" || err != nil || res.Header.Get("Cache-Status") != "larder; hit" {
		t.Fatalf("got %q, %v, %v", b, err, res.Header)
	}
}

func TestPlainHitsNeverReachTheServer(t *testing.T) {
	open := hotCache(t)
	synctest.Test(t, func(t *testing.T) {
		c := open()
		defer c.Close()
		s, conn, end := openedPair(t, c)
		defer end()
		var handled atomic.Int32
		inner := s.opened.Handler
		s.opened.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handled.Add(1)
			inner.ServeHTTP(w, r)
		})
		r := bufio.NewReader(conn)
		for range 3 {
			_, _ = io.WriteString(conn, heads[1])
			answered(t, r)
		}
		if n := handled.Load(); n != 0 {
			t.Errorf("the server handled %d of 3 plain hits", n)
		}
		// What is for the server leaves the next to be looked at.
		for range 2 {
			_, _ = io.WriteString(conn, "GET /denied HTTP/1.1\r\nHost: a.test\r\n\r\n")
			if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != http.StatusForbidden {
				t.Fatalf("got %v, %v", res, err)
			} else if _, err := io.Copy(io.Discard, res.Body); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, heads[0])
			answered(t, r)
		}
		if n := handled.Load(); n != 2 {
			t.Errorf("the server handled %d requests, want the two that were denied", n)
		}
	})
}

func TestPlainHitsKeepTheConnectionOpenAndIdlenessEndsIt(t *testing.T) {
	open := hotCache(t)
	synctest.Test(t, func(t *testing.T) {
		c := open()
		defer c.Close()
		s, conn, end := openedPair(t, c)
		defer end()
		keep := s.options.KeepAlive
		r := bufio.NewReader(conn)
		for range 10 {
			_, _ = io.WriteString(conn, heads[0])
			answered(t, r)
			time.Sleep(keep * 3 / 4)
		}
		_, _ = io.WriteString(conn, heads[0])
		answered(t, r)
		last := time.Now()
		if _, err := r.ReadByte(); err == nil {
			t.Fatal("the server spoke unasked")
		}
		if idle := time.Since(last); idle > keep || idle < keep*3/4 {
			t.Errorf("closed after %v of idleness, want about %v", idle, keep)
		}
	})
}

func TestHeadThatComesTooSlowlyIsNotWaitedForAfterPlainHits(t *testing.T) {
	open := hotCache(t)
	synctest.Test(t, func(t *testing.T) {
		c := open()
		defer c.Close()
		s, conn, end := openedPair(t, c)
		defer end()
		r := bufio.NewReader(conn)
		_, _ = io.WriteString(conn, heads[0])
		answered(t, r)
		started := time.Now()
		var writing sync.WaitGroup
		writing.Go(func() { // ends when the server hangs up
			for _, b := range []byte(strings.Repeat("GET /hot HTTP/1.1\r\nHost: a.test\r\nAccept: ", 100)) {
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		_, _ = io.Copy(io.Discard, r)
		if took := time.Since(started); took > s.options.HeaderTimeout+time.Second {
			t.Errorf("a head was waited for %v, want %v", took, s.options.HeaderTimeout)
		}
		_ = conn.Close()
		writing.Wait()
	})
}

func TestShutdownLetsAPlainHitFinish(t *testing.T) {
	open := hotCache(t)
	synctest.Test(t, func(t *testing.T) {
		c := open()
		defer c.Close()
		s, conn, end := openedPair(t, c)
		defer end()
		r := bufio.NewReader(conn)
		_, _ = io.WriteString(conn, heads[0])
		answered(t, r)
		_, _ = io.WriteString(conn, heads[0]) // and does not read yet
		synctest.Wait()                       // the answer is being written
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(t.Context()) }() // ends when the answer is read
		time.Sleep(10 * time.Second)
		select {
		case err := <-done:
			t.Fatalf("Shutdown returned %v with an answer under way", err)
		default:
		}
		answered(t, r)
		if _, err := r.ReadByte(); err == nil {
			t.Error("the connection stays open")
		}
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

func TestShutdownDoesNotWaitForClientsThatHadTheirPlainHits(t *testing.T) {
	open := hotCache(t)
	synctest.Test(t, func(t *testing.T) {
		c := open()
		defer c.Close()
		s, conn, end := openedPair(t, c)
		defer end()
		r := bufio.NewReader(conn)
		_, _ = io.WriteString(conn, heads[0])
		answered(t, r)
		synctest.Wait()
		started := time.Now()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if took := time.Since(started); took > time.Second {
			t.Errorf("Shutdown took %v", took)
		}
	})
}
