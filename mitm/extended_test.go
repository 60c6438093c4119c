//lint:file-ignore SA1019 net/http takes no :protocol, x/net is the only one that does

package mitm

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// stream is an extended CONNECT that was answered.
type stream struct {
	*http.Response
	say *io.PipeWriter
}

// bootstrap asks for a WebSocket at target over a connection of HTTP/2 to larder.
func (w *world) bootstrap(target, protocol string, fields ...string) *stream {
	w.t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		w.t.Fatal(err)
	}
	over, err := new(http2.Transport).NewClientConn(w.open(u.Host+":443", u.Host, "h2"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = over.Close() })
	said, say := io.Pipe()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodConnect, target, said)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header[protocolField] = []string{protocol}
	r.Header["User-Agent"] = []string{"browser"}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	r.ContentLength = -1
	res, err := over.RoundTrip(r)
	if err != nil {
		w.t.Fatalf("extended CONNECT: %v", err)
	}
	w.t.Cleanup(func() { _ = say.Close(); _ = res.Body.Close() })
	return &stream{res, say}
}

// echo1 is an origin of HTTP/1.1 that switches its protocol, and then says what it
// hears until its client has ended.
func echo1(seen chan<- *http.Request) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Accept: "+acceptKey(r.Header.Get("Sec-Websocket-Key"))+"\r\nSec-WebSocket-Protocol: chat\r\n\r\n")
		_, _ = io.Copy(c, buffered)
		_, _ = io.WriteString(c, " bye")
	}
}

// echo2 is one of HTTP/2.
func echo2(seen chan<- *http.Request) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		if r.Method != http.MethodConnect {
			http.Error(w, "not by HTTP/1.1's way", http.StatusBadRequest)
			return
		}
		w.Header().Set("Sec-WebSocket-Protocol", "chat")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		b := make([]byte, 100)
		for {
			n, err := r.Body.Read(b)
			_, _ = w.Write(b[:n])
			_ = http.NewResponseController(w).Flush()
			if err != nil {
				_, _ = io.WriteString(w, " bye")
				return
			}
		}
	}
}

// TestExtendedConnectReachesOriginsOfBothVersions, byte for byte as it is said, and
// with each side's end.
func TestExtendedConnectReachesOriginsOfBothVersions(t *testing.T) {
	for name, c := range map[string]struct {
		h2     bool
		origin func(chan<- *http.Request) http.HandlerFunc
		method string
	}{
		"HTTP/1.1": {false, echo1, http.MethodGet},
		"HTTP/2":   {true, echo2, http.MethodConnect},
	} {
		t.Run(name, func(t *testing.T) {
			roots := newAuthorityKey(t, "origins")
			seen := make(chan *http.Request, 2)
			w := newWorld(t, passEverything, map[string]string{"a.test:443": tlsOrigin(t, roots, c.h2, c.origin(seen), "a.test")}, roots)
			for range 2 { // the second time it is known what the origin can
				s := w.bootstrap("https://a.test/chat?x=1", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Protocol", "chat")
				if s.StatusCode != http.StatusOK || s.Header.Get("Sec-Websocket-Protocol") != "chat" {
					t.Fatalf("got %s %v", s.Status, s.Header)
				}
				for _, name := range []string{"Connection", "Upgrade", "Sec-Websocket-Accept"} {
					if s.Header.Get(name) != "" {
						t.Errorf("the answer has %s", name)
					}
				}
				r := <-seen
				if r.Method != c.method || r.URL.RequestURI() != "/chat?x=1" || r.Host != "a.test" ||
					r.Header.Get("Sec-Websocket-Version") != "13" || r.UserAgent() != "browser" {
					t.Errorf("the origin saw %s %s of %s with %v", r.Method, r.URL, r.Host, r.Header)
				}
				in := bufio.NewReader(s.Body)
				for _, word := range []string{"one", "two"} { // each comes back before the next is said
					_, _ = io.WriteString(s.say, word)
					b := make([]byte, 3)
					if _, err := io.ReadFull(in, b); string(b) != word || err != nil {
						t.Fatalf("got %q, %v", b, err)
					}
				}
				_ = s.say.Close()
				if rest, err := io.ReadAll(in); string(rest) != " bye" || err != nil {
					t.Errorf("after the client's end: %q, %v", rest, err)
				}
			}
		})
	}
}

// TestExtendedConnectIsRefused where its origin, the policy or larder says so, and
// what is no switch is not taken for one.
func TestExtendedConnectIsRefused(t *testing.T) {
	const denying = "default: tunnel\nrules:\n- {name: no, hosts: [a.test], methods: [GET], paths: [/denied], action: deny}\n- {name: all, hosts: ['*'], action: pass}\n"
	answer := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/page":
			_, _ = io.WriteString(w, "a page")
		case "/wrong":
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Sec-WebSocket-Accept", acceptKey("another's"))
			w.WriteHeader(http.StatusSwitchingProtocols)
		default:
			http.Error(w, "no", http.StatusForbidden)
		}
	}
	for _, c := range []struct {
		name, path, protocol string
		status               int
		text                 string
	}{
		{"by the origin", "/closed", "websocket", 403, "no\n"},
		{"by the policy", "/denied", "websocket", 403, "rule"},
		{"by larder, which does not know the protocol", "/x", "connect-udp", 501, "websocket"},
		{"by larder, where the protocol only folds to one that it knows", "/x", "web\u017focket", 501, "websocket"},
		{"where the origin answers as to any GET", "/page", "websocket", 502, "protocol"},
		{"where the origin answers another's key", "/wrong", "websocket", 502, "protocol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			roots := newAuthorityKey(t, "origins")
			w := newWorld(t, denying, map[string]string{"a.test:443": tlsOrigin(t, roots, false, answer, "a.test")}, roots)
			s := w.bootstrap("https://a.test"+c.path, c.protocol)
			_ = s.say.Close()
			body, err := io.ReadAll(s.Body)
			if s.StatusCode != c.status || !strings.Contains(string(body), c.text) || err != nil {
				t.Errorf("got %s %q, %v; want %d with %q", s.Status, body, err, c.status, c.text)
			}
		})
	}
}

