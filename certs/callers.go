package certs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// callerPrefix begins the name of the folder of one set of roots.
const callerPrefix = "caller-"

// Callers keeps trust files for callers who trust more than the system's roots,
// as long as somebody uses them. There is one set of files for each set of roots,
// whatever the files are called that the roots come from. It is safe for
// concurrent use; one process at a time may have the folder.
type Callers struct {
	base    Files
	rootPEM []byte

	mu    sync.Mutex        // guards what follows
	users map[string]*inUse // by folder
}

// inUse is a set of files that has users.
type inUse struct {
	n     int
	files Files
}

// OpenCallers prepares for callers besides those whom the files in dir do, which
// Write has written with rootPEM. It removes what a process that crashed has left.
func OpenCallers(dir string, rootPEM []byte) (*Callers, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for trust files of earlier callers: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), callerPrefix) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return nil, fmt.Errorf("remove trust files of an earlier caller: %w", err)
		}
	}
	return &Callers{base: Paths(dir), rootPEM: rootPEM, users: map[string]*inUse{}}, nil
}

// Files returns files with the roots of extraBundles in them too, as CallerBundles
// returns them; those of dir itself, when there is nothing to add to them. The
// caller calls release when the files are not needed any more.
func (c *Callers) Files(extraBundles []string) (files Files, release func(), err error) {
	nothing := func() {}
	larder, all, err := collect(c.base, c.rootPEM, extraBundles)
	if err != nil {
		return Files{}, nil, fmt.Errorf("collect trusted roots: %w", err)
	}
	_, base, err := collect(c.base, c.rootPEM, nil)
	if err != nil {
		return Files{}, nil, fmt.Errorf("collect trusted roots: %w", err)
	}
	if len(all.ders) == len(base.ders) { // all of base is in it
		return c.base, nothing, nil
	}
	dir := filepath.Join(c.base.Dir, callerPrefix+all.digest())
	c.mu.Lock()
	defer c.mu.Unlock()
	used := c.users[dir]
	if used == nil {
		used = &inUse{files: Paths(dir)}
		if err := writeFiles(used.files, &Trust{larder, all}); err != nil {
			return Files{}, nil, errors.Join(err, os.RemoveAll(dir))
		}
		c.users[dir] = used
	}
	used.n++
	return used.files, sync.OnceFunc(func() { c.release(dir) }), nil
}

func (c *Callers) release(dir string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	used := c.users[dir]
	if used.n--; used.n > 0 {
		return
	}
	delete(c.users, dir)
	// What cannot be removed now is removed at the next start.
	_ = os.RemoveAll(dir)
}

// digest names the set, in whatever order its certificates came.
func (s *rootSet) digest() string {
	h := sha256.New()
	for _, sum := range slices.SortedFunc(maps.Keys(s.seen), func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) }) {
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// ownRoots reports whether the path is in the folder of larder's own trust files:
// what is there are the system's roots, larder's, and perhaps a retired one of
// larder's. A caller's folder below it is not: a run in that caller's run goes on
// trusting what he trusts.
func ownRoots(dir, path string) bool {
	if filepath.Dir(path) == dir || path == dir {
		return true
	}
	parent, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return false
	}
	own, err := os.Stat(dir)
	return err == nil && os.SameFile(own, parent)
}
