package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"larder/ca"
	"larder/ca/remote"
)

type caServeFlags struct {
	*caFlags
	listen, nodes string
	hosts         []string
	log           logFlags
}

func newCAServe(base *caFlags) *cobra.Command {
	f := caServeFlags{caFlags: base}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Sign intermediates for other nodes, which ask over the network",
		Long: `Sign intermediates for other nodes, which ask over the network.

It speaks cfssl's authsign over TLS, with a certificate of the root's. --nodes
names a file with a line for each node, its name and its key:

  build1 3f8a...                  # openssl rand -hex 32

A node asks for the hosts that its own policy intercepts, and gets a certificate
if the policy here intercepts them too. SIGHUP reads the nodes again; the policy
is read for each request.`,
		Example: `  signer$ larder ca serve --nodes /etc/larder/nodes --host ca.corp.example
  node$   larder ca init --signer https://ca.corp.example:3130 --node build1 \
            --auth-key-file build1.key --signer-root ca.pem`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context()) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", ":3130", "`address` to listen on")
	fl.StringVar(&f.nodes, "nodes", "", "`file` with the nodes' names and keys")
	fl.StringSliceVar(&f.hosts, "host", nil, "`name` or address under which nodes reach this machine; may be repeated (default: its host name)")
	f.log.register(fl)
	_ = cmd.MarkFlagRequired("nodes") // the flag exists
	return cmd
}

// signingServer is "larder ca serve". What changes while it runs is replaced as a
// whole.
type signingServer struct {
	flags   caServeFlags
	keeper  ca.Keeper
	logger  *slog.Logger
	handler atomic.Pointer[http.Handler]
	cert    atomic.Pointer[tls.Certificate]
	roots   []byte // that cert is of; of the tending goroutine
}

func (f *caServeFlags) run(ctx context.Context) error {
	logger, err := f.log.logger(os.Stderr)
	if err != nil {
		return usageError(err)
	}
	if len(f.hosts) == 0 {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find the name of this machine: %w", err)
		}
		f.hosts = []string{host}
	}
	keeper, _, err := f.keeper()
	if err != nil {
		return err
	}
	s := &signingServer{flags: *f, keeper: keeper, logger: logger}
	if err := errors.Join(s.readNodes(), s.renew()); err != nil {
		return err
	}
	l, err := listen("signer", f.listen, "--listen")
	if err != nil {
		return err
	}
	return s.serve(ctx, l)
}

// readNodes makes the handler for the nodes that the file has at present.
func (s *signingServer) readNodes() error {
	keys, err := remote.ReadKeys(s.flags.nodes)
	if err != nil {
		return usageError(err)
	}
	h, err := remote.NewHandler(remote.Options{
		Keeper: s.keeper,
		Permitted: func() ([]string, error) {
			_, permitted, err := s.flags.keeper()
			return permitted, err
		},
		Keys:   keys,
		Logger: s.logger,
	})
	if err == nil {
		s.handler.Store(&h)
	}
	return err
}

// renew makes the server's certificate if there is none, if it is in the second
// half of its life, or if the root was rotated.
func (s *signingServer) renew() error {
	status, err := s.keeper.Status()
	if err != nil {
		return err
	}
	var roots []byte
	for _, root := range status.Roots {
		roots = append(roots, root.Raw...)
	}
	now := time.Now()
	if old := s.cert.Load(); old != nil && slices.Equal(roots, s.roots) &&
		now.Before(old.Leaf.NotBefore.Add(old.Leaf.NotAfter.Sub(old.Leaf.NotBefore)/2)) {
		return nil
	}
	cert, err := s.keeper.ServerCertificate(s.flags.hosts)
	if err != nil {
		return err
	}
	s.cert.Store(cert)
	s.roots = roots
	return nil
}

func (s *signingServer) serve(ctx context.Context, l net.Listener) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	defer signal.Stop(signals)
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*s.handler.Load()).ServeHTTP(w, r) }),
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 10 * time.Second,
	}
	tlsListener := tls.NewListener(l, &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert.Load(), nil },
	})
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := server.Serve(tlsListener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		s.tend(gctx, signals)
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return server.Shutdown(end)
	})
	s.logger.Info("signing", "version", version(), "listen", l.Addr().String(), "hosts", s.flags.hosts)
	return g.Wait()
}

// tend returns at the signal to end, or when ctx does.
func (s *signingServer) tend(ctx context.Context, signals <-chan os.Signal) {
	ticker := time.NewTicker(trustInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-signals:
			if sig != unix.SIGHUP {
				return
			}
			if err := s.readNodes(); err != nil {
				s.logger.Error("reload failed, the nodes of before stay", "err", err)
			}
		case <-ticker.C:
		}
		if err := s.renew(); err != nil {
			s.logger.Error("the signer's own certificate cannot be renewed", "err", err)
		}
	}
}
