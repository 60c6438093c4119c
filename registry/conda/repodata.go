package conda

import (
	"fmt"
	"io"
	"path"
	"strings"

	"larder/cache/integrity"
	"larder/registry/jsonstream"
)

// Repodata reads a repodata.json of any length and calls yield with the name, relative
// to its folder, and a digest of each package: SHA-256, or MD5 where there is no better.
func Repodata(body io.Reader, yield func(file string, d integrity.Digest) error) error {
	s := jsonstream.NewScanner(body)
	err := s.Object(func(name string) (bool, error) {
		if name != "packages" && name != "packages.conda" {
			return false, nil
		}
		return true, s.Object(func(file string) (bool, error) { return true, one(s, file, yield) })
	})
	if err != nil {
		return fmt.Errorf("read a channel's repodata: %w", err)
	}
	return nil
}

func one(s *jsonstream.Scanner, file string, yield func(string, integrity.Digest) error) error {
	var sha256, md5 string
	err := s.Object(func(name string) (taken bool, err error) {
		switch name {
		case "sha256":
			sha256, _, err = s.Text()
		case "md5":
			md5, _, err = s.Text()
		default:
			return false, nil
		}
		return true, err
	})
	if err != nil || file == "" || strings.ContainsAny(file, "/?#%\\:") {
		return err
	}
	d, bad := integrity.ParseDigest("sha256:" + sha256)
	if bad != nil {
		if d, bad = integrity.ParseDigest("md5:" + md5); bad != nil {
			return nil //nolint:nilerr // it names none
		}
	}
	return yield(file, d)
}

// IsRepodata reports whether a path is that of such an index, compressed or not.
func IsRepodata(file string) bool {
	name := path.Base(file)
	for _, ending := range []string{".zst", ".bz2", ".gz"} {
		name = strings.TrimSuffix(name, ending)
	}
	return name == "repodata.json" || name == "current_repodata.json" || name == "repodata_from_packages.json"
}
