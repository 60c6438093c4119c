package ca

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudflare/cfssl/info"
	cflog "github.com/cloudflare/cfssl/log"
	"github.com/cloudflare/cfssl/signer"
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

	// WishedDNS are names of the same kind that the intermediate is to be constrained
	// to as well where that can be had: whoever has no more than PermittedDNS serves,
	// and leaves for the rest are refused. They mean nothing if PermittedDNS is nil.
	WishedDNS []string

	// PermittedIP are the addresses which the intermediate may sign for,
	// besides those in PermittedDNS. They mean nothing if PermittedDNS is nil.
	PermittedIP []netip.Prefix

	// LeafLifetime is how long a leaf is valid. Zero means seven days.
	LeafLifetime time.Duration

	// CacheSize is how many leaves are kept in memory. Zero means 4096; each
	// takes about 3 KiB.
	CacheSize int

	// NewNames is how many names a client (see WithClient) may ask for in a
	// minute that no leaf is in memory for. Zero means 1200.
	NewNames int

	// Passphrase opens a root key that is encrypted, when one is to sign. Nil
	// means that such a key is as good as absent.
	Passphrase func() ([]byte, error)

	// Signer, if not nil, signs the intermediate in place of a root in Dir. It
	// is asked when the authority is opened, by Refresh and by Permit.
	Signer Signer

	// Logger gets what an operator may want to know. Nil means nothing.
	Logger *slog.Logger

	// Registerer gets the metrics, until Close. Nil means none.
	Registerer prometheus.Registerer
}

// A Signer signs intermediates with a root that is kept elsewhere. It is what
// cfssl's remote signer does.
type Signer interface {
	// Sign answers in PEM: the intermediate, what stands above it, and the
	// roots, in any order. Of the request, the field Request counts.
	Sign(signer.SignRequest) ([]byte, error)

	// Info says in Certificate which roots clients are to trust at present, in
	// PEM: others than the node's mean that the root was rotated.
	Info(info.Req) (*info.Resp, error)
}

// An Authority signs leaves for the names that clients ask for. Its methods
// may be called by any number of goroutines at once.
type Authority struct {
	dir         string
	permittedIP []netip.Prefix
	wished      []string
	lifetime    time.Duration
	logger      *slog.Logger
	metrics     *metrics
	passphrase  func() ([]byte, error)
	signer      Signer

	leafKey *ecdsa.PrivateKey // in memory only; all leaves have this one
	leafCSR string

	leaves  *leafCache
	limits  *clientLimits
	flights singleflight.Group
	issuing atomic.Pointer[issuer]
	closed  atomic.Bool

	// renewal is held while the intermediate is replaced.
	renewal  sync.Mutex
	wanted   constraints // guarded by renewal
	retryNot time.Time   // guarded by renewal; no attempt before this
	askNot   time.Time   // guarded by renewal; the signer is not asked for its roots before this
	warnNot  time.Time   // guarded by renewal; no warning before this
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
	if o.LeafLifetime < 0 || o.CacheSize < 0 || o.NewNames < 0 {
		return nil, fmt.Errorf("open certificate authority: leaf lifetime %v, cache size %d and new names %d must not be negative", o.LeafLifetime, o.CacheSize, o.NewNames)
	}
	wanted, err := newConstraints(o.PermittedDNS, o.PermittedIP)
	if err == nil {
		_, err = wanted.and(o.WishedDNS)
	}
	if err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	a := &Authority{
		dir:         o.Dir,
		permittedIP: o.PermittedIP,
		wished:      o.WishedDNS,
		lifetime:    cmp.Or(o.LeafLifetime, defaultLeafLifetime),
		logger:      cmp.Or(o.Logger, slog.New(slog.DiscardHandler)),
		leaves:      newLeafCache(cmp.Or(o.CacheSize, defaultCacheSize)),
		limits:      newClientLimits(cmp.Or(o.NewNames, defaultNewNames)),
		wanted:      wanted,
		passphrase:  o.Passphrase,
		signer:      o.Signer,
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
	f, err := a.openFolder()
	if err != nil {
		return err
	}
	defer f.close()
	if a.signer == nil && !f.has(nodeFile) {
		if err := beginRoot(f, a.logger); err != nil {
			return err
		}
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
	a.warn(time.Now())
	return nil
}

func (a *Authority) openFolder() (*folder, error) {
	f, err := openFolder(a.dir)
	if err == nil {
		f.passphrase = a.passphrase
	}
	return f, err
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
	a.retryNot = time.Time{} // an operator is at work, and may have mended what failed
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
// *NameError; a client that asks for too many new ones gets a *LimitError.
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
	if err := a.limits.check(ctx, time.Now()); err != nil {
		a.metrics.limited.Inc()
		return nil, err
	}
	// Signing takes a fraction of a millisecond: nobody's leaving is worth
	// a watch.
	cert, err, _ := a.flights.Do(key, func() (any, error) {
		if cert := a.leaves.get(key, time.Now()); cert != nil {
			return cert, nil
		}
		// Whoever comes first pays for all that wait for the same name.
		a.limits.count(ctx, time.Now())
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
	cert := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: a.leafKey, Leaf: leaf}
	for _, above := range issuer.chain {
		cert.Certificate = append(cert.Certificate, above.Raw)
	}
	// Nobody is handed a leaf in the last quarter of its life.
	a.leaves.add(host.String(), cert, leaf.NotAfter.Add(-leaf.NotAfter.Sub(now)/4))
	if !a.issuing.Load().sends(issuer) { // the roots changed while this one was signed
		a.leaves.clear()
	}
	return cert, nil
}

// Root returns the certificate that clients must trust, during a rotation the
// new one. It must not be changed.
func (a *Authority) Root() *x509.Certificate { return a.issuing.Load().roots[0] }

// Issuing returns the intermediate certificate that signs at present. It must
// not be changed.
func (a *Authority) Issuing() *x509.Certificate { return a.issuing.Load().cert }

// RootPEM returns the root in PEM; during a rotation the new one and the old.
func (a *Authority) RootPEM() []byte { return encodeCertificates(a.issuing.Load().roots...) }

// Fingerprint returns that of the root, as the function of this name does.
func (a *Authority) Fingerprint() string { return Fingerprint(a.Root()) }

// Close forgets all leaves and takes the metrics back.
func (a *Authority) Close() error {
	if a.closed.Swap(true) {
		return nil
	}
	a.leaves.clear()
	a.metrics.unregister()
	return nil
}
