package mitm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// certificateError is a certificate that browsers refuse and crypto/x509 does not.
type certificateError struct{ reason string }

func (e *certificateError) Error() string { return e.reason }

// verifyConnection adds to the verification that crypto/tls has done already, for
// resumed sessions too.
func verifyConnection(state tls.ConnectionState) error {
	var err error = &certificateError{"certificate was not verified"} // never, with crypto/tls as it is used here
	for _, chain := range state.VerifiedChains {
		if err = verifyStrength(chain); err != nil {
			continue
		}
		if err = verifyStaple(chain, state.OCSPResponse, time.Now()); err == nil {
			return nil
		}
	}
	return err
}

// verifyStrength wants of all but the root, which is trusted as it is, what the
// CA/Browser Forum's Baseline Requirements do: RSA of 2048 bits (section 6.1.5),
// no P-224, no SHA-1 (7.1.3.2.1). crypto/x509 stops at 1024, knows P-224, and
// lets GODEBUG bring SHA-1 back.
func verifyStrength(chain []*x509.Certificate) error {
	for _, c := range chain[:max(1, len(chain)-1)] {
		switch key := c.PublicKey.(type) {
		case *rsa.PublicKey:
			if key.N.BitLen() < 2048 {
				return &certificateError{"certificate with an RSA key below 2048 bits"}
			}
		case *ecdsa.PublicKey:
			if key.Curve == elliptic.P224() {
				return &certificateError{"certificate with a key on P-224"}
			}
		}
		switch c.SignatureAlgorithm {
		case x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1, x509.MD5WithRSA, x509.MD2WithRSA:
			return &certificateError{"certificate is signed with " + c.SignatureAlgorithm.String()}
		}
	}
	return nil
}

// verifyStaple looks at the OCSP response that came with the handshake (RFC 6066,
// Section 8): a certificate that is revoked is refused, and so is one that wants
// a staple (RFC 7633) and comes without a good and current one. What cannot be
// verified says nothing, as in browsers.
func verifyStaple(chain []*x509.Certificate, staple []byte, now time.Time) error {
	leaf, issuer := chain[0], chain[min(1, len(chain)-1)]
	answer := readStaple(leaf, issuer, staple, now)
	switch {
	case answer != nil && answer.Status == ocsp.Revoked:
		return &certificateError{"certificate was revoked on " + answer.RevokedAt.UTC().Format(time.RFC3339)}
	case !mustStaple(leaf):
		return nil
	case answer == nil:
		return &certificateError{"certificate must come with a valid OCSP response, and did not"}
	case answer.Status != ocsp.Good:
		return &certificateError{"certificate must come with a good OCSP response, and its issuer does not know it"}
	case now.Before(answer.ThisUpdate) || !answer.NextUpdate.IsZero() && now.After(answer.NextUpdate):
		return &certificateError{"certificate must come with a current OCSP response, and it is of another time"}
	}
	return nil
}

// readStaple returns nil for a response that the issuer of leaf does not answer
// for. golang.org/x/crypto/ocsp verifies the signatures; whether a delegated
// responder may sign (RFC 6960, Section 4.2.2.2) it leaves to the caller, and any
// leaf of the issuer could, this one included.
func readStaple(leaf, issuer *x509.Certificate, staple []byte, now time.Time) *ocsp.Response {
	if len(staple) == 0 {
		return nil
	}
	answer, err := ocsp.ParseResponseForCert(staple, leaf, issuer)
	if err != nil {
		return nil
	}
	if by := answer.Certificate; by != nil && !by.Equal(issuer) {
		if !slices.Contains(by.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) || now.Before(by.NotBefore) || now.After(by.NotAfter) {
			return nil
		}
	}
	return answer
}

// mustStaple looks for status_request (5) in the TLS features (RFC 7633).
func mustStaple(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}) {
			continue
		}
		var features []int
		rest, err := asn1.Unmarshal(e.Value, &features)
		return err != nil || len(rest) > 0 || slices.Contains(features, 5) // what cannot be read is taken as the stricter
	}
	return false
}
