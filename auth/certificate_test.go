package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"strings"
	"testing"
)

func TestCertificateUser(t *testing.T) {
	spiffe := &url.URL{Scheme: "spiffe", Host: "corp.test", Path: "/ci"}
	for _, c := range []struct {
		name, kind, user string
		certificate      x509.Certificate
	}{
		{"common name", CommonName, "build-7", x509.Certificate{Subject: pkix.Name{CommonName: "build-7"}}},
		{"no common name", CommonName, "", x509.Certificate{DNSNames: []string{"build-7"}}},
		{"everybody", CommonName, "", x509.Certificate{Subject: pkix.Name{CommonName: "*"}}},
		{"two lines", CommonName, "", x509.Certificate{Subject: pkix.Name{CommonName: "a\nb"}}},
		{"long", CommonName, "", x509.Certificate{Subject: pkix.Name{CommonName: strings.Repeat("a", 256)}}},
		{"host", DNSName, "node.corp.test", x509.Certificate{DNSNames: []string{"node.corp.test"}}},
		{"two hosts", DNSName, "", x509.Certificate{DNSNames: []string{"a.corp.test", "b.corp.test"}}},
		{"address", Email, "a@corp.test", x509.Certificate{EmailAddresses: []string{"a@corp.test"}}},
		{"SPIFFE ID", URI, "spiffe://corp.test/ci", x509.Certificate{URIs: []*url.URL{spiffe}}},
		{"no SPIFFE ID", URI, "", x509.Certificate{Subject: pkix.Name{CommonName: "ci"}}},
		{"no kind", "", "", x509.Certificate{Subject: pkix.Name{CommonName: "ci"}}},
	} {
		user, err := CertificateUser(&c.certificate, c.kind)
		if user != c.user || (err == nil) != (c.user != "") {
			t.Errorf("%s: %q, %v", c.name, user, err)
		}
	}
}
