package manifest

import (
	"crypto/sha256"
	"errors"
	"io"
	"strings"

	"larder/cache/integrity"
	"larder/registry/debian"
	"larder/registry/rpm"
)

const (
	// maxFiles bounds the files of one list: Debian names less than a thousand, with all its architectures.
	maxFiles = 1 << 13
	// MaxSize bounds the list itself, in bytes.
	MaxSize = 8 << 20
)

var errTooMany = errors.New("read list of a repository: it names too many files")

// Files are the SHA-256 of files by the names that their list has for them.
type Files map[string][sha256.Size]byte

// add records a file; of one that is named twice the first digest counts.
func (f Files) add(name string, d integrity.Digest) error {
	if d.Algorithm() != integrity.SHA256 {
		return nil
	}
	if _, twice := f[name]; twice {
		return nil
	}
	if len(f) >= maxFiles {
		return errTooMany
	}
	f[name] = [sha256.Size]byte(d.Sum())
	return nil
}

// Kind is a kind of list.
type Kind uint8

// The kinds.
const (
	Debian Kind = iota + 1
	RPM
)

// Parse returns the kind of a name, as policy files write it.
func Parse(name string) (Kind, bool) {
	switch name {
	case "debian":
		return Debian, true
	case "rpm":
		return RPM, true
	}
	return 0, false
}

// Place is where a file may be listed, and as what.
type Place struct {
	// List is the path of the list.
	List string
	// Name is what it calls the file.
	Name string
}

// maxDepth is how many folders above a file its list is looked for.
const maxDepth = 8

// Places returns where a file may be listed, by its path, the nearest first. There are
// none for a list itself.
func (k Kind) Places(path string) []Place {
	slash := strings.LastIndexByte(path, '/')
	if slash < 0 || k.IsList(path) || path[slash+1:] == "" {
		return nil
	}
	if k == RPM {
		folder := path[:slash]
		if up, last := cut(folder); last == "repodata" {
			return []Place{{List: folder + "/repomd.xml", Name: path[len(up)+1:]}}
		}
		return nil
	}
	var all []Place
	for folder := path[:slash]; len(all) < 2*maxDepth; {
		name := path[len(folder)+1:]
		all = append(all, Place{folder + "/InRelease", name}, Place{folder + "/Release", name})
		up, last := cut(folder)
		if last == "dists" || folder == "" {
			break
		}
		folder = up
	}
	return all
}

// cut splits the last segment off a path.
func cut(path string) (rest, last string) {
	slash := strings.LastIndexByte(path, '/')
	if slash < 0 {
		return "", path
	}
	return path[:slash], path[slash+1:]
}

// IsList reports whether a path is that of a list, or of its signature.
func (k Kind) IsList(path string) bool {
	_, name := cut(path)
	if k == RPM {
		return strings.HasPrefix(name, "repomd.xml")
	}
	return name == "InRelease" || name == "Release" || name == "Release.gpg"
}

// Signature returns the path of the signature beside a list, "" where it is within.
func (k Kind) Signature(path string) string {
	folder, name := cut(path)
	switch {
	case k == RPM && name == "repomd.xml":
		return path + ".asc"
	case k == Debian && name == "Release":
		return folder + "/Release.gpg"
	}
	return ""
}

// Read reads a list.
func (k Kind) Read(r io.Reader) (Files, error) {
	files := make(Files)
	read := debian.Release
	if k == RPM {
		read = rpm.Repomd
	}
	if err := read(io.LimitReader(r, MaxSize), files.add); err != nil {
		return nil, err
	}
	return files, nil
}
