package mitm

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"larder/policy"
)

// redirectedTo is an entrance whose connections were going to dst.
func redirectedTo(dst string) Entrance {
	return Entrance{Mode: policy.ListenRedirect, destination: func(net.Conn) (netip.AddrPort, error) {
		return netip.ParseAddrPort(dst)
	}}
}

// Where the name good.test leads, and another address that anybody may have.
const (
	goodAddr = "192.0.2.10"
	evilAddr = "192.0.2.66"
)

// redirectWorld has two TLS and two plain origins, by the addresses at which they
// are reached: each says which it is.
func redirectWorld(t *testing.T, text string) *world {
	t.Helper()
	roots := newAuthorityKey(t, "origins")
	at := func(what string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s as %s", what, r.Host) }
	}
	secure := func(what string) string {
		return tlsOrigin(t, roots, false, at(what), "good.test", "opened.test", "other.test")
	}
	good, evil := secure("good"), secure("evil")
	return newWorld(t, "presets: none\n"+text, map[string]string{
		"good.test:443":    goodAddr + ":443",
		"gone.test:443":    "gone.invalid:443",
		goodAddr + ":443":  good,
		evilAddr + ":443":  evil,
		"opened.test:443":  good,
		"good.test:80":     plainOrigin(t, at("good")),
		evilAddr + ":80":   plainOrigin(t, at("evil")),
		goodAddr + ":22":   speaker(t, "SSH-2.0-good\r\n"),
		evilAddr + ":8080": plainOrigin(t, at("evil")),
	}, roots)
}

// speaker is an origin that waits for a line and then says one.
func speaker(t *testing.T, line string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends when l is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 256)
			_, _ = c.Read(b)
			_, _ = io.WriteString(c, line)
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

const redirectRules = `
rules:
  - { name: named, hosts: [good.test, gone.test, other.test], action: tunnel }
  - { name: look, hosts: [opened.test], action: pass }
  - { name: never, hosts: [denied.test], action: deny }
`

// TestRedirectedTLS is the table of what a server name is worth: a row for each
// policy, name and destination. A refusal is an alert, and the class in the
// account says whether larder or the policy refused.
func TestRedirectedTLS(t *testing.T) {
	for _, c := range []struct {
		name, settings, server, dst string
		want                        string // what the origin says; "" for a refusal
		class                       string
	}{
		{"opened: by its name wherever it was going", "default: deny", "opened.test", evilAddr + ":443", "good as opened.test", ClassPass},
		{"opened: letter case and dot mean nothing", "default: deny", "OPENED.test", goodAddr + ":443", "good as opened.test", ClassPass},
		{"tunnelled: the address is the name's", "default: deny", "good.test", goodAddr + ":443", "good as good.test", ClassTunnel},
		{"refused: a good name for another's address", "default: deny", "good.test", evilAddr + ":443", "", ClassDeny},
		{"refused: a good name for another's address, and no address without a name", "unnamed: refuse", "good.test", evilAddr + ":443", "", ClassDeny},
		{"tunnelled where anything is: no name opens more", "default: tunnel", "good.test", evilAddr + ":443", "evil as good.test", ClassTunnel},
		{"refused: a name that is not to be found", "default: deny", "gone.test", goodAddr + ":443", "", ClassError},
		{"refused: denied by name", "default: tunnel", "denied.test", goodAddr + ":443", "", ClassDeny},
		{"refused: no rule", "default: deny", "strange.test", goodAddr + ":443", "", ClassDeny},
		{"tunnelled: no rule", "default: tunnel", "other.test", evilAddr + ":443", "evil as other.test", ClassTunnel},
		{"refused: no name", "default: deny", "", goodAddr + ":443", "", ClassDeny},
		{"refused: no name, as unnamed says", "unnamed: refuse", "", goodAddr + ":443", "", ClassDeny},
		{"tunnelled: no name", "default: tunnel", "", goodAddr + ":443", "good as good.test", ClassTunnel},
		{"tunnelled: no name, as unnamed says", "default: deny\nunnamed: tunnel", "", goodAddr + ":443", "good as good.test", ClassTunnel},
		{"refused: larder's own address", "default: tunnel", "opened.test", "127.0.0.1:443", "", ClassError},
		{"refused: a private address", "default: tunnel", "other.test", "10.1.2.3:443", "", ClassError},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := redirectWorld(t, c.settings+redirectRules)
			roots := w.larder.Clone()
			roots.AddCert(w.roots.cert)
			config := &tls.Config{ServerName: c.server, RootCAs: roots}
			if c.server == "" {
				// Verified all the same, but by the test.
				config.InsecureSkipVerify = true
				config.VerifyConnection = func(s tls.ConnectionState) error {
					return s.PeerCertificates[0].VerifyHostname("good.test")
				}
			}
			conn := tls.Client(dialAt(t, w.enter(redirectedTo(c.dst))), config)
			err := conn.Handshake()
			if c.want == "" {
				if err == nil {
					t.Fatal("the connection opened")
				}
			} else {
				if err != nil {
					t.Fatal(err)
				}
				host := strings.ToLower(c.server)
				if host == "" {
					host = "good.test"
				}
				fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
				answer, _ := io.ReadAll(conn)
				mustContain(t, "answer", string(answer), c.want)
				_ = conn.Close()
			}
			x := w.exchange()
			if x.Class != c.class {
				t.Errorf("%+v, want class %s", x, c.class)
			}
			if x.Class == ClassDeny && !strings.Contains(err.Error(), "access denied") {
				t.Errorf("the client is told %v", err)
			}
		})
	}
}

