package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cloudflare/cfssl/helpers"
)

const (
	// nodeFile holds all that a node has whose root is kept elsewhere: its
	// key, its intermediate, what stands above that, and the roots. It is one
	// file, so that installing another is one rename.
	nodeFile = "node.pem"
	// requestKey is the key of a request that waits for its answer.
	requestKey = "request.key"
	// maxNodeFile bounds what is read of an answer.
	maxNodeFile = 1 << 20
)

// A bundle is what a node gets from where the root is.
type bundle struct {
	keyPEM []byte        // nil in the answer to a request
	key    crypto.Signer // nil with keyPEM
	certs  []*x509.Certificate
}

// parseBundle reads certificates and at most one key, in any order.
func parseBundle(data []byte) (bundle, error) {
	var b bundle
	if len(data) > maxNodeFile {
		return b, fmt.Errorf("it is larger than %d octets", maxNodeFile)
	}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		switch block.Type {
		case "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return bundle{}, err
			}
			b.certs = append(b.certs, cert)
		case "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY":
			if b.key != nil {
				return bundle{}, errors.New("it holds more than one private key")
			}
			b.keyPEM = pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})
			key, err := helpers.ParsePrivateKeyPEM(b.keyPEM)
			if err != nil {
				return bundle{}, errors.New("its private key is damaged")
			}
			b.key = key
		default:
			return bundle{}, fmt.Errorf("it holds a %.40q, and only certificates and one private key belong there", block.Type)
		}
	}
	if len(b.certs) == 0 {
		return bundle{}, errors.New("it holds no certificate in PEM")
	}
	return b, nil
}

// pem returns the bundle as parseBundle reads it.
func (b bundle) pem() []byte { return append(bytes.Clone(b.keyPEM), encodeCertificates(b.certs...)...) }

// issuer sorts the certificates: which is the key's, what stands above it, and
// which are roots. Each root must stand above the intermediate, for clients
// will trust it with everything.
func (b bundle) issuer() (*issuer, error) {
	var cert *x509.Certificate
	var anchors, between []*x509.Certificate
	for _, c := range b.certs {
		switch {
		case b.key != nil && matches(b.key, c):
			cert = c
		case isRoot(c):
			anchors = append(anchors, c)
		default:
			between = append(between, c)
		}
	}
	switch {
	case b.key == nil:
		return nil, errors.New("it holds no private key")
	case cert == nil:
		return nil, errors.New("none of its certificates is for the key of this node")
	case !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("the certificate for the key of this node is no certificate of an authority (basicConstraints CA:true and keyUsage keyCertSign)")
	case len(anchors) == 0:
		return nil, errors.New("it holds no root: append the certificate of the root that clients are to trust")
	}
	if err := standAbove(cert, between, anchors); err != nil {
		return nil, err
	}
	s, err := leafSigner(pair{cert: cert, key: b.key})
	if err != nil {
		return nil, err
	}
	return &issuer{cert, s, constraintsOf(cert), chainOf(cert, between), anchors, false}, nil
}

// isRoot reports whether a certificate is signed by itself.
func isRoot(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(c) == nil
}

// chainOf returns the certificate and those above it, as TLS sends them.
func chainOf(cert *x509.Certificate, between []*x509.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{cert}
	for range between {
		for _, c := range between {
			if last := chain[len(chain)-1]; bytes.Equal(last.RawIssuer, c.RawSubject) && last.CheckSignatureFrom(c) == nil {
				chain = append(chain, c)
				break
			}
		}
	}
	return chain
}

// standAbove returns an error unless a client of any one root takes the
// intermediate.
func standAbove(cert *x509.Certificate, between, anchors []*x509.Certificate) error {
	intermediates := x509.NewCertPool()
	for _, c := range between {
		intermediates.AddCert(c)
	}
	for _, anchor := range anchors {
		pool := x509.NewCertPool()
		pool.AddCert(anchor)
		_, err := cert.Verify(x509.VerifyOptions{
			Roots: pool, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err != nil {
			return fmt.Errorf("its root %q does not stand above the intermediate: %w", anchor.Subject, err)
		}
	}
	return nil
}

// loadNode returns the intermediate of a node, or fs.ErrNotExist if the folder
// is none of a node.
func (f *folder) loadNode() (*issuer, error) {
	data, err := f.read(nodeFile)
	if err != nil {
		return nil, err
	}
	if err := f.checkMode(nodeFile, f.join(nodeFile), 0o600); err != nil {
		return nil, err
	}
	b, err := parseBundle(data)
	var i *issuer
	if err == nil {
		i, err = b.issuer()
	}
	if err != nil {
		return nil, &FileError{f.join(nodeFile), "does not serve", nodeRemedy, err}
	}
	return i, nil
}

const nodeRemedy = "have a new one made where the root is: larder ca init --csr > node.csr, and there larder ca issue-node NAME --csr node.csr; or there larder ca issue-node NAME alone; then larder ca init --install FILE"

// request returns the request of this node, with the key that waits for the
// answer: the same until one is installed.
func (f *folder) request(wanted constraints) ([]byte, error) {
	extensions, err := wanted.requested()
	if err != nil {
		return nil, err
	}
	key, _, err := f.loadKey(requestKey)
	switch {
	case err == nil && key != nil:
		return requestOf(key, extensions)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	csrPEM, keyPEM, err := newRequest(extensions)
	if err != nil {
		return nil, err
	}
	return csrPEM, f.replace(requestKey, keyPEM, 0o600)
}

// install puts what a root has signed into use, with the key that waits if the
// bundle has none, unless check has something against it.
func (f *folder) install(data []byte, check func(*issuer) error) (*issuer, error) {
	b, err := f.answered(data)
	if err != nil {
		return nil, err
	}
	f.keepOverlap(&b)
	i, err := b.issuer()
	if err == nil {
		err = check(i)
	}
	if err != nil {
		return nil, err
	}
	return i, f.use(b, i)
}

// answered reads what a root has signed, and adds the key that waits if it has
// none.
func (f *folder) answered(data []byte) (bundle, error) {
	b, err := parseBundle(data)
	if err != nil || b.key != nil {
		return b, err
	}
	if b.keyPEM, err = f.read(requestKey); errors.Is(err, fs.ErrNotExist) {
		return bundle{}, errors.New("it holds no private key, and no request of this node waits for an answer")
	} else if err != nil {
		return bundle{}, err
	}
	b.key, _, err = f.loadKey(requestKey)
	return b, err
}

// use makes a bundle that was checked the node's.
func (f *folder) use(b bundle, i *issuer) error {
	if err := f.record(KindIntermediate, "", i.cert); err != nil {
		return err
	}
	if err := f.replace(nodeFile, b.pem(), 0o600); err != nil {
		return err
	}
	// The key of the request is in node.pem, and that of an intermediate of
	// before serves nobody.
	return f.remove(requestKey, "issuing.key", "issuing.crt")
}
