package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cloudflare/cfssl/helpers"
)

// A folder is where the authority's files are. One that is locked may be
// written to; without a lock, which a read-only file system has none of, it is
// only read.
type folder struct {
	path    string
	root    *os.Root
	lock    *os.File
	lockErr error // why there is no lock

	// passphrase opens a root key that is encrypted; nil if nobody knows it.
	passphrase func() ([]byte, error)
	rounds     int // see Keeper
}

// openFolder opens the folder at path, which it makes at need, and waits for
// other processes that hold its lock.
func openFolder(path string) (*folder, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := MakeFolder(path); err != nil {
		return nil, &FileError{path, "cannot be made", writeRemedy(path), err}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, &FileError{path, "cannot be opened", readRemedy(path), err}
	}
	f := &folder{path: path, root: root}
	if err := f.checkMode(".", path, 0o700); err != nil {
		f.close()
		return nil, err
	}
	if f.lock, f.lockErr = f.takeLock(); errors.Is(f.lockErr, errLockHeld) {
		f.close()
		return nil, &FileError{f.join("lock"), "is held by another process", "see who holds it: fuser -v " + f.join("lock"), f.lockErr}
	}
	return f, nil
}

func (f *folder) takeLock() (*os.File, error) {
	lock, err := lockFile(f.root, "lock")
	if err != nil {
		return nil, err
	}
	if err := f.own(lock); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

func (f *folder) close() {
	if f.lock != nil {
		f.lock.Close() // which releases the lock
	}
	f.root.Close()
}

func (f *folder) join(name string) string { return filepath.Join(f.path, name) }

// checkMode refuses what others than the owner may use. path is what the
// operator calls it.
func (f *folder) checkMode(name, path string, want fs.FileMode) error {
	info, err := f.root.Stat(name)
	if err != nil {
		return &FileError{path, "cannot be looked at", readRemedy(path), err}
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return &FileError{
			path,
			fmt.Sprintf("has mode %04o: private keys must be out of reach for everybody but their owner", perm),
			fmt.Sprintf("chmod %03o %s", want, path),
			nil,
		}
	}
	return nil
}

// requireLock returns an error unless the folder may be written to.
func (f *folder) requireLock(what string) error {
	if f.lock == nil {
		return &FileError{f.path, "cannot be written to, which is needed to " + what, writeRemedy(f.path), f.lockErr}
	}
	return nil
}

// A pair is a certificate of the authority and its private key.
type pair struct {
	cert   *x509.Certificate
	key    crypto.Signer // nil if it is kept elsewhere, or sealed
	sealed []byte        // the key's file if it is encrypted
}

// load reads name.crt and name.key. It returns fs.ErrNotExist, not wrapped, if
// neither is there. remedy says what to do about damage.
func (f *folder) load(name, remedy string) (pair, error) {
	if f.lock != nil {
		if err := f.settle(name); err != nil {
			return pair{}, err
		}
	}
	certFile, keyFile := name+".crt", name+".key"
	certPEM, err := f.read(certFile)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := f.root.Lstat(keyFile); err == nil {
			return pair{}, &FileError{f.join(certFile), "is missing, but its key is there", remedy, nil}
		}
		return pair{}, fs.ErrNotExist
	}
	if err != nil {
		return pair{}, err
	}
	cert, err := parseCertificate(certPEM)
	if err != nil {
		return pair{}, &FileError{f.join(certFile), "is damaged", remedy, err}
	}
	key, sealed, err := f.loadKey(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return pair{cert: cert}, nil
	}
	if damage, ok := errors.AsType[*FileError](err); ok && damage.Remedy == "" {
		damage.Remedy = remedy
	}
	if err != nil {
		return pair{}, err
	}
	if key != nil && !matches(key, cert) || sealed != nil && !sealedFor(sealed, cert) {
		return pair{}, &FileError{f.join(keyFile), "is not the key of " + certFile, remedy, nil}
	}
	return pair{cert, key, sealed}, nil
}