// TestRedirectedHiddenName has a hello with the extension that hides another: a
// rule for the name in clear tunnels nothing on its account.
func TestRedirectedHiddenName(t *testing.T) {
	for _, c := range []struct {
		settings, name string
		refused        bool
	}{
		{"default: deny", "good.test", true},
		{"default: tunnel", "good.test", false},
		{"default: deny\nunnamed: tunnel", "good.test", false},
		{"default: deny", "opened.test", false}, // larder has no key: what it opens is the outer
	} {
		w := redirectWorld(t, c.settings+redirectRules)
		conn := dialAt(t, w.enter(redirectedTo(goodAddr+":443")))
		if _, err := conn.Write(withExtension(helloOf(t, &tls.Config{ServerName: c.name}), 0xfe0d, outerHello())); err != nil {
			t.Fatal(err)
		}
		var record [3]byte
		if _, err := io.ReadFull(conn, record[:]); err != nil {
			t.Fatal(err)
		}
		if refused := record[0] == 21; refused != c.refused {
			t.Errorf("%q, %s: answered by a record of type %d", c.settings, c.name, record[0])
		}
	}
}

// outerHello is an encrypted_client_hello of the right form that holds nothing, as
// browsers send it (RFC 9849, Section 6.2).
func outerHello() []byte {
	b := append([]byte{0, 0, 1, 0, 1, 7, 0, 32}, make([]byte, 32)...)
	return append(append(b, 0, 64), make([]byte, 64)...)
}

// withExtension adds an extension to a ClientHello in one record.
func withExtension(hello []byte, kind int, data []byte) []byte {
	b := append([]byte(nil), hello...)
	at := 5 + 4 + 2 + 32
	at += 1 + int(b[at])
	at += 2 + int(b[at])<<8 + int(b[at+1])
	at += 1 + int(b[at])
	b = append(b, byte(kind>>8), byte(kind), byte(len(data)>>8), byte(len(data)))
	b = append(b, data...)
	longer := 4 + len(data)
	for _, n := range []int{3, 7, at} { // record, message, extensions
		v := int(b[n])<<8 + int(b[n+1]) + longer
		b[n], b[n+1] = byte(v>>8), byte(v)
	}
	return b
}

