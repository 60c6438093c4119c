package mitm

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// message is one message of HTTP as it is on the wire, in either version. Fields are
// lines "name: value"; only their order among different names and the case of their
// names are not net/http's to keep (ADR 0002).
type message struct {
	start    string // "GET /x" of a request, "200" of a response; "103" and fields of each that comes before are in hints
	fields   []string
	hints    []string
	body     string
	stream   bool // the length is not announced
	ends     bool // a response without length or body; over HTTP/1.1 its length is 0
	trailers []string
}

// differences are exchanges that are made with an origin directly and through
// larder: what the origin gets and what the client gets must be the same. Each is
// made in every pairing of HTTP/1.1 and HTTP/2 in which it can be.
var differences = []struct {
	name              string
	request, response message
	// What is there besides, or is not there, when it went through larder; lost by an
	// HTTP/2 client alone. why is the reason.
	addedUp, addedDown, lostUp, lostByHTTP2 []string
	why                                     string
}{
	{name: "nothing", request: get1("/"), response: message{start: "200", body: "x"}},
	{name: "an extension method", request: message{start: "BREW /pot"}, response: message{start: "418", body: "short and stout"}},
	{name: "a method in lower case", request: message{start: "get /"}, response: message{start: "405"}},
	{name: "methods of WebDAV", request: message{start: "PROPFIND /x", fields: lines("depth: 1"), body: "<x/>"}, response: message{start: "207", body: "<y/>"}},
	{name: "TRACE", request: message{start: "TRACE /x"}, response: message{start: "200", body: "TRACE"}},
	{name: "the whole server", request: message{start: "OPTIONS *"}, response: message{start: "204"}},
	{name: "percent-encoding", request: get1("/a%2Fb%2fc%7e~%41%25%00%C3%BC"), response: message{start: "200", body: "x"}},
	{name: "sub-delimiters", request: get1("/a;b=c,d:e@f!$&'()*+=/;/,"), response: message{start: "200", body: "x"}},
	{name: "slashes", request: get1("//x///y/"), response: message{start: "200", body: "x"}},
	{name: "dot segments", request: get1("/a/./b/../c/../../d/.."), response: message{start: "200", body: "x"}},
	{name: "an empty query", request: get1("/x?"), response: message{start: "200", body: "x"}},
	{name: "a query of queries", request: get1("/x?a=1&&=;b=%20+%zz??/'"), response: message{start: "200", body: "x"}},
	{name: "brackets and bars", request: get1("/{a}|b^c`d[e]"), response: message{start: "200", body: "x"}},
	{name: "repeated and empty fields", request: message{start: "GET /", fields: lines("x-a: 1", "x-a: 2", "x-a: 1", "x-empty: ", "x-list: a, b")}, response: message{start: "200", fields: lines("set-cookie: a=1; Path=/", "set-cookie: b=2", "x-empty: ", "x-a: 1", "x-a: 1"), body: "x"}},
	{name: "what net/http likes to add", request: get1("/"), response: message{start: "200", body: "<html>sniff me</html>"}},
	{name: "what clients send", request: message{start: "GET /", fields: lines("user-agent: pip/24", "accept-encoding: gzip;q=0.1, *;q=0", "accept: */*", "via: 1.1 other", "x-forwarded-for: 192.0.2.1", "forwarded: for=192.0.2.1", "authorization: Bearer x", "cookie: a=b; c=d", "range: bytes=0-5", "if-none-match: \"x\"", "cache-control: max-age=0", "pragma: no-cache")}, response: message{start: "206", fields: lines("content-range: bytes 0-5/10", "date: Thu, 01 Jan 1970 00:00:00 GMT", "server: x", "via: 1.1 other", "content-type: a/b", "content-encoding: gzip", "etag: \"x\"", "age: 3"), body: "012345"}},
	{name: "Pragma alone", request: message{start: "GET /", fields: lines("pragma: no-cache")}, response: message{start: "200", fields: lines("pragma: no-cache"), body: "x"}, addedUp: lines("cache-control: no-cache"), addedDown: lines("cache-control: no-cache"), why: "net/http reads Pragma: no-cache as the Cache-Control that it means (RFC 9111, Section 5.4)"},
	{name: "an empty user agent", request: message{start: "GET /", fields: lines("user-agent: ")}, response: message{start: "200", body: "x"}, lostUp: lines("user-agent: "), why: "to net/http it is the wish to send none"},
	{name: "odd names", request: message{start: "GET /", fields: lines("x_under: 1", "x.dot: 2", "!#$%&'*+-.^_`|~: 3", "1: 4")}, response: message{start: "200", fields: lines("x_under: 1", "!#$%&'*+-.^_`|~: 3"), body: "x"}},
	{name: "bytes above ASCII", request: message{start: "GET /", fields: lines("x-a: \xc3\xbc\xff")}, response: message{start: "200", fields: lines("x-a: \xc3\xbc\xff"), body: "x"}},
	{name: "tabs and quotes", request: message{start: "GET /", fields: lines("x-a: a\tb \"c, d\\\"\"")}, response: message{start: "200", fields: lines("x-a: a\tb  c"), body: "x"}},
	{name: "a body", request: message{start: "POST /", fields: lines("content-type: a/b"), body: "body"}, response: message{start: "201", fields: lines("location: /%2F?"), body: "x"}},
	{name: "a body of GET", request: message{start: "GET /", body: "body"}, response: message{start: "200", body: "x"}},
	{name: "a body of DELETE", request: message{start: "DELETE /", body: "body"}, response: message{start: "200", body: "x"}},
	{name: "a body of unknown length", request: message{start: "PUT /", body: "body", stream: true}, response: message{start: "200", body: "body", stream: true}},
	{name: "an empty body of unknown length", request: message{start: "PUT /", stream: true}, response: message{start: "200", stream: true}},
	{name: "a body of no length at all", request: message{start: "PUT /"}, response: message{start: "200", fields: lines("content-type: application/grpc", "grpc-status: 5"), ends: true}},
	{name: "trailers both ways", request: message{start: "POST /", fields: lines("te: trailers", "trailer: x-sum"), body: "body", stream: true, trailers: lines("x-sum: 1")}, response: message{start: "200", fields: lines("trailer: x-sum"), body: "body", stream: true, trailers: lines("x-sum: 2")}},
	{name: "trailers of a request that nobody announced", request: message{start: "POST /", body: "body", stream: true, trailers: lines("x-a: 1", "x-a: 2")}, response: message{start: "200"}, lostByHTTP2: lines("x-a: 1", "x-a: 2"), why: "net/http's HTTP/2 server keeps announced trailers alone"},
	{name: "trailers of a response that nobody announced", request: message{start: "POST /", body: "body", stream: true}, response: message{start: "200", body: "body", stream: true, trailers: lines("grpc-status: 0", "grpc-message: ")}},
	{name: "trailers alone", request: message{start: "POST /", fields: lines("trailer: x-a"), stream: true, trailers: lines("x-a: 1")}, response: message{start: "200", stream: true, trailers: lines("x-a: 1")}},
	{name: "early hints", request: get1("/"), response: message{start: "200", hints: lines("103", "link: </a>; rel=preload", "link: </b>"), body: "x"}},
	{name: "processing and early hints", request: get1("/"), response: message{start: "200", hints: lines("102", "103", "x-a: 1"), body: "x"}},
	{name: "no content", request: message{start: "DELETE /"}, response: message{start: "204", fields: lines("x-a: 1")}},
	{name: "reset content", request: message{start: "POST /", body: "x"}, response: message{start: "205"}},
	{name: "not modified", request: get1("/"), response: message{start: "304", fields: lines("etag: \"x\"", "content-length: 77", "content-type: a/b")}},
	{name: "not modified without a length", request: get1("/"), response: message{start: "304", fields: lines("etag: \"x\"")}},
	{name: "HEAD with a length", request: message{start: "HEAD /"}, response: message{start: "200", fields: lines("content-length: 12345", "content-type: a/b")}},
	{name: "HEAD without a length", request: message{start: "HEAD /"}, response: message{start: "200", fields: lines("x-a: 1")}},
	{name: "an empty body", request: get1("/"), response: message{start: "200"}},
	{name: "a redirect", request: get1("/"), response: message{start: "307", fields: lines("location: https://b.test/a//b/../%2F?#x"), body: "x"}},
	{name: "an authentication", request: get1("/"), response: message{start: "401", fields: lines("www-authenticate: Basic realm=\"a, b\"", "www-authenticate: Negotiate"), body: "x"}},
	{name: "an error", request: get1("/"), response: message{start: "503", fields: lines("retry-after: 1"), body: "x"}},
	{name: "a status nobody knows", request: get1("/"), response: message{start: "599", body: "x"}},
	{name: "a body of some records", request: message{start: "POST /", body: strings.Repeat("0123456789", 1200)}, response: message{start: "200", body: strings.Repeat("abcdefghij", 1200)}},
}

