package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"larder/ca"
	"larder/certs"
	"larder/policy"
)

// trustInterval is how soon a larder learns of what "larder ca" has done in its
// folder, and renews what is due.
const trustInterval = time.Minute

// openTrust opens the authority and writes what clients need to trust it.
func (n *node) openTrust() error {
	signer, err := openSigner(n.paths.CA())
	if err != nil {
		return err
	}
	a, err := ca.Open(ca.Options{
		Dir:          n.paths.CA(),
		PermittedDNS: n.permitted(n.policy),
		WishedDNS:    wishedNames(n.policy.Settings()),
		Passphrase:   passphrase(n.options.passphraseFile),
		Signer:       signer,
		Logger:       n.logger,
		Registerer:   n.registry,
	})
	if err != nil {
		return fmt.Errorf("open the certificate authority: %w", err)
	}
	n.ca = a
	n.closers = append(n.closers, a)
	return n.writeTrust()
}

// wishedNames are those that the authority is to sign for, and does without where the
// root is elsewhere and has not been asked for them.
func wishedNames(s policy.Settings) []string {
	if name := ownName(s); name != "" {
		return []string{name}
	}
	return nil
}

// passphrase reads the file when it is needed; without one there is none.
func passphrase(file string) func() ([]byte, error) {
	if file == "" {
		return nil
	}
	return ca.PassphraseFile(file)
}

func (n *node) writeTrust() error {
	roots := n.ca.RootPEM()
	files, err := certs.Write(n.paths.Trust(), roots, nil)
	if err != nil {
		return fmt.Errorf("write the trust files for clients: %w", err)
	}
	n.trust, n.roots = files, roots
	return nil
}

// refreshTrust takes up what has changed in the authority's folder.
func (n *node) refreshTrust() error {
	n.tending.Lock()
	defer n.tending.Unlock()
	if err := n.ca.Refresh(); err != nil {
		return err
	}
	if bytes.Equal(n.roots, n.ca.RootPEM()) {
		return nil
	}
	return n.writeTrust()
}

// tender ends a goroutine and waits for it.
type tender struct {
	stop context.CancelFunc
	done sync.WaitGroup
}

func (t *tender) Close() error {
	t.stop()
	t.done.Wait()
	return nil
}

// tend keeps trust and ticket keys up to date every trustInterval until it is
// closed. What fails is said once, not each minute.
func (n *node) tend() *tender {
	ctx, stop := context.WithCancel(context.Background())
	t := &tender{stop: stop}
	t.done.Go(func() {
		ticker := time.NewTicker(trustInterval)
		defer ticker.Stop()
		said := ""
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			err := errors.Join(n.refreshTrust(), n.setTicketKeys(time.Now()))
			if err != nil && err.Error() != said {
				n.logger.Error("certificates and keys cannot be kept up to date", "err", err)
			}
			said = ""
			if err != nil {
				said = err.Error()
			}
		}
	})
	return t
}
