package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func open(t testing.TB, o Options) *Authority {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "ca")
	}
	a, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func leaf(t testing.TB, a *Authority, name string) *tls.Certificate {
	t.Helper()
	cert, err := a.Leaf(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// forge signs a leaf with the intermediate whether it may or not.
func forge(t testing.TB, a *Authority, name string) *tls.Certificate {
	t.Helper()
	host, err := parseName(name)
	if err != nil {
		t.Fatal(err)
	}
	issuer := a.issuing.Load()
	cert, err := issuer.leaf(host, a.leafCSR, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw, issuer.cert.Raw}, PrivateKey: a.leafKey, Leaf: cert}
}

// verify checks the chain as a client that knows only the root does.
func verify(a *Authority, cert *tls.Certificate, name string) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(a.Root())
	issuing, err := x509.ParseCertificate(cert.Certificate[1])
	if err != nil {
		return err
	}
	intermediates.AddCert(issuing)
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	_, err = cert.Leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, DNSName: name, CurrentTime: time.Now(),
	})
	return err
}

func TestLeafVerifiesForTheNameAskedFor(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 62)+".", 3) + strings.Repeat("b", 52) + ".example.org"
	for _, permitted := range [][]string{nil, {"example.org", "xn--bcher-kva.example", "10.0.0.0/8", "2001:db8::/32"}} {
		a := open(t, Options{PermittedDNS: permitted})
		for _, name := range []string{
			"files.example.org", "example.org", "FILES.Example.org.", "a_b.example.org", "bücher.example", long,
			"10.1.2.3", "2001:db8::1",
		} {
			cert := leaf(t, a, name)
			host, _ := parseName(name)
			if err := verify(a, cert, host.String()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if sans := len(cert.Leaf.DNSNames) + len(cert.Leaf.IPAddresses); sans != 1 {
				t.Errorf("%s: %d names in the certificate", name, sans)
			}
		}
	}
}

func TestCertificatesHaveTheShapeThatStrictClientsDemand(t *testing.T) {
	a := open(t, Options{PermittedDNS: []string{"example.org"}, LeafLifetime: 48 * time.Hour})
	now := time.Now()
	root, issuing, leaf := a.Root(), a.Issuing(), leaf(t, a, "files.example.org").Leaf

	near := func(what string, got, want time.Time) {
		if d := got.Sub(want).Abs(); d > 2*time.Minute {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	near("end of root", root.NotAfter, now.Add(rootLifetime))
	near("begin of root", root.NotBefore, now.Add(-caBackdate))
	near("end of intermediate", issuing.NotAfter, now.Add(issuingLifetime))
	near("begin of intermediate", issuing.NotBefore, now.Add(-caBackdate))
	near("end of leaf", leaf.NotAfter, now.Add(48*time.Hour))
	near("begin of leaf", leaf.NotBefore, now.Add(-time.Hour))

	for name, cert := range map[string]*x509.Certificate{"root": root, "intermediate": issuing, "leaf": leaf} {
		if key, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
			t.Errorf("%s: key is %T, want ECDSA on P-256", name, cert.PublicKey)
		}
		if len(cert.SubjectKeyId) == 0 || (name != "root" && len(cert.AuthorityKeyId) == 0) {
			t.Errorf("%s: key identifiers %x, %x", name, cert.SubjectKeyId, cert.AuthorityKeyId)
		}
		if cert.SerialNumber.Sign() <= 0 || len(cert.SerialNumber.Bytes()) > 20 || cert.SerialNumber.BitLen() < 64 {
			t.Errorf("%s: serial number %v", name, cert.SerialNumber)
		}
		if !cert.BasicConstraintsValid || cert.IsCA != (name != "leaf") {
			t.Errorf("%s: basic constraints valid %v, CA %v", name, cert.BasicConstraintsValid, cert.IsCA)
		}
	}
	if !issuing.MaxPathLenZero || root.MaxPathLen >= 0 {
		t.Errorf("path lengths: root %d, intermediate zero %v", root.MaxPathLen, issuing.MaxPathLenZero)
	}
	if leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("key usage of leaf: %v", leaf.KeyUsage)
	}
	if d := cmp.Diff([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, leaf.ExtKeyUsage); d != "" {
		t.Errorf("extended key usage of leaf (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"files.example.org"}, leaf.DNSNames); d != "" || len(leaf.Subject.Names) != 0 {
		t.Errorf("names of leaf: subject %v, SAN (-want +got):\n%s", leaf.Subject, d)
	}
	if root.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("key usage of root: %v", root.KeyUsage)
	}
}

func TestHandshake(t *testing.T) {
	a := open(t, Options{PermittedDNS: []string{"example.org", "127.0.0.1"}})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.RootPEM())
	addr := serve(t, a)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, name := range []string{"files.example.org", "127.0.0.1"} {
			conn, err := tls.Dial("tcp", addr, &tls.Config{
				ServerName: name, RootCAs: roots, MinVersion: version, MaxVersion: version, NextProtos: []string{"h2"},
			})
			if err != nil {
				t.Errorf("%s, %s: %v", tls.VersionName(version), name, err)
				continue
			}
			if state := conn.ConnectionState(); len(state.PeerCertificates) != 2 || state.NegotiatedProtocol != "h2" {
				t.Errorf("%s: %d certificates sent, protocol %q", name, len(state.PeerCertificates), state.NegotiatedProtocol)
			}
			conn.Close()
		}
	}
}

