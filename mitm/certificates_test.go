package mitm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestUpstreamCertificates: each row is an origin; a bad one gives a 502 that
// names the reason, to both kinds of request, and its body is never passed on.
func TestUpstreamCertificates(t *testing.T) {
	roots := newAuthorityKey(t, "trusted")
	strangers := newAuthorityKey(t, "strangers")
	expired := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	}
	for _, c := range []struct {
		name   string
		config func(t *testing.T) *tls.Config
		kind   string // Proxy-Status error; "" where it must work
		reason string
	}{
		{"good", leafConfig(roots, nil), "", ""},
		{"good, a thousand names", leafConfig(roots, func(c *x509.Certificate) {
			for i := range 1000 {
				c.DNSNames = append(c.DNSNames, fmt.Sprintf("n%d.test", i))
			}
		}), "", ""},
		{"good, wildcard", leafConfig(roots, func(c *x509.Certificate) { c.DNSNames = []string{"*.sub.test"} }), "", ""},
		{"good, RSA 2048", rsaConfig(roots, 2048), "", ""},
		{"good, with intermediate", intermediateConfig(roots, nil, true), "", ""},
		{"expired", leafConfig(roots, expired), "tls_certificate_error", "certificate expired on "},
		{"not yet valid", leafConfig(roots, func(c *x509.Certificate) {
			c.NotBefore = time.Now().Add(24 * time.Hour)
			c.NotAfter = time.Now().Add(48 * time.Hour)
		}), "tls_certificate_error", "not valid before "},
		{"wrong host", leafConfig(roots, func(c *x509.Certificate) { c.DNSNames = []string{"other.test"} }), "tls_certificate_error", "another name"},
		{"wildcard too deep", leafConfig(roots, func(c *x509.Certificate) { c.DNSNames = []string{"*.test"} }), "tls_certificate_error", "another name"},
		{"only a common name", leafConfig(roots, func(c *x509.Certificate) { c.DNSNames = nil; c.Subject = pkix.Name{CommonName: "a.sub.test"} }), "tls_certificate_error", "another name"},
		{"NUL in the name", leafConfig(roots, func(c *x509.Certificate) { c.DNSNames = []string{"a.sub.test\x00.evil.test"} }), "tls_certificate_error", "certificate"},
		{"unknown root", leafConfig(strangers, nil), "tls_certificate_error", "unknown authority"},
		{"self-signed", selfSigned, "tls_certificate_error", "self-signed"},
		{"for clients only", leafConfig(roots, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), "tls_certificate_error", "incompatible key usage"},
		{"RSA 1024", rsaConfig(roots, 1024), "tls_certificate_error", "RSA key below 2048 bits"},
		{"unknown critical extension", leafConfig(roots, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}), "tls_certificate_error", "critical extension"},
		{"incomplete chain", intermediateConfig(roots, nil, false), "tls_certificate_error", "unknown authority"},
		{"intermediate that is no authority", intermediateConfig(roots, func(c *x509.Certificate) { c.IsCA = false }, true), "tls_certificate_error", "certificate"},
		{"name constraint violated", intermediateConfig(roots, func(c *x509.Certificate) {
			c.PermittedDNSDomains = []string{"elsewhere.test"}
			c.PermittedDNSDomainsCritical = true
		}, true), "tls_certificate_error", "certificate"},
		{"TLS 1.1 at most", func(t *testing.T) *tls.Config {
			config := leafConfig(roots, nil)(t)
			config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			return config
		}, "tls_alert_received", "handshake"},
		{"wants a client certificate", func(t *testing.T) *tls.Config {
			config := leafConfig(roots, nil)(t)
			config.ClientAuth = tls.RequireAnyClientCert
			return config
		}, "tls_alert_received", "certificate required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := startOrigin(t, c.config(t), false, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the origin's") })
			const text = "presets: none\nrules:\n  - {name: r, hosts: [\"*.test\"], paths: [/cached], action: immutable}\n  - {name: p, hosts: [\"*.test\"], action: pass}\n"
			w := newWorld(t, text, map[string]string{"a.sub.test:443": addr}, roots)
			for _, path := range []string{"/cached", "/passed"} {
				res, body := get(t, w.client(false), "https://a.sub.test"+path)
				if c.kind == "" {
					if res.StatusCode != 200 || body != "the origin's" {
						t.Errorf("%s: got %s %q", path, res.Status, body)
					}
					continue
				}
				if res.StatusCode != 502 || !strings.Contains(res.Header.Get("Proxy-Status"), "larder;error="+c.kind+";") {
					t.Errorf("%s: got %s, Proxy-Status %q", path, res.Status, res.Header.Get("Proxy-Status"))
				}
				mustContain(t, path, body, "https://a.sub.test"+path, c.reason)
			}
		})
	}
}

