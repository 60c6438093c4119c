package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReopenAfterTheFolderWasReplaced takes a store's folder away while it is in
// use, puts an empty one there, and brings the first one back.
func TestReopenAfterTheFolderWasReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	away := dir + ".away"
	s := open(t, Options{Dir: dir})
	body := content(1, 3<<20)
	fill(t, s, key(1), nil, body)
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	move(dir, away)
	if err := s.Check(); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrReplaced) {
		t.Errorf("folder gone: %v", err)
	}
	if _, err := s.Reopen(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reopened without a folder: %v", err)
	}
	check(t, s, key(1), nil, body) // still read from the files that are open
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); !errors.Is(err, ErrReplaced) {
		t.Errorf("another folder: %v, want ErrReplaced", err)
	}
	second, err := s.Reopen()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(key(1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("the first one after that: %v", err)
	}
	absent(t, second, key(1))
	fill(t, second, key(1), nil, body)
	check(t, second, key(1), nil, body)
	names, err := filepath.Glob(filepath.Join(dir, generationPrefix+"*"))
	if err != nil || len(names) != 1 || filepath.Base(names[0]) == filepath.Base(generationDir(dir, 1)) {
		t.Errorf("generations %v, %v: a number was used again", names, err)
	}

	move(dir, dir+".second")
	move(away, dir)
	if err := second.Check(); !errors.Is(err, ErrReplaced) {
		t.Errorf("the first folder is back: %v, want ErrReplaced", err)
	}
	if _, err := second.Reopen(); err == nil || !strings.Contains(err.Error(), "restart larder") {
		t.Errorf("reopened a folder in which an instance was left behind: %v", err)
	}
	move(dir, away)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	third, err := second.Reopen()
	if err != nil {
		t.Fatal(err)
	}
	fill(t, third, key(2), nil, body)
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReopenInAnEmptiedFolder is rm -rf of everything in the store's folder.
func TestReopenInAnEmptiedFolder(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	for n := range 20 {
		fill(t, s, key(n), nil, content(n, 1<<20))
	}
	quiet(t, s) // sealing makes files
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Check(); !errors.Is(err, ErrReplaced) {
		t.Errorf("got %v, want ErrReplaced", err)
	}
	again, err := s.Reopen()
	if err != nil {
		t.Fatal(err)
	}
	fill(t, again, key(1), nil, content(1, 1<<20))
	check(t, again, key(1), nil, content(1, 1<<20))
	if n := again.abandoned.Load(); n != 1 {
		t.Errorf("%d instances are counted as left behind, want the one that was written to", n)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}
