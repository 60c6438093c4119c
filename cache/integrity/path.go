package integrity

import (
	"fmt"
	"regexp"
	"strings"
)

// encoding is how a path spells a digest.
type encoding uint8

const (
	hexadecimal encoding = iota
	nix32
)

// PathPattern finds a digest in the path of a URL. It is safe for concurrent use.
type PathPattern struct {
	algorithm Algorithm
	encoding  encoding
	re        *regexp.Regexp
}

// NewPathPattern returns a pattern for the digests of an algorithm, whose name may end
// in -nix32 for Nix's way of writing them. The groups of the expression, RE2 over the
// path as sent, are the digest when they are joined; those that took no part are empty.
func NewPathPattern(algorithm, expression string) (PathPattern, error) {
	p := PathPattern{}
	name, nix := strings.CutSuffix(algorithm, "-nix32")
	if nix {
		p.encoding = nix32
	}
	var ok bool
	if p.algorithm, ok = ParseAlgorithm(name); !ok || p.algorithm.New() == nil {
		return p, fmt.Errorf("pattern of a digest in paths: unknown algorithm %q", algorithm)
	}
	re, err := regexp.Compile(expression)
	if err != nil {
		return p, fmt.Errorf("pattern of a digest in paths: %w", err)
	}
	if re.NumSubexp() == 0 {
		return p, fmt.Errorf("pattern of a digest in paths: %q has no group", expression)
	}
	p.re = re
	return p, nil
}

// Algorithm returns what the digests are made by.
func (p PathPattern) Algorithm() Algorithm { return p.algorithm }

// Find returns the digest that an escaped path names. What the groups took is none
// where it has not the length of one, or characters of another alphabet.
func (p PathPattern) Find(path string) (Digest, bool) {
	m := p.re.FindStringSubmatchIndex(path)
	if m == nil {
		return Digest{}, false
	}
	var space [2 * maxDigest]byte
	value := space[:0]
	for i := 2; i < len(m); i += 2 {
		if m[i] < 0 {
			continue
		}
		if len(value)+m[i+1]-m[i] > cap(space[:]) {
			return Digest{}, false
		}
		value = append(value, path[m[i]:m[i+1]]...)
	}
	if p.encoding == nix32 {
		return ParseNix32(p.algorithm, string(value))
	}
	return fromHex(p.algorithm, string(value))
}

// nixAlphabet leaves out e, o, t and u.
const nixAlphabet = "0123456789abcdfghijklmnpqrsvwxyz"

// ParseNix32 reads a digest in Nix's base 32: 5 bits per character, the last character holding the
// lowest ones of the first byte
// (https://github.com/NixOS/nix/blob/master/src/libutil/base-nix-32.cc).
func ParseNix32(a Algorithm, s string) (Digest, bool) {
	size := a.Size()
	if len(s) != (size*8+4)/5 {
		return Digest{}, false
	}
	sum := make([]byte, size)
	for n := range len(s) {
		digit := strings.IndexByte(nixAlphabet, s[len(s)-1-n])
		if digit < 0 {
			return Digest{}, false
		}
		at := n * 5
		i, j := at/8, at%8
		sum[i] |= byte(digit << j)
		if high := byte(digit >> (8 - j)); i+1 < size {
			sum[i+1] |= high
		} else if high != 0 {
			return Digest{}, false
		}
	}
	return NewDigest(a, sum)
}
