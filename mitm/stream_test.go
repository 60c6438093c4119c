package mitm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// pairings runs a test with HTTP/1.1 and HTTP/2 on either side.
func pairings(t *testing.T, test func(t *testing.T, clientH2, originH2 bool)) {
	t.Helper()
	for _, clientH2 := range []bool{false, true} {
		for _, originH2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("client h2=%v origin h2=%v", clientH2, originH2), func(t *testing.T) { test(t, clientH2, originH2) })
		}
	}
}

// passing starts a world with one TLS origin, a.test.
func passing(t *testing.T, originH2 bool, h http.HandlerFunc) *world {
	t.Helper()
	roots := newAuthorityKey(t, "origins")
	return newWorld(t, passEverything, map[string]string{"a.test:443": tlsOrigin(t, roots, originH2, h, "a.test")}, roots)
}

func TestEventsArriveOneByOne(t *testing.T) {
	pairings(t, func(t *testing.T, clientH2, originH2 bool) {
		next := make(chan struct{})
		w := passing(t, originH2, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 3 {
				_ = http.NewResponseController(w).Flush()
				<-next
				fmt.Fprintf(w, "data: %d\n\n", i)
			}
		})
		res, err := w.client(clientH2).Get("https://a.test/") // the header arrives before any event
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		r := bufio.NewReader(res.Body)
		for i := range 3 {
			next <- struct{}{}
			line, err := r.ReadString('\n')
			if want := fmt.Sprintf("data: %d\n", i); line != want || err != nil {
				t.Fatalf("got %q, %v; want %q", line, err, want)
			}
			_, _ = r.ReadString('\n')
		}
	})
}

func TestSlowBodyOfKnownLengthArrivesAsItComes(t *testing.T) {
	next := make(chan struct{})
	w := passing(t, false, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "6")
		for _, part := range []string{"ab", "cd", "ef"} {
			_, _ = io.WriteString(w, part)
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	})
	res, err := w.client(false).Get("https://a.test/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b := make([]byte, 2)
	for _, want := range []string{"ab", "cd", "ef"} {
		if _, err := io.ReadFull(res.Body, b); err != nil || string(b) != want {
			t.Fatalf("got %q, %v; want %q", b, err, want)
		}
		next <- struct{}{}
	}
}

func TestBothDirectionsRunAtOnce(t *testing.T) {
	pairings(t, func(t *testing.T, clientH2, originH2 bool) {
		w := passing(t, originH2, func(w http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(w)
			_ = rc.EnableFullDuplex()
			line := bufio.NewReader(r.Body)
			for {
				s, err := line.ReadString('\n')
				if err != nil {
					return
				}
				_, _ = io.WriteString(w, strings.ToUpper(s))
				_ = rc.Flush()
			}
		})
		pr, pw := io.Pipe()
		go func() { _, _ = io.WriteString(pw, "one\n") }() // ends when it is read
		res, err := w.client(clientH2).Post("https://a.test/", "text/plain", pr)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		r := bufio.NewReader(res.Body)
		for _, want := range []string{"ONE\n", "TWO\n", "THREE\n"} {
			if s, err := r.ReadString('\n'); s != want {
				t.Fatalf("got %q, %v; want %q", s, err, want)
			}
			if want != "THREE\n" {
				_, _ = io.WriteString(pw, map[string]string{"ONE\n": "two\n", "TWO\n": "three\n"}[want])
			}
		}
		_ = pw.Close()
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	})
}

