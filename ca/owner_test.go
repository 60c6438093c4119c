package ca

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestWhatRootWritesBelongsToTheFoldersOwner: the operator says "sudo larder ca
// rotate", and the larder that serves is another user.
func TestWhatRootWritesBelongsToTheFoldersOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root writes into folders of others")
	}
	state := t.TempDir()
	const owner = 65534
	if err := os.Chown(state, owner, owner); err != nil {
		t.Fatal(err)
	}
	k := Keeper{Dir: filepath.Join(state, "ca")}
	check := func(after string) {
		t.Helper()
		err := filepath.WalkDir(k.Dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if stat := info.Sys().(*syscall.Stat_t); stat.Uid != owner || stat.Gid != owner {
				t.Errorf("after %s, %s belongs to %d:%d", after, d.Name(), stat.Uid, stat.Gid)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := k.Init(); err != nil {
		t.Fatal(err)
	}
	check("init")
	if _, err := k.Renew([]string{"example.org"}, nil); err != nil {
		t.Fatal(err)
	}
	check("renew")
	if _, err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	check("rotate")
	if _, err := k.Retire(true); err != nil {
		t.Fatal(err)
	}
	check("retire")
}

// TestTheFolderOfAnAuthorityIsNotMadeByWayOfALink: the folder above belongs to
// somebody, who shall not have another one given to him.
func TestTheFolderOfAnAuthorityIsNotMadeByWayOfALink(t *testing.T) {
	state, elsewhere := t.TempDir(), t.TempDir()
	above, err := os.OpenRoot(state)
	if err != nil {
		t.Fatal(err)
	}
	defer above.Close()
	if err := os.Symlink(elsewhere, filepath.Join(state, "ca")); err != nil {
		t.Fatal(err)
	}
	if err := makeBelow(above, "ca"); err == nil {
		t.Error("a link is taken for the folder")
	}
}
