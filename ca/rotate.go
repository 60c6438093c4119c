package ca

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cloudflare/cfssl/helpers"
)

// A rotation is three files beside root.crt and root.key, and its state is
// which of them are there:
//
//	none                            no rotation
//	old-root.* of the same          begun, and nothing has happened yet:
//	certificate as root.crt         what is there is swept away
//	old-root.* of another one,      the overlap: both roots are trusted, and
//	and cross.crt                   the new one signs
//
// The rename of root.crt begins the overlap, the removal of old-root.crt ends
// it. Both are one step of the file system, so that a crash leaves one state or
// the other.
const (
	oldRoot   = "old-root"
	crossFile = "cross.crt"
)

// MinOverlap is how long both roots are trusted at least: the time that clients
// have to learn of the new one. Retire asks for more than impatience before.
const MinOverlap = 30 * 24 * time.Hour

// loadRotation adds to the current root what a rotation has left beside it.
func (f *folder) loadRotation(current pair) (roots, error) {
	old, err := f.readCertificate(oldRoot + ".crt")
	begun := err == nil && !bytes.Equal(old.Raw, current.cert.Raw)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return roots{}, err
	}
	if !begun {
		if f.lock == nil {
			return roots{current: current}, nil
		}
		return roots{current: current}, f.remove(oldRoot+".crt", oldRoot+".key", crossFile)
	}
	cross, err := f.readCertificate(crossFile)
	if errors.Is(err, fs.ErrNotExist) {
		err = &FileError{f.join(crossFile), "is missing in the middle of a rotation", "restore it from a backup, or end the rotation: larder ca rotate --retire --early", nil}
	}
	if err != nil {
		return roots{}, err
	}
	if !bytes.Equal(cross.RawSubjectPublicKeyInfo, current.cert.RawSubjectPublicKeyInfo) || cross.CheckSignatureFrom(old) != nil {
		return roots{}, &FileError{f.join(crossFile), "does not certify root.crt by old-root.crt", "restore it from a backup, or end the rotation: larder ca rotate --retire --early", nil}
	}
	if time.Now().After(old.NotAfter) {
		// Nobody is served by it any more.
		return roots{current: current}, nil
	}
	return roots{current, old, cross}, nil
}

// readCertificate returns the certificate in a file, or fs.ErrNotExist.
func (f *folder) readCertificate(name string) (*x509.Certificate, error) {
	data, err := f.read(name)
	if err != nil {
		return nil, err
	}
	cert, err := parseCertificate(data)
	if err != nil {
		return nil, &FileError{f.join(name), "is damaged", "restore it from a backup, or end the rotation: larder ca rotate --retire --early", err}
	}
	return cert, nil
}

// Rotate puts a new root in the place of the current one, and keeps the old
// beside it until Retire. From the next Refresh of those who serve from the
// folder on, the new root's intermediate signs, clients of either root are
// served, and RootPEM has both.
func (k Keeper) Rotate() (Status, error) {
	return k.rotateTo(func(f *folder, _ *x509.Certificate) (pair, []byte, error) { return newRoot(f) })
}

// RotateTo is Rotate with a root made elsewhere as the new one, and its key.
func (k Keeper) RotateTo(certPEM, keyPEM []byte) (Status, error) {
	return k.rotateTo(func(f *folder, current *x509.Certificate) (pair, []byte, error) {
		root, err := f.foreignRoot(certPEM, keyPEM)
		if err == nil {
			err = replaces(root.cert, current)
		}
		if err != nil {
			return pair{}, nil, err
		}
		keyPEM, err := f.keyFile(root.key)
		if err != nil {
			return pair{}, nil, err
		}
		return root, keyPEM, f.record(KindRoot, "", root.cert)
	})
}

// replaces refuses a root that verifiers could mistake for the one before: they
// look for issuers by name, and tell intermediates apart by who signed them.
func replaces(renewed, current *x509.Certificate) error {
	const remedy = "make another root, with a key and a name of its own"
	switch {
	case bytes.Equal(renewed.RawSubjectPublicKeyInfo, current.RawSubjectPublicKeyInfo):
		return &FileError{"the root", "has the key of the present one: nothing would be rotated", remedy, nil}
	case bytes.Equal(renewed.RawSubject, current.RawSubject):
		return &FileError{"the root", "has the name of the present one", remedy, nil}
	}
	return nil
}

// rotateTo begins a rotation to the root, and the file of its key, that renew
// returns once everything else is known to be in order.
func (k Keeper) rotateTo(renew func(f *folder, current *x509.Certificate) (pair, []byte, error)) (Status, error) {
	return k.change("rotate the root", func(f *folder) error {
		current, err := f.rotatable()
		if err != nil {
			return err
		}
		keyFile, err := f.read("root.key")
		if err != nil {
			return err
		}
		renewed, keyPEM, err := renew(f, current.cert)
		if err != nil {
			return err
		}
		return f.rotate(current, keyFile, renewed, keyPEM)
	})
}

