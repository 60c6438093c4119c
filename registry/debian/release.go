package debian

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"larder/cache/integrity"
)

// maxLine bounds what is held of an index at once; what is longer is passed over.
const maxLine = 64 << 10

// lines calls each with every line that is not too long.
func lines(r io.Reader, each func(line string) error) error {
	b := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := b.ReadSlice('\n')
		long := false
		for errors.Is(err, bufio.ErrBufferFull) {
			long = true
			_, err = b.ReadSlice('\n')
		}
		if len(line) > 0 && !long {
			if err := each(strings.TrimRight(string(line), "\r\n")); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// errEnd ends a file before its end.
var errEnd = errors.New("enough")

// Release reads an InRelease or Release file, without looking at its signature, and calls
// yield with the SHA-256 or SHA-512 of each file that it names. Names are relative to the
// folder of the Release file.
func Release(r io.Reader, yield func(name string, d integrity.Digest) error) error {
	var section integrity.Algorithm
	err := lines(r, func(line string) error {
		if strings.HasPrefix(line, "-----BEGIN PGP SIGNATURE") {
			return errEnd
		}
		if !strings.HasPrefix(line, " ") {
			section = sectionOf(line)
			return nil
		}
		if d, name, ok := listed(section, line); ok {
			return yield(name, d)
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnd) {
		return fmt.Errorf("read a Release file: %w", err)
	}
	return nil
}

// sectionOf returns the algorithm of a field that lists files, 0 for other fields. MD5
// and SHA-1 have been given up as proofs, and no repository has them alone.
func sectionOf(line string) integrity.Algorithm {
	switch field, _, _ := strings.Cut(line, ":"); field {
	case "SHA256", "Checksums-Sha256":
		return integrity.SHA256
	case "SHA512", "Checksums-Sha512":
		return integrity.SHA512
	}
	return 0
}

// listed reads digest, size and name.
func listed(a integrity.Algorithm, line string) (d integrity.Digest, name string, ok bool) {
	fields := strings.Fields(line)
	if a == 0 || len(fields) != 3 || !inside(fields[2]) {
		return d, "", false
	}
	d, err := integrity.ParseDigest(a.String() + ":" + fields[0])
	return d, fields[2], err == nil
}

// inside reports whether a relative path stays below where it begins.
func inside(name string) bool {
	clean := path.Clean(name)
	return name != "" && !path.IsAbs(name) && clean != "." && clean != ".." && !strings.HasPrefix(clean, "../") && !strings.ContainsAny(name, "?#%\\:")
}
