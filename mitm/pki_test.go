package mitm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// pki makes certificates of every kind for one host.
type pki struct {
	t         *testing.T
	host      string
	root      *issued // trusted
	strangers *issued // not
	serial    int64
}

// issued is a certificate with its key and the way up to its root.
type issued struct {
	cert  *x509.Certificate
	key   crypto.Signer
	above [][]byte // without the root
}

func newPKI(t *testing.T) *pki {
	p := &pki{t: t, serial: 100}
	for name, into := range map[string]**issued{"trusted": &p.root, "strangers": &p.strangers} {
		a := newAuthorityKey(t, name)
		*into = &issued{cert: a.cert, key: a.key}
	}
	return p
}

// newKey makes a key, P-256 where nothing is asked for.
type newKey func(t *testing.T) crypto.Signer

func ecKey(curve elliptic.Curve) newKey {
	return func(t *testing.T) crypto.Signer {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
}

// rsaKey reads a key from testdata, since 8192 bits take seconds to make:
// openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:8192
func rsaKey(bits int) newKey {
	return func(t *testing.T) crypto.Signer {
		text, err := os.ReadFile(fmt.Sprintf("testdata/rsa%d.key", bits))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return key.(crypto.Signer)
	}
}

// issue signs a certificate for the host, or for an authority; changes may make it
// bad.
func (i *issued) issue(p *pki, authority bool, key newKey, changes ...func(*x509.Certificate)) *issued {
	p.t.Helper()
	if key == nil {
		key = ecKey(elliptic.P256())
	}
	p.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(p.serial), Subject: pkix.Name{CommonName: fmt.Sprintf("certificate %d", p.serial)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if authority {
		template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	} else {
		template.DNSNames, template.ExtKeyUsage = []string{p.host}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	for _, change := range changes {
		change(template)
	}
	made := &issued{key: key(p.t)}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, made.key.Public(), i.key)
	if err != nil {
		p.t.Fatal(err)
	}
	if made.cert, err = x509.ParseCertificate(der); err != nil {
		// What crypto/x509 does not read, a peer may send all the same.
		made.cert = &x509.Certificate{Raw: der, SerialNumber: template.SerialNumber}
	}
	made.above = slices.Clone(i.above)
	if i != p.root && i != p.strangers {
		made.above = append([][]byte{i.cert.Raw}, i.above...)
	}
	return made
}

func (p *pki) selfSigned(authority bool) *issued {
	alone := &issued{cert: &x509.Certificate{Subject: pkix.Name{CommonName: "alone"}}}
	alone.key = ecKey(elliptic.P256())(p.t)
	key := func(*testing.T) crypto.Signer { return alone.key }
	made := alone.issue(p, authority, key, func(c *x509.Certificate) {
		c.Subject, c.DNSNames = pkix.Name{CommonName: "alone"}, []string{p.host}
	})
	made.above = nil
	return made
}

// config is that of an origin with a certificate.
func (p *pki) config(leaf *issued, more ...[]byte) *tls.Config {
	chain := slices.Concat([][]byte{leaf.cert.Raw}, leaf.above, more)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: leaf.key}}}
}

type configOf = func(*pki) *tls.Config

// leaf is signed by the root.
func leaf(change func(*x509.Certificate)) configOf {
	return func(p *pki) *tls.Config { return p.config(p.root.issue(p, false, nil, change)) }
}

func leafKey(key newKey) configOf {
	return func(p *pki) *tls.Config { return p.config(p.root.issue(p, false, key)) }
}

// chain has an intermediate for each change, from the root down.
func chain(changes ...func(*x509.Certificate)) configOf {
	return func(p *pki) *tls.Config {
		by := p.root
		for _, change := range changes {
			by = by.issue(p, true, nil, change)
		}
		return p.config(by.issue(p, false, nil))
	}
}

// reversed sends the intermediates from the root down. The leaf comes first: what
// is first is the leaf.
func reversed(of configOf) configOf {
	return limit(of, func(c *tls.Config) { slices.Reverse(c.Certificates[0].Certificate[1:]) })
}

func limit(of configOf, change func(*tls.Config)) configOf {
	return func(p *pki) *tls.Config {
		c := of(p)
		change(c)
		return c
	}
}

// suite leaves an origin one cipher suite of TLS 1.2. HTTP/2 does without those of
// RFC 9113, Appendix A.
func suite(of configOf, id uint16) configOf {
	return limit(of, func(c *tls.Config) {
		c.MaxVersion, c.CipherSuites, c.NextProtos = tls.VersionTLS12, []uint16{id}, []string{"http/1.1"}
	})
}

// stapled comes with an OCSP response of the root's that holds until some time from
// now.
func stapled(change func(*x509.Certificate), status int, until time.Duration) configOf {
	return func(p *pki) *tls.Config {
		leaf := p.root.issue(p, false, nil, change)
		c := p.config(leaf)
		c.Certificates[0].OCSPStaple = p.staple(leaf, p.root, status, until)
		return c
	}
}

// stapledBy has the response signed by somebody else.
func stapledBy(change func(*x509.Certificate), status int, by func(p *pki, leaf *issued) *issued) configOf {
	return func(p *pki) *tls.Config {
		leaf := p.root.issue(p, false, nil, change)
		c := p.config(leaf)
		c.Certificates[0].OCSPStaple = p.staple(leaf, by(p, leaf), status, time.Hour)
		return c
	}
}

// delegate may sign OCSP responses for the root (RFC 6960, Section 4.2.2.2).
func delegate(p *pki, _ *issued) *issued {
	return p.root.issue(p, false, nil, func(c *x509.Certificate) {
		c.DNSNames, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	})
}

func (p *pki) staple(leaf, by *issued, status int, until time.Duration) []byte {
	p.t.Helper()
	answer := ocsp.Response{
		Status: status, SerialNumber: leaf.cert.SerialNumber,
		ThisUpdate: time.Now().Add(-2 * time.Hour), NextUpdate: time.Now().Add(until),
	}
	if status == ocsp.Revoked {
		answer.RevokedAt = time.Now().Add(-3 * time.Hour)
	}
	if by != p.root {
		answer.Certificate = by.cert
	}
	b, err := ocsp.CreateResponse(p.root.cert, by.cert, answer, by.key)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}
