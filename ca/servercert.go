package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
)

// ServerCertificate returns a certificate for the larder that signs for others
// (its hosts are names or IP addresses), by the root itself: the intermediate is
// constrained to the hosts of the policy. Its key is in memory only.
func (k Keeper) ServerCertificate(hosts []string) (*tls.Certificate, error) {
	silence()
	cert, err := k.serverCertificate(hosts)
	if err != nil {
		return nil, fmt.Errorf("make the certificate of the signer: %w", err)
	}
	return cert, nil
}

func (k Keeper) serverCertificate(hosts []string) (*tls.Certificate, error) {
	if len(hosts) == 0 {
		return nil, errors.New("it has no name")
	}
	f, err := k.openExisting()
	if err != nil {
		return nil, err
	}
	defer f.close()
	r, err := f.ownRoots()
	if err != nil {
		return nil, err
	}
	root, err := f.unseal(r.current, "root.key")
	if err != nil {
		return nil, err
	}
	if root.key == nil {
		return nil, f.keyAbsent("the signer needs it for what it signs")
	}
	issuer, err := newIssuer(root, r, false)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	request, err := leafRequest(key)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, host := range hosts {
		name, err := parseName(host)
		if err != nil {
			return nil, err
		}
		names = append(names, name.String())
	}
	leaf, err := issuer.leafFor(names, request, defaultLeafLifetime)
	if err != nil {
		return nil, err
	}
	if err := f.record(KindSigner, "", leaf); err != nil {
		return nil, err
	}
	cert := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	if r.cross != nil { // for nodes that know only the old root
		cert.Certificate = append(cert.Certificate, r.cross.Raw)
	}
	return cert, nil
}