// loadKey returns a private key, or its file if that is encrypted.
func (f *folder) loadKey(keyFile string) (key crypto.Signer, sealed []byte, err error) {
	keyPEM, err := f.read(keyFile)
	if err != nil {
		return nil, nil, err
	}
	if err := f.checkMode(keyFile, f.join(keyFile), 0o600); err != nil {
		return nil, nil, err
	}
	if isSealed(keyPEM) {
		return nil, keyPEM, nil
	}
	key, err = helpers.ParsePrivateKeyPEM(keyPEM)
	if err != nil {
		return nil, nil, &FileError{f.join(keyFile), "is damaged: it holds no private key in PEM", "", nil}
	}
	return key, nil, nil
}

// read returns the content of a file; if it is not there, fs.ErrNotExist.
func (f *folder) read(name string) ([]byte, error) {
	data, err := f.root.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &FileError{f.join(name), "cannot be read", readRemedy(f.join(name)), err}
	}
	return data, err
}

func parseCertificate(data []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("it holds no certificate in PEM")
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("it holds more than one certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

func matches(key crypto.Signer, cert *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

// next is the ending of files that wait to take another's place.
const next = ".next"

// store puts a certificate and its key in the place of an older pair. No crash
// can leave halves of two pairs: the new key waits beside the old one, the
// rename of the certificate is what counts, and settle does what is left.
func (f *folder) store(name string, certPEM, keyPEM []byte) error {
	keyFile, certFile := name+".key", name+".crt"
	if err := f.write(keyFile+next, keyPEM, 0o600); err != nil {
		return err
	}
	if err := f.write(certFile+next, certPEM, 0o644); err != nil {
		return err
	}
	// The key's name must be on the disk before the certificate's is: rename
	// writes the folder only after the fact.
	if err := syncDir(f.path); err != nil {
		return &FileError{f.path, "cannot be written to the disk", writeRemedy(f.path), err}
	}
	for _, file := range []string{certFile, keyFile} {
		if err := f.rename(file+next, file); err != nil {
			return err
		}
	}
	return nil
}

// settle ends what a crash in store has left: the key that waits is moved into
// its place if the certificate is already its own, else it is forgotten.
func (f *folder) settle(name string) error {
	keyFile, certFile := name+".key", name+".crt"
	waiting, sealed, err := f.loadKey(keyFile + next)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		if certPEM, err := f.read(certFile); err == nil {
			if cert, err := parseCertificate(certPEM); err == nil && (waiting != nil && matches(waiting, cert) || sealed != nil && statesKeyOf(sealed, cert)) {
				return f.rename(keyFile+next, keyFile)
			}
		}
	}
	for _, file := range []string{certFile + next, keyFile + next} {
		if err := f.root.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &FileError{f.join(file), "cannot be removed", writeRemedy(f.path), err}
		}
	}
	return nil
}

// write puts data into a file that nobody reads yet, and onto the disk.
func (f *folder) write(name string, data []byte, mode fs.FileMode) (err error) {
	defer func() {
		if err != nil {
			err = &FileError{f.join(name), "cannot be written", writeRemedy(f.path), err}
		}
	}()
	// A left-over may have any mode, and umask takes away from ours.
	if err := f.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Chmod(mode), f.own(file), file.Sync(), file.Close())
}

// replace puts one file of this content into the place of an older one.
func (f *folder) replace(name string, data []byte, mode fs.FileMode) error {
	if err := f.write(name+next, data, mode); err != nil {
		return err
	}
	return f.rename(name+next, name)
}

// remove removes files durably, in their order; those that are not there are
// none the less gone.
func (f *folder) remove(names ...string) error {
	for _, name := range names {
		err := f.root.Remove(name)
		if err == nil {
			err = syncDir(f.path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &FileError{f.join(name), "cannot be removed", writeRemedy(f.path), err}
		}
	}
	return nil
}

// rename moves a file, and what it holds, durably into the place of another.
func (f *folder) rename(from, to string) error {
	err := f.root.Rename(from, to)
	if err == nil {
		err = syncDir(f.path)
	}
	if err != nil {
		return &FileError{f.join(to), "cannot be replaced", writeRemedy(f.path), err}
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func writeRemedy(path string) string {
	return fmt.Sprintf("let user id %d write to %s, or name another state folder with --state", os.Getuid(), path)
}

func readRemedy(path string) string {
	return fmt.Sprintf("let user id %d read %s, or name another state folder with --state", os.Getuid(), path)
}
