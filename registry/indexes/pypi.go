package indexes

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"golang.org/x/net/html"

	"larder/cache/integrity"
	"larder/registry/jsonstream"
)

// maxTag bounds what is held of an HTML page at once.
const maxTag = 256 << 10

// pypiJSON reads a project's page in its JSON form (PEP 691), or an answer of the
// older JSON API, of any length, and calls yield with the URL and a digest of each file
// that it lists and of the metadata beside it (PEP 658). URLs may be relative.
func pypiJSON(body io.Reader, yield func(file string, d integrity.Digest) error) error {
	s := jsonstream.NewScanner(body)
	list := func() error { return s.Array(func() error { return fileDigests(s, yield) }) }
	err := s.Object(func(name string) (bool, error) {
		switch name {
		case "files", "urls":
			return true, list()
		case "releases":
			return true, s.Object(func(string) (bool, error) { return true, list() })
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("read digests in a project's page: %w", err)
	}
	return nil
}

func fileDigests(s *jsonstream.Scanner, yield func(string, integrity.Digest) error) error {
	var file string
	var own, metadata []integrity.Digest
	err := s.Object(func(name string) (taken bool, err error) {
		switch name {
		case "url":
			file, _, err = s.Text()
		case "hashes", "digests":
			own, err = hashDigests(s)
		case "core-metadata", "dist-info-metadata":
			var of []integrity.Digest
			of, err = hashDigests(s) // true and false are no object
			metadata = append(metadata, of...)
		default:
			return false, nil
		}
		return true, err
	})
	if err != nil {
		return err
	}
	return yieldFile(file, own, metadata, yield)
}

func hashDigests(s *jsonstream.Scanner) ([]integrity.Digest, error) {
	var all []integrity.Digest
	err := s.Object(func(name string) (bool, error) {
		value, ok, err := s.Text()
		if d, known := digestOf(name, value); ok && known {
			all = append(all, d)
		}
		return true, err
	})
	return all, err
}

// digestOf reads the names of hashlib.
func digestOf(name, value string) (integrity.Digest, bool) {
	name = strings.ToLower(name)
	if name == "blake2b_256" {
		name = integrity.BLAKE2b.String()
	}
	d, err := integrity.ParseDigest(name + ":" + value)
	return d, err == nil
}

func yieldFile(file string, own, metadata []integrity.Digest, yield func(string, integrity.Digest) error) error {
	if file == "" {
		return nil
	}
	for _, d := range own {
		if err := yield(file, d); err != nil {
			return err
		}
	}
	sidecar := besides(file)
	for _, d := range metadata {
		if sidecar == "" {
			break
		}
		if err := yield(sidecar, d); err != nil {
			return err
		}
	}
	return nil
}

// besides is the URL of a file's metadata: the path with an ending.
func besides(file string) string {
	u, err := url.Parse(file)
	if err != nil {
		return ""
	}
	u.Path += ".metadata"
	if u.RawPath != "" {
		u.RawPath += ".metadata"
	}
	return u.String()
}

// pypiHTML is pypiJSON for a page in its HTML form (PEP 503): the digests are in
// the fragments of links and in their data attributes.
func pypiHTML(body io.Reader, yield func(file string, d integrity.Digest) error) error {
	z := html.NewTokenizer(body)
	z.SetMaxBuf(maxTag)
	base := ""
	for {
		switch z.Next() {
		case html.ErrorToken:
			if err := z.Err(); !errors.Is(err, io.EOF) {
				return fmt.Errorf("read digests in a project's page: %w", err)
			}
			return nil
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			switch {
			case more && string(name) == "base":
				base = attributeOf(z, "href")["href"]
			case more && string(name) == "a":
				if err := linkDigests(base, attributeOf(z, "href", "data-core-metadata", "data-dist-info-metadata"), yield); err != nil {
					return err
				}
			}
		}
	}
}

// attributeOf returns attributes of the tag by name; of two with one name the first, as
// browsers do.
func attributeOf(z *html.Tokenizer, names ...string) map[string]string {
	found := make(map[string]string, len(names))
	for more := true; more; {
		var key, value []byte
		key, value, more = z.TagAttr()
		for _, name := range names {
			if _, twice := found[name]; string(key) == name && !twice {
				found[name] = string(value)
			}
		}
	}
	return found
}

func linkDigests(base string, attributes map[string]string, yield func(string, integrity.Digest) error) error {
	href, fragment, _ := strings.Cut(attributes["href"], "#")
	if base != "" {
		at, err := url.Parse(base)
		if err != nil {
			return nil //nolint:nilerr // a page whose links nobody can follow
		}
		to, err := at.Parse(href)
		if err != nil {
			return nil //nolint:nilerr // likewise
		}
		href = to.String()
	}
	var own, metadata []integrity.Digest
	for part := range strings.SplitSeq(fragment, "&") {
		name, value, _ := strings.Cut(part, "=")
		if d, ok := digestOf(name, value); ok {
			own = append(own, d)
		}
	}
	for _, name := range []string{"data-core-metadata", "data-dist-info-metadata"} {
		algorithm, value, _ := strings.Cut(attributes[name], "=")
		if d, ok := digestOf(algorithm, value); ok {
			metadata = append(metadata, d)
		}
	}
	return yieldFile(href, own, metadata, yield)
}
