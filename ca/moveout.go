package ca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// A root can also be replaced by one whose key never comes here, a company's. The
// folder is then that of a node: node.pem has the company's answer to a request,
// both roots, and the new root's key certified by the old. root.crt and root.key,
// which nothing signs with any more, stay until Retire: that they are there beside
// such a node.pem is the state of the rotation.

// RotateInstall is Rotate with a root kept elsewhere as the new one: data is what
// came from there in answer to Request.
func (k Keeper) RotateInstall(data []byte) (Status, error) {
	return k.change("rotate the root", func(f *folder) error {
		if node, err := f.loadNode(); err == nil && f.overlap(node) != nil {
			return &FileError{f.join("root.crt"), "is still trusted: a rotation is under way", "end it first: larder ca rotate --retire", nil}
		}
		current, err := f.rotatable()
		if err != nil {
			return err
		}
		b, err := f.answered(data)
		if err != nil {
			return err
		}
		i, err := b.issuer()
		if err != nil {
			return err
		}
		if err := k.admits(i); err != nil {
			return err
		}
		if len(i.roots) != 1 {
			return fmt.Errorf("it holds %d roots, and is to hold the one that clients shall trust from now on", len(i.roots))
		}
		if err := replaces(i.roots[0], current.cert); err != nil {
			return err
		}
		cross, err := crossSign(current, i.roots[0], len(i.chain))
		if err != nil {
			return fmt.Errorf("sign the new root with the old: %w", err)
		}
		b.certs = append(b.certs, cross, current.cert)
		if i, err = b.issuer(); err != nil {
			return err
		}
		if err := f.record(KindCross, "", cross); err != nil {
			return err
		}
		return f.use(b, i)
	})
}

// overlap returns the new root's key certified by the old, if a rotation that was
// begun in this folder is under way.
func (f *folder) overlap(node *issuer) *x509.Certificate {
	old, err := f.readCertificate("root.crt")
	if err != nil || old.Equal(node.roots[0]) || !slices.ContainsFunc(node.roots, old.Equal) {
		return nil
	}
	for _, c := range node.chain {
		if bytes.Equal(c.RawSubjectPublicKeyInfo, node.roots[0].RawSubjectPublicKeyInfo) && c.CheckSignatureFrom(old) == nil {
			return c
		}
	}
	return nil
}

// keepOverlap adds to an answer what a rotation under way needs besides: who
// signs for this node now knows nothing of the old root.
func (f *folder) keepOverlap(b *bundle) {
	node, err := f.loadNode()
	if err != nil { // none, or one that is replaced for being damaged
		return
	}
	cross := f.overlap(node)
	if cross == nil || !slices.ContainsFunc(b.certs, node.roots[0].Equal) {
		return
	}
	for _, cert := range append([]*x509.Certificate{cross}, node.roots[1:]...) {
		if !slices.ContainsFunc(b.certs, cert.Equal) {
			b.certs = append(b.certs, cert)
		}
	}
}

// retireNode is Retire where the new root's key is elsewhere.
func (f *folder) retireNode(early bool) error {
	node, err := f.loadNode()
	if err != nil {
		return err
	}
	old, err := f.readCertificate("root.crt")
	if errors.Is(err, fs.ErrNotExist) {
		return f.nothingToRetire()
	}
	if err != nil {
		return err
	}
	cross := f.overlap(node)
	switch {
	case cross == nil && slices.ContainsFunc(node.roots, old.Equal):
		return f.nothingToRetire()
	case cross != nil: // else a crash came between the two steps
		if err := f.mayRetire("root.crt", cross, early); err != nil {
			return err
		}
		data, err := f.read(nodeFile)
		if err != nil {
			return err
		}
		b, err := parseBundle(data)
		if err != nil {
			return err
		}
		b.certs = slices.DeleteFunc(b.certs, func(c *x509.Certificate) bool { return c.Equal(old) || c.Equal(cross) })
		if err := f.replace(nodeFile, b.pem(), 0o600); err != nil {
			return err
		}
	}
	return f.remove("root.key", "root.crt")
}
