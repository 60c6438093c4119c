package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/cloudflare/cfssl/info"
	"github.com/cloudflare/cfssl/signer"
)

// beginRoot makes a root in a folder that has none, unless a request of this
// folder shows that its root is to be elsewhere.
func beginRoot(f *folder, logger *slog.Logger) error {
	r, err := loadRoots(f)
	switch {
	case err == nil && r.current.key == nil && (r.current.sealed == nil || f.passphrase == nil):
		logger.Warn("root key is absent or encrypted, the intermediate certificate cannot be renewed", "path", f.join("root.key"))
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case f.has(requestKey):
		return &FileError{f.join(requestKey), "waits for a certificate from where the root is", "install it: larder ca init --install FILE; or, to have a root here: rm " + f.join(requestKey), nil}
	}
	return createRoot(f)
}

// settle adopts the intermediate of the folder if it serves, else it gets a
// new one. An older one that is only due, not expired, goes on serving if there
// is no new one to be had.
func (a *Authority) settle(f *folder, wanted constraints) error {
	current, renew, err := a.load(f)
	if err != nil {
		return err
	}
	now := time.Now()
	wished, err := wanted.and(a.wished)
	if err != nil {
		return err
	}
	serves := current != nil && current.bounds.covers(wanted) && now.Before(current.cert.NotAfter)
	if serves && (!current.due(now) && current.bounds.covers(wished) || now.Before(a.retryNot)) {
		a.adopt(current)
		return nil
	}
	renewed, err := renew(wished)
	if err != nil && !serves && !wanted.covers(wished) {
		renewed, err = renew(wanted) // whoever signs may know nothing of the rest
	}
	if err != nil {
		if serves && !current.due(now) {
			a.retryNot = now.Add(renewalPause)
			a.logger.Debug("intermediate certificate does not permit all that is wished for", "names", a.wished, "err", err)
			a.adopt(current)
			return nil
		}
		if serves {
			a.retryNot = now.Add(renewalPause)
			a.logger.Warn("intermediate certificate cannot be renewed", "not_after", current.cert.NotAfter, "err", err)
			a.adopt(current)
			return nil
		}
		return err
	}
	a.adopt(renewed)
	a.logger.Info("made intermediate certificate", "subject", renewed.cert.Subject.CommonName,
		"not_after", renewed.cert.NotAfter, "constrained", !renewed.bounds.unbounded)
	return nil
}

// load returns the intermediate of the folder, nil if it has none, and how to
// get another.
func (a *Authority) load(f *folder) (current *issuer, renew func(constraints) (*issuer, error), err error) {
	current, err = f.loadNode()
	if a.signer != nil || err == nil {
		if isAbsent(err) {
			err = nil
		}
		if current != nil && a.signer != nil {
			current.outdated = a.rotatedElsewhere(current, time.Now())
		}
		return current, func(wanted constraints) (*issuer, error) { return a.askSigner(f, wanted) }, err
	}
	if !isAbsent(err) {
		return nil, nil, err
	}
	r, err := loadRoots(f)
	if isAbsent(err) {
		return nil, nil, &FileError{f.path, "has no authority any more", "restore the folder from a backup, or start larder again to have a new one", nil}
	}
	if err != nil {
		return nil, nil, err
	}
	current, err = loadIssuer(f, r)
	if isAbsent(err) {
		err = nil
	}
	return current, func(wanted constraints) (*issuer, error) { return createIssuer(f, r, wanted) }, err
}

// rotatedElsewhere asks the signer, once an hour, whether its roots are those of
// the intermediate. One that does not answer has not rotated.
func (a *Authority) rotatedElsewhere(current *issuer, now time.Time) bool {
	if now.Before(a.askNot) {
		return false
	}
	a.askNot = now.Add(renewalPause)
	resp, err := a.signer.Info(info.Req{})
	if err != nil {
		a.logger.Warn("the signer does not say which roots it has", "err", err)
		return false
	}
	b, err := parseBundle([]byte(resp.Certificate))
	if err != nil {
		a.logger.Warn("the signer does not say which roots it has", "err", err)
		return false
	}
	// A cfssl whose authority is no root says nothing of the root.
	roots := slices.DeleteFunc(b.certs, func(c *x509.Certificate) bool { return !isRoot(c) })
	return len(roots) > 0 && !slices.EqualFunc(roots, current.roots, (*x509.Certificate).Equal)
}

