package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"time"

	"github.com/cloudflare/cfssl/config"
	"github.com/cloudflare/cfssl/csr"
	"github.com/cloudflare/cfssl/helpers"
	"github.com/cloudflare/cfssl/signer"
	"github.com/cloudflare/cfssl/signer/local"
)

// An issuer is an intermediate that signs leaves. It does not change.
type issuer struct {
	cert   *x509.Certificate
	signer *local.Signer
	bounds constraints
}

// due reports whether the intermediate is in the last third of its life.
func (i *issuer) due(now time.Time) bool {
	return now.After(i.cert.NotAfter.Add(-i.cert.NotAfter.Sub(i.cert.NotBefore) / 3))
}

// loadIssuer returns the intermediate of the folder, or fs.ErrNotExist.
func loadIssuer(f *folder, root *x509.Certificate) (*issuer, error) {
	remedy := fmt.Sprintf("remove it, larder then makes a new one from the root and clients notice nothing: rm -f %s %s", f.join("issuing.crt"), f.join("issuing.key"))
	p, err := f.load("issuing", remedy)
	if err != nil {
		return nil, err
	}
	path := f.join("issuing.crt")
	switch {
	case p.key == nil:
		return nil, &FileError{f.join("issuing.key"), "is missing, but its certificate is there", remedy, nil}
	case !p.cert.IsCA || p.cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, &FileError{path, "is no certificate of an authority", remedy, nil}
	case p.cert.CheckSignatureFrom(root) != nil:
		return nil, &FileError{path, "is not signed by root.crt", remedy, nil}
	}
	return newIssuer(p)
}

// newIssuer returns an intermediate that signs leaves with nothing in them but
// what larder puts there: of the request, only the public key counts.
func newIssuer(p pair) (*issuer, error) {
	policy := &config.Signing{Default: &config.SigningProfile{
		Usage:                       []string{"digital signature", "server auth"},
		Expiry:                      time.Hour, // each request says its own
		CSRWhitelist:                &config.CSRWhitelist{PublicKey: true, PublicKeyAlgorithm: true, SignatureAlgorithm: true},
		ClientProvidesSerialNumbers: true,
	}}
	s, err := local.NewSigner(p.key, p.cert, signer.DefaultSigAlgo(p.key), policy)
	if err != nil {
		return nil, fmt.Errorf("make a signer of leaves: %w", err)
	}
	return &issuer{p.cert, s, constraintsOf(p.cert)}, nil
}

// createIssuer makes an intermediate for the names wanted and puts it in the
// place of the folder's older one. It has a key of its own: what may be known
// of the older one's is worth nothing then.
func createIssuer(f *folder, root pair, wanted constraints) (*issuer, error) {
	if err := f.requireLock("make a new intermediate certificate"); err != nil {
		return nil, err
	}
	if root.key == nil {
		return nil, &FileError{
			f.join("root.key"), "is missing, and a new intermediate certificate is needed",
			"put root.key back for as long as it takes larder to start", nil,
		}
	}
	request := &csr.CertificateRequest{
		CN:         "larder issuing CA " + tag(),
		Names:      []csr.Name{{O: "larder"}},
		KeyRequest: &csr.KeyRequest{A: "ecdsa", S: 256},
	}
	csrPEM, keyPEM, err := csr.ParseRequest(request)
	if err != nil {
		return nil, fmt.Errorf("request an intermediate certificate: %w", err)
	}
	certPEM, err := signIntermediate(root, csrPEM, wanted)
	if err != nil {
		return nil, fmt.Errorf("sign an intermediate certificate: %w", err)
	}
	if err := f.store("issuing", certPEM, keyPEM); err != nil {
		return nil, err
	}
	cert, err := parseCertificate(certPEM)
	if err != nil {
		return nil, fmt.Errorf("parse the new intermediate certificate: %w", err)
	}
	key, err := helpers.ParsePrivateKeyPEM(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("parse the key of the new intermediate certificate: %w", err)
	}
	return newIssuer(pair{cert, key})
}

func signIntermediate(root pair, csrPEM []byte, wanted constraints) ([]byte, error) {
	extensions, err := wanted.extensions()
	if err != nil {
		return nil, err
	}
	policy := &config.Signing{Default: &config.SigningProfile{
		Usage:                       []string{"digital signature", "cert sign", "crl sign", "server auth"},
		Expiry:                      issuingLifetime,
		CAConstraint:                config.CAConstraint{IsCA: true, MaxPathLenZero: true},
		ExtensionWhitelist:          map[string]bool{nameConstraintsOID: true},
		ClientProvidesSerialNumbers: true,
	}}
	s, err := local.NewSigner(root.key, root.cert, signer.DefaultSigAlgo(root.key), policy)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return s.Sign(signer.SignRequest{
		Request:    string(csrPEM),
		Serial:     newSerial(),
		NotBefore:  now.Add(-caBackdate),
		NotAfter:   earlier(now.Add(issuingLifetime), root.cert.NotAfter),
		Extensions: extensions,
	})
}

// leaf signs a certificate for the name and the key of the request.
func (i *issuer) leaf(n hostName, csrPEM string, lifetime time.Duration) (*x509.Certificate, error) {
	now := time.Now()
	if !now.Before(i.cert.NotAfter) {
		return nil, errors.New("the intermediate certificate expired on " + i.cert.NotAfter.UTC().Format(time.DateOnly))
	}
	certPEM, err := i.signer.Sign(signer.SignRequest{
		Hosts:     []string{n.String()},
		Request:   csrPEM,
		Serial:    newSerial(),
		NotBefore: now.Add(-leafBackdate),
		NotAfter:  earlier(now.Add(lifetime), i.cert.NotAfter),
	})
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(certPEM)
	if block == nil {
		return nil, errors.New("the signer returned no certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

// leafRequest returns the one request that serves for every leaf.
func leafRequest(key crypto.Signer) (string, error) {
	csrPEM, err := csr.Generate(key, &csr.CertificateRequest{})
	return string(csrPEM), err
}

// newSerial returns 128 random bits, not all of them zero (RFC 5280,
// Section 4.1.2.2).
func newSerial() *big.Int {
	var b [16]byte
	for {
		rand.Read(b[:]) // never fails
		if n := new(big.Int).SetBytes(b[:]); n.Sign() > 0 {
			return n
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// isAbsent reports whether an error of load means that nothing is there.
func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
