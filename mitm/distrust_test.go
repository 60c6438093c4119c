package mitm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// told keeps what a DistrustObserver is told.
type told struct {
	mu                            sync.Mutex
	distrusted, mended, tunnelled []Distrust
}

func (o *told) Tunnelled(d Distrust) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tunnelled = append(o.tunnelled, d)
}

func (o *told) Distrusted(d Distrust) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.distrusted = append(o.distrusted, d)
}

func (o *told) Trusted(d Distrust) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mended = append(o.mended, d)
}

func (o *told) all() (distrusted, mended []Distrust) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.distrusted), slices.Clone(o.mended)
}

// newDistrustWorld is a world that opens every *.test, with what it is told.
func newDistrustWorld(t testing.TB, change ...func(*Options, *UpstreamOptions)) (*world, *told) {
	t.Helper()
	o := new(told)
	change = append(change, func(options *Options, _ *UpstreamOptions) { options.Distrust = o })
	return newWorld(t, passEverything, nil, nil, change...), o
}

// refuse opens a connection to authority with a client that is not to come through,
// and waits for larder to have noticed.
func (w *world) refuse(authority, agent string, client func(net.Conn)) {
	w.t.Helper()
	c := w.dial()
	header := ""
	if agent != "" {
		header = "User-Agent: " + agent + "\r\n"
	}
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", authority, authority, header)
	res, err := http.ReadResponse(bufio.NewReaderSize(&oneByte{c}, 16), &http.Request{Method: "CONNECT"})
	if err != nil || res.StatusCode != 200 {
		w.t.Fatalf("CONNECT: %v %v", res, err)
	}
	client(c)
	_ = c.Close()
	w.settled()
}

