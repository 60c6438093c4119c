package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"larder/admin"
	"larder/daemon"
)

type serveFlags struct {
	config, state, listen, admin string
	passphraseFile, ticketFile   string
	drain                        time.Duration
	offline                      bool
	log                          logFlags
}

func newServe() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve a fleet: proxy on :3128, health and metrics on 127.0.0.1:3129",
		Long: `Serve a fleet in the foreground.

Without a configuration every preset is active. SIGHUP reads the policy again
and keeps the old one if the new one is wrong; SIGTERM and SIGINT let what is
under way finish (--drain), a second one ends at once.`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", "", "configuration `file` (default: the user's or system's, else all presets)")
	fl.StringVar(&f.state, "state", "", "`folder` for CA, store and trust files")
	fl.StringVar(&f.listen, "listen", "", "proxy `address`, in place of the configuration's")
	fl.StringVar(&f.admin, "admin", "", "admin `address`, in place of the configuration's; off to have none")
	fl.StringVar(&f.passphraseFile, "passphrase-file", "", "`file` whose first line opens the CA's root key, if that is encrypted")
	fl.StringVar(&f.ticketFile, "ticket-key-file", "", "`file` with a secret that nodes share (openssl rand -hex 32): each resumes the TLS sessions of the others")
	fl.DurationVar(&f.drain, "drain", 30*time.Second, "how long what is under way may take to finish after SIGTERM")
	fl.BoolVar(&f.offline, "offline", false, "fetch nothing: serve what is stored whatever its age, 504 for the rest")
	f.log.register(fl)
	return cmd
}

// server is a node with its listeners.
type server struct {
	flags  serveFlags
	config string // file the policy came from, "" for the built-in one
	node   *node
	proxy  net.Listener
	admin  net.Listener // nil: off
	// entrances are the further listeners of the policy.
	entrances []entrance
	socket    net.Listener // of who owns the state folder
	token     string       // for the store API over TCP
	reload    *admin.Reload
	draining  atomic.Bool
	logger    *slog.Logger
}

// adminHandler shows this server on an admin listener, whose store API asks for a
// token, or for none.
func (s *server) adminHandler(token string) http.Handler {
	return admin.New(admin.Options{
		Version: version(),
		Checks: []admin.Check{
			{Name: "drain", Ready: func(context.Context) error {
				if s.draining.Load() {
					return errors.New("larder is draining: it accepts no new connections")
				}
				return nil
			}},
			s.node.storeCheck(),
			s.node.ledgerCheck(),
		},
		Store:    storeUsage{s.node},
		StoreAPI: s.node.storeAPI(),
		Ledger:   s.node.ledgerAPI(),
		Wheels:   s.node.wheelAPI(),
		Token:    token,
		Doctor:   diagnoses{s.node.doctor},
		Capturer: capturer{s.node},
		Reloader: s.reload,
		Gatherer: s.node.registry,
		Logger:   s.logger,
	})
}

func serve(ctx context.Context, f serveFlags) error {
	logger, err := f.log.logger(os.Stderr)
	if err != nil {
		return usageError(err)
	}
	// net/http's client logs through the default logger, and only through that.
	slog.SetDefault(logger)
	s := &server{flags: f, logger: logger}
	// Caught from here on, so that a signal during start-up is not lost.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	defer signal.Stop(signals)

	if err := s.open(ctx); err != nil {
		return err
	}
	return s.run(ctx, signals)
}

// open takes everything that a second larder could already hold, addresses
// first: they are the likeliest to be taken and the cheapest to give back.
func (s *server) open(ctx context.Context) error {
	p, err := loadPolicy(s.flags.config)
	if err != nil {
		return err
	}
	s.config = p.file
	settings := p.Settings()
	paths, err := daemon.DefaultPaths(cmp.Or(s.flags.state, settings.State), os.Getenv, os.Getuid())
	if err != nil {
		return err
	}
	tickets, err := readTicketSecret(s.flags.ticketFile)
	if err != nil {
		return err
	}
	s.proxy, err = listen("proxy", cmp.Or(s.flags.listen, settings.Listen), "--listen")
	if err != nil {
		return err
	}
	if addr := cmp.Or(s.flags.admin, settings.Admin.Listen, "off"); addr != "off" {
		s.admin, err = listen("admin", addr, "--admin")
		if err != nil {
			return errors.Join(err, s.proxy.Close())
		}
	}
	err = s.openListeners(ctx, settings.Listeners)
	if err == nil {
		err = retireBackground(ctx, paths)
	}
	if err != nil {
		return errors.Join(err, s.closeListeners())
	}
	names, err := proxyNames(settings.Listeners)
	if err == nil {
		s.node, err = openNode(paths, p.Policy, s.logger, nodeOptions{offline: s.flags.offline, withoutStore: true, auth: true, names: names, passphraseFile: s.flags.passphraseFile, ticketSecret: tickets})
	}
	if err == nil {
		err = s.prepareListeners()
	}
	if err == nil {
		err = s.openSocket(paths)
	}
	if err != nil {
		return errors.Join(err, s.closeListeners())
	}
	if s.admin != nil {
		// The admin listener is not to be had through the proxy, whatever
		// addresses the policy allows.
		s.node.upstream.Refuse(s.admin.Addr())
	}
	s.reload = admin.NewReload(s.readPolicy, s.node.registry)
	s.node.sweeper.begin(p)
	return nil
}

