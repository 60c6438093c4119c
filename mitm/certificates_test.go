package mitm

import (
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"larder/cache"
	"larder/cache/store"
)

// certificateRow is an origin and what larder says of its certificate. Most are for
// a.sub.test; host is another name or address.
type certificateRow struct {
	name   string
	host   string
	config func(p *pki) *tls.Config
	kind   string // Proxy-Status error; "" where it must work
	reason string // in the body
}

// certificateTable: add a line for another way to be wrong, or right.
func certificateTable() []certificateRow {
	const bad, alert = "tls_certificate_error", "tls_alert_received"
	none := func(*x509.Certificate) {}
	names := func(list ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.DNSNames = list }
	}
	return []certificateRow{
		{"good", "", leaf(none), "", ""},
		{"good, no common name", "", leaf(func(c *x509.Certificate) { c.Subject = pkix.Name{} }), "", ""},
		{"good, a thousand names", "", leaf(func(c *x509.Certificate) {
			for i := range 1000 {
				c.DNSNames = append(c.DNSNames, fmt.Sprintf("n%d.test", i))
			}
		}), "", ""},
		{"good, wildcard", "", leaf(names("*.sub.test")), "", ""},
		{"good, a name with capitals", "", leaf(names("A.Sub.Test")), "", ""},
		{"good, internationalised name", "xn--bcher-kva.test", leaf(names("xn--bcher-kva.test")), "", ""},
		{"good, address", "192.0.2.7", leaf(func(c *x509.Certificate) {
			c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(192, 0, 2, 7)}
		}), "", ""},
		{"good, IPv6 address", "[2001:db8::7]", leaf(func(c *x509.Certificate) {
			c.DNSNames, c.IPAddresses = nil, []net.IP{net.ParseIP("2001:db8::7")}
		}), "", ""},
		{"good, P-384", "", leafKey(ecKey(elliptic.P384())), "", ""},
		{"good, P-521", "", leafKey(ecKey(elliptic.P521())), "", ""},
		{"good, RSA 2048", "", leafKey(rsaKey(2048)), "", ""},
		{"good, RSA 8192", "", leafKey(rsaKey(8192)), "", ""},
		{"good, intermediate", "", chain(none), "", ""},
		{"good, two intermediates", "", chain(none, none), "", ""},
		{"good, chain in reverse", "", reversed(chain(none, none, none)), "", ""},
		{"good, with a stranger in the chain", "", func(p *pki) *tls.Config {
			return p.config(p.root.issue(p, false, nil), p.strangers.cert.Raw)
		}, "", ""},
		{"good, path length kept", "", chain(func(c *x509.Certificate) { c.MaxPathLenZero = true }), "", ""},
		{"good, name constraint kept", "", chain(func(c *x509.Certificate) {
			c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"sub.test"}, true
		}), "", ""},
		{"good, TLS 1.2", "", limit(leaf(none), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), "", ""},
		{"good, CBC with forward secrecy", "", suite(leafKey(rsaKey(2048)), tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA), "", ""},
		{"good, stapled", "", stapled(none, ocsp.Good, time.Hour), "", ""},
		{"good, stapled by a delegate", "", stapledBy(none, ocsp.Good, delegate), "", ""},
		{"good, staple wanted and there", "", stapled(wantsStaple, ocsp.Good, time.Hour), "", ""},
		{"good, staple of another time, not wanted", "", stapled(none, ocsp.Good, -time.Hour), "", ""},
		{"good, staple of no worth, not wanted", "", limit(leaf(none), func(c *tls.Config) { c.Certificates[0].OCSPStaple = []byte("?") }), "", ""},

		{"expired", "", leaf(expired), bad, "certificate expired on "},
		{"not yet valid", "", leaf(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour)
		}), bad, "not valid before "},
		{"wrong host", "", leaf(names("other.test")), bad, "another name"},
		{"wildcard too deep", "b.a.sub.test", leaf(names("*.sub.test")), bad, "another name"},
		{"wildcard over a whole domain", "", leaf(names("*.test")), bad, "another name"},
		{"wildcard over everything", "", leaf(names("*")), bad, "another name"},
		{"wildcard for its own domain", "sub.test", leaf(names("*.sub.test")), bad, "another name"},
		{"wildcard in the middle", "", leaf(names("a.*.test")), bad, "another name"},
		{"wildcard in a part of a label", "", leaf(names("a*.sub.test")), bad, "another name"},
		{"only a common name", "", leaf(func(c *x509.Certificate) {
			c.DNSNames, c.Subject = nil, pkix.Name{CommonName: "a.sub.test"}
		}), bad, "another name"},
		{"no name at all", "", leaf(func(c *x509.Certificate) { c.DNSNames = nil }), bad, "another name"},
		{"an address as a name", "192.0.2.7", leaf(names("192.0.2.7")), bad, "another name"},
		{"another address", "192.0.2.7", leaf(func(c *x509.Certificate) {
			c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(192, 0, 2, 8)}
		}), bad, "another name"},
		{"NUL in the name", "", leaf(names("a.sub.test\x00.evil.test")), bad, "another name"},
		{"unknown root", "", func(p *pki) *tls.Config { return p.config(p.strangers.issue(p, false, nil)) }, bad, "unknown authority"},
		{"self-signed", "", func(p *pki) *tls.Config { return p.config(p.selfSigned(false)) }, bad, "self-signed"},
		{"self-signed authority", "", func(p *pki) *tls.Config { return p.config(p.selfSigned(true)) }, bad, "unknown authority"},
		{"incomplete chain", "", limit(chain(none), func(c *tls.Config) {
			c.Certificates[0].Certificate = c.Certificates[0].Certificate[:1]
		}), bad, "unknown authority"},
		{"SHA-1 leaf", "", leaf(sha1Signed), bad, "signed with ECDSA-SHA1"},
		{"SHA-1 intermediate", "", chain(sha1Signed), bad, "signed with ECDSA-SHA1"},
		{"RSA 1024", "", leafKey(rsaKey(1024)), bad, "RSA key below 2048 bits"},
		{"RSA 1024 intermediate", "", func(p *pki) *tls.Config {
			return p.config(p.root.issue(p, true, rsaKey(1024)).issue(p, false, nil))
		}, bad, "RSA key below 2048 bits"},
		{"P-224", "", limit(leafKey(ecKey(elliptic.P224())), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), bad, "P-224"},
		{"P-224 intermediate", "", func(p *pki) *tls.Config {
			return p.config(p.root.issue(p, true, ecKey(elliptic.P224())).issue(p, false, nil))
		}, bad, "P-224"},
		{"unknown critical extension", "", leaf(unknownCritical), bad, "critical extension"},
		{"unknown critical extension in the intermediate", "", chain(unknownCritical), bad, "certificate"},
		{"intermediate that is no authority", "", chain(func(c *x509.Certificate) { c.IsCA = false }), bad, "certificate"},
		{"intermediate that may not sign", "", chain(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), bad, "certificate"},
		{"intermediate that is expired", "", chain(expired), bad, "expired"},
		{"intermediate for clients only", "", chain(clientsOnly), bad, "incompatible key usage"},
		{"path length exceeded", "", chain(func(c *x509.Certificate) { c.MaxPathLenZero = true }, none), bad, "path length"},
		{"name constraint violated", "", chain(func(c *x509.Certificate) {
			c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"elsewhere.test"}, true
		}), bad, "not permitted"},
		{"name excluded", "", chain(func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"sub.test"} }), bad, "excluded"},
		{"for clients only", "", leaf(clientsOnly), bad, "incompatible key usage"},
		{"revoked", "", stapled(none, ocsp.Revoked, time.Hour), bad, "was revoked on "},
		{"revoked, by a delegate", "", stapledBy(none, ocsp.Revoked, delegate), bad, "was revoked on "},
		{"revoked, said long ago", "", stapled(none, ocsp.Revoked, -time.Hour), bad, "was revoked on "},
		{"staple wanted and missing", "", leaf(wantsStaple), bad, "must come with a valid OCSP response"},
		{"staple wanted and of no worth", "", limit(leaf(wantsStaple), func(c *tls.Config) { c.Certificates[0].OCSPStaple = []byte("?") }), bad, "must come with a valid OCSP response"},
		{"staple wanted and of another time", "", stapled(wantsStaple, ocsp.Good, -time.Hour), bad, "must come with a current OCSP response"},
		{"staple wanted and the issuer knows nothing", "", stapled(wantsStaple, ocsp.Unknown, time.Hour), bad, "must come with a good OCSP response"},
		{"staple wanted and signed by a stranger", "", stapledBy(wantsStaple, ocsp.Good, func(p *pki, _ *issued) *issued { return p.strangers }), bad, "must come with a valid OCSP response"},
		{"staple wanted and signed by the leaf", "", stapledBy(wantsStaple, ocsp.Good, func(_ *pki, leaf *issued) *issued { return leaf }), bad, "must come with a valid OCSP response"},
		{"TLS 1.0 at most", "", limit(leaf(none), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 }), alert, "protocol version"},
		{"TLS 1.1 at most", "", limit(leaf(none), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), alert, "protocol version"},
		{"RC4 only", "", suite(leafKey(rsaKey(2048)), tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA), alert, "handshake failure"},
		{"3DES only", "", suite(leafKey(rsaKey(2048)), tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA), alert, "handshake failure"},
		{"CBC with SHA-256 only", "", suite(leafKey(rsaKey(2048)), tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256), alert, "handshake failure"},
		{"CBC without forward secrecy only", "", suite(leafKey(rsaKey(2048)), tls.TLS_RSA_WITH_AES_128_CBC_SHA), alert, "handshake failure"},
		{"GCM without forward secrecy only", "", suite(leafKey(rsaKey(2048)), tls.TLS_RSA_WITH_AES_256_GCM_SHA384), alert, "handshake failure"},
		{"CBC with ECDSA only", "", suite(leaf(none), tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA), alert, "handshake failure"},
		{"wants a client certificate", "", limit(leaf(none), func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }), alert, "wants a client certificate"},
	}
}