// TestExtendedConnectBreaksOff: an origin that resets is no clean end, a client that
// goes is the end for the origin, and silence of both has one.
func TestExtendedConnectBreaksOff(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	over := make(chan error, 1)
	answer := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == "/reset" {
			panic(http.ErrAbortHandler)
		}
		_, err := io.Copy(io.Discard, r.Body)
		over <- err
	}
	w := newWorld(t, passEverything, map[string]string{"a.test:443": tlsOrigin(t, roots, true, answer, "a.test")}, roots,
		func(_ *Options, u *UpstreamOptions) { u.IdleTimeout = 300 * time.Millisecond })
	s := w.bootstrap("https://a.test/reset", "websocket")
	if _, err := io.ReadAll(s.Body); err == nil {
		t.Error("a reset by the origin looks like an end")
	}
	s = w.bootstrap("https://a.test/leave", "websocket")
	_ = s.Body.Close()
	if err := <-over; err == nil {
		t.Error("the client's leaving looks like an end")
	}
	s = w.bootstrap("https://a.test/silence", "websocket")
	if _, err := io.ReadAll(s.Body); err == nil {
		t.Error("a stall looks like an end")
	}
	if err := <-over; err == nil {
		t.Error("to the origin a stall looks like an end")
	}
}

// TestExtendedConnectEndsForAClientThatNeverReads, however lively its connection is:
// the wait for it has the idle time too.
func TestExtendedConnectEndsForAClientThatNeverReads(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			roots := newAuthorityKey(t, "origins")
			over := make(chan struct{})
			answer := func(w http.ResponseWriter, r *http.Request) {
				defer close(over)
				var out io.Writer = w
				if r.Method == http.MethodGet {
					c, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						panic(err)
					}
					defer c.Close()
					_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
						"Sec-WebSocket-Accept: "+acceptKey(r.Header.Get("Sec-Websocket-Key"))+"\r\n\r\n")
					out = c
				}
				for b := make([]byte, 64<<10); ; {
					if _, err := out.Write(b); err != nil {
						return
					}
				}
			}
			w := newWorld(t, passEverything, map[string]string{"a.test:443": tlsOrigin(t, roots, h2, answer, "a.test")}, roots,
				func(_ *Options, u *UpstreamOptions) { u.IdleTimeout = 300 * time.Millisecond })
			s := w.bootstrap("https://a.test/flood", "websocket")
			x := w.exchange()
			if x.Err == "" || x.Bytes == 0 {
				t.Errorf("exchange %+v", x)
			}
			<-over
			if _, err := io.ReadAll(s.Body); err == nil {
				t.Error("the stream ends cleanly")
			}
		})
	}
}

