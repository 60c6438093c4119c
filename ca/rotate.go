package ca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cloudflare/cfssl/config"
	"github.com/cloudflare/cfssl/csr"
	"github.com/cloudflare/cfssl/helpers"
	"github.com/cloudflare/cfssl/signer"
	"github.com/cloudflare/cfssl/signer/local"
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
	return k.change("rotate the root", func(f *folder) error {
		r, err := f.ownRoots()
		if err != nil {
			return err
		}
		if r.old == nil { // what an old root left that has expired
			if err := f.remove(oldRoot+".crt", oldRoot+".key", crossFile); err != nil {
				return err
			}
		} else {
			return &FileError{
				f.join(oldRoot + ".crt"), "is still trusted: a rotation is under way since " + overlapBegan(r.cross).UTC().Format(time.DateOnly),
				"end it first: larder ca rotate --retire", nil,
			}
		}
		keyFile, err := f.read("root.key")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		current, err := f.unseal(r.current, "root.key")
		if err != nil {
			return err
		}
		if current.key == nil {
			return f.keyAbsent("the old root must sign the new one")
		}
		return f.rotate(current, keyFile)
	})
}

// rotate is Rotate with the old root's key at hand, and its file.
func (f *folder) rotate(current pair, keyFile []byte) error {
	renewed, keyPEM, err := newRoot(f)
	if err != nil {
		return err
	}
	cross, err := crossSign(current, renewed)
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
	if err := f.store("root", encodeCertificates(renewed.cert), keyPEM); err != nil {
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
// one lasts. Nothing but the issuer's name and key tells the result from the new
// root itself, so that an intermediate of the new root has both above it.
func crossSign(old, renewed pair) (*x509.Certificate, error) {
	if old.cert.MaxPathLen == 1 || old.cert.MaxPathLenZero {
		return nil, &FileError{"root.crt", "allows too short a path for another root below it", "make a new root, which every client must be told of, in another state folder", nil}
	}
	policy := &config.Signing{Default: &config.SigningProfile{
		Usage:                       []string{"cert sign", "crl sign"},
		Expiry:                      rootLifetime,
		CAConstraint:                config.CAConstraint{IsCA: true, MaxPathLen: 1},
		CSRWhitelist:                publicKeyOnly(),
		ClientProvidesSerialNumbers: true,
	}}
	s, err := local.NewSigner(old.key, old.cert, signer.DefaultSigAlgo(old.key), policy)
	if err != nil {
		return nil, err
	}
	subject := &csr.CertificateRequest{CN: renewed.cert.Subject.CommonName, Names: []csr.Name{{O: "larder"}}}
	request, err := csr.Generate(renewed.key, subject)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	certPEM, err := s.Sign(signer.SignRequest{
		Request: string(request),
		Subject: &signer.Subject{CN: subject.CN, Names: subject.Names},
		Serial:  newSerial(), NotBefore: now.Add(-caBackdate), NotAfter: earlier(renewed.cert.NotAfter, old.cert.NotAfter),
	})
	if err != nil {
		return nil, err
	}
	cross, err := parseCertificate(certPEM)
	if err == nil && (!bytes.Equal(cross.RawSubject, renewed.cert.RawSubject) || !bytes.Equal(cross.SubjectKeyId, renewed.cert.SubjectKeyId)) {
		err = errors.New("the signer changed the name or the key identifier")
	}
	return cross, err
}

func overlapBegan(cross *x509.Certificate) time.Time { return cross.NotBefore.Add(caBackdate) }

// Retire ends the trust in the old root, and forgets its key. It refuses to do
// so before MinOverlap has passed, unless early.
func (k Keeper) Retire(early bool) (Status, error) {
	return k.change("retire the old root", func(f *folder) error {
		cross, err := f.readCertificate(crossFile)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !f.has(oldRoot+".crt"):
			return &FileError{f.path, "has no old root to retire", "begin a rotation first: larder ca rotate", nil}
		case err != nil && !early:
			return err
		case !early && time.Now().Before(overlapBegan(cross).Add(MinOverlap)):
			return &FileError{
				f.join(oldRoot + ".crt"),
				fmt.Sprintf("is to be trusted until %s at least: clients that have not fetched the new root by then lose larder", overlapBegan(cross).Add(MinOverlap).UTC().Format(time.DateOnly)),
				"when every client has the new root: larder ca rotate --retire --early", nil,
			}
		}
		if err == nil {
			if err := f.replaceOutdated(); err != nil {
				return err
			}
		}
		return f.remove(oldRoot+".crt", oldRoot+".key", crossFile)
	})
}

func encodeCertificates(certs ...*x509.Certificate) []byte {
	return helpers.EncodeCertificatesPEM(certs)
}

func (f *folder) has(name string) bool {
	_, err := f.root.Lstat(name)
	return err == nil
}