func TestLargeBodiesBothWays(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	sum := sha256.Sum256(body)
	pairings(t, func(t *testing.T, clientH2, originH2 bool) {
		for _, chunked := range []bool{false, true} {
			w := passing(t, originH2, func(w http.ResponseWriter, r *http.Request) {
				b, err := io.ReadAll(r.Body)
				if err != nil || !bytes.Equal(b, body) || (r.ContentLength < 0) != chunked {
					t.Errorf("origin got %d bytes, length %d, %v", len(b), r.ContentLength, err)
				}
				if !chunked {
					w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				}
				_, _ = w.Write(body)
			})
			var send io.Reader = bytes.NewReader(body)
			if chunked {
				send = struct{ io.Reader }{send}
			}
			req, _ := http.NewRequest("PUT", "https://a.test/x", send)
			res, err := w.client(clientH2).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || !bytes.Equal(b, body) {
				t.Errorf("client got %d bytes, %v", len(b), err)
			}
			x := w.exchange()
			if x.SHA256 != hex.EncodeToString(sum[:]) || x.Bytes != int64(len(body)) {
				t.Errorf("exchange: %+v", x)
			}
			if got := w.cache.invalidated(); len(got) != 1 || got[0] != "https://a.test/x" {
				t.Errorf("invalidated %q after a PUT", got)
			}
		}
	})
}

func TestTrailersBothWays(t *testing.T) {
	pairings(t, func(t *testing.T, clientH2, originH2 bool) {
		w := passing(t, originH2, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Announced")
			w.WriteHeader(200)
			_, _ = io.Copy(w, r.Body)
			w.Header().Set("X-Announced", r.Trailer.Get("X-Request-Sum"))
			w.Header().Set(http.TrailerPrefix+"X-Late", "late")
		})
		req, _ := http.NewRequest("POST", "https://a.test/", struct{ io.Reader }{strings.NewReader("body")})
		req.Trailer = http.Header{"X-Request-Sum": {"42"}}
		res, err := w.client(clientH2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if string(b) != "body" || res.Trailer.Get("X-Announced") != "42" || res.Trailer.Get("X-Late") != "late" {
			t.Errorf("got %q, trailers %v", b, res.Trailer)
		}
	})
}

func TestRequestTrailersNobodyAnnounced(t *testing.T) {
	got := make(chan http.Header, 1)
	w := passing(t, false, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got <- r.Trailer
	})
	c := w.open("a.test:443", "a.test")
	ask(t, c, bufio.NewReader(c), "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 7\r\n\r\n")
	if h := <-got; h.Get("X-Sum") != "7" {
		t.Errorf("trailers at the origin: %v", h)
	}
}

func TestEarlyHintsArriveBeforeTheResponse(t *testing.T) {
	pairings(t, func(t *testing.T, clientH2, originH2 bool) {
		hinted := make(chan struct{})
		w := passing(t, originH2, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</a>; rel=preload")
			w.WriteHeader(103)
			<-hinted
			w.Header().Del("Link")
			w.WriteHeader(200)
		})
		req, _ := http.NewRequest("GET", "https://a.test/", nil)
		req = req.WithContext(httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				if code == 103 && h.Get("Link") == "</a>; rel=preload" {
					close(hinted)
				}
				return nil
			},
		}))
		res, err := w.client(clientH2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.Header.Get("Link") != "" {
			t.Error("the hint's field is in the response too")
		}
	})
}

// TestContinueIsEndToEnd: the client is asked for its body when, and only when,
// the origin asks, and once.
func TestContinueIsEndToEnd(t *testing.T) {
	for _, originH2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("origin h2=%v", originH2), func(t *testing.T) {
			mayAsk := make(chan struct{})
			w := passing(t, originH2, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/refused" {
					w.WriteHeader(417)
					return
				}
				<-mayAsk
				b, _ := io.ReadAll(r.Body) // sends 100
				fmt.Fprintf(w, "got %s", b)
			})
			c := w.open("a.test:443", "a.test")
			r := bufio.NewReader(c)
			put := func(path string) {
				fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", path)
			}
			put("/x")
			_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			if b, err := r.ReadByte(); err == nil {
				t.Fatalf("got %q before the origin asked", b)
			}
			_ = c.SetReadDeadline(time.Now().Add(60 * time.Second))
			close(mayAsk)
			// Often enough that a 100 sent twice, by two goroutines in either order,
			// comes before a response.
			for i := range 50 {
				if i > 0 {
					put("/x")
				}
				if head, err := readHead(r); err != nil || head != "HTTP/1.1 100 Continue\r\n\r\n" {
					t.Fatalf("got %q, %v", head, err)
				}
				fmt.Fprint(c, "body")
				res, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				b, _ := io.ReadAll(res.Body)
				if res.StatusCode != 200 || string(b) != "got body" {
					t.Fatalf("got %s, %q", res.Status, b)
				}
			}
			put("/refused")
			head, err := readHead(r)
			if err != nil {
				t.Fatal(err)
			}
			mustContain(t, "refused at once", head, "HTTP/1.1 417 ")
		})
	}
}

