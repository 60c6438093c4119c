package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"slices"
	"time"

	"github.com/cloudflare/cfssl/config"
	"github.com/cloudflare/cfssl/csr"
	"github.com/cloudflare/cfssl/signer"
	"github.com/cloudflare/cfssl/signer/local"
)

// An issuer is an intermediate that signs leaves. It does not change.
type issuer struct {
	cert   *x509.Certificate
	signer *local.Signer
	bounds constraints

	// chain is sent behind a leaf: the intermediate, and what clients need to
	// get from it to a root of theirs.
	chain []*x509.Certificate
	// roots are what clients are to trust, the one that signs at present first.
	roots []*x509.Certificate
	// outdated: an older root signed it.
	outdated bool
}

// due reports whether the intermediate is in the last third of its life, or
// that of an older root.
func (i *issuer) due(now time.Time) bool {
	return i.outdated || now.After(i.cert.NotAfter.Add(-i.cert.NotAfter.Sub(i.cert.NotBefore)/3))
}

// sends reports whether clients of both get the same roots and the same
// certificates above the intermediate.
func (i *issuer) sends(o *issuer) bool {
	same := func(a, b *x509.Certificate) bool { return a.Equal(b) }
	return slices.EqualFunc(i.roots, o.roots, same) && slices.EqualFunc(i.chain[1:], o.chain[1:], same)
}

// loadIssuer returns the intermediate of the folder, or fs.ErrNotExist.
func loadIssuer(f *folder, r roots) (*issuer, error) {
	remedy := fmt.Sprintf("remove it, larder then makes a new one from the root and clients notice nothing: rm -f %s %s", f.join("issuing.crt"), f.join("issuing.key"))
	p, err := f.load("issuing", remedy)
	if err != nil {
		return nil, err
	}
	path := f.join("issuing.crt")
	outdated := r.old != nil && p.cert.CheckSignatureFrom(r.old) == nil
	switch {
	case p.key == nil:
		return nil, &FileError{f.join("issuing.key"), "is missing, but its certificate is there", remedy, nil}
	case !p.cert.IsCA || p.cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, &FileError{path, "is no certificate of an authority", remedy, nil}
	case p.cert.CheckSignatureFrom(r.current.cert) != nil && !outdated:
		return nil, &FileError{path, "is not signed by root.crt", remedy, nil}
	}
	return newIssuer(p, r, outdated)
}

// newIssuer returns the intermediate of an authority that has its root.
func newIssuer(p pair, r roots, outdated bool) (*issuer, error) {
	chain := []*x509.Certificate{p.cert}
	if r.cross != nil && !outdated {
		chain = append(chain, r.cross)
	}
	s, err := leafSigner(p)
	if err != nil {
		return nil, err
	}
	return &issuer{p.cert, s, constraintsOf(p.cert), chain, r.anchors(), outdated}, nil
}

// leafSigner signs leaves with nothing in them but what larder puts there: of
// the request, only the public key counts.
func leafSigner(p pair) (*local.Signer, error) {
	policy := &config.Signing{Default: &config.SigningProfile{
		Usage:                       []string{"digital signature", "server auth"},
		Expiry:                      time.Hour, // each request says its own
		CSRWhitelist:                publicKeyOnly(),
		ClientProvidesSerialNumbers: true,
	}}
	s, err := local.NewSigner(p.key, p.cert, signer.DefaultSigAlgo(p.key), policy)
	if err != nil {
		return nil, fmt.Errorf("make a signer of leaves: %w", err)
	}
	return s, nil
}

// publicKeyOnly keeps cfssl from copying anything else out of a request.
func publicKeyOnly() *config.CSRWhitelist {
	return &config.CSRWhitelist{PublicKey: true, PublicKeyAlgorithm: true, SignatureAlgorithm: true}
}

