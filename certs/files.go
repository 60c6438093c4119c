package certs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Files are what clients are pointed at. All are absolute paths.
type Files struct {
	Dir                string // the folder of the others
	CA                 string // larder's root alone, PEM
	Bundle             string // all roots, larder's among them, PEM
	TrustStore         string // all roots, PKCS #12, for JVMs from 8u301 on
	TrustStorePassword string // of TrustStore; no secret
	AptConf            string // settings that apt takes from no variable
	Wgetrc             string // the same for wget
	PHPIni             string // the same for PHP, which looks through Dir
}

// Paths returns the files in dir, whether they are there or not.
func Paths(dir string) Files {
	return Files{
		Dir:                dir,
		CA:                 filepath.Join(dir, "ca.pem"),
		Bundle:             filepath.Join(dir, "bundle.pem"),
		TrustStore:         filepath.Join(dir, "truststore.p12"),
		TrustStorePassword: trustStorePassword,
		AptConf:            filepath.Join(dir, "apt.conf"),
		Wgetrc:             filepath.Join(dir, "wgetrc"),
		PHPIni:             filepath.Join(dir, "php.ini"),
	}
}

// Write writes the files to dir, which it makes at need: for larder's roots in
// rootPEM, together with those of the operating system and those in
// extraBundles, which are files or folders of certificates in PEM; one that is
// not there is left out. Everybody may read them, since tools read them under
// other users (apt's sandbox). Each is replaced as a whole, and only when its
// content changes, so that any number of processes may write at once if they
// write the same.
func Write(dir string, rootPEM []byte, extraBundles []string) (Files, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Files{}, err
	}
	files := Paths(dir)
	larder, all, err := collect(files, rootPEM, extraBundles)
	if err != nil {
		return Files{}, fmt.Errorf("collect trusted roots: %w", err)
	}
	if err := writeFiles(files, &Trust{larder, all}); err != nil {
		return Files{}, err
	}
	return files, nil
}

func writeFiles(files Files, t *Trust) error {
	if err := openFolder(files.Dir); err != nil {
		return fmt.Errorf("make the folder of trust files: %w", err)
	}
	store, err := t.Store()
	if err != nil {
		return fmt.Errorf("write trust store: %w", err)
	}
	for _, file := range append(files.Settings(), []Setting{
		{files.CA, t.CA()},
		{files.Bundle, t.Bundle()},
		{files.TrustStore, store},
	}...) {
		if err := replace(file.Path, file.Data); err != nil {
			return fmt.Errorf("write trust file: %w", err)
		}
	}
	return nil
}

// collect returns larder's own roots, and all of them with larder's at the end.
func collect(files Files, rootPEM []byte, extraBundles []string) (larder, all *rootSet, err error) {
	larder, all = newRootSet(), newRootSet()
	if larder.addPEM(rootPEM) == 0 {
		return nil, nil, errors.New("no certificate in the PEM of larder's root")
	}
	if err := all.addSystem(); err != nil {
		return nil, nil, err
	}
	for _, path := range extraBundles {
		// A run inside a run has our own bundle in its environment, and
		// in it perhaps a root that was retired since.
		if ownRoots(files.Dir, path) {
			continue
		}
		if err := all.addPath(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
	}
	all.addPEM(rootPEM)
	return larder, all, nil
}

// openFolder makes the folder at need and lets everybody look into it. It
// refuses one that others can write in: they would say whom clients trust.
func openFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return &LooseError{Path: dir, Mode: info.Mode().Perm()}
	}
	if info.Mode().Perm()&0o555 != 0o555 { // umask was at work
		return os.Chmod(dir, 0o755)
	}
	return nil
}

// LooseError says that users besides the owner can write in the folder of the
// trust files.
type LooseError struct {
	Path string
	Mode fs.FileMode
}

// Error names the folder and its mode.
func (e *LooseError) Error() string {
	return fmt.Sprintf("folder %s: mode %04o lets other users write in it", e.Path, e.Mode)
}

// Hint is what to do.
func (e *LooseError) Hint() string { return "chmod go-w " + e.Path }

// replace puts a file of this content, readable by all, in the place of path.
// Nobody ever sees half of it.
func replace(path string, data []byte) error {
	if isCurrent(path, data) {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails after the rename, as it should
	_, err = tmp.Write(data)
	// Without Sync a crash may leave the new name on an empty file.
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

func isCurrent(path string, data []byte) bool {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o644 {
		return false
	}
	old, err := os.ReadFile(path)
	return err == nil && bytes.Equal(old, data)
}
