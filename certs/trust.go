package certs

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Trust is what clients shall trust: larder's roots, and all roots together.
type Trust struct{ larder, all *rootSet }

// ReadTrust returns larder's roots, those in rootPEM, and the operating system's as
// they are now. What it returns does not change and is safe for concurrent use.
func ReadTrust(rootPEM []byte) (*Trust, error) {
	larder, all, err := collect(Files{}, rootPEM, nil)
	if err != nil {
		return nil, fmt.Errorf("collect trusted roots: %w", err)
	}
	if len(parse(larder)) != len(larder.ders) {
		return nil, errors.New("collect trusted roots: one of larder's own cannot be read")
	}
	return &Trust{larder, all}, nil
}

// CA returns larder's roots in PEM.
func (t *Trust) CA() []byte { return t.larder.pem() }

// Bundle returns all roots in PEM.
func (t *Trust) Bundle() []byte { return t.all.pem() }

// CAStore returns larder's roots as a PKCS #12 trust store; its password is that of
// Files.TrustStorePassword.
func (t *Trust) CAStore() ([]byte, error) { return encodeTrustStore(t.larder) }

// Store returns all roots as a PKCS #12 trust store.
func (t *Trust) Store() ([]byte, error) { return encodeTrustStore(t.all) }

// Roots returns larder's roots, in the order in which they came.
func (t *Trust) Roots() []*x509.Certificate { return parse(t.larder) }

// Fingerprint is the SHA-256 of a certificate in DER, as "openssl x509 -fingerprint"
// writes it: pairs of upper-case digits with colons.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(pairs, ":")
}

// ParseFingerprint reads a SHA-256 fingerprint as people copy it: with colons or
// without, in either case, perhaps with "SHA256:" or "sha256 Fingerprint=" before it.
func ParseFingerprint(s string) (sum [sha256.Size]byte, err error) {
	digits := strings.TrimSpace(strings.ToLower(s))
	for _, prefix := range []string{"sha256 fingerprint=", "sha256:", "sha-256:"} {
		digits = strings.TrimPrefix(digits, prefix)
	}
	b, err := hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
	if err != nil || len(b) != len(sum) {
		return sum, fmt.Errorf("%.100q is no SHA-256 fingerprint, which has 64 hexadecimal digits", s)
	}
	return [sha256.Size]byte(b), nil
}
