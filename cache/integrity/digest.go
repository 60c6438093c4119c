package integrity

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// maxDigest is the length in bytes of the longest digest.
const maxDigest = 64

// Digest is the digest of a body. Its zero value is none. Digests compare with ==.
type Digest struct {
	algorithm Algorithm
	sum       [maxDigest]byte
}

// NewDigest returns the digest of that value, false where its length is not the
// algorithm's.
func NewDigest(a Algorithm, sum []byte) (Digest, bool) {
	d := Digest{algorithm: a}
	if len(sum) == 0 || len(sum) != a.Size() {
		return Digest{}, false
	}
	copy(d.sum[:], sum)
	return d, true
}

// ParseDigest reads algorithm:value as String writes it, with a value in hexadecimal
// digits of either case.
func ParseDigest(s string) (Digest, error) {
	name, value, _ := strings.Cut(s, ":")
	a, ok := ParseAlgorithm(name)
	if !ok {
		return Digest{}, fmt.Errorf("%q is no digest: write algorithm:value, as sha256:…", s)
	}
	d, ok := fromHex(a, value)
	if !ok {
		return Digest{}, fmt.Errorf("%q is no digest: %s has %d hexadecimal digits", s, a, 2*a.Size())
	}
	return d, nil
}

// fromHex reads a value in hexadecimal digits.
func fromHex(a Algorithm, value string) (Digest, bool) {
	if len(value) != 2*a.Size() {
		return Digest{}, false
	}
	sum, err := hex.DecodeString(value)
	if err != nil {
		return Digest{}, false
	}
	return NewDigest(a, sum)
}

// Algorithm returns what the digest was made by, 0 for the zero value.
func (d Digest) Algorithm() Algorithm { return d.algorithm }

// IsZero reports whether it is no digest.
func (d Digest) IsZero() bool { return d.algorithm == 0 }

// Sum returns the value.
func (d Digest) Sum() []byte { return append([]byte(nil), d.sum[:d.algorithm.Size()]...) }

// Hex returns the value in lower-case hexadecimal digits.
func (d Digest) Hex() string { return hex.EncodeToString(d.sum[:d.algorithm.Size()]) }

// String returns algorithm:value, the value in lower-case hexadecimal digits; "" for
// the zero value.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return d.algorithm.String() + ":" + d.Hex()
}
