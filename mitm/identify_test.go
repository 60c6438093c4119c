package mitm

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"larder/policy"
)

// fakeAuthenticator knows users by the passwords "secret of USER".
type fakeAuthenticator struct {
	mu     sync.Mutex
	fields []string
}

type busyForTest struct{}

func (busyForTest) Error() string   { return "busy" }
func (busyForTest) Temporary() bool { return true }

func (f *fakeAuthenticator) Authenticate(_ context.Context, client netip.Addr, field string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fields = append(f.fields, field)
	text, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(field, "Basic "))
	user, password, _ := strings.Cut(string(text), ":")
	switch {
	case password == "busy":
		return "", busyForTest{}
	case err != nil || password != "secret of "+user || !client.IsLoopback():
		return "", errors.New("wrong credentials")
	}
	return user, nil
}

func (f *fakeAuthenticator) Challenges() []string {
	return []string{`Basic realm="larder"`, `Bearer realm="larder"`}
}

func credentialsOf(user string) string {
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":secret of "+user)) + "\r\n"
}

// ask sends one request on a connection and reads its answer.
func (w *world) ask(c io.ReadWriter, r *bufio.Reader, head string) *http.Response {
	w.t.Helper()
	if _, err := io.WriteString(c, head+"\r\n"); err != nil {
		w.t.Fatal(err)
	}
	method, _, _ := strings.Cut(head, " ")
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("%s: %v", head, err)
	}
	if method == "CONNECT" && res.StatusCode == 200 {
		return res
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	res.Body = io.NopCloser(strings.NewReader(string(body)))
	return res
}

const byUser = `
presets: none
default: deny
rules:
  - {name: bob-not-there, hosts: [a.test], users: [bob], paths: ["/private/**"], action: deny}
  - {name: people, hosts: [a.test], users: [alice, bob], action: immutable}
  - {name: guests, hosts: [b.test], users: ["*"], action: pass}
  - {name: anybody, hosts: [open.test], action: pass}
`

