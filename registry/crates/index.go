package crates

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"larder/cache/integrity"
)

const (
	// maxLine bounds what is held of an index at once. A line says one version, with its
	// features and dependencies; the longest have some tens of KiB.
	maxLine = 1 << 20
	// MaxConfig is the most that config.json may have, in bytes.
	MaxConfig = 64 << 10
)

// Download returns the template of download URLs in a config.json.
func Download(config []byte) (string, error) {
	var c struct {
		DL string `json:"dl"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return "", fmt.Errorf("read config.json of a crate index: %w", err)
	}
	if c.DL == "" {
		return "", errors.New("read config.json of a crate index: it names no dl")
	}
	return c.DL, nil
}

// Version is a line of an index.
type Version struct {
	Name, Version string
	// Checksum is the SHA-256 of the .crate file.
	Checksum integrity.Digest
}

// Versions reads the index of a crate. A line that cannot be read is passed over, as
// cargo does: it may be of a later format.
func Versions(body io.Reader, yield func(Version) error) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var line struct {
			Name     string `json:"name"`
			Version  string `json:"vers"`
			Checksum string `json:"cksum"`
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil || !plain(line.Name) || !plain(line.Version) {
			continue
		}
		d, err := integrity.ParseDigest("sha256:" + line.Checksum)
		if err != nil {
			continue
		}
		if err := yield(Version{Name: line.Name, Version: line.Version, Checksum: d}); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read a crate index: %w", err)
	}
	return nil
}

// plain reports whether a name can be a segment of a path.
func plain(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.ContainsAny(s, "/?#%\\")
}

// URLs returns where a version may be fetched, given the template of config.json:
// markers are replaced, and without any it is the place of the API. Crates.io has the
// same bytes under a name of their own, too.
func (v Version) URLs(download string) []string {
	name := strings.ToLower(v.Name)
	replaced := strings.NewReplacer(
		"{crate}", v.Name, "{version}", v.Version, "{prefix}", prefix(v.Name), "{lowerprefix}", prefix(name),
		"{sha256-checksum}", v.Checksum.Hex(),
	).Replace(download)
	if replaced != download {
		return []string{replaced}
	}
	base := strings.TrimSuffix(download, "/")
	urls := []string{base + "/" + v.Name + "/" + v.Version + "/download"}
	if path.Base(base) == "crates" {
		urls = append(urls, base+"/"+v.Name+"/"+v.Name+"-"+v.Version+".crate")
	}
	return urls
}

// prefix is the folder in which the index of a crate is.
func prefix(name string) string {
	switch len(name) {
	case 1, 2:
		return fmt.Sprint(len(name))
	case 3:
		return "3/" + name[:1]
	}
	return name[:2] + "/" + name[2:4]
}

// ConfigPath returns where the config.json is to an index file at that path, "" where it
// can be none.
func ConfigPath(index string) string {
	name := path.Base(index)
	if len(name) == 0 || name == "/" || name == "." {
		return ""
	}
	root, ok := strings.CutSuffix(index, "/"+prefix(strings.ToLower(name))+"/"+name)
	if !ok {
		return ""
	}
	return root + "/config.json"
}