// askSigner has the intermediate signed where the root is.
func (a *Authority) askSigner(f *folder, wanted constraints) (*issuer, error) {
	if a.signer == nil {
		return nil, &FileError{f.join(nodeFile), "is to be replaced: it ends soon, or permits less than the policy intercepts, and the root is kept elsewhere", nodeRemedy, nil}
	}
	if err := f.requireLock("install a new intermediate certificate"); err != nil {
		return nil, err
	}
	csrPEM, err := f.request(wanted)
	if err != nil {
		return nil, err
	}
	answer, err := a.signer.Sign(signer.SignRequest{Request: string(csrPEM)})
	if err != nil {
		return nil, fmt.Errorf("ask the signer for an intermediate certificate: %w", err)
	}
	renewed, err := f.install(answer, func(i *issuer) error { return i.answers(wanted) })
	if err != nil {
		return nil, fmt.Errorf("install what the signer returned: %w", err)
	}
	return renewed, nil
}

// answers returns an error unless an intermediate is constrained as it was asked
// for. Nobody looks at what a signer returns, as an operator does who installs a
// file.
func (i *issuer) answers(wanted constraints) error {
	switch {
	case !i.bounds.covers(wanted):
		return errors.New("it permits less than the policy intercepts")
	case i.bounds.unbounded && !wanted.unbounded:
		return &FileError{
			"the certificate", "is constrained to no names, and the request asks for constraints",
			`if the signer is cfssl: "copy_extensions": true in the profile that signs for nodes`, nil,
		}
	}
	return nil
}

// adopt makes an intermediate the one that signs. Leaves of before stay in use,
// unless clients of a new root would not take them.
func (a *Authority) adopt(i *issuer) {
	before := a.issuing.Load()
	if before != nil && before.cert.Equal(i.cert) && before.sends(i) {
		return
	}
	a.issuing.Store(i)
	if before != nil && !before.sends(i) {
		a.leaves.clear()
		a.logger.Info("roots changed", "root", Fingerprint(i.roots[0]), "roots", len(i.roots))
	}
}

// issuer returns the intermediate to sign with at now, renewed if it is due.
// A failure to renew is tried again after a pause; what there is serves on.
// Where the root is elsewhere that is left to Refresh: no client waits for it.
func (a *Authority) issuer(now time.Time) *issuer {
	if current := a.issuing.Load(); !current.due(now) || a.signer != nil {
		return current
	}
	a.renewal.Lock()
	defer a.renewal.Unlock()
	a.renew(now)
	return a.issuing.Load()
}

// Refresh takes up what an operator has changed in the folder since (a rotation,
// a certificate that was installed), renews what is due, and warns of what ends
// within 30 days, once a day. It is to be called every minute or so; what fails
// is tried again then. Whether RootPEM has changed shows in RootPEM.
func (a *Authority) Refresh() error {
	a.renewal.Lock()
	defer a.renewal.Unlock()
	if err := a.reopen(a.wanted); err != nil {
		return fmt.Errorf("look for changes of the certificate authority: %w", err)
	}
	a.warn(time.Now())
	return nil
}

// warn is called with renewal held.
func (a *Authority) warn(now time.Time) {
	if now.Before(a.warnNot) {
		return
	}
	i := a.issuing.Load()
	for _, cert := range append(slices.Clone(i.roots), i.chain...) {
		if !Expiring(cert, now) {
			continue
		}
		a.warnNot = now.Add(24 * time.Hour)
		a.logger.Warn("a certificate of the authority ends soon", "subject", cert.Subject.CommonName, "not_after", cert.NotAfter,
			"hint", "larder ca show says which it is: a root is replaced by larder ca rotate, an intermediate by itself or by larder ca init --csr")
	}
}

// renew is called with renewal held.
func (a *Authority) renew(now time.Time) {
	current := a.issuing.Load()
	if !current.due(now) || now.Before(a.retryNot) {
		return
	}
	if err := a.reopen(a.wanted); err != nil {
		a.logger.Error("intermediate certificate cannot be renewed", "not_after", current.cert.NotAfter, "err", err)
		a.retryNot = now.Add(renewalPause)
	}
}

// reopen is called with renewal held.
func (a *Authority) reopen(wanted constraints) error {
	f, err := a.openFolder()
	if err != nil {
		return err
	}
	defer f.close()
	return a.settle(f, wanted)
}