func lines(l ...string) []string { return l }

func get1(target string) message { return message{start: "GET " + target} }

// wire speaks one version of HTTP, byte by byte.
type wire interface {
	// send writes a message; receive reads one. A response is to a request of method.
	send(m message, method string)
	receive(method string) message
	close()
}

func TestNothingDiffersOnTheWayThroughLarder(t *testing.T) {
	pairings(t, func(t *testing.T, clientH2, originH2 bool) {
		roots := newAuthorityKey(t, "origins")
		origin, like := newWireOrigin(t, roots, originH2), newWireOrigin(t, roots, clientH2)
		w := newWorld(t, passEverything, map[string]string{"a.test:443": origin.addr}, roots)
		pool := x509.NewCertPool()
		pool.AddCert(roots.cert)
		for _, c := range differences {
			t.Run(c.name, func(t *testing.T) {
				if c.response.ends && clientH2 && !originH2 {
					t.Skip("an origin of HTTP/1.1 has to say that the length is 0")
				}
				method, _, _ := strings.Cut(c.request.start, " ")
				// Directly, with the version of either side: how each shows the same exchange.
				wantUp, _ := origin.exchange(t, dialWire(t, origin.addr, pool, originH2), c.request, c.response)
				_, wantDown := like.exchange(t, dialWire(t, like.addr, pool, clientH2), c.request, c.response)
				client := newWire(t, w.open("a.test:443", "a.test", alpn(clientH2)), clientH2, true)
				gotUp, gotDown := origin.exchange(t, client, c.request, c.response)
				wantUp = without(wantUp, c.lostUp)
				if clientH2 {
					wantUp = without(wantUp, c.lostByHTTP2)
				}
				if d := cmp.Diff(wantUp.text(), without(gotUp, c.addedUp).text()); d != "" {
					t.Errorf("%s: the origin got (- directly, + through larder):\n%s", method, d)
				}
				if d := cmp.Diff(wantDown.text(), without(gotDown, c.addedDown).text()); d != "" {
					t.Errorf("%s: the client got (- directly, + through larder):\n%s", method, d)
				}
			})
		}
	})
}

