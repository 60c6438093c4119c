package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"larder/ca"
	"larder/ca/remote"
)

// openSigner returns who signs the intermediate of the authority in dir, nil if
// that has its root itself.
func openSigner(dir string) (ca.Signer, error) {
	s, err := remote.Open(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, withHint(fmt.Errorf("open the signer of the certificate authority: %w", err),
			"write it anew: larder ca init --signer URL --node NAME --auth-key-file FILE --signer-root FILE")
	}
	return s, nil
}

// signerFlags name the larder that has the root.
type signerFlags struct {
	url, node, keyFile, rootFile string
}

// save keeps what the flags say in the authority's folder.
func (f signerFlags) save(dir string) error {
	key, err := readSecret(f.keyFile)
	if err != nil {
		return usageError(fmt.Errorf("read the key of the node: %w", err))
	}
	roots, err := os.ReadFile(f.rootFile)
	if err != nil {
		return usageError(fmt.Errorf("read the root of the signer: %w", err))
	}
	c := remote.Config{URL: f.url, Node: f.node, Key: strings.TrimSpace(string(key)), Roots: string(roots)}
	if err := c.Check(); err != nil {
		return usageError(fmt.Errorf("keep the signer: %w", err))
	}
	if err := c.Save(dir); err != nil {
		return fmt.Errorf("keep the signer: %w", err)
	}
	return nil
}