// serve accepts TLS connections with leaves of a, whatever the constraints, and
// says one line on each.
func serve(t testing.TB, a *Authority) (addr string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			name := hello.ServerName
			if name == "" { // an address is never sent
				name = "127.0.0.1"
			}
			cert, err := a.Leaf(hello.Context(), name)
			if _, refused := errors.AsType[*NameError](err); refused {
				return forge(t, a, name), nil
			}
			return cert, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(time.Minute))
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
				var b [1024]byte
				conn.Read(b[:])
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().(*net.TCPAddr).String()
}

func TestOneSigningPerNameUnderConcurrency(t *testing.T) {
	a := open(t, Options{})
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range 1000 {
		wg.Go(func() {
			<-start
			name := fmt.Sprintf("host%d.example.org", i%10)
			cert, err := a.Leaf(t.Context(), name)
			if err != nil || cert.Leaf.DNSNames[0] != name {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	close(start)
	wg.Wait()
	if got := testutil.ToFloat64(a.metrics.minted); got != 10 {
		t.Errorf("1000 requests for 10 names cause %v signings", got)
	}
}

func TestLeafIsMintedAnewBeforeItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Options{LeafLifetime: 4 * time.Hour})
		first := leaf(t, a, "example.org")
		time.Sleep(3*time.Hour - time.Second)
		if leaf(t, a, "example.org") != first {
			t.Error("the leaf is minted anew with more than a quarter of its life left")
		}
		time.Sleep(2 * time.Second)
		second := leaf(t, a, "example.org")
		if second == first {
			t.Error("a leaf in the last quarter of its life is handed out")
		}
		if err := verify(a, second, "example.org"); err != nil {
			t.Error(err)
		}
	})
}

func TestLeafEndsNoLaterThanItsIssuer(t *testing.T) {
	a := open(t, Options{LeafLifetime: 2 * issuingLifetime})
	if got, limit := leaf(t, a, "example.org").Leaf.NotAfter, a.Issuing().NotAfter; got.After(limit) {
		t.Errorf("leaf ends at %v, its issuer at %v", got, limit)
	}
}

func TestLeafRefusesWhatNoCertificateCanCarry(t *testing.T) {
	a := open(t, Options{PermittedDNS: []string{"example.org"}})
	for name, want := range map[string]string{
		"*.example.org": "wildcards",
		"other.test":    "constrained",
		"192.0.2.7":     "constrained",
	} {
		_, err := a.Leaf(t.Context(), name)
		refusal, ok := errors.AsType[*NameError](err)
		if !ok || !strings.Contains(refusal.Reason, want) {
			t.Errorf("%s: %v, want a *NameError about %s", name, err, want)
		}
	}
	if got := testutil.ToFloat64(a.metrics.refused); got != 3 {
		t.Errorf("%v refusals counted, want 3", got)
	}
}

func TestLeafAfterTheEnd(t *testing.T) {
	a := open(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Leaf(ctx, "example.org"); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	a.Close()
	if _, err := a.Leaf(t.Context(), "example.org"); err == nil {
		t.Error("a closed authority signs")
	}
}

func TestFingerprintIsThatOfTheRoot(t *testing.T) {
	a := open(t, Options{})
	if got := a.Fingerprint(); len(got) != 32*3-1 || strings.ToUpper(got) != got {
		t.Errorf("Fingerprint() = %q", got)
	}
	again := open(t, Options{Dir: a.dir})
	if again.Fingerprint() != a.Fingerprint() || string(again.RootPEM()) != string(a.RootPEM()) {
		t.Error("a second Open finds another root")
	}
}

func TestOpenRefusesNegativeOptions(t *testing.T) {
	for _, o := range []Options{{LeafLifetime: -1}, {CacheSize: -1}, {NewNames: -1}} {
		o.Dir = filepath.Join(t.TempDir(), "ca")
		if _, err := Open(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	a := open(t, Options{Registerer: registry})
	leaf(t, a, "example.org")
	leaf(t, a, "example.org")
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	want := `
# HELP larder_ca_leaf_cache_hits_total Leaf certificates served from memory.
# TYPE larder_ca_leaf_cache_hits_total counter
larder_ca_leaf_cache_hits_total 1
# HELP larder_ca_leaves_minted_total Leaf certificates signed.
# TYPE larder_ca_leaves_minted_total counter
larder_ca_leaves_minted_total 1
`
	err = testutil.GatherAndCompare(registry, strings.NewReader(want), "larder_ca_leaf_cache_hits_total", "larder_ca_leaves_minted_total")
	if err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(registry, "larder_ca_not_after_timestamp_seconds"); n != 2 || err != nil {
		t.Errorf("%d series of not-after, %v", n, err)
	}
	a.Close()
	if n, err := testutil.GatherAndCount(registry); n != 0 || err != nil {
		t.Errorf("%d series after Close, %v", n, err)
	}
	open(t, Options{Registerer: registry, Dir: a.dir})
	if _, err := Open(Options{Registerer: registry, Dir: a.dir}); err == nil {
		t.Error("two authorities register with one registry")
	}
}

func BenchmarkLeafHot(b *testing.B) {
	a := open(b, Options{})
	for b.Loop() {
		if _, err := a.Leaf(b.Context(), "files.example.org"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLeafCold(b *testing.B) {
	a := open(b, Options{})
	i := 0
	for b.Loop() {
		i++
		if _, err := a.Leaf(b.Context(), fmt.Sprintf("host%d.example.org", i)); err != nil {
			b.Fatal(err)
		}
	}
}