// TestNothingDiffersOverPlainHTTP: with a target of absolute form on the way in.
func TestNothingDiffersOverPlainHTTP(t *testing.T) {
	origin := newWireOrigin(t, nil, false)
	w := newWorld(t, passEverything, map[string]string{"a.test:80": origin.addr}, nil)
	for _, c := range differences {
		t.Run(c.name, func(t *testing.T) {
			wantUp, wantDown := origin.exchange(t, newWire(t, dialPlain(t, origin.addr), false, true), c.request, c.response)
			client := newWire(t, w.dial(), false, true)
			client.(*wire1).absolute = true
			gotUp, gotDown := origin.exchange(t, client, c.request, c.response)
			if d := cmp.Diff(without(wantUp, c.lostUp).text(), without(gotUp, c.addedUp).text()); d != "" {
				t.Errorf("the origin got (- directly, + through larder):\n%s", d)
			}
			if d := cmp.Diff(wantDown.text(), without(gotDown, c.addedDown).text()); d != "" {
				t.Errorf("the client got (- directly, + through larder):\n%s", d)
			}
		})
	}
}

// text is what is compared.
func (m message) text() []string {
	all := []string{m.start}
	all = append(all, "hints:")
	all = append(all, m.hints...)
	all = append(all, "fields:")
	all = append(all, sortedLines(m.fields)...)
	all = append(all, "body:", m.body, "trailers:")
	return append(all, sortedLines(m.trailers)...)
}

