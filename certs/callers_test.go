package certs

import (
	"os"
	"path/filepath"
	"testing"
)

// callerFolders lists the folders of callers.
func callerFolders(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, callerPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func openCallers(t *testing.T, dir string, rootPEM []byte) *Callers {
	t.Helper()
	c, err := OpenCallers(dir, rootPEM)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func callerFiles(t *testing.T, c *Callers, extra ...string) (Files, func()) {
	t.Helper()
	files, release, err := c.Files(extra)
	if err != nil {
		t.Fatal(err)
	}
	return files, release
}

func TestCallersShareFilesOfTheSameRootsUntilTheLastIsDone(t *testing.T) {
	dir, own := t.TempDir(), t.TempDir()
	root, corp := encode(newRoot(t, "larder root")), newRoot(t, "corp root")
	write(t, dir, root)
	c := openCallers(t, dir, root)
	one := writeFile(t, filepath.Join(own, "one.pem"), encode(corp))
	two := writeFile(t, filepath.Join(own, "two.pem"), encode(corp, corp))
	first, releaseFirst := callerFiles(t, c, one)
	second, releaseSecond := callerFiles(t, c, two, one)
	if first != second {
		t.Errorf("the same roots are in %s and %s", first.Dir, second.Dir)
	}
	if n := len(ders(t, first.Bundle)); n != len(systemRoots(t))+2 {
		t.Errorf("%d roots in the bundle, want the system's and two", n)
	}
	releaseFirst()
	releaseFirst() // counts once
	if _, err := os.Stat(second.Bundle); err != nil {
		t.Errorf("removed while in use: %v", err)
	}
	releaseSecond()
	if left := callerFolders(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// They can be had again.
	again, release := callerFiles(t, c, one)
	defer release()
	if _, err := os.Stat(again.Bundle); err != nil {
		t.Error(err)
	}
}

// A run in a run has the outer one's files in its environment.
func TestNestedCallersDoNotMultiply(t *testing.T) {
	dir := t.TempDir()
	root := encode(newRoot(t, "larder root"))
	base := write(t, dir, root)
	c := openCallers(t, dir, root)
	corp := writeFile(t, filepath.Join(t.TempDir(), "corp.pem"), encode(newRoot(t, "corp root")))

	nested, release := callerFiles(t, c, base.Bundle, base.CA)
	defer release()
	if nested != base {
		t.Errorf("a run in a plain run has %s, want %s", nested.Dir, base.Dir)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	linked, release := callerFiles(t, c, filepath.Join(link, "bundle.pem"))
	defer release()
	if linked != base {
		t.Errorf("by a link it has %s, want %s", linked.Dir, base.Dir)
	}

	outer, release := callerFiles(t, c, corp)
	defer release()
	for range 3 {
		inner, release := callerFiles(t, c, outer.Bundle, outer.CA)
		defer release()
		if inner != outer {
			t.Errorf("a run in a run has %s, want %s", inner.Dir, outer.Dir)
		}
		outer = inner
	}
	if folders := callerFolders(t, dir); len(folders) != 1 {
		t.Errorf("%d folders, want 1: %v", len(folders), folders)
	}
}

func TestCallersOfACrashedProcessAreForgotten(t *testing.T) {
	dir := t.TempDir()
	root := encode(newRoot(t, "larder root"))
	base := write(t, dir, root)
	corp := writeFile(t, filepath.Join(t.TempDir(), "corp.pem"), encode(newRoot(t, "corp root")))
	callerFiles(t, openCallers(t, dir, root), corp)
	c := openCallers(t, dir, root)
	if left := callerFolders(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if files, _ := callerFiles(t, c, filepath.Join(dir, "caller-gone", "bundle.pem")); files != base {
		t.Errorf("a bundle that is gone gives %s, want %s", files.Dir, base.Dir)
	}
	if _, err := os.Stat(base.Bundle); err != nil {
		t.Errorf("the files of everybody are gone: %v", err)
	}
}