// retireBackground asks the background larder of "larder run" in the same state
// folder to make room. It does, unless it has runs under way.
func retireBackground(ctx context.Context, paths daemon.Paths) error {
	// As a client of another build that starts nothing: what it finds ends.
	_, err := daemon.Connect(ctx, daemon.StartOptions{Paths: paths, Build: "serve"})
	if busy, ok := errors.AsType[*daemon.VersionError](err); ok {
		return withHint(fmt.Errorf("the background larder of 'larder run' (process %d) has %s, and serves %s", busy.PID, plural(int64(busy.Runs), "run"), paths.State),
			"wait for its runs to end, or choose another folder with --state")
	}
	// That there is none is what we want. Whatever else is wrong with the folder
	// is better said by those who open it.
	return nil
}

func (s *server) closeListeners() error {
	err := s.proxy.Close()
	if s.admin != nil {
		err = errors.Join(err, s.admin.Close())
	}
	for _, e := range s.entrances {
		err = errors.Join(err, e.Close())
	}
	return err
}

// listen binds addr and says in the error what to do about it.
func listen(what, addr, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, listenFailure(what, addr, flag, err)
	}
	return l, nil
}

// run serves until a signal or an error ends it.
func (s *server) run(ctx context.Context, signals <-chan os.Signal) error {
	serveCtx, stop := context.WithCancel(ctx)
	defer stop()
	g, gctx := errgroup.WithContext(serveCtx)
	g.Go(func() error { return s.node.proxy.Serve(s.proxy, nil) })
	s.serveListeners(g)
	adminCtx, stopAdmin := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAdmin()
	if s.admin != nil {
		g.Go(func() error { return admin.Serve(adminCtx, s.admin, s.adminHandler(s.token)) })
	}
	g.Go(func() error { return admin.Serve(adminCtx, s.socket, s.adminHandler("")) })
	g.Go(func() error {
		err := s.handleSignals(gctx, signals)
		// The admin listener answers until the drain is over: that is when an
		// operator looks at it.
		stopAdmin()
		return err
	})
	s.logger.Info("serving",
		"version", version(), "listen", s.proxy.Addr().String(), "admin", addrOf(s.admin),
		"state", s.node.paths.State, "config", cmp.Or(s.config, "built in: no configuration file"), "root", s.node.ca.Fingerprint())
	return g.Wait()
}

func addrOf(l net.Listener) string {
	if l == nil {
		return "off"
	}
	return l.Addr().String()
}

// handleSignals reloads at SIGHUP and drains at SIGTERM or SIGINT; it also
// drains when ctx ends, which is when another part of the server has failed.
func (s *server) handleSignals(ctx context.Context, signals <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return s.drain(signals)
		case sig := <-signals:
			if sig != unix.SIGHUP {
				s.logger.Info("draining", "signal", sig.String(), "longest", s.flags.drain)
				return s.drain(signals)
			}
			// Logged where it happens; the old policy stays.
			_ = s.reload.Reload(ctx)
		}
	}
}

// drain stops accepting, lets what is under way finish and closes the node. A
// further SIGTERM or SIGINT cuts it short.
func (s *server) drain(signals <-chan os.Signal) error {
	s.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), s.flags.drain)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.node.shutdown(ctx) }() // ends when the drain is over, or with the process
	for {
		select {
		case err := <-done:
			if errors.Is(err, context.DeadlineExceeded) {
				s.logger.Warn("drain time is over, connections were cut", "longest", s.flags.drain)
				return nil
			}
			return err
		case sig := <-signals:
			if sig != unix.SIGHUP {
				// The store is made to be killed at any instant: nothing is lost but
				// the fills under way.
				return &exitError{code: exitSignalBase + int(sig.(syscall.Signal)), err: fmt.Errorf("ended by a second signal (%v)", sig)}
			}
		}
	}
}
