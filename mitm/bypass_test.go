package mitm

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"larder/policy"
)

const pinnedPolicy = `presets: none
rules:
  - { name: pinned, hosts: [pinned.test], action: pass, on_distrust: tunnel, distrust_after: 2 }
  - { name: no-put, hosts: [guarded.test], methods: [PUT], action: deny }
  - { name: guarded, hosts: [guarded.test], action: pass, on_distrust: tunnel, distrust_after: 2 }
  - { name: rest, hosts: ["*.test"], action: pass }
`

// pinWorld has origins that say who they are, and clients that have pinned them.
type pinWorld struct {
	*world
	told  *told
	log   syncBuffer
	roots *x509.CertPool
}

func newPinWorld(t *testing.T, policyText string, change ...func(*Options, *UpstreamOptions)) *pinWorld {
	t.Helper()
	w := &pinWorld{told: new(told), roots: x509.NewCertPool()}
	roots := newAuthorityKey(t, "origins")
	w.roots.AddCert(roots.cert)
	connectTo := map[string]string{}
	for _, name := range []string{"pinned.test", "guarded.test", "other.test"} {
		connectTo[name+":443"] = tlsOrigin(t, roots, false, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s says %s", name, r.URL.Path)
		}, name)
	}
	change = append(change, func(o *Options, _ *UpstreamOptions) {
		o.Distrust = w.told
		o.Logger = slog.New(slog.NewTextHandler(&w.log, nil))
	})
	w.world = newWorld(t, policyText, connectTo, roots, change...)
	return w
}

// ask has a client that trusts roots alone ask for a path of a host.
func (w *pinWorld) ask(host, serverName string, roots *x509.CertPool) (string, error) {
	w.t.Helper()
	c := w.dial()
	defer c.Close()
	w.connect(c, host+":443", 200)
	t := tls.Client(c, &tls.Config{ServerName: serverName, RootCAs: roots})
	if _, err := fmt.Fprintf(t, "GET /x HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host); err != nil {
		return "", err
	}
	b, err := io.ReadAll(t)
	return string(b), err
}

// wantPinned wants a pinned client to get through, or not, and the exchange of it.
func (w *pinWorld) wantPinned(host string, through bool) Exchange {
	w.t.Helper()
	body, err := w.ask(host, host, w.roots)
	if got := strings.HasSuffix(body, host+" says /x"); got != through || through != (err == nil) {
		w.t.Fatalf("%s: got %q, %v; want it to come through: %v", host, body, err, through)
	}
	return w.exchange()
}

func TestOnDistrustTunnelsAPinnedClient(t *testing.T) {
	w := newPinWorld(t, pinnedPolicy)
	w.wantPinned("pinned.test", false)
	w.wantPinned("pinned.test", false)
	for range 2 {
		x := w.wantPinned("pinned.test", true)
		if x.Class != ClassTunnel || x.Distrust != ReasonBadCertificate || x.Rule != "pinned" || x.URL != "pinned.test:443" {
			t.Errorf("exchange %+v", x)
		}
	}
	// Nothing of it is silent.
	mustContain(t, "log", w.log.String(), `level=WARN msg="client is tunnelled, since it refuses larder's certificate" client=127.0.0.1 host=pinned.test tool=go`, "refusals=2 ", "policy=pinned", "class=tunnel", "distrust=bad_certificate")
	if n := strings.Count(w.log.String(), "client is tunnelled"); n != 1 {
		t.Errorf("the log says %d times that a tunnel begins", n)
	}
	if n := testutil.ToFloat64(w.server.metrics.bypasses.WithLabelValues("pinned")); n != 2 {
		t.Errorf("counted %v times", n)
	}
	if d := w.told.tunnelled; len(d) != 1 || d[0].Host != "pinned.test" || d[0].By != "pinned" || time.Until(d[0].Until) < 59*time.Minute || d[0].Reason != ReasonBadCertificate {
		t.Errorf("told of %+v", d)
	}
	// Neither another host nor another client is tunnelled for it.
	w.wantPinned("other.test", false)
	body, err := w.ask("pinned.test", "pinned.test", w.larder)
	if err == nil || strings.Contains(body, "says") {
		t.Errorf("a client that trusts larder and is of the same shape: %q, %v; it was to be tunnelled as well", body, err)
	}
	w.exchange()
	c := w.client(false)
	c.Transport.(*http.Transport).TLSClientConfig.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	if res, body := get(t, c, "https://pinned.test/y"); res.StatusCode != 200 || body != "pinned.test says /y" {
		t.Errorf("a client of another shape: %s %q", res.Status, body)
	}
	if x := w.exchange(); x.Class != ClassPass {
		t.Errorf("a client of another shape is not opened: %+v", x)
	}
}

