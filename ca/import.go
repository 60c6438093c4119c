package ca

import (
	"crypto"

	"github.com/cloudflare/cfssl/helpers"
)

// ImportRoot begins an authority with a root made elsewhere, and its key.
func (k Keeper) ImportRoot(certPEM, keyPEM []byte) (Status, error) {
	return k.begin("import a root", func(f *folder) error {
		root, err := f.foreignRoot(certPEM, keyPEM)
		if err != nil {
			return err
		}
		keyPEM, err := f.keyFile(root.key)
		if err != nil {
			return err
		}
		if err := f.record(KindRoot, "", root.cert); err != nil {
			return err
		}
		return f.store("root", encodeCertificates(root.cert), keyPEM)
	})
}

// foreignRoot returns a root that was made elsewhere, if it can be larder's.
func (f *folder) foreignRoot(certPEM, keyPEM []byte) (pair, error) {
	const path, remedy = "the root", "export the root alone, in PEM; a certificate that another authority signed is no root: use larder ca init --csr"
	cert, err := parseCertificate(certPEM)
	if err != nil {
		return pair{}, &FileError{path, "is damaged", remedy, err}
	}
	if err := checkRoot(cert, path, remedy, f.path); err != nil {
		return pair{}, err
	}
	if cert.MaxPathLenZero {
		return pair{}, &FileError{path, "allows no intermediate below it (path length 0)", "make another root for larder", nil}
	}
	if err := checkKey(cert.PublicKey); err != nil {
		return pair{}, &FileError{path, "does not serve", "make another root for larder", err}
	}
	root := pair{cert: cert}
	if isSealed(keyPEM) {
		root.sealed = keyPEM
		root, err = f.unseal(root, "root.key")
	} else if root.key, err = helpers.ParsePrivateKeyPEM(keyPEM); err != nil {
		err = &FileError{"the root key", "is damaged, or encrypted in a way of before PKCS #8", "convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW", nil}
	}
	if err != nil {
		return pair{}, err
	}
	if !matches(root.key, cert) {
		return pair{}, &FileError{"the root key", "is not that of the root", "name the key that belongs to the certificate", nil}
	}
	return root, nil
}

// keyFile returns the file of a key, encrypted if there is a passphrase.
func (f *folder) keyFile(key crypto.Signer) ([]byte, error) {
	if f.passphrase != nil {
		return f.seal(key)
	}
	return encodeKey(key)
}
