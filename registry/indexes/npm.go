package indexes

import (
	"encoding/hex"
	"fmt"
	"io"

	"larder/cache/integrity"
	"larder/registry/jsonstream"
)

// npmDigests reads a packument of any length, full or abbreviated, or the manifest of one
// version, and calls yield with the URL and a digest of each tarball that it lists.
func npmDigests(body io.Reader, yield func(tarball string, d integrity.Digest) error) error {
	s := jsonstream.NewScanner(body)
	err := s.Object(func(name string) (bool, error) {
		switch name {
		case "versions":
			return true, s.Object(func(string) (bool, error) { return true, manifestDigests(s, yield) })
		case "dist":
			return true, distDigests(s, yield)
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("read digests in a packument: %w", err)
	}
	return nil
}

func manifestDigests(s *jsonstream.Scanner, yield func(string, integrity.Digest) error) error {
	return s.Object(func(name string) (bool, error) {
		if name != "dist" {
			return false, nil
		}
		return true, distDigests(s, yield)
	})
}

// distDigests takes the integrity value, or in old packuments the SHA-1 (shasum).
func distDigests(s *jsonstream.Scanner, yield func(string, integrity.Digest) error) error {
	var tarball, sri, shasum string
	err := s.Object(func(name string) (taken bool, err error) {
		switch name {
		case "tarball":
			tarball, _, err = s.Text()
		case "integrity":
			sri, _, err = s.Text()
		case "shasum":
			shasum, _, err = s.Text()
		default:
			return false, nil
		}
		return true, err
	})
	if err != nil || tarball == "" {
		return err
	}
	digests := integrity.SRI(sri)
	for _, d := range digests {
		if err := yield(tarball, d); err != nil {
			return err
		}
	}
	if sum, err := hex.DecodeString(shasum); err == nil && len(digests) == 0 {
		if d, ok := integrity.NewDigest(integrity.SHA1, sum); ok {
			return yield(tarball, d)
		}
	}
	return nil
}
