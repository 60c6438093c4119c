package certs

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"strings"

	"software.sslmate.com/src/go-pkcs12"
)

// trustStorePassword is what Java's own trust store has. It keeps nothing
// secret; without any the JVM sees an empty store.
const trustStorePassword = pkcs12.DefaultPassword

// encodeTrustStore returns the roots as a PKCS #12 trust store, the same bytes each
// time: what salts it is made of the roots, for it keeps nothing secret, and nodes
// learn by its digest whether it has changed.
func encodeTrustStore(roots *rootSet) ([]byte, error) {
	certs := parse(roots)
	seed := sha256.New()
	entries := make([]pkcs12.TrustStoreEntry, len(certs))
	for i, cert := range certs {
		entries[i] = pkcs12.TrustStoreEntry{Cert: cert, FriendlyName: friendlyName(cert)}
		seed.Write(cert.Raw)
	}
	random := rand.NewChaCha8([sha256.Size]byte(seed.Sum(nil)))
	return pkcs12.Modern2023.WithRand(random).EncodeTrustStoreEntries(entries, trustStorePassword)
}

// parse returns the certificates that can be read. Old roots exist that break
// the rules of DER; OpenSSL may take them, for the bundle has them, but a JVM
// would refuse the whole store.
func parse(roots *rootSet) []*x509.Certificate {
	var certs []*x509.Certificate
	for _, der := range roots.ders {
		if cert, err := x509.ParseCertificate(der); err == nil {
			certs = append(certs, cert)
		}
	}
	return certs
}

// friendlyName returns the alias of a root. Java drops all but one of those
// with the same alias, in lower case, so that the subject is not enough.
func friendlyName(cert *x509.Certificate) string {
	subject := cert.Subject
	name := cmp.Or(subject.CommonName, strings.Join(subject.OrganizationalUnit, " "),
		strings.Join(subject.Organization, " "), "root")
	sum := sha256.Sum256(cert.Raw)
	return fmt.Sprintf("%s (%x)", strings.ToLower(name), sum[:8])
}
