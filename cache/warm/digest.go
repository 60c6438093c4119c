package warm

import (
	"bytes"
	"crypto/md5"  //nolint:gosec // checked only because a list may name nothing better
	"crypto/sha1" //nolint:gosec // npm locks of old packages hold nothing else
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/dirhash"
)

// Digest is the digest that a body must have: algorithm, colon, value in lower-case
// hexadecimal, such as "sha256:1f…". Two more algorithms are Go's "h1" of go.sum,
// whose value is base64: "h1-zip" of a module's zip file and "h1-mod" of its go.mod
// (https://go.dev/ref/mod#go-sum-files). The zero value means that none is known.
type Digest string

const (
	h1Zip = "h1-zip"
	h1Mod = "h1-mod"
	// maxMod is how large a go.mod may be: Go's own limit (golang.org/x/mod/zip).
	maxMod = 16 << 20
	// maxZip is Go's limit for a module's zip file.
	maxZip = 500 << 20
)

// ParseDigest reads a digest as Digest writes it.
func ParseDigest(s string) (Digest, error) {
	algorithm, value, ok := strings.Cut(s, ":")
	algorithm = strings.ToLower(algorithm)
	if !ok {
		return "", fmt.Errorf("%q is no digest: write algorithm:value, as sha256:…", s)
	}
	if algorithm == h1Zip || algorithm == h1Mod {
		if b, err := base64.StdEncoding.Strict().DecodeString(value); err != nil || len(b) != sha256.Size {
			return "", fmt.Errorf("%q is no h1 digest of go.sum", s)
		}
		return Digest(algorithm + ":" + value), nil
	}
	h := newHash(algorithm)
	if h == nil {
		return "", fmt.Errorf("%q: the algorithm is none of sha256, sha512, sha384, sha224, sha1, md5", s)
	}
	b, err := hex.DecodeString(value)
	if err != nil || len(b) != h.Size() {
		return "", fmt.Errorf("%q: a %s digest has %d hexadecimal digits", s, algorithm, 2*h.Size())
	}
	return Digest(algorithm + ":" + hex.EncodeToString(b)), nil
}

func newHash(algorithm string) hash.Hash {
	switch algorithm {
	case "sha256":
		return sha256.New()
	case "sha512":
		return sha512.New()
	case "sha384":
		return sha512.New384()
	case "sha224":
		return sha256.New224()
	case "sha1":
		return sha1.New() //nolint:gosec // see the import
	case "md5":
		return md5.New() //nolint:gosec // see the import
	}
	return nil
}

// fromIntegrity returns the strongest digest of a Subresource Integrity value
// (W3C SRI, section 3.3.3), or "" when it holds none. Of several equally strong ones
// it is the first: locks never hold two.
func fromIntegrity(s string) Digest {
	strength := map[string]int{"sha1": 1, "sha256": 2, "sha384": 3, "sha512": 4}
	var best Digest
	reached := 0
	for one := range strings.FieldsSeq(s) {
		algorithm, value, ok := strings.Cut(one, "-")
		value, _, _ = strings.Cut(value, "?") // options, of which none is defined
		if !ok || strength[algorithm] <= reached {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			continue
		}
		if d, err := ParseDigest(algorithm + ":" + hex.EncodeToString(b)); err == nil {
			best, reached = d, strength[algorithm]
		}
	}
	return best
}

// A MismatchError says that a body has not the digest that a lock file names.
type MismatchError struct {
	Want Digest
	Got  Digest // "" when the body is nothing that could have one
}

// Error names both digests.
func (e *MismatchError) Error() string {
	if e.Got == "" {
		return fmt.Sprintf("the body does not match %s", e.Want)
	}
	return fmt.Sprintf("the body does not match %s: it is %s", e.Want, e.Got)
}

// A Check is an io.Writer for a body, which says at the end whether it had the
// digest. Close must be called.
type Check struct {
	want Digest
	hash hash.Hash
	mod  *bytes.Buffer
	zip  *os.File
	size int64
	err  error
}

// NewCheck begins to verify a body against d. A module's zip file is kept in a
// temporary file for as long, in the folder that os.TempDir names, because its
// digest is that of its members.
func NewCheck(d Digest) (*Check, error) {
	c := &Check{want: d}
	algorithm, _, _ := strings.Cut(string(d), ":")
	switch algorithm {
	case "":
	case h1Mod:
		c.mod = new(bytes.Buffer)
	case h1Zip:
		f, err := os.CreateTemp("", "larder-check-*.zip")
		if err != nil {
			return nil, fmt.Errorf("check the digest of a module: %w", err)
		}
		c.zip = f
	default:
		if c.hash = newHash(algorithm); c.hash == nil {
			return nil, fmt.Errorf("check %q: unknown algorithm", d)
		}
	}
	return c, nil
}

// Write takes a part of the body. It never fails: what went wrong is told by Result.
func (c *Check) Write(p []byte) (int, error) {
	c.size += int64(len(p))
	switch {
	case c.hash != nil:
		c.hash.Write(p)
	case c.mod != nil && c.size <= maxMod:
		c.mod.Write(p)
	case c.zip != nil && c.size <= maxZip && c.err == nil:
		_, c.err = c.zip.Write(p)
	}
	return len(p), nil
}

// Result returns a *MismatchError when the body had another digest.
func (c *Check) Result() error {
	got, err := c.digest()
	if err != nil {
		return err
	}
	if c.want != "" && got != c.want {
		return &MismatchError{Want: c.want, Got: got}
	}
	return nil
}

func (c *Check) digest() (Digest, error) {
	algorithm, _, _ := strings.Cut(string(c.want), ":")
	switch {
	case c.hash != nil:
		return Digest(algorithm + ":" + hex.EncodeToString(c.hash.Sum(nil))), nil
	case c.mod != nil:
		if c.size > maxMod {
			return "", nil
		}
		sum, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(c.mod.Bytes())), nil
		})
		return Digest(strings.Replace(sum, "h1:", h1Mod+":", 1)), err
	case c.zip != nil:
		if c.err != nil {
			return "", fmt.Errorf("check the digest of a module: %w", c.err)
		}
		if c.size > maxZip {
			return "", nil
		}
		sum, err := dirhash.HashZip(c.zip.Name(), dirhash.Hash1)
		if err != nil {
			return "", nil //nolint:nilerr // no zip file: no digest, which is a mismatch
		}
		return Digest(strings.Replace(sum, "h1:", h1Zip+":", 1)), nil
	}
	return "", nil
}

// Close removes what was kept.
func (c *Check) Close() error {
	if c.zip == nil {
		return nil
	}
	err := errors.Join(c.zip.Close(), os.Remove(c.zip.Name()))
	c.zip = nil
	return err
}
