package ca

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Own gives a file that was made in a folder to whom the folder belongs, if that is
// somebody else: what "sudo larder ca rotate" writes has to be read by the larder that
// serves, which is a user of its own.
func Own(file *os.File, folder fs.FileInfo) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	is, known := info.Sys().(*syscall.Stat_t)
	want, wantKnown := folder.Sys().(*syscall.Stat_t)
	if !known || !wantKnown || is.Uid == want.Uid {
		return nil
	}
	return file.Chown(int(want.Uid), int(want.Gid))
}

// MakeFolder makes the folder of an authority for its owner alone, who is that of the
// folder above. Those above it are open: beside it lie files that others shall read.
func MakeFolder(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	// By way of what is open, so that nobody to whom the folder above belongs can put
	// another folder into the place of the one that is given away.
	above, err := os.OpenRoot(parent)
	if err != nil {
		return err
	}
	defer above.Close()
	if err := makeBelow(above, filepath.Base(path)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

func makeBelow(above *os.Root, name string) error {
	if err := above.Mkdir(name, 0o700); err != nil {
		return err
	}
	made, err := above.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer made.Close()
	info, err := above.Stat(".")
	if err != nil {
		return err
	}
	return Own(made, info)
}

// own is Own for a file in the folder.
func (f *folder) own(file *os.File) error {
	info, err := f.root.Stat(".")
	if err != nil {
		return err
	}
	return Own(file, info)
}
