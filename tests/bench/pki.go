package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// pki is an authority and a certificate of it for the benchmark's hosts, both
// ECDSA P-256, as files for the servers and in memory for the load.
type pki struct {
	caCert, caKey, caBoth string // files; caBoth holds certificate and key
	cert, key             string
	pair                  tls.Certificate
	roots                 *x509.CertPool
}

func newPKI(dir string) (*pki, error) {
	p := &pki{
		caCert: filepath.Join(dir, "ca.crt"), caKey: filepath.Join(dir, "ca.key"), caBoth: filepath.Join(dir, "ca.pem"),
		cert: filepath.Join(dir, "server.crt"), key: filepath.Join(dir, "server.key"),
		roots: x509.NewCertPool(),
	}
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "larder bench"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}
	caKey, caDER, err := certify(root, root, nil)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: benchHost},
		DNSNames:  []string{benchHost, benchHost2},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafKey, leafDER, err := certify(leaf, root, caKey)
	if err != nil {
		return nil, err
	}
	caPEM, caKeyPEM, err := encodePair(caDER, caKey)
	if err != nil {
		return nil, err
	}
	certPEM, keyPEM, err := encodePair(leafDER, leafKey)
	if err != nil {
		return nil, err
	}
	p.roots.AppendCertsFromPEM(caPEM)
	if p.pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return nil, err
	}
	return p, errors.Join(
		os.WriteFile(p.caCert, caPEM, 0o644), os.WriteFile(p.caKey, caKeyPEM, 0o600),
		// squid reads it before it gives up root.
		os.WriteFile(p.caBoth, append(caPEM, caKeyPEM...), 0o600),
		os.WriteFile(p.cert, certPEM, 0o644), os.WriteFile(p.key, keyPEM, 0o600),
	)
}

// certify makes a key and signs template for it; a nil signer: with that key.
func certify(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	return key, der, err
}

func encodePair(der []byte, key *ecdsa.PrivateKey) (certPEM, keyPEM []byte, err error) {
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}