// TestUpstreamCertificates: a bad certificate gives a 502 that names the reason, over
// HTTP/1.1 and HTTP/2, to what is passed and to what would have been stored, and the
// origin's answer never gets through. Good ones work.
func TestUpstreamCertificates(t *testing.T) {
	p := newPKI(t)
	table := certificateTable()
	connectTo := map[string]string{}
	var targets []string
	for i, c := range table {
		p.t, p.host = t, c.host
		if c.host == "" {
			p.host = "a.sub.test"
		}
		target := fmt.Sprintf("%s:%d", p.host, 10000+i)
		targets = append(targets, target)
		connectTo[target] = startOrigin(t, c.config(p), true, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			fmt.Fprint(w, "the origin's")
		})
	}
	const text = "presets: none\nrules:\n  - {name: r, hosts: [\"*\"], paths: [\"/cached/*\"], action: immutable}\n  - {name: p, hosts: [\"*\"], action: pass}\n"
	var w *world
	fills := realCache(t, func(r *http.Request) (*http.Response, error) { return w.cache.upstream.RoundTrip(r) })
	w = newWorld(t, text, connectTo, &authorityKey{cert: p.root.cert}, func(o *Options, u *UpstreamOptions) {
		o.Cache = fills
		u.AllowAddresses = append(u.AllowAddresses, netip.MustParsePrefix("127.0.0.1/32"))
	})
	clients := map[string]*http.Client{"h1": w.client(false), "h2": w.client(true)}
	for i, c := range table {
		t.Run(c.name, func(t *testing.T) {
			for version, client := range clients {
				for _, path := range []string{"/cached/" + version, "/passed"} {
					res, body := get(t, client, "https://"+targets[i]+path)
					c.check(t, version+" "+path, res, body)
				}
			}
		})
	}
}