// rotatable returns the current root with its key, if no rotation is under way.
func (f *folder) rotatable() (pair, error) {
	r, err := f.ownRoots()
	if err != nil {
		return pair{}, err
	}
	if r.old != nil {
		return pair{}, &FileError{
			f.join(oldRoot + ".crt"), "is still trusted: a rotation is under way since " + overlapBegan(r.cross).UTC().Format(time.DateOnly),
			"end it first: larder ca rotate --retire", nil,
		}
	}
	// What an old root left that has expired.
	if err := f.remove(oldRoot+".crt", oldRoot+".key", crossFile); err != nil {
		return pair{}, err
	}
	current, err := f.unseal(r.current, "root.key")
	if err == nil && current.key == nil {
		err = f.keyAbsent("the old root must sign the new one")
	}
	return current, err
}

// rotate writes the files of a rotation from the current root, whose key's file
// is keyFile, to the renewed one.
func (f *folder) rotate(current pair, keyFile []byte, renewed pair, renewedKey []byte) error {
	cross, err := crossSign(current, renewed.cert, 1)
	if err != nil {
		return fmt.Errorf("sign the new root with the old: %w", err)
	}
	if err := f.record(KindCross, "", cross); err != nil {
		return err
	}
	if err := f.replace(crossFile, encodeCertificates(cross), 0o644); err != nil {
		return err
	}
	if err := f.replace(oldRoot+".key", keyFile, 0o600); err != nil {
		return err
	}
	// From here on there is a copy of the current root that the next load
	// sweeps away, unless root.crt is another by then.
	if err := f.replace(oldRoot+".crt", encodeCertificates(current.cert), 0o644); err != nil {
		return err
	}
	if err := f.store("root", encodeCertificates(renewed.cert), renewedKey); err != nil {
		return err
	}
	return f.replaceOutdated()
}

// replaceOutdated has the new root sign an intermediate of the same constraints
// if the folder's is still the old root's. After a crash before this the next
// Open does it.
func (f *folder) replaceOutdated() error {
	r, err := loadRoots(f)
	if err != nil {
		return err
	}
	current, err := loadIssuer(f, r)
	if isAbsent(err) || err == nil && !current.outdated {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = createIssuer(f, r, current.bounds)
	return err
}

// crossSign certifies a new root's key by the old root, for as long as the old
// one lasts, with room for so many authorities below. Nothing but the issuer's name
// and key tells the result from the new root itself, so that an intermediate of the
// new root has both above it. cfssl would write the name anew, and a root made
// elsewhere may have one that it cannot write.
func crossSign(old pair, renewed *x509.Certificate, below int) (*x509.Certificate, error) {
	if old.cert.MaxPathLenZero || old.cert.MaxPathLen > 0 && old.cert.MaxPathLen <= below {
		return nil, &FileError{"root.crt", "allows too short a path for another root below it", "make a new root, which every client must be told of, in another state folder", nil}
	}
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: newSerial(), RawSubject: renewed.RawSubject, SubjectKeyId: renewed.SubjectKeyId,
		NotBefore: now.Add(-caBackdate), NotAfter: earlier(renewed.NotAfter, old.cert.NotAfter),
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: below,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, old.cert, renewed.PublicKey, old.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func overlapBegan(cross *x509.Certificate) time.Time { return cross.NotBefore.Add(caBackdate) }

// Retire ends the trust in the old root, and forgets its key. It refuses to do
// so before MinOverlap has passed, unless early.
func (k Keeper) Retire(early bool) (Status, error) {
	return k.change("retire the old root", func(f *folder) error {
		if f.has(nodeFile) {
			return f.retireNode(early)
		}
		cross, err := f.readCertificate(crossFile)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !f.has(oldRoot+".crt"):
			return f.nothingToRetire()
		case err != nil && !early:
			return err
		case err == nil:
			if err := f.mayRetire(oldRoot+".crt", cross, early); err != nil {
				return err
			}
			if err := f.replaceOutdated(); err != nil {
				return err
			}
		}
		return f.remove(oldRoot+".crt", oldRoot+".key", crossFile)
	})
}

func (f *folder) nothingToRetire() error {
	return &FileError{f.path, "has no old root to retire", "begin a rotation first: larder ca rotate", nil}
}

// mayRetire returns an error if it is too early for the old root, which is in
// the file.
func (f *folder) mayRetire(file string, cross *x509.Certificate, early bool) error {
	end := overlapBegan(cross).Add(MinOverlap)
	if early || !time.Now().Before(end) {
		return nil
	}
	return &FileError{
		f.join(file),
		fmt.Sprintf("is to be trusted until %s at least: clients that have not fetched the new root by then lose larder", end.UTC().Format(time.DateOnly)),
		"when every client has the new root: larder ca rotate --retire --early", nil,
	}
}

func encodeCertificates(certs ...*x509.Certificate) []byte {
	return helpers.EncodeCertificatesPEM(certs)
}

func (f *folder) has(name string) bool {
	_, err := f.root.Lstat(name)
	return err == nil
}