// TestRedirectedOther is about what is no TLS: requests go by their Host and the
// policy of any request, other bytes by their destination.
func TestRedirectedOther(t *testing.T) {
	for _, c := range []struct {
		name, settings, dst, say string
		want                     string // contained in what the client gets; "" for nothing at all
	}{
		{"a request goes by its Host", "default: tunnel", evilAddr + ":80", "GET / HTTP/1.1\r\nHost: good.test\r\n", "good as good.test"},
		{"a request in absolute form", "default: tunnel", evilAddr + ":80", "GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\n", "good as good.test"},
		{"a denied request is told so", "default: tunnel", evilAddr + ":80", "GET / HTTP/1.1\r\nHost: denied.test\r\n", "HTTP/1.1 403"},
		{"a request without rule", "default: deny", evilAddr + ":80", "GET / HTTP/1.1\r\nHost: strange.test\r\n", "HTTP/1.1 403"},
		{"a Host for another port", "default: tunnel", evilAddr + ":80", "GET / HTTP/1.1\r\nHost: good.test:8080\r\n", "HTTP/1.1 421"},
		{"another port than the Host's", "default: tunnel", evilAddr + ":8080", "GET / HTTP/1.1\r\nHost: good.test\r\n", "HTTP/1.1 421"},
		{"another port, and the Host says so", "default: tunnel", evilAddr + ":8080", "GET / HTTP/1.1\r\nHost: " + evilAddr + ":8080\r\n", "evil as " + evilAddr + ":8080"},
		{"CONNECT is for proxies, and other bytes here", "default: deny", evilAddr + ":80", "CONNECT good.test:443 HTTP/1.1\r\nHost: good.test:443\r\n", ""},
		{"other bytes", "default: tunnel", goodAddr + ":22", "SSH-2.0-client\r\n", "SSH-2.0-good"},
		{"other bytes, refused", "default: deny", goodAddr + ":22", "SSH-2.0-client\r\n", ""},
		{"HTTP/2 in clear is other bytes", "default: deny", evilAddr + ":80", "PRI * HTTP/2.0\r\n\r\nSM\r\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := redirectWorld(t, c.settings+redirectRules)
			conn := dialAt(t, w.enter(redirectedTo(c.dst)))
			for i := range len(c.say) { // a byte at a time: what it is must not hang on how it comes
				if _, err := io.WriteString(conn, c.say[i:i+1]); err != nil {
					break
				}
			}
			if strings.Contains(c.say, "HTTP/1.1") {
				fmt.Fprint(conn, "Connection: close\r\n\r\n")
			}
			answer, _ := io.ReadAll(conn) // a refused client may see a reset
			if c.want == "" && len(answer) > 0 || !strings.Contains(string(answer), c.want) {
				t.Errorf("answered %q", answer)
			}
		})
	}
}

// TestRedirectedByRuleForAddress has rules that name the destination.
func TestRedirectedByRuleForAddress(t *testing.T) {
	const text = `
default: deny
rules:
  - { name: ssh, hosts: [192.0.2.10], ports: [22], action: tunnel }
`
	w := redirectWorld(t, text)
	conn := dialAt(t, w.enter(redirectedTo(goodAddr+":22")))
	io.WriteString(conn, "SSH-2.0-client\r\n")
	if answer, err := io.ReadAll(conn); string(answer) != "SSH-2.0-good\r\n" || err != nil {
		t.Errorf("answered %q, %v", answer, err)
	}
	_ = conn.Close()
	if x := w.exchange(); x.Rule != "ssh" || x.Class != ClassTunnel || x.URL != goodAddr+":22" {
		t.Errorf("%+v", x)
	}
}

// TestRedirectedSlowHello wants a ClientHello that does not come to its end in
// time to be refused: read so far it has no name, and would go where those go.
func TestRedirectedSlowHello(t *testing.T) {
	w := newWorld(t, "presets: none\ndefault: tunnel", nil, nil, func(o *Options, _ *UpstreamOptions) { o.HandshakeTimeout = 50 * time.Millisecond })
	conn := dialAt(t, w.enter(redirectedTo(goodAddr+":443")))
	hello := helloOf(t, &tls.Config{ServerName: "denied.test"})
	if _, err := conn.Write(hello[:len(hello)-1]); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(conn) // its end, clean or not
	if x := w.exchange(); x.Class != ClassError || !strings.Contains(x.Err, "ClientHello did not come") {
		t.Errorf("%+v", x)
	}
}