// TestExtendedConnectIsNotCounted among the connections of requests, as other
// connections that belong to one client are not.
func TestExtendedConnectIsNotCounted(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	seen := make(chan *http.Request, 3)
	w := newWorld(t, passEverything, map[string]string{"a.test:443": tlsOrigin(t, roots, true, echo2(seen), "a.test")}, roots,
		func(_ *Options, u *UpstreamOptions) {
			u.MaxConnectionsPerHost, u.PlaceTimeout = 1, 100*time.Millisecond
		})
	for range 2 {
		if s := w.bootstrap("https://a.test/chat", "websocket"); s.StatusCode != http.StatusOK {
			t.Fatalf("got %s", s.Status)
		}
	}
	if res, body := get(t, w.client(true), "https://a.test/page"); res.StatusCode != http.StatusBadRequest {
		t.Errorf("beside them: %s %q", res.Status, body)
	}
}

// TestExtendedConnectIsAnUpgradeWhereHTTP2KnowsNone, and the origin is asked once
// whether it does.
func TestExtendedConnectIsAnUpgradeWhereHTTP2KnowsNone(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	seen := make(chan *http.Request, 2)
	var asked atomic.Int64
	s := httptest.NewUnstartedServer(echo1(seen))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{roots.leaf(t, nil, "a.test")}, NextProtos: []string{"h2", "http/1.1"}}
	s.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
		"h2": func(_ *http.Server, c *tls.Conn, _ http.Handler) {
			asked.Add(1)
			_ = http2.NewFramer(c, c).WriteSettings() // without ENABLE_CONNECT_PROTOCOL
			_, _ = io.Copy(io.Discard, c)
		},
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	w := newWorld(t, passEverything, map[string]string{"a.test:443": s.Listener.Addr().String()}, roots)
	for range 2 {
		s := w.bootstrap("https://a.test/chat", "websocket")
		if r := <-seen; s.StatusCode != http.StatusOK || r.Method != http.MethodGet || r.ProtoMajor != 1 {
			t.Errorf("got %s by %s over %s", s.Status, r.Method, r.Proto)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked over HTTP/2 %d times", n)
	}
}

// TestExtendedConnectHasNoLength: that of an answer that switches means nothing (RFC
// 9110, Section 8.6), and some servers send one.
func TestExtendedConnectHasNoLength(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	answer := func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n"+
			"Sec-WebSocket-Accept: "+acceptKey(r.Header.Get("Sec-Websocket-Key"))+"\r\n\r\nsaid")
	}
	w := newWorld(t, passEverything, map[string]string{"a.test:443": tlsOrigin(t, roots, false, answer, "a.test")}, roots)
	s := w.bootstrap("https://a.test/chat", "websocket")
	if b, err := io.ReadAll(s.Body); string(b) != "said" || err != nil || s.Header.Get("Content-Length") != "" {
		t.Errorf("got %q, %v, with %v", b, err, s.Header)
	}
}

// TestHeaderRulesHoldForSwitches by either version's way.
func TestHeaderRulesHoldForSwitches(t *testing.T) {
	const rules = "default: tunnel\nrules:\n- {name: all, hosts: ['*'], action: pass, response: {remove: [X-Secret], set: {X-Rule: 'yes'}}}\n"
	answer := func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Secret: 1\r\n"+
			"Sec-WebSocket-Accept: "+acceptKey(r.Header.Get("Sec-Websocket-Key"))+"\r\n\r\n")
	}
	roots := newAuthorityKey(t, "origins")
	w := newWorld(t, rules, map[string]string{"a.test:443": tlsOrigin(t, roots, false, answer, "a.test")}, roots)
	check := func(how string, status int, h http.Header, want int) {
		t.Helper()
		if status != want || h.Get("X-Rule") != "yes" || h.Get("X-Secret") != "" {
			t.Errorf("%s: %d %v", how, status, h)
		}
	}
	s := w.bootstrap("https://a.test/chat", "websocket")
	check("extended CONNECT", s.StatusCode, s.Header, http.StatusOK)
	c := w.open("a.test:443", "a.test")
	_, _ = io.WriteString(c, "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	check("Upgrade", res.StatusCode, res.Header, http.StatusSwitchingProtocols)
}

// TestNoChildSeesTheSetting: net/http has looked, and the environment is as it was.
func TestNoChildSeesTheSetting(t *testing.T) {
	if strings.Contains(os.Getenv("GODEBUG"), "http2xconnect") {
		t.Errorf("GODEBUG is %q", os.Getenv("GODEBUG"))
	}
}