// TestOnDistrustIsNoWayRound refuses certificates where something inside is denied, or
// in order to have another host.
func TestOnDistrustIsNoWayRound(t *testing.T) {
	w := newPinWorld(t, pinnedPolicy)
	for range 5 {
		w.wantPinned("guarded.test", false)
	}
	w.wantPinned("pinned.test", false)
	w.wantPinned("pinned.test", false)
	if _, err := w.ask("pinned.test", "guarded.test", w.roots); err == nil {
		t.Error("another server name is tunnelled")
	}
	w.exchange()
	w.wantPinned("pinned.test", true)

	// A reload ends it for every connection that comes.
	w.server.SetPolicy(parsePolicy(t, strings.Replace(pinnedPolicy, "on_distrust: tunnel, distrust_after: 2 }\n  - { name: no-put", "on_distrust: refuse }\n  - { name: no-put", 1)))
	w.wantPinned("pinned.test", false)
	if len(w.told.tunnelled) != 1 {
		t.Errorf("told of %+v", w.told.tunnelled)
	}
}

func TestOnDistrustEndsWithTrust(t *testing.T) {
	w := newPinWorld(t, pinnedPolicy)
	w.wantPinned("pinned.test", false)
	// It is mended, as far as can be told.
	if body, err := w.ask("pinned.test", "pinned.test", w.larder); err != nil || !strings.Contains(body, "says /x") {
		t.Fatalf("%q, %v", body, err)
	}
	w.exchange()
	w.wantPinned("pinned.test", false)
	w.wantPinned("pinned.test", false)
	w.wantPinned("pinned.test", true)
}

func TestOfflineTunnelsNobody(t *testing.T) {
	w := newPinWorld(t, pinnedPolicy)
	w.server.options.Upstream.SetOffline(true)
	for range 4 {
		w.wantPinned("pinned.test", false)
	}
}

func TestOnDistrustOverSOCKSAndRedirected(t *testing.T) {
	w := newPinWorld(t, pinnedPolicy)
	w.wantPinned("pinned.test", false)
	w.wantPinned("pinned.test", false)
	w.addr = w.enter(Entrance{Mode: policy.ListenSOCKS5})
	c := w.dial()
	if _, err := c.Write(append([]byte{5, 1, 0, 5, 1, 0, 3, byte(len("pinned.test"))}, "pinned.test\x01\xbb"...)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 2+10)); err != nil {
		t.Fatal(err)
	}
	if err := tls.Client(c, &tls.Config{ServerName: "pinned.test", RootCAs: w.roots}).Handshake(); err != nil {
		t.Errorf("over SOCKS: %v", err)
	}
	_ = c.Close()
	w.exchange()

	// Where a redirected connection goes to an address that is not the host's, it is
	// opened, as if there were no tunnel.
	elsewhere := netip.MustParseAddrPort("192.0.2.1:443")
	w.addr = w.enter(Entrance{Mode: policy.ListenRedirect, destination: func(net.Conn) (netip.AddrPort, error) { return elsewhere, nil }})
	c = w.dial()
	if err := tls.Client(c, &tls.Config{ServerName: "pinned.test", RootCAs: w.roots}).Handshake(); err == nil {
		t.Error("a server name has a tunnel to any address")
	}
	_ = c.Close()
	if x := w.exchange(); x.Class == ClassTunnel {
		t.Errorf("exchange %+v", x)
	}
}