// createIssuer makes an intermediate for the names wanted and puts it in the
// place of the folder's older one. It has a key of its own: what may be known
// of the older one's is worth nothing then.
func createIssuer(f *folder, r roots, wanted constraints) (*issuer, error) {
	if err := f.requireLock("make a new intermediate certificate"); err != nil {
		return nil, err
	}
	root, err := f.unseal(r.current, "root.key")
	if err != nil {
		return nil, err
	}
	if root.key == nil {
		return nil, f.keyAbsent("a new intermediate certificate is needed")
	}
	request, keyPEM, err := newRequest(nil)
	if err != nil {
		return nil, err
	}
	cert, err := f.signIntermediate(root, request, "", wanted)
	if err != nil {
		return nil, err
	}
	certPEM := encodeCertificates(cert)
	p, err := parsePair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("parse the new intermediate certificate: %w", err)
	}
	if err := f.store("issuing", certPEM, keyPEM); err != nil {
		return nil, err
	}
	return newIssuer(p, r, false)
}

// keyAbsent says what needs the root key that is not there.
func (f *folder) keyAbsent(need string) error {
	return &FileError{
		f.join("root.key"), "is missing, and " + need,
		"put root.key back for as long as it takes; or have the certificate signed where the key is: larder ca init --csr", nil,
	}
}

// newRequest makes a key and a request for an intermediate, which asks for the
// extensions.
func newRequest(extensions []pkix.Extension) (csrPEM, keyPEM []byte, err error) {
	csrPEM, keyPEM, err = csr.ParseRequest(&csr.CertificateRequest{
		CN:         "larder issuing CA",
		Names:      []csr.Name{{O: "larder"}},
		KeyRequest: &csr.KeyRequest{A: "ecdsa", S: 256},
		Extensions: extensions,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("request an intermediate certificate: %w", err)
	}
	return csrPEM, keyPEM, nil
}

// signIntermediate signs an intermediate for a node ("" is this larder), with
// the names wanted and no others, and writes it into the log.
func (f *folder) signIntermediate(root pair, csrPEM []byte, node string, wanted constraints) (*x509.Certificate, error) {
	certPEM, err := signIntermediate(root, csrPEM, node, wanted)
	if err != nil {
		return nil, fmt.Errorf("sign an intermediate certificate: %w", err)
	}
	cert, err := parseCertificate(certPEM)
	if err != nil {
		return nil, fmt.Errorf("parse the new intermediate certificate: %w", err)
	}
	return cert, f.record(KindIntermediate, node, cert)
}

func signIntermediate(root pair, csrPEM []byte, node string, wanted constraints) ([]byte, error) {
	extensions, err := wanted.extensions()
	if err != nil {
		return nil, err
	}
	policy := &config.Signing{Default: &config.SigningProfile{
		Usage:                       []string{"digital signature", "cert sign", "crl sign", "server auth"},
		Expiry:                      issuingLifetime,
		CAConstraint:                config.CAConstraint{IsCA: true, MaxPathLenZero: true},
		CSRWhitelist:                publicKeyOnly(),
		ExtensionWhitelist:          map[string]bool{nameConstraintsOID: true},
		ClientProvidesSerialNumbers: true,
	}}
	s, err := local.NewSigner(root.key, root.cert, signer.DefaultSigAlgo(root.key), policy)
	if err != nil {
		return nil, err
	}
	name := "larder issuing CA " + tag()
	if node != "" {
		name = "larder issuing CA " + node + " " + tag()
	}
	now := time.Now()
	return s.Sign(signer.SignRequest{
		Request:    string(csrPEM),
		Subject:    &signer.Subject{CN: name, Names: []csr.Name{{O: "larder"}}},
		Serial:     newSerial(),
		NotBefore:  now.Add(-caBackdate),
		NotAfter:   earlier(now.Add(issuingLifetime), root.cert.NotAfter),
		Extensions: extensions,
	})
}

// leaf signs a certificate for the name and the key of the request.
func (i *issuer) leaf(n hostName, csrPEM string, lifetime time.Duration) (*x509.Certificate, error) {
	return i.leafFor([]string{n.String()}, csrPEM, lifetime)
}

// leafFor signs a certificate for names that have passed parseName.
func (i *issuer) leafFor(names []string, csrPEM string, lifetime time.Duration) (*x509.Certificate, error) {
	now := time.Now()
	if !now.Before(i.cert.NotAfter) {
		return nil, errors.New("the intermediate certificate expired on " + i.cert.NotAfter.UTC().Format(time.DateOnly))
	}
	certPEM, err := i.signer.Sign(signer.SignRequest{
		Hosts:     names,
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
