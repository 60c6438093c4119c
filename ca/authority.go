package ca

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	cflog "github.com/cloudflare/cfssl/log"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
)

const (
	defaultLeafLifetime = 7 * 24 * time.Hour
	defaultCacheSize    = 4096
	// leafBackdate is how much clocks of clients may be behind.
	leafBackdate = time.Hour
	// renewalPause lies between two attempts to renew the intermediate.
	renewalPause = time.Hour
)

// Options says where an authority lives and for what it may sign.
type Options struct {
	// Dir is the folder of the authority's files, which Open makes at need.
	// Nobody but its owner may have access to it.
	Dir string

	// PermittedDNS are the names which the intermediate is constrained to,
	// each with all names below it; a leading "." or "*." makes no
	// difference. IP addresses and prefixes may stand among them. Nil means
	// no constraint; a list that is empty but not nil permits nothing.
	PermittedDNS []string

	// PermittedIP are the addresses which the intermediate may sign for,
	// besides those in PermittedDNS. They mean nothing if PermittedDNS is nil.
	PermittedIP []netip.Prefix

	// LeafLifetime is how long a leaf is valid. Zero means seven days.
	LeafLifetime time.Duration

	// CacheSize is how many leaves are kept in memory. Zero means 4096; each
	// takes about 3 KiB.
	CacheSize int

	// Logger gets what an operator may want to know. Nil means nothing.
	Logger *slog.Logger

	// Registerer gets the metrics, until Close. Nil means none.
	Registerer prometheus.Registerer
}

// An Authority signs leaves for the names that clients ask for. Its methods
// may be called by any number of goroutines at once.
type Authority struct {
	dir         string
	permittedIP []netip.Prefix
	lifetime    time.Duration
	logger      *slog.Logger
	metrics     *metrics

	root    *x509.Certificate
	leafKey *ecdsa.PrivateKey // in memory only; all leaves have this one
	leafCSR string

	leaves  *leafCache
	flights singleflight.Group
	issuing atomic.Pointer[issuer]
	closed  atomic.Bool

	// renewal is held while the intermediate is replaced.
	renewal  sync.Mutex
	wanted   constraints // guarded by renewal
	retryNot time.Time   // guarded by renewal; no attempt before this
}

// silence turns off the log of cfssl, which is one for the whole process and
// reports every signature to standard error. It may be set only while nobody
// signs.
var silence = sync.OnceFunc(func() { cflog.Level = cflog.LevelFatal + 1 })

// Open returns the authority in o.Dir. If the folder is empty it makes one
// there; when several processes do so at once, all of them get the same. What
// is wrong with files is returned as *FileError.
func Open(o Options) (*Authority, error) {
	silence()
	if o.LeafLifetime < 0 || o.CacheSize < 0 {
		return nil, fmt.Errorf("open certificate authority: leaf lifetime %v and cache size %d must not be negative", o.LeafLifetime, o.CacheSize)
	}
	wanted, err := newConstraints(o.PermittedDNS, o.PermittedIP)
	if err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	a := &Authority{
		dir:         o.Dir,
		permittedIP: o.PermittedIP,
		lifetime:    cmp.Or(o.LeafLifetime, defaultLeafLifetime),
		logger:      cmp.Or(o.Logger, slog.New(slog.DiscardHandler)),
		leaves:      newLeafCache(cmp.Or(o.CacheSize, defaultCacheSize)),
		wanted:      wanted,
	}
	if err := a.open(); err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	if a.metrics, err = newMetrics(o.Registerer, a); err != nil {
		return nil, fmt.Errorf("open certificate authority: register metrics: %w", err)
	}
	return a, nil
}

func (a *Authority) open() error {
	f, err := openFolder(a.dir)
	if err != nil {
		return err
	}
	defer f.close()
	root, err := loadRoot(f)
	if err != nil {
		return err
	}
	a.root = root.cert
	if root.key == nil {
		a.logger.Warn("root key is absent, the intermediate certificate cannot be renewed", "path", f.join("root.key"))
	}
	if err := a.settle(f, a.wanted); err != nil {
		return err
	}
	if a.leafKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return fmt.Errorf("generate the key of leaves: %w", err)
	}
	if a.leafCSR, err = leafRequest(a.leafKey); err != nil {
		return fmt.Errorf("request leaves: %w", err)
	}
	return nil
}

// settle adopts the intermediate of the folder if it serves, else it makes a
// new one. An older one that is only due, not expired, goes on serving if no
// new one can be made.
func (a *Authority) settle(f *folder, wanted constraints) error {
	current, err := loadIssuer(f, a.root)
	if err != nil && !isAbsent(err) {
		return err
	}
	now := time.Now()
	serves := current != nil && current.bounds.covers(wanted) && now.Before(current.cert.NotAfter)
	if serves && !current.due(now) {
		a.issuing.Store(current)
		return nil
	}
	root, err := loadRoot(f)
	if err != nil {
		return err
	}
	renewed, err := createIssuer(f, root, wanted)
	if err != nil {
		if serves {
			a.logger.Warn("intermediate certificate cannot be renewed", "not_after", current.cert.NotAfter, "err", err)
			a.issuing.Store(current)
			return nil
		}
		return err
	}
	a.issuing.Store(renewed)
	a.logger.Info("made intermediate certificate", "subject", renewed.cert.Subject.CommonName,
		"not_after", renewed.cert.NotAfter, "constrained", !wanted.unbounded)
	return nil
}

