package rpm

import (
	"fmt"
	"io"
	"path"
	"strings"

	"larder/cache/integrity"
)

// Repomd reads a repomd.xml and calls yield with the location, relative to the root of
// the repository, and a digest of each file that it names.
func Repomd(body io.Reader, yield func(location string, d integrity.Digest) error) error {
	return read(body, "data", yield)
}

// Primary reads a primary.xml of any length and calls yield with the location, relative
// to the root of the repository, and a digest of each package.
func Primary(body io.Reader, yield func(location string, d integrity.Digest) error) error {
	return read(body, "package", yield)
}

// read takes the location and checksum of each element of a name.
func read(body io.Reader, element string, yield func(string, integrity.Digest) error) error {
	t := newTags(body)
	var location, base string
	var digest integrity.Digest
	for {
		tag, err := t.next()
		if err == io.EOF { //nolint:errorlint // that of tags, plain
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the metadata of an RPM repository: %w", err)
		}
		switch {
		case tag.name == element && !tag.end:
			location, base, digest = "", "", integrity.Digest{}
		case tag.name == "location":
			location, base = tag.attribute("href"), tag.attribute("xml:base")
		case tag.name == "checksum" && !tag.end:
			if d, ok := digestOf(tag.attribute("type"), t.text()); ok && digest.IsZero() {
				digest = d
			}
		case tag.name == element && tag.end && location != "" && !digest.IsZero():
			if base != "" {
				location = strings.TrimSuffix(base, "/") + "/" + location
			}
			if err := yield(location, digest); err != nil {
				return err
			}
		}
	}
}

// digestOf reads a checksum; sha is an old name of SHA-1.
func digestOf(kind, value string) (integrity.Digest, bool) {
	if kind == "sha" {
		kind = "sha1"
	}
	d, err := integrity.ParseDigest(kind + ":" + strings.TrimSpace(value))
	return d, err == nil
}

// Root returns the root of the repository in whose repodata folder a file of that path
// is, with a slash at its end.
func Root(file string) (string, bool) {
	dir, ok := strings.CutSuffix(path.Dir(file), "repodata")
	return dir, ok && strings.HasSuffix(dir, "/")
}

// IsPrimary reports whether a file of repodata is, by its name, the list of packages.
func IsPrimary(file string) bool {
	name := path.Base(file)
	for _, ending := range []string{".gz", ".xz", ".zst", ".bz2"} {
		name = strings.TrimSuffix(name, ending)
	}
	return name == "primary.xml" || strings.HasSuffix(name, "-primary.xml")
}
