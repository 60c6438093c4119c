package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	benchHost  = "bench.test"  // the origin over HTTP/1.1
	benchHost2 = "bench2.test" // the origin over HTTP/2
	tunnelHost = "tunnel.test" // the source, which no rule names
	// freshDomain is where hosts are whose leaves nobody asked for yet.
	freshDomain = "fresh.bench.test"

	largeSize = 64 << 20
	smallSize = 10 << 10

	// prefixSize is how many bytes of an object differ from those of every other.
	prefixSize = sha256.Size
)

// object is what the origin serves under a path: its size is in the path, its
// first bytes are the path's digest, the rest is one pattern for all. So no two
// have the same content, and every client can tell that it got the right one.
type object struct {
	prefix [prefixSize]byte
	size   int64
}

// pathOf names object id of size bytes.
func pathOf(size int64, id string) string {
	return "/immutable/" + strconv.FormatInt(size, 10) + "/" + id
}

func parseObject(path string) (object, error) {
	rest, ok := strings.CutPrefix(path, "/immutable/")
	number, _, slash := strings.Cut(rest, "/")
	size, err := strconv.ParseInt(number, 10, 64)
	if !ok || !slash || err != nil || size < prefixSize {
		return object{}, errors.New("not an object of the benchmark")
	}
	return object{prefix: sha256.Sum256([]byte(path)), size: size}, nil
}

// pattern is what objects consist of behind their prefix, repeated.
type pattern []byte

// patternPiece is the size of one write; the pattern holds a multiple of it.
const patternPiece = 256 << 10

// newPattern returns n bytes that do not compress.
func newPattern(n int) pattern {
	p := make(pattern, n)
	x := uint64(88172645463325252)
	for i := range p { // xorshift64
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p[i] = byte(x)
	}
	return p
}

// writeTo writes the object in pieces of 256 KiB.
func (o object) writeTo(w io.Writer, p pattern) error {
	first := make([]byte, min(o.size, patternPiece))
	copy(first, p)
	copy(first, o.prefix[:])
	if _, err := w.Write(first); err != nil {
		return err
	}
	for off := int64(len(first)); off < o.size; {
		at := int(off % int64(len(p)))
		n := min(o.size-off, patternPiece, int64(len(p)-at))
		if _, err := w.Write(p[at : at+int(n)]); err != nil {
			return err
		}
		off += n
	}
	return nil
}

// checkPrefix reports whether got begins like the object under path.
func checkPrefix(path string, got []byte) error {
	if want := sha256.Sum256([]byte(path)); string(got) != string(want[:]) {
		return fmt.Errorf("GET %s: the body is not the object's", path)
	}
	return nil
}

// byteSize is a flag that takes sizes such as 8GiB.
type byteSize int64

// Set implements flag.Value.
func (b *byteSize) Set(s string) error {
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if number, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 32)
			*b = byteSize(n << (10 * (i + 1)))
			return err
		}
	}
	return errors.New("a size is a number followed by KiB, MiB or GiB")
}

// String implements flag.Value.
func (b *byteSize) String() string {
	if *b >= 1<<30 && *b%(1<<30) == 0 {
		return fmt.Sprintf("%dGiB", int64(*b)>>30)
	}
	return fmt.Sprintf("%dMiB", int64(*b)>>20)
}
