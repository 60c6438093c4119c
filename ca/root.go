package ca

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cloudflare/cfssl/csr"
	"github.com/cloudflare/cfssl/helpers"
	"github.com/cloudflare/cfssl/initca"
)

const (
	rootLifetime    = 10 * 365 * 24 * time.Hour
	issuingLifetime = 365 * 24 * time.Hour
	// caBackdate is how much clocks of clients may be behind when the
	// authority is new.
	caBackdate = 24 * time.Hour
)

// roots are what clients trust, and what signs intermediates.
type roots struct {
	current pair
	// old is the root before the current one, during a rotation; else nil.
	old *x509.Certificate
	// cross is the current root's key, certified by the old root: with it in
	// the chain, clients that know only the old root go on.
	cross *x509.Certificate
}

// anchors returns the certificates that clients are to trust, the current first.
func (r roots) anchors() []*x509.Certificate {
	if r.old == nil {
		return []*x509.Certificate{r.current.cert}
	}
	return []*x509.Certificate{r.current.cert, r.old}
}

// loadRoots returns the roots of the folder, or fs.ErrNotExist if it has none.
// The current root's key is absent if it is kept elsewhere.
func loadRoots(f *folder) (roots, error) {
	remedy := fmt.Sprintf("restore root.crt and root.key from a backup; or, to begin anew with a root that every client must be told of: mv %s %s.old", f.path, f.path)
	root, err := f.load("root", remedy)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := f.root.Lstat("issuing.crt"); err == nil {
			return roots{}, &FileError{f.join("root.crt"), "is missing, but the intermediate is there", remedy, nil}
		}
	}
	if err != nil {
		return roots{}, err
	}
	if err := checkRoot(root.cert, f.join("root.crt"), remedy, f.path); err != nil {
		return roots{}, err
	}
	return f.loadRotation(root)
}

// checkRoot refuses what cannot be the root of an authority at present.
func checkRoot(cert *x509.Certificate, path, remedy, folder string) error {
	now := time.Now()
	switch {
	case !cert.IsCA || !maySign(cert):
		return &FileError{path, "is no certificate of an authority", remedy, nil}
	case cert.CheckSignatureFrom(cert) != nil:
		return &FileError{path, "is not signed by itself: it is no root, or it is damaged", remedy, nil}
	case now.After(cert.NotAfter):
		return &FileError{
			path, "expired on " + cert.NotAfter.UTC().Format(time.DateOnly),
			fmt.Sprintf("make a new root, which every client must be told of: mv %s %s.old", folder, folder), nil,
		}
	case now.Before(cert.NotBefore):
		return &FileError{path, "is not valid before " + cert.NotBefore.UTC().Format(time.RFC3339), "set the clock of this machine", nil}
	}
	return nil
}

// maySign reports whether a certificate's key usage allows it to sign others. One
// without the extension, as openssl req -x509 makes it, may do anything (RFC 5280,
// Section 6.1.4 (n)).
func maySign(cert *x509.Certificate) bool {
	return cert.KeyUsage == 0 || cert.KeyUsage&x509.KeyUsageCertSign != 0
}

// createRoot makes the key and the certificate of a new root.
func createRoot(f *folder) error {
	if err := f.requireLock("make a new certificate authority"); err != nil {
		return err
	}
	root, keyPEM, err := newRoot(f)
	if err != nil {
		return err
	}
	return f.store("root", encodeCertificates(root.cert), keyPEM)
}

// newRoot makes a root, and the file of its key, which is encrypted if there is
// a passphrase.
func newRoot(f *folder) (root pair, keyPEM []byte, err error) {
	request := &csr.CertificateRequest{
		CN:         "larder root CA " + tag(),
		Names:      []csr.Name{{O: "larder"}},
		KeyRequest: &csr.KeyRequest{A: "ecdsa", S: 256},
		CA:         &csr.CAConfig{Expiry: (rootLifetime + caBackdate).String(), Backdate: caBackdate.String()},
	}
	certPEM, _, keyPEM, err := initca.New(request)
	if err != nil {
		return pair{}, nil, fmt.Errorf("make a root certificate: %w", err)
	}
	if root, err = parsePair(certPEM, keyPEM); err != nil {
		return pair{}, nil, fmt.Errorf("make a root certificate: %w", err)
	}
	if f.passphrase != nil {
		if keyPEM, err = f.seal(root.key); err != nil {
			return pair{}, nil, err
		}
	}
	return root, keyPEM, f.record(KindRoot, "", root.cert)
}

func parsePair(certPEM, keyPEM []byte) (pair, error) {
	cert, err := parseCertificate(certPEM)
	if err != nil {
		return pair{}, err
	}
	key, err := helpers.ParsePrivateKeyPEM(keyPEM)
	if err != nil {
		return pair{}, err
	}
	return pair{cert: cert, key: key}, nil
}

// seal encrypts a key under the folder's passphrase.
func (f *folder) seal(key crypto.Signer) ([]byte, error) {
	passphrase, err := f.passphrase()
	if err != nil {
		return nil, err
	}
	return sealKey(key, passphrase, cmp.Or(f.rounds, sealRounds))
}

// tag returns what tells one authority from another by its name alone. Two
// issuers of one name and different keys confuse verifiers that look for
// issuers by name.
func tag() string {
	var b [4]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
