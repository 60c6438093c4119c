package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"larder/auth"
	"larder/ca"
	"larder/cache"
	"larder/cache/store"
	"larder/certs"
	"larder/daemon"
	"larder/doctor"
	"larder/kit"
	"larder/ledger"
	"larder/mitm"
	"larder/policy"
	"larder/wheels"
)

// node is one larder, joined from its packages: what "serve" runs in the
// foreground and "run" in the background.
type node struct {
	paths    daemon.Paths
	registry *prometheus.Registry
	policy   *policy.Policy
	ca       *ca.Authority
	trust    certs.Files
	cache    *cache.Cache
	ledger   *ledger.Ledger // nil: there is none
	upstream *mitm.Upstream
	doctor   *doctor.Book
	proxy    *mitm.Server
	kit      *kit.Kit
	wheels   *wheels.Store
	counter  *wheels.Counter
	sweeper  *sweeper
	auth     *auth.Authenticator // the last that was read; nil: none yet
	logger   *slog.Logger
	options  nodeOptions

	tending sync.Mutex
	roots   []byte // guarded by tending: what the trust files hold of larder's own

	closers []io.Closer // in the order they were opened
}

// nodeOptions are what the command line says of a node, and not the policy.
type nodeOptions struct {
	// offline, whatever the policy says.
	offline bool
	// withoutStore: begin also where the store cannot be opened. A fleet's builds go
	// on then; a developer wants to know.
	withoutStore bool
	// auth: clients prove who they are where the policy says so.
	auth bool
	// names are those that the authority signs for besides the rules' hosts.
	names []string
	// passphraseFile opens the root key if it is encrypted; "" for none.
	passphraseFile string
	// ticketSecret is shared with other nodes; nil for keys of its own.
	ticketSecret []byte
}

// openNode opens everything a larder needs but its listeners. On an error what
// was opened is closed again.
func openNode(paths daemon.Paths, p *policy.Policy, logger *slog.Logger, o nodeOptions) (n *node, err error) {
	n = &node{paths: paths, policy: p, registry: prometheus.NewRegistry(), logger: logger, options: o}
	defer func() {
		if err != nil {
			// n is what an error returns too, so that it can be closed here.
			err = errors.Join(err, n.close())
			n = nil
		}
	}()
	n.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	if err := paths.Create(); err != nil {
		return n, err
	}
	if err := n.openTrust(); err != nil {
		return n, err
	}
	if err := n.openCache(); err != nil {
		return n, err
	}
	n.sweeper = newSweeper(n)
	n.closers = append(n.closers, n.tend(), n.sweeper)
	return n, nil
}

// permitted are the names for which the authority may sign; nil: all.
func (n *node) permitted(p *policy.Policy) []string {
	hosts := p.Interceptable()
	if hosts == nil {
		return nil
	}
	return append(hosts, n.options.names...)
}

// openCache opens the store, the cache over it and the proxy before it.
func (n *node) openCache() error {
	settings := n.policy.Settings()
	open := func() (*store.Store, error) {
		return store.Open(store.Options{
			Dir:        n.paths.Store,
			MaxSize:    settings.Store.MaxSize,
			Logger:     n.logger,
			Registerer: n.registry,
		})
	}
	s, err := open()
	storeError := err
	if err != nil && !(n.options.withoutStore && mayMend(err)) {
		return storeFailure(err)
	}
	if s != nil {
		n.closers = append(n.closers, s)
	}

	n.upstream, err = newUpstream(settings)
	if err != nil {
		return err
	}
	table := n.openDigests()
	n.ledger = n.openLedger(settings.Ledger.MaxSize)
	n.cache, err = cache.New(cache.Options{
		Store:              s,
		StoreError:         storeError,
		OpenStore:          open,
		RefuseWithoutStore: settings.Store.OnFailure == policy.RefuseOnFailure,
		Upstream:           n.upstream,
		Digests:            table,
		Ledger:             n.ledger,
		Logger:             n.logger,
		Registerer:         n.registry,
	})
	if err != nil {
		return fmt.Errorf("prepare the cache: %w", err)
	}
	n.closers = append(n.closers, n.cache)
	n.setOffline(settings)

	access, err := n.readAccess(settings)
	if err != nil {
		return err
	}
	n.doctor = new(doctor.Book)
	if err := n.openKit(settings); err != nil {
		return err
	}
	if err := n.openWheels(settings); err != nil {
		return err
	}
	n.proxy, err = mitm.New(mitm.Options{
		Distrust:     distrusts{n.doctor},
		Origin:       selfAnswers{n.kit, n.doctorPage(ownName(settings))},
		OwnName:      ownName(settings),
		Access:       access,
		Policy:       n.policy,
		Certificates: n.ca,
		Cache:        n.cache,
		Upstream:     n.upstream,
		Wheels:       n.wheels,
		Fetched:      n.counter.Note,
		Logger:       n.logger,
		Registerer:   n.registry,

		MaxConnections:          settings.Limits.Connections,
		MaxConnectionsPerClient: settings.Limits.ConnectionsPerClient,
	})
	if err != nil {
		return fmt.Errorf("prepare the proxy: %w", err)
	}
	return n.setTicketKeys(time.Now())
}