func (c certificateRow) check(t *testing.T, what string, res *http.Response, body string) {
	t.Helper()
	if c.kind == "" {
		if res.StatusCode != 200 || body != "the origin's" {
			t.Errorf("%s: got %s %q", what, res.Status, body)
		}
		return
	}
	if res.StatusCode != 502 || !strings.HasPrefix(res.Header.Get("Proxy-Status"), "larder;error="+c.kind) {
		t.Errorf("%s: got %s, Proxy-Status %q", what, res.Status, res.Header.Get("Proxy-Status"))
	}
	mustContain(t, what, body, res.Request.URL.String(), c.reason)
	if strings.Contains(body, "the origin's") {
		t.Errorf("%s: what the origin said got through: %q", what, body)
	}
}

// realCache is a cache that stores.
func realCache(t *testing.T, upstream func(*http.Request) (*http.Response, error)) *cache.Cache {
	t.Helper()
	s, err := store.Open(store.Options{Dir: filepath.Join(t.TempDir(), "store"), MaxSize: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	c, err := cache.New(cache.Options{Store: s, Upstream: roundTripper(upstream)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
}

func clientsOnly(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }

func sha1Signed(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA1 }

func unknownCritical(c *x509.Certificate) {
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
}

// wantsStaple adds the TLS feature status_request (RFC 7633).
func wantsStaple(c *x509.Certificate) {
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{
		Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5},
	})
}
