package mitm

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/proxy"

	"larder/policy"
)

func TestReadSOCKS(t *testing.T) {
	const hello = "\x05\x01\x00"
	for _, c := range []struct {
		name, in, want string
		reply          int // -1: none
	}{
		{"a name", hello + "\x05\x01\x00\x03\x06a.Test\x01\xbb", "a.test:443", -1},
		{"an IPv4 address", hello + "\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50", "192.0.2.1:80", -1},
		{"an IPv6 address", hello + "\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\xbb", "[2001:db8::1]:443", -1},
		{"a mapped IPv4 address", hello + "\x05\x01\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01\x01\xbb", "192.0.2.1:443", -1},
		{"more methods", "\x05\x03\x02\x01\x00" + "\x05\x01\x00\x03\x01a\x00\x50", "a:80", -1},
		{"the longest name", hello + "\x05\x01\x00\x03\xff" + strings.Repeat("a", 255) + "\x01\xbb", "", socksFailed},
		{"no name", hello + "\x05\x01\x00\x03\x00\x01\xbb", "", socksFailed},
		{"a name in brackets", hello + "\x05\x01\x00\x03\x05[::1]\x01\xbb", "[::1]:443", -1},
		{"a name with NUL", hello + "\x05\x01\x00\x03\x03a\x00b\x01\xbb", "", socksFailed},
		{"a name with a port", hello + "\x05\x01\x00\x03\x04a:80\x01\xbb", "", socksFailed},
		{"port 0", hello + "\x05\x01\x00\x03\x01a\x00\x00", "", socksFailed},
		{"SOCKS4", "\x04\x01\x00\x50\xc0\x00\x02\x01\x00", "", 0},
		{"HTTP", "GET / HTTP/1.1\r\n\r\n", "", 0},
		{"only with a password", "\x05\x01\x02", "", 0},
		{"no method", "\x05\x00", "", 0},
		{"BIND", hello + "\x05\x02\x00\x03\x01a\x01\xbb", "", socksNoSuchCommand},
		{"UDP ASSOCIATE", hello + "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x01", "", socksNoSuchCommand},
		{"a reserved byte that is none", hello + "\x05\x01\x01\x03\x01a\x01\xbb", "", socksFailed},
		{"another version in the request", hello + "\x04\x01\x00\x03\x01a\x01\xbb", "", socksFailed},
		{"another kind of address", hello + "\x05\x01\x00\x02\x01a\x01\xbb", "", socksNoSuchAddress},
	} {
		rw := &halves{in: strings.NewReader(c.in + "rest")}
		a, err := readSOCKS(rw)
		if c.want != "" {
			rest, _ := io.ReadAll(rw.in)
			if err != nil || a.String() != c.want || string(rest) != "rest" {
				t.Errorf("%s: %v, %v, and leaves %q", c.name, a, err, rest)
			}
			continue
		}
		refused, ok := errors.AsType[*socksError](err)
		if !ok || int(refused.reply) != c.reply {
			t.Errorf("%s: %v %v, want reply %d", c.name, a, err, c.reply)
		}
	}
}

// halves reads from one thing and writes into another.
type halves struct {
	in  io.Reader
	out bytes.Buffer
}

func (h *halves) Read(p []byte) (int, error)  { return h.in.Read(p) }
func (h *halves) Write(p []byte) (int, error) { return h.out.Write(p) }

// FuzzReadSOCKS wants an authority that parses as itself, or an error.
func FuzzReadSOCKS(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x03\x06a.test\x01\xbb"))
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\xbb"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := readSOCKS(&halves{in: bytes.NewReader(b)})
		if err != nil {
			return
		}
		if again, err := parseAuthority(a.String(), 0); err != nil || again != a {
			t.Fatalf("%+v is read again as %+v, %v", a, again, err)
		}
	})
}

func TestSOCKS(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	say := func(what string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, what) }
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	w := newWorld(t, `
presets: none
rules:
  - { name: opened, hosts: [opened.test], action: pass }
  - { name: never, hosts: [denied.test], action: deny }
`, map[string]string{
		"opened.test:443": tlsOrigin(t, roots, false, say("opened"), "opened.test"),
		"closed.test:443": tlsOrigin(t, roots, false, say("closed"), "closed.test"),
		"gone.test:443":   gone.Addr().String(),
	}, roots)
	dialer, err := proxy.SOCKS5("tcp", w.enter(Entrance{Mode: policy.ListenSOCKS5}), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := w.client(false)
	tr := client.Transport.(*http.Transport)
	tr.Proxy, tr.DialContext = nil, dialer.(proxy.ContextDialer).DialContext
	tr.TLSClientConfig.RootCAs.AddCert(roots.cert)
	for _, c := range []struct{ host, want, fail string }{
		{"opened.test", "opened", ""},
		{"closed.test", "closed", ""},
		{"denied.test", "", "not allowed by ruleset"},
		{"gone.test", "", "connection refused"},
		{"10.1.2.3", "", "not allowed by ruleset"},
	} {
		res, err := client.Get("https://" + c.host + "/")
		if c.fail != "" {
			if err == nil || !strings.Contains(err.Error(), c.fail) {
				t.Errorf("%s: %v, want %q", c.host, err, c.fail)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.host, err)
			continue
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if string(body) != c.want {
			t.Errorf("%s says %q", c.host, body)
		}
	}
}
