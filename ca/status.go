package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// expiryWarning is how long before its end a certificate is worth a warning.
const expiryWarning = 30 * 24 * time.Hour

// Where the key of a root is.
const (
	KeyHere      = "here"
	KeyEncrypted = "here, encrypted"
	KeyElsewhere = "elsewhere"
)

// A Status is what the folder of an authority holds.
type Status struct {
	Dir string

	// Roots are what clients are to trust: the one that signs, and during a
	// rotation the one before.
	Roots []*x509.Certificate
	// Chain is what is sent behind a leaf, the intermediate first. It is empty
	// as long as only the root was made.
	Chain []*x509.Certificate
	// Permitted are the names which the intermediate is constrained to; nil if
	// it is constrained to none.
	Permitted []string
	// RootKey says where the root's key is.
	RootKey string
	// RetireAfter is when the old root may be retired; zero outside of a
	// rotation.
	RetireAfter time.Time
	// Waiting: the key of a request is here and waits for its answer.
	Waiting bool
	// Outdated: the intermediate is that of the older root until those who
	// serve from the folder look again.
	Outdated bool
}

// Fingerprint returns the SHA-256 of a certificate as `openssl x509 -fingerprint
// -sha256` prints it: upper-case hexadecimal octets between colons.
func Fingerprint(cert *x509.Certificate) string {
	return strings.ReplaceAll(fmt.Sprintf("% X", sha256.Sum256(cert.Raw)), " ", ":")
}

// Expiring reports whether a certificate ends within 30 days of now.
func Expiring(cert *x509.Certificate, now time.Time) bool {
	return now.Add(expiryWarning).After(cert.NotAfter)
}

func (f *folder) status() (Status, error) {
	s := Status{Dir: f.path, RootKey: KeyElsewhere, Waiting: f.has(requestKey)}
	node, err := f.loadNode()
	if err == nil {
		s.show(node)
		if cross := f.overlap(node); cross != nil {
			s.RetireAfter = overlapBegan(cross).Add(MinOverlap)
		}
		return s, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	r, err := loadRoots(f)
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.Waiting:
		return s, nil
	case errors.Is(err, fs.ErrNotExist):
		return s, &FileError{f.path, "has no authority", "make one: larder ca init", nil}
	case err != nil:
		return s, err
	}
	s.Roots = r.anchors()
	switch {
	case r.current.key != nil:
		s.RootKey = KeyHere
	case r.current.sealed != nil:
		s.RootKey = KeyEncrypted
	}
	if r.cross != nil {
		s.RetireAfter = overlapBegan(r.cross).Add(MinOverlap)
	}
	issuing, err := loadIssuer(f, r)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		s.show(issuing)
	}
	return s, err
}

func (s *Status) show(i *issuer) {
	s.Roots, s.Chain, s.Permitted, s.Outdated = i.roots, i.chain, i.bounds.list(), i.outdated
}