// settled waits until larder has no connection open.
func (w *world) settled() {
	w.t.Helper()
	eventually(w.t, "all connections are closed", func() bool { return len(w.server.connections()) == 0 })
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// handshake is what a client does that wants to know whom it speaks with.
func handshake(config *tls.Config) func(net.Conn) {
	return func(c net.Conn) { _ = tls.Client(c, config).Handshake() }
}

// lookAndGo verifies once the handshake is over, and closes.
func lookAndGo(config *tls.Config) func(net.Conn) {
	return func(c net.Conn) {
		config = config.Clone()
		config.InsecureSkipVerify = true
		t := tls.Client(c, config)
		_ = t.Handshake()
		_ = t.Close()
	}
}

// hang closes as soon as the certificate has come, without a word.
func hang(config *tls.Config, reset bool) func(net.Conn) {
	return func(c net.Conn) {
		config := config.Clone()
		config.InsecureSkipVerify = true
		config.VerifyConnection = func(tls.ConnectionState) error {
			if reset {
				_ = c.(*net.TCPConn).SetLinger(0)
			}
			_ = c.Close()
			return errors.New("no")
		}
		_ = tls.Client(c, config).Handshake()
	}
}

// inClear answers the server's flight with an alert that is not encrypted, as
// OpenSSL's clients do in TLS 1.3.
func inClear(alert byte, before string) func(net.Conn) {
	return func(c net.Conn) {
		config := &tls.Config{ServerName: "a.test", InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error {
			_, _ = c.Write([]byte(before + "\x15\x03\x03\x00\x02\x02" + string(alert)))
			_, _ = io.Copy(io.Discard, c) // until it is understood, or crypto/tls's own alert would come too
			return errors.New("no")
		}}
		_ = tls.Client(c, config).Handshake()
	}
}

func TestDistrustOfRealTLSClients(t *testing.T) {
	strangers := x509.NewCertPool()
	base := &tls.Config{ServerName: "a.test", RootCAs: strangers}
	with := func(change func(*tls.Config)) *tls.Config {
		c := base.Clone()
		change(c)
		return c
	}
	expired := func(c *tls.Config) { c.Time = func() time.Time { return time.Now().Add(10 * 365 * 24 * time.Hour) } }
	for _, c := range []struct {
		name   string
		client func(net.Conn)
		times  int
		want   []string // reasons; what is not there is not distrust
	}{
		{"an unknown root, TLS 1.3", handshake(base), 1, []string{ReasonBadCertificate}},
		{"an unknown root, TLS 1.2", handshake(with(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })), 1, []string{ReasonBadCertificate}},
		{"an unknown root, over HTTP/2", handshake(with(func(c *tls.Config) { c.NextProtos = []string{"h2"} })), 1, []string{ReasonBadCertificate}},
		{"a hello in two flights", handshake(with(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP521, tls.CurveP256} })), 1, []string{ReasonBadCertificate}},
		{"a clock that is wrong", handshake(with(expired)), 1, []string{ReasonBadCertificate}},
		{"an alert in clear", inClear(48, ""), 1, []string{ReasonUnknownCA}},
		{"an alert in clear behind a ChangeCipherSpec", inClear(45, "\x14\x03\x03\x00\x01\x01"), 1, []string{ReasonCertificateExpired}},
		{"an alert that is of something else", inClear(40, ""), 1, nil},
		{"an alert that is of something else, twice", inClear(40, ""), 2, []string{ReasonAlert}},
		{"a word of farewell in clear", inClear(90, ""), 3, nil},
		{"gone with the certificate", hang(base, false), 1, nil},
		{"gone with the certificate, twice", hang(base, false), 2, []string{ReasonClosedAfterCertificate}},
		{"reset with the certificate, three times", hang(base, true), 3, []string{ReasonClosedAfterCertificate, ReasonClosedAfterCertificate}},
		{"verified late", lookAndGo(base), 1, nil},
		{"verified late, twice", lookAndGo(base), 2, []string{ReasonClosedAfterHandshake}},
		{"verified late over HTTP/2, twice", lookAndGo(with(func(c *tls.Config) { c.NextProtos = []string{"h2"} })), 2, []string{ReasonClosedAfterHandshake}},
		{"verified late over TLS 1.2, twice", lookAndGo(with(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })), 2, []string{ReasonClosedAfterHandshake}},
		{"no TLS that is spoken any more", handshake(with(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })), 1, []string{ReasonIncompatible}},
		{"no cipher in common", handshake(with(func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}
		})), 1, []string{ReasonIncompatible}},
		{"gone before a hello", func(net.Conn) {}, 3, nil},
		{"gone within a hello", func(c net.Conn) { _, _ = c.Write([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")) }, 3, nil},
		{"a hello that is none", func(c net.Conn) {
			_, _ = c.Write([]byte("\x16\x03\x01\x00\x04\x01\x00\x00\x00"))
			_, _ = io.Copy(io.Discard, c)
		}, 3, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, o := newDistrustWorld(t)
			for range c.times {
				w.refuse("a.test:443", "", c.client)
			}
			var got []string
			distrusted, mended := o.all()
			for _, d := range distrusted {
				got = append(got, d.Reason)
				if d.Host != "a.test" || d.Client.String() != "127.0.0.1" || d.Via != w.addr || d.Tool != "go" && d.Reason != ReasonIncompatible || d.Basis == "" || len(d.JA4) < 30 {
					t.Errorf("told of %+v", d)
				}
			}
			if !slices.Equal(got, c.want) || len(mended) > 0 {
				t.Errorf("told of %v, mended %v; want %v", got, mended, c.want)
			}
			if n := len(distrusted); n > 0 && c.times > n && distrusted[0].Count != 2 {
				t.Errorf("a suspicion that is confirmed counts %d", distrusted[0].Count)
			}
		})
	}
}

// TestDistrustIsToldOnce wants log, metric, exchange and observer to say the same, and
// the log no more than once.
func TestDistrustIsToldOnce(t *testing.T) {
	var log syncBuffer
	registry := prometheus.NewRegistry()
	w, o := newDistrustWorld(t, func(options *Options, _ *UpstreamOptions) {
		options.Logger = slog.New(slog.NewTextHandler(&log, nil))
		options.Registerer = registry
	})
	for range 3 {
		w.refuse("a.test:443", "uv/1.2 "+strings.Repeat("x", 500), handshake(&tls.Config{ServerName: "a.test", RootCAs: x509.NewCertPool()}))
		x := w.exchange()
		if x.Class != ClassError || x.Distrust != ReasonBadCertificate || x.Tool != "uv" || x.URL != "a.test:443" {
			t.Errorf("exchange %+v", x)
		}
		mustContain(t, "why it failed", x.Err, ReasonBadCertificate, "larder doctor")
	}
	if n := strings.Count(log.String(), "client does not trust larder"); n != 1 {
		t.Errorf("the log says it %d times:\n%s", n, log.String())
	}
	mustContain(t, "log", log.String(), "level=WARN msg=\"client does not trust larder\" client=127.0.0.1 host=a.test tool=uv", "reason=bad_certificate refusals=1", "ja4=t13d")
	if n := testutil.CollectAndCount(w.server.metrics.distrust); n != 1 {
		t.Errorf("%d series", n)
	}
	if n := testutil.ToFloat64(w.server.metrics.distrust.WithLabelValues(ReasonBadCertificate, "uv")); n != 3 {
		t.Errorf("counted %v times", n)
	}
	if d, _ := o.all(); len(d) != 3 || len(d[0].UserAgent) != maxAgent {
		t.Errorf("told of %+v", d)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestWhoTrustsLarderIsNotSuspected(t *testing.T) {
	origin := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }
	roots := newAuthorityKey(t, "origins")
	addr := tlsOrigin(t, roots, false, origin, "a.test", "b.test")
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2=%v", h2), func(t *testing.T) {
			o := new(told)
			w := newWorld(t, passEverything, map[string]string{"a.test:443": addr, "b.test:443": addr}, roots, func(options *Options, _ *UpstreamOptions) {
				options.Distrust = o
			})
			protocols := []string{"http/1.1"}
			if h2 {
				protocols = []string{"h2"}
			}
			config := &tls.Config{ServerName: "a.test", RootCAs: x509.NewCertPool(), NextProtos: protocols}
			use := func(name string) {
				t.Helper()
				c := w.client(h2)
				c.Transport.(*http.Transport).TLSClientConfig.NextProtos = protocols
				get(t, c, "https://"+name+"/")
				w.exchange()
				c.CloseIdleConnections()
				w.settled()
			}
			// A client that has just trusted larder goes for other reasons.
			use("a.test")
			for range 3 {
				w.refuse("a.test:443", "", lookAndGo(config))
				w.refuse("a.test:443", "", hang(config, false))
			}
			if d, m := o.all(); len(d)+len(m) > 0 {
				t.Fatalf("suspected: %+v %+v", d, m)
			}
			// One that says so does not trust it all the same, until it is mended.
			w.refuse("a.test:443", "", handshake(config))
			w.exchange()
			use("b.test")
			use("b.test")
			use("a.test")
			d, m := o.all()
			if len(d) != 1 || !d[0].Elsewhere.IsZero() {
				t.Errorf("distrusted: %+v", d)
			}
			if len(m) != 2 || m[0].Host != "b.test" || m[1].Host != "a.test" || m[0].Tool != "go" {
				t.Errorf("mended: %+v", m)
			}
			use("b.test")
			w.refuse("a.test:443", "", handshake(config))
			if d, _ := o.all(); len(d) != 2 || d[1].Elsewhere.IsZero() {
				t.Errorf("that it trusts larder for another host is not known: %+v", d)
			}
		})
	}
}