// sortedLines orders fields by name, those of one name as they came, and puts the
// crumbs of a cookie together, which HTTP/2 may cut (RFC 9113, Section 8.2.3).
func sortedLines(fields []string) []string {
	var sorted, crumbs []string
	for _, f := range fields {
		if c, ok := strings.CutPrefix(f, "cookie: "); ok {
			crumbs = append(crumbs, c)
			continue
		}
		sorted = append(sorted, f)
	}
	if len(crumbs) > 0 {
		sorted = append(sorted, "cookie: "+strings.Join(crumbs, "; "))
	}
	slices.SortStableFunc(sorted, func(a, b string) int { return strings.Compare(fieldName(a), fieldName(b)) })
	return sorted
}

// without takes lines out of fields and trailers, each once.
func without(m message, taken []string) message {
	for _, line := range taken {
		for _, all := range []*[]string{&m.fields, &m.trailers} {
			if i := slices.Index(*all, line); i >= 0 {
				*all = slices.Delete(slices.Clone(*all), i, i+1)
				break
			}
		}
	}
	return m
}

func alpn(h2 bool) string {
	if h2 {
		return "h2"
	}
	return "http/1.1"
}

func dialPlain(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	return c
}

func dialWire(t *testing.T, addr string, roots *x509.CertPool, h2 bool) wire {
	t.Helper()
	return newWire(t, tls.Client(dialPlain(t, addr), &tls.Config{RootCAs: roots, ServerName: "a.test", NextProtos: []string{alpn(h2)}}), h2, true)
}

func newWire(t *testing.T, c net.Conn, h2, client bool) wire {
	t.Helper()
	if h2 {
		return newWire2(t, c, client)
	}
	return &wire1{t: t, c: c, r: bufio.NewReader(c)}
}

// wireOrigin answers requests with what exchange says.
type wireOrigin struct {
	addr    string
	answers chan message
	got     chan message
}

func newWireOrigin(t *testing.T, roots *authorityKey, h2 bool) *wireOrigin {
	o := &wireOrigin{answers: make(chan message, 1), got: make(chan message, 1)}
	var config *tls.Config
	if roots != nil {
		config = &tls.Config{Certificates: []tls.Certificate{roots.leaf(t, nil, "a.test")}, NextProtos: []string{alpn(h2)}}
	}
	o.addr = tcpOrigin(t, func(tcp *net.TCPConn) {
		_ = tcp.SetDeadline(time.Now().Add(60 * time.Second))
		var c net.Conn = tcp
		if config != nil {
			c = tls.Server(c, config)
		}
		defer c.Close()
		w := newWire(t, c, h2, false)
		for {
			m := w.receive("")
			if m.start == "" {
				return
			}
			o.got <- m
			method, _, _ := strings.Cut(m.start, " ")
			w.send(<-o.answers, method)
		}
	})
	return o
}

// exchange makes one exchange and returns what either side got.
func (o *wireOrigin) exchange(t *testing.T, client wire, request, response message) (up, down message) {
	t.Helper()
	method, _, _ := strings.Cut(request.start, " ")
	o.answers <- response
	client.send(request, "")
	down = client.receive(method)
	select {
	case up = <-o.got:
	case <-o.answers: // take it back
		t.Fatalf("the origin got nothing; the client %q", down.text())
	}
	client.close()
	return up, down
}

// wire1 speaks HTTP/1.1.
type wire1 struct {
	t        *testing.T
	c        net.Conn
	r        *bufio.Reader
	absolute bool
}