// openWheels opens what "larder wheels" keeps.
func (n *node) openWheels(settings policy.Settings) error {
	folder := filepath.Join(n.paths.State, "wheels")
	store, err := wheels.Open(folder, settings.Wheels.MaxSize, n.logger)
	if err != nil {
		return err
	}
	n.wheels = store
	n.counter = wheels.OpenCounter(filepath.Join(folder, "wanted.json"), n.logger)
	n.closers = append(n.closers, n.wheels, n.counter)
	return nil
}

// newUpstream makes the way to the origins out of the settings.
func newUpstream(settings policy.Settings) (*mitm.Upstream, error) {
	u, err := mitm.NewUpstream(mitm.UpstreamOptions{
		CAFile:         settings.Upstream.CAFile,
		AllowAddresses: settings.Upstream.AllowAddresses,
		ConnectTo:      settings.Upstream.ConnectTo,
		Parents:        settings.Upstream.Parents,
		NoParent:       settings.Upstream.NoParent,
		Hosts:          settings.Upstream.Hosts,
		DNS:            settings.Upstream.DNS,

		MaxConnectionsPerHost: settings.Upstream.MaxConnectionsPerHost,
	})
	if err != nil {
		return nil, withHint(fmt.Errorf("prepare upstream connections: %w", err),
			"the files under upstream in the configuration are PEM, and for credentials one line: basic USER:PASSWORD or bearer TOKEN")
	}
	return u, nil
}

// mayMend reports whether the store may open later by itself: not while another
// larder has it, and not what a newer one has written.
func mayMend(err error) bool {
	_, locked := errors.AsType[*store.LockedError](err)
	_, newer := errors.AsType[*store.FormatError](err)
	return !locked && !newer
}

// storeFailure says what to do about a store that does not open.
func storeFailure(err error) error {
	wrapped := fmt.Errorf("open the store: %w", err)
	if held, ok := errors.AsType[*store.LockedError](err); ok {
		return withHint(wrapped, "process %d has it: use that larder ('larder env' prints how), end it, or choose another folder with --state", held.PID)
	}
	if format, ok := errors.AsType[*store.FormatError](err); ok {
		return withHint(wrapped, "a newer larder wrote %s: use that one, or choose another folder with --state", format.Dir)
	}
	return wrapped
}

// setOffline keeps everything from asking upstream, or ends that.
func (n *node) setOffline(settings policy.Settings) {
	offline := settings.Offline || n.options.offline
	n.upstream.SetOffline(offline)
	n.cache.SetOffline(offline)
}

// shutdown drains the proxy until ctx ends, then closes everything.
func (n *node) shutdown(ctx context.Context) error {
	return errors.Join(n.proxy.Shutdown(ctx), n.close())
}

// close closes what openNode opened, last opened first.
func (n *node) close() error {
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i].Close())
	}
	n.closers = nil
	return errors.Join(errs...)
}
