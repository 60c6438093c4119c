package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/cloudflare/cfssl/csr"
)

// requested returns the constraints as a request asks for them.
func (c constraints) requested() ([]pkix.Extension, error) {
	if c.unbounded {
		return nil, nil
	}
	der, err := c.encode()
	if err != nil {
		return nil, err
	}
	return []pkix.Extension{{Id: nameConstraints(), Critical: true, Value: der}}, nil
}

func requestOf(key crypto.Signer, extensions []pkix.Extension) ([]byte, error) {
	return csr.Generate(key, &csr.CertificateRequest{
		CN: "larder issuing CA", Names: []csr.Name{{O: "larder"}}, Extensions: extensions,
	})
}

// askedFor returns the names that a request for an intermediate asks to be
// constrained to; one that asks for none wants every name.
func askedFor(csrPEM []byte) (constraints, error) {
	block, _ := pem.Decode(csrPEM)
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return constraints{}, errors.New("it is no request for a certificate in PEM")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return constraints{}, err
	}
	if err := request.CheckSignature(); err != nil {
		return constraints{}, fmt.Errorf("it is not signed by its key: %w", err)
	}
	if err := checkKey(request.PublicKey); err != nil {
		return constraints{}, err
	}
	for _, extension := range request.Extensions {
		if extension.Id.Equal(nameConstraints()) {
			return decodeConstraints(extension.Value)
		}
	}
	return constraints{unbounded: true}, nil
}

// checkKey refuses keys below 128 bits of strength, RSA's 3072 rounded down to
// the 2048 that hardware modules have.
func checkKey(key crypto.PublicKey) error {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve.Params().BitSize >= 256 {
			return nil
		}
	case *rsa.PublicKey:
		if key.N.BitLen() >= 2048 {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("its key is too weak, or of a kind that clients do not know (%T)", key)
}