// TestRedirectAsksTheKernel connects to a listener that nothing was redirected to.
func TestRedirectAsksTheKernel(t *testing.T) {
	w := newWorld(t, "presets: none\ndefault: tunnel", nil, nil)
	for _, mode := range []policy.ListenMode{policy.ListenRedirect, policy.ListenTProxy} {
		conn := dialAt(t, w.enter(Entrance{Mode: mode}))
		if answer, _ := io.ReadAll(conn); len(answer) > 0 {
			t.Errorf("%v: answered %q", mode, answer)
		}
		if x := w.exchange(); x.Class != ClassError {
			t.Errorf("%v: %+v", mode, x)
		}
	}
}

func TestStartsRequest(t *testing.T) {
	long := strings.Repeat("A", maxMethod)
	for _, c := range []struct {
		in        string
		is, clear bool
	}{
		{"", false, false},
		{"G", false, false},
		{"GET ", false, false},
		{"GET /", true, true},
		{"M-SEARCH *", true, true},
		{"PRI * HTTP/2.0\r\n", false, true},
		{"GET h", false, false},
		{"GET HTTP", true, true},
		{"GET http://a/", true, true},
		{"GET ftp://a/", false, true},
		{" /", false, true},
		{"SSH-2.0-OpenSSH_9.9 Debian", false, true},
		{"SSH-2.0-OpenSSH_9.9\r\n", false, true},
		{"EHLO host.test", false, true},
		{"\x00\x01", false, true},
		{long + " /", true, true},
		{long + "A", false, true},
		{"PROXY TCP4 192.0.2.1", false, true},
	} {
		if is, clear := startsRequest([]byte(c.in)); is != c.is || clear != c.clear {
			t.Errorf("%q: %v, %v, want %v, %v", c.in, is, clear, c.is, c.clear)
		}
	}
}

// FuzzStartsRequest wants more bytes to change nothing that was clear, and
// everything to be clear soon.
func FuzzStartsRequest(f *testing.F) {
	f.Add([]byte("GET /x HTTP/1.1\r\n"))
	f.Add([]byte("OPTIONS * HTTP/1.1\r\n"))
	f.Add([]byte("SSH-2.0-x y"))
	f.Fuzz(func(t *testing.T, b []byte) {
		is, clear := startsRequest(b)
		if !clear && len(b) > maxMethod+len(" http") {
			t.Fatalf("%q is not clear", b)
		}
		for n := range b {
			if i, c := startsRequest(b[:n]); c && (!clear || i != is) {
				t.Fatalf("%q: %v, then %v", b[:n], i, is)
			}
		}
	})
}

func TestServerName(t *testing.T) {
	for _, c := range []struct {
		in, want string
		bad      bool
	}{
		{"", "", false},
		{"a.test", "a.test", false},
		{"A.Test.", "a.test", false},
		{"192.0.2.1", "", false},
		{"2001:db8::1", "", false},
		{"0x7f.1", "", true},
		{"[::1]", "::1", false},
		{"a b", "", true},
		{"a.test\x00.b.test", "", true},
		{"*.test", "", true},
	} {
		got, err := serverName(clientHello{ServerName: c.in})
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%q: %q, %v", c.in, got, err)
		}
	}
}

// TestHelloWithTwoNames wants no name rather than one of two.
func TestHelloWithTwoNames(t *testing.T) {
	hello := helloOf(t, &tls.Config{ServerName: "a.test"})
	name := []byte("\x00\x09\x00\x00\x06b.test")
	two := withExtension(hello, 0, name)
	if kind, h := peekHello(two); kind != openingHello || h.ServerName != "" {
		t.Errorf("%d, %+v", kind, h)
	}
}
