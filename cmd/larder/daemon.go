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
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"larder/admin"
	"larder/certs"
	"larder/daemon"
	"larder/mitm"
)

type daemonFlags struct {
	config, state string
	idle          time.Duration
	log           logFlags
}

// newDaemon is the command that "run" starts in the background. It is hidden
// because nobody types it.
func newDaemon() *cobra.Command {
	var f daemonFlags
	cmd := &cobra.Command{
		Use:    "daemon",
		Short:  "Be the background larder of one state folder",
		Hidden: true,
		Args:   exactArgs(0),
		RunE:   func(cmd *cobra.Command, _ []string) error { return runDaemon(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", "", "configuration `file`")
	fl.StringVar(&f.state, "state", "", "state `folder`")
	fl.DurationVar(&f.idle, "idle", defaultIdle, "how long to stay without work")
	f.log.register(fl)
	return cmd
}

// daemonCommand is the command line that starts the daemon for f. Paths are made
// absolute, because a daemon does not stay in the caller's folder.
func daemonCommand(f daemonFlags) ([]string, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find larder's own executable: %w", err)
	}
	argv := []string{exe, "daemon", "--idle", f.idle.String()}
	for _, path := range []struct{ flag, value string }{{"--config", f.config}, {"--state", f.state}} {
		if path.value == "" {
			continue
		}
		abs, err := filepath.Abs(path.value)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", path.value, err)
		}
		argv = append(argv, path.flag, abs)
	}
	return argv, nil
}

// daemonBuild says which background larder a run can use: one of this build
// with this configuration. Another is replaced as soon as it has no runs, so a
// changed configuration takes effect at the next run.
func daemonBuild(p loadedPolicy) string {
	build := daemon.BuildID(version())
	if p.file == "" {
		return build
	}
	return fmt.Sprintf("%s%s%x", build, buildConfig, p.digest)
}

// buildConfig stands between the program and the configuration in a build's name.
const buildConfig = " config "

func runDaemon(ctx context.Context, f daemonFlags) error {
	logger, err := f.log.logger(os.Stderr)
	if err != nil {
		return usageError(err)
	}
	slog.SetDefault(logger) // as in serve
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	p, err := loadPolicy(f.config)
	if err != nil {
		return err
	}
	paths, err := daemon.DefaultPaths(cmp.Or(f.state, p.Settings().State), os.Getenv, os.Getuid())
	if err != nil {
		return err
	}
	d, err := daemon.New(daemon.Options{
		Paths:  paths,
		Build:  daemonBuild(p),
		Idle:   f.idle,
		Logger: logger,
		Open: func(context.Context) (daemon.Proxy, error) {
			n, err := openNode(paths, p.Policy, logger, nodeOptions{})
			if err != nil {
				return nil, err
			}
			n.sweeper.begin(p)
			callers, err := certs.OpenCallers(paths.Trust(), n.ca.RootPEM())
			if err != nil {
				return nil, errors.Join(err, n.close())
			}
			return &backgroundProxy{node: n, callers: callers}, nil
		},
	})
	if err != nil {
		return err
	}
	return d.Run(ctx)
}

// backgroundProxy gives the daemon a node in the daemon's words.
type backgroundProxy struct {
	node    *node
	callers *certs.Callers
}

func (b *backgroundProxy) Serve(l net.Listener, observe func(daemon.Exchange)) error {
	var record *mitm.Recorder
	if p, ok := l.(daemon.Recorded); ok && p.Recorded() {
		record = mitm.NewRecorder()
		p.Keep(record)
	}
	return b.node.proxy.ServeRecorded(l, func(e mitm.Exchange) { observe(daemon.Exchange(e)) }, record)
}

// API is the store API and the doctor, for who owns the state folder.
func (b *backgroundProxy) API() http.Handler {
	return admin.New(admin.Options{
		Version:  version(),
		Checks:   []admin.Check{b.node.storeCheck(), b.node.ledgerCheck()},
		Store:    storeUsage{b.node},
		StoreAPI: b.node.storeAPI(),
		Ledger:   b.node.ledgerAPI(),
		Wheels:   b.node.wheelAPI(),
		Doctor:   diagnoses{b.node.doctor},
		Logger:   b.node.logger,
	})
}

func (b *backgroundProxy) Close(ctx context.Context) error { return b.node.shutdown(ctx) }

// Trust returns the node's trust files, or, for a caller who trusts more than
// the system's roots, files with those roots in them too, as long as he has a run:
// most clients replace their roots by the bundle.
func (b *backgroundProxy) Trust(r daemon.RunRequest) (daemon.TrustFiles, func(), error) {
	files, release, err := b.callers.Files(r.ExtraBundles)
	if err != nil {
		return daemon.TrustFiles{}, nil, fmt.Errorf("write the trust files for a run: %w", err)
	}
	return daemon.TrustFiles(files), release, nil
}