// TestNoAnswerToTheCertificate has a client that stays and says nothing.
func TestNoAnswerToTheCertificate(t *testing.T) {
	w, o := newDistrustWorld(t, func(options *Options, _ *UpstreamOptions) { options.HandshakeTimeout = 100 * time.Millisecond })
	for range 2 {
		w.refuse("a.test:443", "", func(c net.Conn) {
			_, _ = c.Write(helloOf(t, &tls.Config{ServerName: "a.test"}))
			_, _ = io.Copy(io.Discard, c)
		})
		w.exchange() // the connection is closed before it is judged
	}
	if d, _ := o.all(); len(d) != 1 || d[0].Reason != ReasonNoAnswer || d[0].Count != 2 {
		t.Errorf("told of %+v", d)
	}
}

// TestShutdownIsNobodysDistrust ends larder while clients have yet to say something.
func TestShutdownIsNobodysDistrust(t *testing.T) {
	w, o := newDistrustWorld(t)
	for _, protocol := range []string{"h2", "http/1.1"} {
		for range 3 {
			c := w.open("a.test:443", "a.test", protocol)
			defer c.Close()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_ = w.server.Shutdown(ctx) // it has to cut
	if d, m := o.all(); len(d)+len(m) > 0 {
		t.Errorf("told of %+v %+v", d, m)
	}
}

func TestRecentForgetsWhatWasUsedLeastLately(t *testing.T) {
	r := newRecent[string, int](2)
	*r.use("a") = 1
	*r.use("b") = 2
	if r.get("a") == nil {
		t.Fatal("a is gone")
	}
	*r.use("c") = 3
	if r.get("b") != nil || *r.get("a") != 1 || *r.get("c") != 3 || len(r.items) != 2 || r.order.Len() != 2 {
		t.Errorf("there are %v", r.items)
	}
}

func TestAlertInKnowsThemAll(t *testing.T) {
	for n := range 256 {
		err := &net.OpError{Op: "remote error", Err: tls.AlertError(n)}
		if got := alertIn(fmt.Errorf("read: %w", err)); got == nil || int(*got) != n {
			t.Fatalf("alert %d is %v", n, got)
		}
	}
	if alertIn(&net.OpError{Op: "local error", Err: tls.AlertError(48)}) != nil || alertIn(nil) != nil {
		t.Error("an alert that nobody sent")
	}
}

func FuzzOverheard(f *testing.F) {
	f.Add([]byte("\x15\x03\x03\x00\x02\x02\x30"), 3)
	f.Add([]byte("\x14\x03\x03\x00\x01\x01\x15\x03\x03\x00\x02\x02\x2a"), 6)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		var whole, pieces overheard
		whole.came(b)
		n := min(max(cut, 0), len(b))
		pieces.came(b[:n])
		pieces.came(b[n:])
		x, y := whole.alert(), pieces.alert()
		if (x == nil) != (y == nil) || x != nil && *x != *y {
			t.Fatal("it matters how the bytes come")
		}
		if x != nil && !bytes.Contains(b, []byte{0, 2}) {
			t.Fatal("an alert out of nothing")
		}
	})
}

