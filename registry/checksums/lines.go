package checksums

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"strings"

	"larder/cache/integrity"
)

// maxLine is the longest line, in bytes.
const maxLine = 4 << 10

// Lines reads a file of checksums and calls yield with each name and digest: as sha256sum
// writes it ("digest  name", "digest *name"), or with --tag ("SHA256 (name) = digest").
// The algorithm is that of the file, or 0 where the length of a digest tells it. name is
// "" for a digest alone. Names are relative to the folder of the file, and stay below it.
func Lines(body io.Reader, a integrity.Algorithm, yield func(name string, d integrity.Digest) error) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		name, d, ok := parse(lines.Text(), a)
		if !ok {
			continue
		}
		if err := yield(name, d); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read a file of checksums: %w", err)
	}
	return nil
}

func parse(line string, a integrity.Algorithm) (name string, d integrity.Digest, ok bool) {
	line = strings.TrimSpace(line)
	value, rest, _ := strings.Cut(line, " ")
	name = strings.TrimPrefix(strings.TrimLeft(rest, " "), "*")
	if tagged, after, found := strings.Cut(line, ") = "); found {
		algorithm, of, open := strings.Cut(tagged, " (")
		named, known := integrity.ParseAlgorithm(strings.ToLower(algorithm))
		if !open || !known || a != 0 && a != named {
			return "", d, false
		}
		a, name, value = named, of, after
	}
	if name = strings.TrimPrefix(name, "./"); name != "" && !inside(name) {
		return "", d, false
	}
	if a == 0 {
		a = byLength(len(value))
	}
	d, err := integrity.ParseDigest(a.String() + ":" + value)
	return name, d, err == nil
}

// byLength is the algorithm whose digests have that many hexadecimal digits.
func byLength(digits int) integrity.Algorithm {
	for _, a := range []integrity.Algorithm{integrity.SHA256, integrity.SHA512, integrity.SHA1, integrity.MD5} {
		if 2*a.Size() == digits {
			return a
		}
	}
	return 0
}

func inside(name string) bool {
	clean := path.Clean(name)
	return !path.IsAbs(name) && clean != "." && clean != ".." && !strings.HasPrefix(clean, "../") && !strings.ContainsAny(name, "?#%\\:")
}

// Sidecar returns the path of the file that a sidecar speaks of, and the algorithm that
// its ending names.
func Sidecar(file string) (of string, a integrity.Algorithm, ok bool) {
	for _, e := range []struct {
		ending    string
		algorithm integrity.Algorithm
	}{
		{".sha256", integrity.SHA256},
		{".sha512", integrity.SHA512},
		{".sha1", integrity.SHA1},
		{".md5", integrity.MD5},
		{".sha256sum", integrity.SHA256},
		{".sha512sum", integrity.SHA512},
	} {
		if of, ok := strings.CutSuffix(file, e.ending); ok && !strings.HasSuffix(of, "/") {
			return of, e.algorithm, true
		}
	}
	return "", 0, false
}

// IsList reports whether a file is, by its name, one of checksums of several, and which
// algorithm that says: 0 for none.
func IsList(file string) (a integrity.Algorithm, ok bool) {
	name := strings.ToLower(path.Base(file))
	for _, ending := range []string{".txt", ".sums"} {
		name = strings.TrimSuffix(name, ending)
	}
	for _, n := range []struct {
		ending    string
		algorithm integrity.Algorithm
	}{
		{"sha256sums", integrity.SHA256},
		{"sha512sums", integrity.SHA512},
		{"sha1sums", integrity.SHA1},
		{"md5sums", integrity.MD5},
		{"shasums256", integrity.SHA256},
		{"shasums", integrity.SHA1},
		{"sha256sum", integrity.SHA256},
		{"sha512sum", integrity.SHA512},
		{"checksums", 0},
		{"checksum", 0},
	} {
		if strings.HasSuffix(name, n.ending) {
			return n.algorithm, true
		}
	}
	return 0, false
}