func TestProxyAuthentication(t *testing.T) {
	roots := newAuthorityKey(t, "public")
	var mu sync.Mutex
	var leaked []string
	origin := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		for name, values := range r.Header {
			if strings.HasPrefix(name, "Proxy-") || strings.Contains(strings.Join(values, ""), "c2VjcmV0") {
				leaked = append(leaked, name)
			}
		}
		_, _ = io.WriteString(w, "hello")
	}
	addr := plainOrigin(t, origin)
	secure := tlsOrigin(t, roots, false, origin, "a.test", "b.test", "open.test")
	var log strings.Builder
	known := &fakeAuthenticator{}
	w := newWorld(t, byUser, map[string]string{
		"a.test:80": addr, "b.test:80": addr, "open.test:80": addr,
		"a.test:443": secure, "b.test:443": secure, "open.test:443": secure,
	}, roots, func(o *Options, _ *UpstreamOptions) {
		o.Access = Access{Authenticator: known, Required: true}
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	get := func(host, path string) string {
		return fmt.Sprintf("GET http://%s%s HTTP/1.1\r\nHost: %s\r\n", host, path, host)
	}
	c := w.dial()
	r := bufio.NewReader(c)
	// On one connection, as a proxy before larder would: what one request may says
	// nothing of the next.
	for _, x := range []struct {
		name, head string
		status     int
		challenge  bool
		text       string
	}{
		{"no credentials", get("a.test", "/"), 407, true, "the request has none"},
		{"its own", get("a.test", "/") + credentialsOf("alice"), 200, false, "hello"},
		{"none after somebody's", get("a.test", "/"), 407, true, ""},
		{"somebody else's", get("a.test", "/") + credentialsOf("carol"), 403, false, "no rule of the policy allows it"},
		{"denied by name", get("a.test", "/private/x") + credentialsOf("bob"), 403, false, `denied by rule "bob-not-there"`},
		{"the same to another", get("a.test", "/private/x") + credentialsOf("alice"), 200, false, "hello"},
		{"any user", get("b.test", "/") + credentialsOf("carol"), 200, false, "hello"},
		{"wrong", get("open.test", "/") + "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("alice:hunter2")) + "\r\n", 407, true, "wrong credentials"},
		{"no time", get("open.test", "/") + "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("alice:busy")) + "\r\n", 503, false, "busy"},
		{"two", get("open.test", "/") + credentialsOf("alice") + credentialsOf("bob"), 400, false, "more than one"},
		{"none for anybody", get("open.test", "/"), 407, true, ""},
		{"CONNECT without", "CONNECT open.test:443 HTTP/1.1\r\nHost: open.test:443\r\n", 407, true, ""},
		{"CONNECT of somebody else", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n" + credentialsOf("carol"), 403, false, ""},
	} {
		res := w.ask(c, r, x.head)
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != x.status || !strings.Contains(string(body), x.text) || (len(res.Header["Proxy-Authenticate"]) == 2) != x.challenge {
			t.Errorf("%s: %s %v %s", x.name, res.Status, res.Header, body)
		}
		if e := <-w.exchanges; e.Status != x.status || (x.status == 407 || x.status == 403) != (e.Class == ClassDeny) {
			t.Errorf("%s: told as %+v", x.name, e)
		}
		if res.Close { // after a bad request
			c = w.dial()
			r = bufio.NewReader(c)
		}
	}
	// After a refusal the same connection can do better, and the user of CONNECT is that
	// of every request on the inside.
	if res := w.ask(c, r, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n"+credentialsOf("bob")); res.StatusCode != 200 {
		t.Fatalf("CONNECT: %s", res.Status)
	}
	inside := tls.Client(c, &tls.Config{RootCAs: w.larder, ServerName: "a.test"})
	ir := bufio.NewReader(inside)
	for path, want := range map[string]int{"/": 200, "/private/x": 403} {
		res := w.ask(inside, ir, "GET "+path+" HTTP/1.1\r\nHost: a.test\r\n"+credentialsOf("alice"))
		if e := <-w.exchanges; res.StatusCode != want || e.User != "bob" {
			t.Errorf("inside, %s: %s as %q", path, res.Status, e.User)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(leaked) > 0 {
		t.Errorf("the origin saw %q", leaked)
	}
	_ = w.server.Shutdown(t.Context())
	for _, secret := range []string{"hunter2", "aHVudGVyMg", "secret of", "c2VjcmV0"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %q:\n%s", secret, log.String())
		}
	}
	if !strings.Contains(log.String(), "user=alice") {
		t.Errorf("the log names no user:\n%s", log.String())
	}
}

func TestAccessThatIsNotRequired(t *testing.T) {
	addr := plainOrigin(t, func(http.ResponseWriter, *http.Request) {})
	w := newWorld(t, byUser, map[string]string{"a.test:80": addr, "open.test:80": addr}, nil, func(o *Options, _ *UpstreamOptions) {
		o.Access = Access{Authenticator: &fakeAuthenticator{}}
	})
	c := w.dial()
	r := bufio.NewReader(c)
	for head, want := range map[string]int{
		"GET http://open.test/ HTTP/1.1\r\nHost: open.test\r\n":                         200,
		"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n":                               403,
		"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n" + credentialsOf("alice"):      200,
		"GET http://open.test/ HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic x\r\n": 407,
	} {
		if res := w.ask(c, r, head); res.StatusCode != want {
			t.Errorf("%s: %s, want %d", head, res.Status, want)
		}
	}
	// As of a reload, for the next request.
	w.server.SetPolicyAndAccess(parsePolicy(t, byUser), Access{Authenticator: &fakeAuthenticator{}, Required: true})
	if res := w.ask(c, r, "GET http://open.test/ HTTP/1.1\r\nHost: open.test\r\n"); res.StatusCode != 407 {
		t.Errorf("once it is required: %s", res.Status)
	}
	w.server.SetPolicyAndAccess(parsePolicy(t, byUser), Access{Required: true, CertificateUser: func(*x509.Certificate) (string, error) { return "", nil }})
	if res := w.ask(c, r, "GET http://open.test/ HTTP/1.1\r\nHost: open.test\r\n"); res.StatusCode != 403 {
		t.Errorf("where only a certificate would do: %s", res.Status)
	}
}

// duringAuthentication does something while credentials are verified.
type duringAuthentication struct {
	fakeAuthenticator
	do func()
}

func (d *duringAuthentication) Authenticate(ctx context.Context, client netip.Addr, field string) (string, error) {
	d.do()
	return d.fakeAuthenticator.Authenticate(ctx, client, field)
}

// TestPolicyAndAccessAreReplacedInOneStep: whom the old credentials let in the old
// policy judges, also when both are replaced in between.
func TestPolicyAndAccessAreReplacedInOneStep(t *testing.T) {
	const denied = "presets: none\ndefault: deny\n"
	w := newWorld(t, denied, map[string]string{"a.test:80": plainOrigin(t, func(http.ResponseWriter, *http.Request) {})}, nil)
	after := Access{Authenticator: &fakeAuthenticator{}, Required: true}
	before := Access{Required: true, Authenticator: &duringAuthentication{do: func() {
		w.server.SetPolicyAndAccess(parsePolicy(t, denied), after)
	}}}
	for _, head := range []string{
		"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n",
		"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n",
	} {
		w.server.SetPolicyAndAccess(parsePolicy(t, byUser), before)
		for _, want := range []int{200, 403} {
			c := w.dial()
			if res := w.ask(c, bufio.NewReader(c), head+credentialsOf("alice")); res.StatusCode != want {
				t.Errorf("%q: %s, want %d", head, res.Status, want)
			}
		}
	}
	// The policy alone leaves the access as it is.
	w.server.SetPolicy(parsePolicy(t, byUser))
	c := w.dial()
	if res := w.ask(c, bufio.NewReader(c), "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n"); res.StatusCode != 407 {
		t.Errorf("after SetPolicy, without credentials: %s", res.Status)
	}
}

// TestCertificateNamesTheUserOfAConnection, unless a request brings credentials.
func TestCertificateNamesTheUserOfAConnection(t *testing.T) {
	s := &Server{}
	s.SetPolicyAndAccess(nil, Access{Required: true, Authenticator: &fakeAuthenticator{}, CertificateUser: func(c *x509.Certificate) (string, error) {
		if c.Subject.CommonName == "" {
			return "", errors.New("no name")
		}
		return c.Subject.CommonName, nil
	}})
	c := &clientConn{server: s, asker: policy.Client{Addr: netip.MustParseAddr("127.0.0.1")}}
	certificate := &x509.Certificate{}
	if err := c.certified(certificate); err == nil || c.asker.User != "" {
		t.Errorf("a certificate without a name: %v, %+v", err, c.asker)
	}
	certificate.Subject.CommonName = "node-7"
	if err := c.certified(certificate); err != nil || c.asker.User != "node-7" || !c.asker.Addr.IsLoopback() {
		t.Errorf("a certificate: %v, %+v", err, c.asker)
	}
	for field, want := range map[string]string{"": "node-7", strings.TrimSpace(strings.TrimPrefix(credentialsOf("alice"), "Proxy-Authorization:")): "alice"} {
		r := &http.Request{Header: http.Header{}}
		if field != "" {
			r.Header.Set("Proxy-Authorization", field)
		}
		x := s.begin(c, "GET", "")
		if err := s.rules.Load().access.identify(r, x); err != nil || x.who.User != want || x.User != want || len(r.Header) > 0 {
			t.Errorf("%q: %v, %+v", field, err, x.who)
		}
	}
}