// TestContinueIsEndToEndOverHTTP2: net/http's HTTP/2 server hides that the client
// waits.
func TestContinueIsEndToEndOverHTTP2(t *testing.T) {
	pairings(t, func(t *testing.T, clientH2, originH2 bool) {
		w := passing(t, originH2, func(w http.ResponseWriter, r *http.Request) {
			if e := r.Header.Get("Expect"); e != "" && r.ProtoMajor == 2 {
				t.Errorf("net/http hides Expect no more: %q", e)
			}
			if r.URL.Path == "/refused" {
				w.WriteHeader(417)
				return
			}
			b, _ := io.ReadAll(r.Body) // sends 100
			fmt.Fprintf(w, "got %s", b)
		})
		c := w.client(clientH2)
		c.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
		for i := range 20 {
			path, want := "/x", "got body"
			if i%2 == 0 {
				path, want = "/refused", ""
			}
			body := &notingReader{Reader: strings.NewReader("body")}
			req, _ := http.NewRequest("PUT", "https://a.test"+path, body)
			req.ContentLength = 4
			req.Header.Set("Expect", "100-continue")
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if string(b) != want || err != nil {
				t.Errorf("%s: got %s, %q, %v", path, res.Status, b, err)
			}
			if read := body.read.Load(); read != (path == "/x") {
				t.Errorf("%s: the body was read: %v", path, read)
			}
		}
	})
}

// notingReader notes that it was read.
type notingReader struct {
	io.Reader
	read atomic.Bool
}

func (n *notingReader) Read(p []byte) (int, error) {
	n.read.Store(true)
	return n.Reader.Read(p)
}

