package ca

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/youmark/pkcs8"
)

const (
	// sealedType is PKCS #8's (RFC 7468, Section 11), as openssl pkey reads it.
	sealedType = "ENCRYPTED PRIVATE KEY"
	// statement stands before the PEM of a key that larder has encrypted. It
	// says whose key it is to whoever has no passphrase: after a crash that is
	// needed to tell the key of the new certificate from that of the old.
	statement = "SHA-256 of the public key: "
	// minPassphrase keeps out the slip of an empty or cut file.
	minPassphrase = 8
)

// PassphraseFile returns a function that reads a passphrase from the file when
// it is needed: its first line, without the line's end. Nobody but its owner,
// and its group for reading, may have access to the file.
func PassphraseFile(path string) func() ([]byte, error) {
	return func() ([]byte, error) {
		info, err := os.Stat(path)
		if err != nil {
			return nil, &FileError{path, "cannot be read", "name the file that holds the passphrase of the root key", err}
		}
		if perm := info.Mode().Perm(); perm&0o037 != 0 {
			return nil, &FileError{
				path, fmt.Sprintf("has mode %04o: a passphrase must be out of reach for others", perm), "chmod 600 " + path, nil,
			}
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, &FileError{path, "cannot be read", readRemedy(path), err}
		}
		line, _, _ := bytes.Cut(data, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) < minPassphrase {
			return nil, &FileError{path, fmt.Sprintf("holds a passphrase of fewer than %d octets in its first line", minPassphrase), "write a longer one into it: openssl rand -base64 24 > " + path, nil}
		}
		return line, nil
	}
}

// sealRounds make one guess at a passphrase cost a good part of a second.
const sealRounds = 600_000

// sealKey encrypts a key by PBES2 of PKCS #5 (RFC 8018): AES-256-CBC under
// PBKDF2 with HMAC-SHA-256.
func sealKey(key crypto.Signer, passphrase []byte, rounds int) ([]byte, error) {
	der, err := pkcs8.MarshalPrivateKey(key, passphrase, &pkcs8.Opts{
		Cipher:  pkcs8.AES256CBC,
		KDFOpts: pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: rounds, HMACHash: crypto.SHA256},
	})
	if err != nil {
		return nil, fmt.Errorf("encrypt the root key: %w", err)
	}
	sum, err := publicSum(key.Public())
	if err != nil {
		return nil, err
	}
	return append([]byte(statement+sum+"\n"), pem.EncodeToMemory(&pem.Block{Type: sealedType, Bytes: der})...), nil
}

func publicSum(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(der)), nil
}

func isSealed(keyPEM []byte) bool {
	block, _ := pem.Decode(keyPEM)
	return block != nil && block.Type == sealedType
}

// statesKeyOf reports whether the statement before an encrypted key says that it
// is that of the certificate.
func statesKeyOf(sealed []byte, cert *x509.Certificate) bool {
	sum, err := publicSum(cert.PublicKey)
	return err == nil && bytes.HasPrefix(sealed, []byte(statement+sum+"\n"))
}

// sealedFor reports whether an encrypted key can be that of the certificate.
// One that an operator has encrypted by other means states nothing.
func sealedFor(sealed []byte, cert *x509.Certificate) bool {
	return statesKeyOf(sealed, cert) || !strings.HasPrefix(string(sealed), statement)
}

var errPassphrase = errors.New("the passphrase is wrong, or the key is damaged")

// unsealKey decrypts what sealKey, or openssl pkcs8 -topk8, has encrypted.
func unsealKey(sealed, passphrase []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(sealed)
	if block == nil || block.Type != sealedType || len(passphrase) == 0 {
		return nil, errPassphrase
	}
	key, err := parseSealed(block.Bytes, passphrase)
	if err != nil {
		return nil, errPassphrase
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the key is of a kind that cannot sign")
	}
	return signer, nil
}

// parseSealed turns a panic over a damaged file, of which the library does not
// check every length, into an error.
func parseSealed(der, passphrase []byte) (key any, err error) {
	defer func() {
		if recover() != nil {
			err = errPassphrase
		}
	}()
	return pkcs8.ParsePKCS8PrivateKey(der, passphrase)
}

// unseal opens an encrypted key of the folder; any other it returns as it is.
func (f *folder) unseal(p pair, keyFile string) (pair, error) {
	if p.sealed == nil {
		return p, nil
	}
	if f.passphrase == nil {
		return pair{}, &FileError{
			f.join(keyFile), "is encrypted, and its passphrase is needed",
			"name the file that holds it with --passphrase-file; for a larder that takes none: larder ca renew --passphrase-file FILE", nil,
		}
	}
	passphrase, err := f.passphrase()
	if err != nil {
		return pair{}, err
	}
	key, err := unsealKey(p.sealed, passphrase)
	if err != nil {
		return pair{}, &FileError{f.join(keyFile), "cannot be decrypted", "name the file with its passphrase with --passphrase-file", err}
	}
	if !matches(key, p.cert) {
		return pair{}, &FileError{f.join(keyFile), "is not the key of its certificate", "restore the key from a backup", nil}
	}
	return pair{cert: p.cert, key: key}, nil
}
