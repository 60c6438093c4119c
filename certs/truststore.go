package certs

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"software.sslmate.com/src/go-pkcs12"
)

// trustStorePassword is what Java's own trust store has. It keeps nothing
// secret; without any the JVM sees an empty store.
const trustStorePassword = pkcs12.DefaultPassword

// writeTrustStore writes the roots as a PKCS #12 trust store, unless the one at
// path already holds them: every encoding differs by its salt.
func writeTrustStore(path string, roots *rootSet) error {
	certs := parse(roots)
	if holds(path, certs) {
		return nil
	}
	entries := make([]pkcs12.TrustStoreEntry, len(certs))
	for i, cert := range certs {
		entries[i] = pkcs12.TrustStoreEntry{Cert: cert, FriendlyName: friendlyName(cert)}
	}
	data, err := pkcs12.Modern2023.EncodeTrustStoreEntries(entries, trustStorePassword)
	if err != nil {
		return err
	}
	return replace(path, data)
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

// holds reports whether the store at path can be read by all and has these
// certificates in this order.
func holds(path string, certs []*x509.Certificate) bool {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o644 {
		return false
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	old, err := pkcs12.DecodeTrustStore(data, trustStorePassword)
	if err != nil || len(old) != len(certs) {
		return false
	}
	for i, cert := range certs {
		if !cert.Equal(old[i]) {
			return false
		}
	}
	return true
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
