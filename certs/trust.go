package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
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