func leafConfig(a *authorityKey, change func(*x509.Certificate)) func(*testing.T) *tls.Config {
	return func(t *testing.T) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{a.leaf(t, change, "a.sub.test")}}
	}
}

func rsaConfig(a *authorityKey, bits int) func(*testing.T) *tls.Config {
	return func(t *testing.T) *tls.Config {
		t.Setenv("GODEBUG", "rsa1024min=0")
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(3), DNSNames: []string{"a.sub.test"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
		der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	}
}

func intermediateConfig(a *authorityKey, change func(*x509.Certificate), send bool) func(*testing.T) *tls.Config {
	return func(t *testing.T) *tls.Config {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(4), Subject: pkix.Name{CommonName: "intermediate"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		if change != nil {
			change(template)
		}
		der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		leaf := (&authorityKey{cert, key}).leaf(t, nil, "a.sub.test")
		if !send {
			leaf.Certificate = leaf.Certificate[:1]
		}
		return &tls.Config{Certificates: []tls.Certificate{leaf}}
	}
}

func selfSigned(t *testing.T) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "a.sub.test"}, DNSNames: []string{"a.sub.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// TestUpstreamFailures is the same for what goes wrong besides certificates.
func TestUpstreamFailures(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := l.Addr().String()
	_ = l.Close()
	answer := func(s string) string {
		return tcpOrigin(t, func(c *net.TCPConn) {
			_, _ = readHeadOf(c)
			_, _ = io.WriteString(c, s)
		})
	}
	silent := tcpOrigin(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	w := newWorld(t, passEverything, map[string]string{
		"refused.test:80":   refused,
		"refused.test:443":  refused,
		"closes.test:80":    answer(""),
		"nothttp.test:80":   answer("SSH-2.0-x\r\n\r\n"),
		"badheader.test:80": answer("HTTP/1.1 200 OK\r\nbad header\r\n\r\n"),
		"huge.test:80":      answer("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n"),
		"silent.test:80":    silent,
		"silent.test:443":   silent,
		"plain.test:443":    answer("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"name.test:80":      "no-such-name.invalid:80",
	}, nil, func(_ *Options, u *UpstreamOptions) {
		u.ResponseHeaderTimeout = 100 * time.Millisecond
		u.HandshakeTimeout = 100 * time.Millisecond
		u.MaxHeaderBytes = 16 << 10
	})
	for _, c := range []struct {
		url    string
		status int
		kind   string
		label  string
	}{
		{"http://refused.test/", 502, "connection_refused", "refused"},
		{"https://refused.test/", 502, "connection_refused", "refused"},
		{"http://closes.test/", 502, "connection_terminated", "terminated"},
		{"http://nothttp.test/", 502, "http_protocol_error", "protocol"},
		{"http://badheader.test/", 502, "http_protocol_error", "protocol"},
		{"http://huge.test/", 502, "http_response_header_section_size", "response_header"},
		{"http://silent.test/", 504, "http_response_timeout", "response_timeout"},
		{"https://silent.test/", 504, "connection_timeout", "tls_timeout"},
		{"https://plain.test/", 502, "tls_protocol_error", "tls"},
		{"http://127.0.0.1:1/", 502, "destination_ip_prohibited", "address"},
		{"http://" + w.addr + "/", 502, "proxy_loop_detected", "loop"},
	} {
		res, body := get(t, w.client(false), c.url)
		if res.StatusCode != c.status || !strings.Contains(res.Header.Get("Proxy-Status"), "larder;error="+c.kind+";") {
			t.Errorf("%s: got %s, Proxy-Status %q", c.url, res.Status, res.Header.Get("Proxy-Status"))
		}
		mustContain(t, c.url, body, c.url)
		w.exchange()
	}
}

func readHeadOf(c net.Conn) (int, error) { return c.Read(make([]byte, 64<<10)) }
