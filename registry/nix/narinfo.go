package nix

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"larder/cache/integrity"
)

// maxNarInfo is the most of a file that is read, in bytes. References to thousands of
// other paths have some hundreds of KiB.
const maxNarInfo = 1 << 20

// NarInfo reads a .narinfo file and calls yield with the URL, relative to the folder of
// the file, and the digest of the archive as it is sent.
func NarInfo(body io.Reader, yield func(file string, d integrity.Digest) error) error {
	lines := bufio.NewScanner(io.LimitReader(body, maxNarInfo))
	lines.Buffer(nil, maxNarInfo)
	var file, digest string
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "URL":
			file = value
		case "FileHash":
			digest = value
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read a .narinfo file: %w", err)
	}
	if d, ok := hash(digest); ok && file != "" {
		return yield(file, d)
	}
	return nil
}

// hash reads sha256:VALUE in base 32 or 16, or sha256-VALUE as SRI has it.
func hash(s string) (integrity.Digest, bool) {
	if all := integrity.SRI(s); len(all) == 1 {
		return all[0], true
	}
	algorithm, value, _ := strings.Cut(s, ":")
	a, ok := integrity.ParseAlgorithm(algorithm)
	if !ok {
		return integrity.Digest{}, false
	}
	if d, ok := integrity.ParseNix32(a, value); ok {
		return d, true
	}
	d, err := integrity.ParseDigest(s)
	return d, err == nil
}
