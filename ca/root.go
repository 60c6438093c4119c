package ca

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cloudflare/cfssl/csr"
	"github.com/cloudflare/cfssl/initca"
)

const (
	rootLifetime    = 10 * 365 * 24 * time.Hour
	issuingLifetime = 365 * 24 * time.Hour
	// caBackdate is how much clocks of clients may be behind when the
	// authority is new.
	caBackdate = 24 * time.Hour
)

// loadRoot returns the root, which it makes if the folder is empty. Its key is
// absent if it is kept elsewhere.
func loadRoot(f *folder) (pair, error) {
	remedy := fmt.Sprintf("restore root.crt and root.key from a backup; or, to begin anew with a root that every client must be told of: mv %s %s.old", f.path, f.path)
	root, err := f.load("root", remedy)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := f.root.Lstat("issuing.crt"); err == nil {
			return pair{}, &FileError{f.join("root.crt"), "is missing, but the intermediate is there", remedy, nil}
		}
		if err := createRoot(f); err != nil {
			return pair{}, err
		}
		root, err = f.load("root", remedy)
	}
	if err != nil {
		return pair{}, err
	}
	path, now := f.join("root.crt"), time.Now()
	switch cert := root.cert; {
	case !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return pair{}, &FileError{path, "is no certificate of an authority", remedy, nil}
	case cert.CheckSignatureFrom(cert) != nil:
		return pair{}, &FileError{path, "is not signed by itself: it is no root, or it is damaged", remedy, nil}
	case now.After(cert.NotAfter):
		return pair{}, &FileError{
			path, "expired on " + cert.NotAfter.UTC().Format(time.DateOnly),
			fmt.Sprintf("make a new root, which every client must be told of: mv %s %s.old", f.path, f.path), nil,
		}
	case now.Before(cert.NotBefore):
		return pair{}, &FileError{path, "is not valid before " + cert.NotBefore.UTC().Format(time.RFC3339), "set the clock of this machine", nil}
	}
	return root, nil
}

// createRoot makes the key and the certificate of a new root.
func createRoot(f *folder) error {
	if err := f.requireLock("make a new certificate authority"); err != nil {
		return err
	}
	request := &csr.CertificateRequest{
		CN:         "larder root CA " + tag(),
		Names:      []csr.Name{{O: "larder"}},
		KeyRequest: &csr.KeyRequest{A: "ecdsa", S: 256},
		CA:         &csr.CAConfig{Expiry: (rootLifetime + caBackdate).String(), Backdate: caBackdate.String()},
	}
	certPEM, _, keyPEM, err := initca.New(request)
	if err != nil {
		return fmt.Errorf("make a root certificate: %w", err)
	}
	return f.store("root", certPEM, keyPEM)
}

// tag returns what tells one authority from another by its name alone. Two
// issuers of one name and different keys confuse verifiers that look for
// issuers by name.
func tag() string {
	var b [4]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
