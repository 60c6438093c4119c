package kit

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// common is what is the same for every node, for one set of roots.
type common struct {
	pem   []byte // as Options.Roots gave it
	roots []*x509.Certificate
}

// systemFor is how long the system's roots are taken for the same.
const systemFor = 10 * time.Minute

// assemble returns what is current.
func (k *Kit) assemble() (*common, error) {
	roots := k.o.Roots()
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if k.common != nil && now.Before(k.until) && bytes.Equal(k.common.pem, roots) {
		return k.common, nil
	}
	c := &common{pem: roots}
	for rest := roots; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read larder's roots: %w", err)
		}
		c.roots = append(c.roots, root)
	}
	if len(c.roots) == 0 {
		return nil, errors.New("read larder's roots: there are none")
	}
	k.common, k.until = c, now.Add(systemFor)
	return c, nil
}

func (c *common) rootsPEM() []byte { return c.pem }

func (c *common) rootDER() []byte { return c.roots[0].Raw }
