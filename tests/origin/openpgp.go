package origin

import (
	"bytes"
	"crypto"
	"fmt"

	//lint:ignore SA1019 apt wants OpenPGP, nothing else in the standard or x modules writes it, and only tests sign with it
	"golang.org/x/crypto/openpgp"
	//lint:ignore SA1019 as above
	"golang.org/x/crypto/openpgp/clearsign"
	//lint:ignore SA1019 as above
	"golang.org/x/crypto/openpgp/packet"
)

// archiveKey signs the Release files of a Debian repository.
type archiveKey struct {
	entity *openpgp.Entity
	config *packet.Config
}

func newArchiveKey() (*archiveKey, error) {
	// apt refuses weaker keys and digests.
	config := &packet.Config{RSABits: 2048, DefaultHash: crypto.SHA256}
	entity, err := openpgp.NewEntity("larder test archive", "", "larder@example.org", config)
	if err != nil {
		return nil, fmt.Errorf("make archive key: %w", err)
	}
	return &archiveKey{entity: entity, config: config}, nil
}

// keyring is the public key as apt's signed-by takes it.
func (k *archiveKey) keyring() ([]byte, error) {
	var buf bytes.Buffer
	if err := k.entity.Serialize(&buf); err != nil {
		return nil, fmt.Errorf("encode archive key: %w", err)
	}
	return buf.Bytes(), nil
}

// clearsign wraps text in a signature, as in InRelease.
func (k *archiveKey) clearsign(text []byte) ([]byte, error) {
	var buf bytes.Buffer
	w, err := clearsign.Encode(&buf, k.entity.PrivateKey, k.config)
	if err != nil {
		return nil, fmt.Errorf("sign Release: %w", err)
	}
	if _, err := w.Write(text); err != nil {
		return nil, fmt.Errorf("sign Release: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("sign Release: %w", err)
	}
	buf.WriteByte('\n')
	return buf.Bytes(), nil
}