// anyone is an Authenticator that takes a field for the name.
type anyone struct{}

func (anyone) Authenticate(_ context.Context, _ netip.Addr, field string) (string, error) {
	return field, nil
}

func (anyone) Challenges() []string { return []string{"Basic"} }

// ofRun is a listener of a run.
type ofRun struct {
	net.Listener
	id, command string
}

func (r ofRun) Run() (id, command string) { return r.id, r.command }

// TestDistrustIsOfAUserOrARun has two users, and two runs of one command, each with a
// client that goes without a word: what one does says nothing of the other.
func TestDistrustIsOfAUserOrARun(t *testing.T) {
	w, o := newDistrustWorld(t, func(options *Options, _ *UpstreamOptions) { options.Access = Access{Authenticator: anyone{}} })
	config := &tls.Config{ServerName: "a.test"}
	for _, user := range []string{"alice", "bob", "alice"} {
		w.refuse("a.test:443", "agent/1\r\nProxy-Authorization: "+user, lookAndGo(config))
	}
	d, _ := o.all()
	if len(d) != 1 || d[0].User != "alice" || d[0].Run != "" || d[0].UserAgent != "agent/1" {
		t.Fatalf("told of %+v", d)
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	var addrs []string
	for _, id := range []string{"one", "two"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, l.Addr().String())
		serving.Go(func() { _ = w.server.Serve(ofRun{l, id, "npm"}, nil) }) // ends with l
		defer l.Close()
	}
	for _, i := range []int{0, 1, 0} {
		w.addr = addrs[i]
		w.refuse("a.test:443", "", lookAndGo(config))
	}
	d, _ = o.all()
	if len(d) != 2 || d[1].User != "" || d[1].Run != "npm" || d[1].Via != addrs[0] {
		t.Errorf("told of %+v", d[1:])
	}
}