func (w *wire1) close() { _ = w.c.Close() }

func (w *wire1) send(m message, method string) {
	var b bytes.Buffer
	request := method == ""
	if request {
		verb, target, _ := strings.Cut(m.start, " ")
		if w.absolute {
			if target = "http://a.test" + target; verb == "OPTIONS" {
				target = "http://a.test"
			}
		}
		fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: a.test\r\n", verb, target)
	} else {
		for _, h := range m.hints {
			if strings.Contains(h, ":") {
				continue
			}
			fmt.Fprintf(&b, "HTTP/1.1 %s Hint\r\n", h)
			for _, f := range hintFields(m.hints, h) {
				b.WriteString(f + "\r\n")
			}
			b.WriteString("\r\n")
		}
		fmt.Fprintf(&b, "HTTP/1.1 %s Status\r\n", m.start)
	}
	for _, f := range m.fields {
		b.WriteString(f + "\r\n")
	}
	switch {
	case m.stream:
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		if m.body != "" {
			fmt.Fprintf(&b, "%x\r\n%s\r\n", len(m.body), m.body)
		}
		b.WriteString("0\r\n")
		for _, f := range m.trailers {
			b.WriteString(f + "\r\n")
		}
		b.WriteString("\r\n")
	case m.body != "" || !request && m.hasLength(method):
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(m.body), m.body)
	default:
		b.WriteString("\r\n")
	}
	_, _ = w.c.Write(b.Bytes()) // the other side tells what came
}

// hasLength reports whether a response without body says so by its length.
func (m message) hasLength(method string) bool {
	return method != "HEAD" && m.start != "204" && m.start != "304"
}

// hintFields are those of one of the informational responses.
func hintFields(hints []string, status string) (fields []string) {
	in := false
	for _, h := range hints {
		if !strings.Contains(h, ":") {
			in = h == status
		} else if in {
			fields = append(fields, h)
		}
	}
	return fields
}

func (w *wire1) receive(method string) (m message) {
	for {
		head, err := readHead(w.r)
		if err != nil {
			return m
		}
		all := strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")
		start, fields := strings.SplitN(all[0], " ", 3), all[1:]
		for i, f := range fields {
			name, value, _ := strings.Cut(f, ":")
			fields[i] = field(name, value)
		}
		switch {
		case method == "": // a request
			m.start = start[0] + " " + start[1]
		case start[1][0] == '1':
			m.hints = append(append(m.hints, start[1]), fields...)
			continue
		default:
			m.start = start[1]
		}
		m.fields = fields
		break
	}
	if method == "HEAD" || m.start == "204" || m.start == "304" {
		return m
	}
	for _, f := range m.fields {
		if n, ok := strings.CutPrefix(f, "content-length: "); ok {
			length, _ := strconv.Atoi(n)
			b := make([]byte, length)
			n, _ := io.ReadFull(w.r, b)
			m.body = string(b[:n])
		}
		if f == "transfer-encoding: chunked" {
			m.stream = true
			w.chunks(&m)
		}
	}
	return m
}

func (w *wire1) chunks(m *message) {
	for {
		line, err := w.r.ReadString('\n')
		size, perr := strconv.ParseInt(strings.TrimSpace(line), 16, 64)
		if err != nil || perr != nil {
			m.body += "and then it broke off"
			return
		}
		if size == 0 {
			break
		}
		b := make([]byte, size+2)
		n, _ := io.ReadFull(w.r, b)
		m.body += strings.TrimSuffix(string(b[:n]), "\r\n")
	}
	for {
		line, err := w.r.ReadString('\n')
		if err != nil || line == "\r\n" {
			return
		}
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		m.trailers = append(m.trailers, field(name, value))
	}
}

// field is a line of a message. The names that Trailer holds have no case either.
func field(name, value string) string {
	name = strings.ToLower(name)
	if name == "trailer" {
		value = strings.ToLower(value)
	}
	return name + ": " + strings.TrimSpace(value)
}
