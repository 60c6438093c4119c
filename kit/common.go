package kit

import (
	"bytes"
	"crypto/x509"
	"time"

	"larder/certs"
)

// common is what is the same for every node, for one set of roots.
type common struct {
	of    []byte // what Options.Roots gave
	roots []*x509.Certificate

	ca, bundle, caStore, store []byte
}

// systemFor is how long the system's roots are taken for the same.
const systemFor = 10 * time.Minute

// assemble returns what is current.
func (k *Kit) assemble() (*common, error) {
	roots := k.o.Roots()
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if k.common != nil && now.Before(k.until) && bytes.Equal(k.common.of, roots) {
		return k.common, nil
	}
	trust, err := certs.ReadTrust(roots)
	if err != nil {
		return nil, err
	}
	c := &common{of: roots, roots: trust.Roots(), ca: trust.CA(), bundle: trust.Bundle()}
	if c.caStore, err = trust.CAStore(); err != nil {
		return nil, err
	}
	if old := k.common; old != nil && bytes.Equal(old.bundle, c.bundle) {
		c.store = old.store // which costs a key derivation
	} else if c.store, err = trust.Store(); err != nil {
		return nil, err
	}
	k.common, k.until = c, now.Add(systemFor)
	return c, nil
}
