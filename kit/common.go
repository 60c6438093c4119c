package kit

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"time"

	"larder/certs"
)

// common is what is the same for every node, for one set of roots.
type common struct {
	of    []byte // what Options.Roots gave
	roots []*x509.Certificate

	ca, der, bundle, caStore, store *content
}

// content is a body with its digest.
type content struct {
	body []byte
	sum  [sha256.Size]byte
}

func newContent(body []byte) *content { return &content{body, sha256.Sum256(body)} }

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
	c := &common{of: roots, roots: trust.Roots()}
	c.ca, c.der, c.bundle = newContent(trust.CA()), newContent(c.roots[0].Raw), newContent(trust.Bundle())
	store, err := trust.CAStore()
	if err != nil {
		return nil, err
	}
	c.caStore = newContent(store)
	if old := k.common; old != nil && old.bundle.sum == c.bundle.sum {
		c.store = old.store // which costs a key derivation
	} else if store, err = trust.Store(); err == nil {
		c.store = newContent(store)
	} else {
		return nil, err
	}
	k.common, k.until = c, now.Add(systemFor)
	return c, nil
}
