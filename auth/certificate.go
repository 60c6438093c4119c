package auth

import (
	"crypto/x509"
	"fmt"
)

// Kinds of names in a certificate.
const (
	CommonName = "cn"    // of the subject
	DNSName    = "dns"   // among the subject alternative names
	Email      = "email" // likewise
	URI        = "uri"   // likewise, such as a SPIFFE ID
)

// CertificateUser returns the user that a client certificate names, which must have
// been verified: its one name of the kind. A certificate that has none or several
// of it names nobody.
func CertificateUser(c *x509.Certificate, kind string) (string, error) {
	var names []string
	switch kind {
	case CommonName:
		names = append(names, c.Subject.CommonName)
	case DNSName:
		names = c.DNSNames
	case Email:
		names = c.EmailAddresses
	case URI:
		for _, u := range c.URIs {
			names = append(names, u.String())
		}
	default:
		return "", fmt.Errorf("%q is no kind of name in a certificate", kind)
	}
	if len(names) != 1 {
		return "", fmt.Errorf("the client certificate has %d names of the kind %s, not one", len(names), kind)
	}
	// A URI has a colon, which no user of a file has: the two cannot be confused.
	if name := names[0]; name != "" && name != "*" && len(name) <= maxUser && printable(name) {
		return name, nil
	}
	return "", fmt.Errorf("the client certificate has no name of the kind %s that a user can have", kind)
}

func printable(s string) bool {
	for _, c := range s {
		if c < ' ' || c == 0x7f || c == 0xfffd {
			return false
		}
	}
	return true
}
