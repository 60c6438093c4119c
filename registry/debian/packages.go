package debian

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"larder/cache/integrity"
)

// stanza is what matters of one paragraph of Packages or Sources.
type stanza struct {
	any              bool
	filename, folder string
	digest           integrity.Digest
	section          integrity.Algorithm
	files            []sourceFile
}

type sourceFile struct {
	name string
	d    integrity.Digest
}

// maxFiles bounds the files of one source package that are looked at.
const maxFiles = 1000

// Packages reads a Packages or Sources file and calls yield with the digest of each file
// that it names. Names are relative to the root of the repository. A file whose first
// paragraph names none is neither, as a Translation, and is not read any further.
func Packages(r io.Reader, yield func(name string, d integrity.Digest) error) error {
	var s stanza
	first := true
	end := func() error {
		if !s.any {
			return nil
		}
		if first && s.filename == "" && s.folder == "" {
			return errEnd
		}
		first = false
		err := s.yield(yield)
		s = stanza{files: s.files[:0]}
		return err
	}
	err := lines(r, func(line string) error {
		if line == "" {
			return end()
		}
		s.line(line)
		return nil
	})
	if err == nil {
		err = end()
	}
	if err != nil && !errors.Is(err, errEnd) {
		return fmt.Errorf("read a Packages or Sources file: %w", err)
	}
	return nil
}

func (s *stanza) line(line string) {
	s.any = true
	if line[0] == ' ' || line[0] == '\t' {
		if d, name, ok := listed(s.section, line); ok && len(s.files) < maxFiles {
			s.files = append(s.files, sourceFile{name, d})
		}
		return
	}
	field, value, _ := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	s.section = 0
	switch field {
	case "Filename":
		s.filename = value
	case "Directory":
		s.folder = value
	case "SHA256":
		if d, err := integrity.ParseDigest("sha256:" + value); err == nil {
			s.digest = d
		}
	case "SHA512":
		if d, err := integrity.ParseDigest("sha512:" + value); err == nil && s.digest.IsZero() {
			s.digest = d
		}
	case "Checksums-Sha256", "Checksums-Sha512":
		s.section = sectionOf(line)
	}
}

func (s *stanza) yield(yield func(string, integrity.Digest) error) error {
	if inside(s.filename) && !s.digest.IsZero() {
		return yield(path.Clean(s.filename), s.digest)
	}
	if s.folder != "." && !inside(s.folder) {
		return nil
	}
	for _, f := range s.files {
		if strings.Contains(f.name, "/") {
			continue
		}
		if err := yield(path.Join(s.folder, f.name), f.d); err != nil {
			return err
		}
	}
	return nil
}

// Root returns the root of the repository in which a file of that path is, as the path up
// to dists/, with a slash at its end: Packages and Sources name files from there. Where
// there is no dists/, as in a flat repository, it is the folder of the file.
func Root(file string) string {
	if i := strings.LastIndex(file, "/dists/"); i >= 0 {
		return file[:i+1]
	}
	return file[:strings.LastIndexByte(file, '/')+1]
}
