package certs

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Fingerprint is the SHA-256 of a certificate in DER, as "openssl x509 -fingerprint"
// writes it: pairs of upper-case digits with colons.
func Fingerprint(cert *x509.Certificate) string { return written(sha256.Sum256(cert.Raw)) }

func written(sum [sha256.Size]byte) string {
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(pairs, ":")
}

// ParseFingerprint reads a SHA-256 fingerprint as people copy it: with colons or
// without, in either case, perhaps with "SHA256:" or "sha256 Fingerprint=" before it.
func ParseFingerprint(s string) (sum [sha256.Size]byte, err error) {
	digits := strings.TrimSpace(strings.ToLower(s))
	for _, prefix := range []string{"sha256 fingerprint=", "sha256:", "sha-256:"} {
		digits = strings.TrimPrefix(digits, prefix)
	}
	b, err := hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
	if err != nil || len(b) != len(sum) {
		return sum, fmt.Errorf("%.100q is no SHA-256 fingerprint, which has 64 hexadecimal digits", s)
	}
	return [sha256.Size]byte(b), nil
}

// FingerprintError says that none of the roots which came is one that was expected.
type FingerprintError struct {
	Got, Want []string // as Fingerprint writes them
}

// Error names both.
func (e *FingerprintError) Error() string {
	return fmt.Sprintf("the root that came is SHA256:%s, and not SHA256:%s", strings.Join(e.Got, " SHA256:"), strings.Join(e.Want, " SHA256:"))
}

// Verify returns those of the certificates in PEM whose fingerprints are given, and
// those of the others, which nothing vouches for. During a rotation a node may know
// of one root alone. Without any that is vouched for it returns a *FingerprintError.
func Verify(data []byte, fingerprints []string) (vouched []byte, others []string, err error) {
	var want []string
	for _, s := range fingerprints {
		sum, err := ParseFingerprint(s)
		if err != nil {
			return nil, nil, err
		}
		want = append(want, written(sum))
	}
	came, good := newRootSet(), newRootSet()
	if came.addPEM(data) == 0 {
		return nil, nil, errors.New("there is no certificate in PEM in it")
	}
	for _, der := range came.ders {
		if print := written(sha256.Sum256(der)); slices.Contains(want, print) {
			good.add(der)
		} else {
			others = append(others, print)
		}
	}
	if len(good.ders) == 0 {
		return nil, nil, &FingerprintError{Got: others, Want: want}
	}
	return good.pem(), others, nil
}
