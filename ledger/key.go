package ledger

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// key is the ledger's own: it signs checkpoints, and secrets are derived from it.
type key struct {
	signer note.Signer
	// verifier is the public half, as golang.org/x/mod/sumdb/note writes it.
	verifier string
	secret   [32]byte
}

const (
	keyFile      = "key"
	verifierFile = "key.pub"
)

// openKey reads the key of a folder, or makes one.
func openKey(dir string) (*key, error) {
	path := filepath.Join(dir, keyFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if text, err = makeKey(dir); err != nil {
			return nil, fmt.Errorf("make the key of the ledger: %w", err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of the ledger: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the key of the ledger: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the key of the ledger, %s, can be read by others (mode %#o): chmod 600 it, or remove it and lose what it has signed", path, info.Mode().Perm())
	}
	k, err := parseKey(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("read the key of the ledger, %s: %w", path, err)
	}
	if k.verifier, err = readVerifier(dir); err != nil {
		return nil, err
	}
	return k, nil
}

func parseKey(text string) (*key, error) {
	signer, err := note.NewSigner(text)
	if err != nil {
		return nil, errors.New("it is no signer key") // and is not shown
	}
	return &key{signer: signer, secret: sha256.Sum256([]byte("larder ledger secret 1\n" + text))}, nil
}

// makeKey writes a new key and its public half. The name tells one ledger from another.
func makeKey(dir string) ([]byte, error) {
	var id [8]byte
	rand.Read(id[:]) // never fails
	private, public, err := note.GenerateKey(rand.Reader, "larder-ledger-"+hex.EncodeToString(id[:]))
	if err != nil {
		return nil, err
	}
	// The public one first: whoever finds a private one has both.
	if err := writeNew(filepath.Join(dir, verifierFile), public+"\n", 0o644); err != nil {
		return nil, err
	}
	return []byte(private), writeNew(filepath.Join(dir, keyFile), private+"\n", 0o600)
}

// writeNew replaces a file as a whole, and has it on disk when it returns.
func writeNew(path, text string, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func readVerifier(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, verifierFile))
	if err != nil {
		return "", fmt.Errorf("read the public key of the ledger: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// hash is where a URL is in the indexes. It is keyed, so that nobody can choose URLs
// that share one.
func (k *key) hash(url string) uint64 {
	m := hmac.New(sha256.New, k.secret[:])
	m.Write([]byte("url\n"))
	m.Write([]byte(url))
	return binary.BigEndian.Uint64(m.Sum(nil))
}

// id names the key in the indexes made with it.
func (k *key) id() [8]byte {
	m := hmac.New(sha256.New, k.secret[:])
	m.Write([]byte("id\n"))
	return [8]byte(m.Sum(nil))
}

// conceal stands for a text that may be a secret: the same one for the same text, from
// which nobody without the key can find out anything.
func (k *key) conceal(text string) string {
	m := hmac.New(sha256.New, k.secret[:])
	m.Write([]byte("query\n"))
	m.Write([]byte(text))
	return hex.EncodeToString(m.Sum(nil)[:16])
}