func TestClientThatLeavesEndsTheRequestUpstream(t *testing.T) {
	pairings(t, func(t *testing.T, clientH2, originH2 bool) {
		gone, reached := make(chan struct{}), make(chan struct{}, 1)
		w := passing(t, originH2, func(w http.ResponseWriter, r *http.Request) {
			reached <- struct{}{}
			if r.URL.Path == "/body" {
				_, _ = io.WriteString(w, "x")
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
			gone <- struct{}{}
		})
		for _, path := range []string{"/head", "/body"} {
			ctx, cancel := context.WithCancel(context.Background())
			req, _ := http.NewRequestWithContext(ctx, "GET", "https://a.test"+path, nil)
			if path == "/head" {
				go func() { <-reached; cancel() }() // ends when the origin has the request
			}
			res, err := w.client(clientH2).Do(req)
			if path == "/body" {
				if err != nil {
					t.Fatal(err)
				}
				<-reached
				_, _ = res.Body.Read(make([]byte, 1))
				cancel()
				_ = res.Body.Close()
			}
			select {
			case <-gone:
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: the origin never learned of it", path)
			}
			x := w.exchange()
			if x.Class != ClassError || !strings.Contains(x.Err, "client went away") {
				t.Errorf("%s: exchange %+v", path, x)
			}
			cancel()
		}
	})
}

// TestOriginThatBreaksOffIsNoCleanEnd: whatever marks the end of the body.
func TestOriginThatBreaksOffIsNoCleanEnd(t *testing.T) {
	pairings(t, func(t *testing.T, clientH2, originH2 bool) {
		w := passing(t, originH2, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/length" {
				w.Header().Set("Content-Length", "1000")
			}
			_, _ = io.WriteString(w, "some")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		for _, path := range []string{"/length", "/chunked"} {
			res, err := w.client(clientH2).Get("https://a.test" + path)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err == nil {
				t.Errorf("%s: client read %q and a clean end", path, b)
			}
			if x := w.exchange(); x.Class != ClassError || x.Status != 200 || x.SHA256 != "" {
				t.Errorf("%s: exchange %+v", path, x)
			}
		}
	})
}

func TestOriginThatBreaksOffIsNoCleanEndForHTTP10(t *testing.T) {
	w := passing(t, false, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "some")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	c := w.open("a.test:443", "a.test")
	fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
	b, err := io.ReadAll(c)
	if err == nil {
		t.Errorf("client read %q and a clean end", b)
	}
	mustContain(t, "what came", string(b), "HTTP/1.0 200 OK\r\n")
}

func TestUpgrade(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", secure), func(t *testing.T) {
			roots := newAuthorityKey(t, "origins")
			var config *tls.Config
			if secure {
				config = &tls.Config{Certificates: []tls.Certificate{roots.leaf(t, nil, "a.test")}, NextProtos: []string{"h2", "http/1.1"}}
			}
			origin := newRawOrigin(t, config, func(head string, c net.Conn, r *bufio.Reader) {
				if !strings.Contains(head, "Connection: Upgrade\r\n") || !strings.Contains(head, "Upgrade: echo/1\r\n") {
					_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\nX-More: 1\r\n\r\nhello ")
				_, _ = io.Copy(c, r) // until the client's half-close
			})
			w := newWorld(t, passEverything, map[string]string{"a.test:443": origin.addr(), "a.test:80": origin.addr()}, roots)
			var c net.Conn = w.dial()
			target := "http://a.test/ws"
			if secure {
				c, target = w.open("a.test:443", "a.test"), "/ws"
			}
			r := bufio.NewReader(c)
			head := ask(t, c, r, "GET "+target+" HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo/1\r\n\r\nearly ")
			mustContain(t, "head", head, "HTTP/1.1 101 Switching Protocols\r\n", "Upgrade: echo/1\r\n", "X-More: 1\r\n")
			_, _ = io.WriteString(c, "late")
			if err := closeWrite(c); err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if string(b) != "hello early late" {
				t.Errorf("got %q, %v", b, err)
			}
			if x := w.exchange(); x.Status != 101 || x.Class != ClassPass || x.Err != "" {
				t.Errorf("exchange %+v", x)
			}
		})
	}
}

func TestUpgradeToWhatNobodyAskedForIsRefused(t *testing.T) {
	origin := newRawOrigin(t, nil, reply("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n"))
	w := newWorld(t, passEverything, map[string]string{"a.test:80": origin.addr()}, nil)
	c := w.dial()
	head := ask(t, c, bufio.NewReader(c), "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	mustContain(t, "head", head, "HTTP/1.1 502 ", "http_upgrade_failed")
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	addr := plainOrigin(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) })
	w := newWorld(t, passEverything, map[string]string{"a.test:80": addr}, nil)
	c := w.dial()
	var all strings.Builder
	for i := range 10 {
		fmt.Fprintf(&all, "GET http://a.test/%d HTTP/1.1\r\nHost: a.test\r\n\r\n", i)
	}
	_, _ = io.WriteString(c, all.String())
	r := bufio.NewReader(c)
	for i := range 10 {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		if want := fmt.Sprintf("/%d", i); string(b) != want {
			t.Fatalf("answer %d is %q", i, b)
		}
	}
}

func TestSixtyFourClientsAtOnce(t *testing.T) {
	w := passing(t, true, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat(r.URL.Path, 10000))
	})
	errs := make(chan error, 64)
	for i := range 64 {
		go func() {
			want := strings.Repeat(fmt.Sprintf("/%d", i), 10000)
			res, err := w.client(i%2 == 0).Get(fmt.Sprintf("https://a.test/%d", i))
			if err != nil {
				errs <- err
				return
			}
			b, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if string(b) != want {
				err = errors.Join(err, fmt.Errorf("client %d got %d bytes of %d", i, len(b), len(want)))
			}
			errs <- err
		}()
	}
	for range 64 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// sinkHandler answers how long a body was.
func sinkHandler(w http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body)
	fmt.Fprint(w, n)
}