// TestTunnelsOfDistrustEnd goes through the time of one.
func TestTunnelsOfDistrustEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newMetrics(nil)
		if err != nil {
			t.Fatal(err)
		}
		g := newRegister(Options{Logger: slog.New(slog.DiscardHandler)}, m)
		p := party{who: who{addr: netip.MustParseAddr("10.0.3.7")}, host: "pinned.test"}
		refuse := func() {
			g.refused(p, Distrust{Time: time.Now(), Host: p.host, Reason: ReasonUnknownCA}, distrust, false)
		}
		tunnel := func(ttl time.Duration) (begins, tunnelled bool) {
			_, begins, tunnelled = g.tunnel(p, ttl, time.Now())
			return begins, tunnelled
		}
		if _, yes := tunnel(time.Hour); yes {
			t.Error("nothing was refused")
		}
		refuse()
		if begins, yes := tunnel(time.Hour); !begins || !yes {
			t.Error("it does not begin")
		}
		time.Sleep(time.Hour - time.Second)
		if begins, yes := tunnel(time.Hour); begins || !yes {
			t.Error("it ends early, or begins twice")
		}
		time.Sleep(time.Second)
		if _, yes := tunnel(time.Hour); yes {
			t.Error("it does not end")
		}
		// The next connection was opened, and refused again.
		refuse()
		if begins, yes := tunnel(time.Hour); !begins || !yes {
			t.Error("it does not begin again")
		}
		// A shorter time holds at once.
		if _, yes := tunnel(time.Minute); !yes {
			t.Error("it ends with a reload")
		}
		time.Sleep(time.Minute)
		if _, yes := tunnel(time.Minute); yes {
			t.Error("it lasts as long as the policy of before said")
		}
		if n, reason := g.refusals(p); n != 2 || reason != ReasonUnknownCA {
			t.Errorf("%d refusals, %s", n, reason)
		}
		time.Sleep(forgotten + time.Second)
		refuse()
		if n, _ := g.refusals(p); n != 1 {
			t.Errorf("%d refusals, with those of long ago", n)
		}
	})
}

// TestRegisterIsBounded has more clients refuse than are remembered.
func TestRegisterIsBounded(t *testing.T) {
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	g := newRegister(Options{Logger: slog.New(slog.DiscardHandler)}, m)
	for i := range 2 * maxParties {
		p := party{who: who{addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}, host: "a.test"}
		g.refused(p, Distrust{Time: time.Now(), Reason: ReasonUnknownCA}, distrust, false)
	}
	if len(g.parties.items) != maxParties || len(g.clients.items) != maxClients {
		t.Errorf("%d parties, %d clients", len(g.parties.items), len(g.clients.items))
	}
}

// TestLogOfDistrustIsBounded has many clients refuse at once.
func TestLogOfDistrustIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log syncBuffer
		m, err := newMetrics(nil)
		if err != nil {
			t.Fatal(err)
		}
		g := newRegister(Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, m)
		refuse := func(host string) {
			g.refused(party{host: host}, Distrust{Time: time.Now(), Host: host, Reason: ReasonUnknownCA}, distrust, false)
		}
		for i := range 10 * linesPerMinute {
			refuse(fmt.Sprintf("h%d.test", i))
		}
		if n := strings.Count(log.String(), "\n"); n != linesPerMinute {
			t.Errorf("%d lines", n)
		}
		refuse("h0.test")
		time.Sleep(sayEvery)
		refuse("h0.test")
		if n := strings.Count(log.String(), "\n"); n != linesPerMinute+1 || !strings.Contains(log.String(), "host=h0.test tool=\"\" basis=\"\" reason=unknown_ca refusals=2") {
			t.Errorf("%d lines, the last %s", n, log.String()[strings.LastIndex(strings.TrimSpace(log.String()), "\n")+1:])
		}
	})
}