// issuer returns the intermediate to sign with at now, renewed if it is due.
// A failure to renew is tried again after a pause; what there is serves on.
func (a *Authority) issuer(now time.Time) *issuer {
	if current := a.issuing.Load(); !current.due(now) {
		return current
	}
	a.renewal.Lock()
	defer a.renewal.Unlock()
	current := a.issuing.Load()
	if !current.due(now) || now.Before(a.retryNot) {
		return current
	}
	a.retryNot = now.Add(renewalPause)
	if err := a.reopen(a.wanted); err != nil {
		a.logger.Error("intermediate certificate cannot be renewed", "not_after", current.cert.NotAfter, "err", err)
	}
	return a.issuing.Load()
}

// reopen is called with renewal held.
func (a *Authority) reopen(wanted constraints) error {
	f, err := openFolder(a.dir)
	if err != nil {
		return err
	}
	defer f.close()
	return a.settle(f, wanted)
}

// Permit says for which names the authority may sign from now on, as in
// Options.PermittedDNS; Options.PermittedIP goes on to hold. If the
// intermediate is constrained to less, it is replaced at once; if it allows
// more, at its next renewal. After an error everything is as it was.
func (a *Authority) Permit(dns []string) error {
	wanted, err := newConstraints(dns, a.permittedIP)
	if err != nil {
		return fmt.Errorf("permit names: %w", err)
	}
	a.renewal.Lock()
	defer a.renewal.Unlock()
	if !a.issuing.Load().bounds.covers(wanted) {
		if err := a.reopen(wanted); err != nil {
			return fmt.Errorf("permit names: %w", err)
		}
	}
	a.wanted = wanted
	return nil
}

// Leaf returns a certificate for a host name or IP literal, with its key and
// the intermediate behind it. It is shared, and must not be changed. A name
// that no certificate can carry, or that the policy does not permit, is a
// *NameError.
func (a *Authority) Leaf(ctx context.Context, name string) (*tls.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if a.closed.Load() {
		return nil, errors.New("the certificate authority is closed")
	}
	host, err := parseName(name)
	if err != nil {
		a.metrics.refused.Inc()
		return nil, err
	}
	key := host.String()
	if cert := a.leaves.get(key, time.Now()); cert != nil {
		a.metrics.hits.Inc()
		return cert, nil
	}
	// Signing takes a fraction of a millisecond: nobody's leaving is worth
	// a watch.
	cert, err, _ := a.flights.Do(key, func() (any, error) {
		if cert := a.leaves.get(key, time.Now()); cert != nil {
			return cert, nil
		}
		return a.mint(host)
	})
	if err != nil {
		return nil, err
	}
	return cert.(*tls.Certificate), nil
}

// mint signs a leaf and keeps it.
func (a *Authority) mint(host hostName) (*tls.Certificate, error) {
	now := time.Now()
	issuer := a.issuer(now)
	if !issuer.bounds.allows(host) {
		a.metrics.refused.Inc()
		return nil, &NameError{
			Name:   host.String(),
			Reason: "the policy intercepts no such name, and the intermediate certificate is constrained to the names that it does",
			Remedy: "add a rule for the host, or tunnel it",
		}
	}
	leaf, err := issuer.leaf(host, a.leafCSR, a.lifetime)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %q: %w", host, err)
	}
	a.metrics.minted.Inc()
	cert := &tls.Certificate{
		Certificate: [][]byte{leaf.Raw, issuer.cert.Raw},
		PrivateKey:  a.leafKey,
		Leaf:        leaf,
	}
	// Nobody is handed a leaf in the last quarter of its life.
	a.leaves.add(host.String(), cert, leaf.NotAfter.Add(-leaf.NotAfter.Sub(now)/4))
	return cert, nil
}

// Root returns the certificate that clients must trust. It must not be changed.
func (a *Authority) Root() *x509.Certificate { return a.root }

// Issuing returns the intermediate certificate that signs at present. It must
// not be changed.
func (a *Authority) Issuing() *x509.Certificate { return a.issuing.Load().cert }

// RootPEM returns the root in PEM.
func (a *Authority) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})
}

// Fingerprint returns the SHA-256 of the root as `openssl x509 -fingerprint
// -sha256` prints it: upper-case hexadecimal octets between colons.
func (a *Authority) Fingerprint() string {
	sum := sha256.Sum256(a.root.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":")
}

// Close forgets all leaves and takes the metrics back.
func (a *Authority) Close() error {
	if a.closed.Swap(true) {
		return nil
	}
	a.leaves.clear()
	a.metrics.unregister()
	return nil
}
