package gosum

import (
	"bufio"
	"fmt"
	"io"
	"net/url"
	"strings"

	"golang.org/x/mod/module"

	"larder/cache/integrity"
)

// maxLookup is the most of an answer that is read: an ID, two lines and a signed tree.
const maxLookup = 64 << 10

// Lookup reads an answer to /lookup/M@V and calls yield with the path below a module
// proxy, spelled as the go command sends it and as the protocol writes it, and the h1
// digest of each file. Whether the tree that follows is signed is for the go command.
func Lookup(body io.Reader, yield func(path string, d integrity.Digest) error) error {
	lines := bufio.NewScanner(io.LimitReader(body, maxLookup))
	for first := true; lines.Scan(); first = false {
		if lines.Text() == "" {
			break // the tree follows
		}
		fields := strings.Fields(lines.Text())
		if first || len(fields) != 3 {
			continue // the record's number
		}
		version, mod := strings.CutSuffix(fields[1], "/go.mod")
		d, ok := integrity.ParseH1(fields[2], mod)
		paths, err := paths(fields[0], version, mod)
		if !ok || err != nil {
			continue
		}
		for _, p := range paths {
			if err := yield(p, d); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read an answer of a checksum database: %w", err)
	}
	return nil
}

// paths returns the spellings of where a file is. The go command escapes the ! of the
// protocol's own escaping.
func paths(mod, version string, isMod bool) ([]string, error) {
	m, err := module.EscapePath(mod)
	if err != nil {
		return nil, err
	}
	v, err := module.EscapeVersion(version)
	if err != nil {
		return nil, err
	}
	ending := ".zip"
	if isMod {
		ending = ".mod"
	}
	plain := m + "/@v/" + v + ending
	sent := strings.ReplaceAll(url.PathEscape(plain), "%2F", "/")
	if sent == plain {
		return []string{plain}, nil
	}
	return []string{sent, plain}, nil
}

// Root returns the root of the module proxy through which an answer at that path came,
// with a slash at its end; false for one that came from the database's own host.
func Root(lookup string) (string, bool) {
	i := strings.LastIndex(lookup, "/sumdb/")
	if i < 0 {
		return "", false
	}
	return lookup[:i+1], true
}

// IsLookup reports whether a path is that of an answer.
func IsLookup(path string) bool {
	before, _, ok := strings.Cut(path, "/lookup/")
	return ok && (before == "" || strings.Contains(before, "/sumdb/"))
}
