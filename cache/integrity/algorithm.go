package integrity

import (
	"crypto/md5"  //nolint:gosec // what a registry names is checked, and it may name nothing better
	"crypto/sha1" //nolint:gosec // as above: npm's shasum, Maven's sidecars
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"hash/crc32"

	"golang.org/x/crypto/blake2b"
)

// Algorithm is how a digest is made of a body. Its values go to disk.
type Algorithm uint8

// The algorithms, none of whose numbers may change.
const (
	SHA256  Algorithm = 1
	SHA512  Algorithm = 2
	SHA1    Algorithm = 3
	MD5     Algorithm = 4
	BLAKE2b Algorithm = 5 // BLAKE2b-256, RFC 7693 with a digest of 32 bytes
	SHA384  Algorithm = 6
	CRC32C  Algorithm = 7 // Castagnoli, a checksum against accidents
	// GoZip and GoMod are h1 of the checksum database: SHA-256 of the sorted list of
	// the SHA-256 of the members of a module's zip file, or of its go.mod
	// (https://go.dev/ref/mod#go-sum-files).
	GoZip Algorithm = 8
	GoMod Algorithm = 9

	algorithms = 10
)

var algorithmNames = [algorithms]string{
	SHA256: "sha256", SHA512: "sha512", SHA1: "sha1", MD5: "md5", BLAKE2b: "blake2b-256", SHA384: "sha384",
	CRC32C: "crc32c", GoZip: "h1-zip", GoMod: "h1-mod",
}

// ParseAlgorithm returns the algorithm of a name as String writes it.
func ParseAlgorithm(name string) (Algorithm, bool) {
	for a, n := range algorithmNames {
		if n != "" && n == name {
			return Algorithm(a), true
		}
	}
	return 0, false
}

// String returns the name, such as sha256.
func (a Algorithm) String() string {
	if a == 0 || a >= algorithms {
		return "invalid"
	}
	return algorithmNames[a]
}

// Size returns the length of a digest in bytes, 0 for no algorithm.
func (a Algorithm) Size() int {
	switch a {
	case SHA256, BLAKE2b, GoZip, GoMod:
		return 32
	case SHA512:
		return 64
	case SHA384:
		return 48
	case SHA1:
		return 20
	case MD5:
		return 16
	case CRC32C:
		return 4
	}
	return 0
}

// New returns a hash of bodies, or nil where the digest is not one of the bytes in
// their order (GoZip, GoMod).
func (a Algorithm) New() hash.Hash {
	switch a {
	case SHA256:
		return sha256.New()
	case SHA512:
		return sha512.New()
	case SHA384:
		return sha512.New384()
	case SHA1:
		return sha1.New() //nolint:gosec // see the import
	case MD5:
		return md5.New() //nolint:gosec // see the import
	case BLAKE2b:
		h, _ := blake2b.New256(nil) // fails for a key that is too long
		return h
	case CRC32C:
		return crc32.New(crc32.MakeTable(crc32.Castagnoli))
	}
	return nil
}

// Strong reports whether nobody can make two bodies of one digest.
func (a Algorithm) Strong() bool {
	switch a {
	case SHA256, SHA384, SHA512, BLAKE2b, GoZip, GoMod:
		return true
	}
	return false
}
