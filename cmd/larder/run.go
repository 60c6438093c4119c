package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"larder/certs"
	"larder/daemon"
)

// defaultIdle is how long the background larder stays without work.
const defaultIdle = 10 * time.Minute

type runFlags struct {
	config, state, json, har string
	idle                     time.Duration
	offline                  bool
}

func newRun() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "Run one command through a cache of your own",
		Long: `Run one command through a cache of your own.

A background larder is started for you at need and ends itself when it has had
nothing to do for a while (--idle). The command gets the proxy and CA variables
that package clients read; nothing else on the machine changes. Standard
streams, signals and the exit code are the command's own.`,
		Example: `  larder run -- npm pack is-number@7.0.0
  larder run -- pip download --no-deps six
  larder run --json fetched.json -- go mod download`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(withHint(errors.New("no command to run"), "usage: %s", cmd.UseLine()))
			}
			if f.idle < 0 {
				return usageError(withHint(fmt.Errorf("--idle %v is negative", f.idle), "write a duration such as 10m"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runCommand(cmd.Context(), f, args) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", "", "configuration `file` (default: the user's or system's, else all presets)")
	fl.StringVar(&f.state, "state", "", "`folder` for CA, store, trust files and log; one background larder per folder (default: ~/.local/state/larder; root: /var/lib/larder)")
	fl.StringVar(&f.json, "json", "", "write what was fetched to `file`, as a JSON list")
	fl.StringVar(&f.har, "har", "", "write what requests and responses said, without bodies and credentials, to `file` as HAR")
	fl.BoolVar(&f.offline, "offline", false, "fetch nothing for the command: it gets what is stored whatever its age, 504 for the rest")
	fl.DurationVar(&f.idle, "idle", defaultIdle, "how long the background larder stays without work")
	// What follows the command's name belongs to the command.
	fl.SetInterspersed(false)
	return cmd
}

func runCommand(ctx context.Context, f runFlags, argv []string) error {
	r, err := startRun(ctx, f, argv)
	if err != nil {
		return err
	}
	code, childErr := runChild(argv, r.environment())
	if childErr != nil {
		// Nothing ran, so there is nothing to account for.
		return errors.Join(&exitError{code: code, err: childErr}, r.run.Close())
	}
	// The child's code is the answer, whatever becomes of the account; but a
	// list that was asked for and could not be written is a failure.
	if err := r.finish(ctx, f); err != nil {
		report(os.Stderr, err)
		if code == 0 && (f.json != "" || f.har != "") {
			code = exitFailure
		}
	}
	if code == 0 {
		return nil
	}
	return &exitError{code: code}
}

// startedRun is a run as the command line knows it.
type startedRun struct {
	run     *daemon.Run
	noProxy []string
}

// startRun finds or starts the background larder and asks it for a port.
func startRun(ctx context.Context, f runFlags, argv []string) (*startedRun, error) {
	p, err := loadPolicy(f.config)
	if err != nil {
		return nil, err
	}
	paths, err := daemon.DefaultPaths(cmp.Or(f.state, p.Settings().State), os.Getenv, os.Getuid())
	if err != nil {
		return nil, err
	}
	command, err := daemonCommand(daemonFlags{config: p.file, state: f.state, idle: f.idle})
	if err != nil {
		return nil, err
	}
	client, err := daemon.Connect(ctx, daemon.StartOptions{Paths: paths, Command: command, Build: daemonBuild(p)})
	if err != nil {
		return nil, otherLarder(err, paths)
	}
	run, err := client.StartRun(ctx, daemon.RunRequest{
		Label:        filepath.Base(argv[0]),
		ExtraBundles: certs.CallerBundles(os.Getenv),
		Offline:      f.offline,
		HAR:          f.har != "",
	})
	if err != nil {
		return nil, err
	}
	return &startedRun{run: run, noProxy: p.Settings().NoProxy}, nil
}

// environment is the caller's, with the run's proxy and trust in it.
func (r *startedRun) environment() []string {
	vars := certs.Environment(certs.Files(r.run.Files), certs.Proxy{
		URL:     "http://" + r.run.ProxyAddr,
		NoProxy: r.noProxy,
	}, os.Getenv)
	printNotes(os.Stderr, vars)
	return certs.Apply(os.Environ(), vars)
}

// finish ends the run, prints its summary and writes the files for --json and
// --har.
func (r *startedRun) finish(ctx context.Context, f runFlags) error {
	sum, err := r.run.Finish(ctx)
	if err != nil {
		return errors.Join(err, r.run.Close())
	}
	if f.json != "" {
		err = writeFetched(f.json, r.run.Fetched(ctx))
	}
	if f.har != "" {
		err = errors.Join(err, writeHAR(ctx, f.har, r.run))
	}
	// Whoever read the command's stderr may have left with it; that is no reason
	// to die of SIGPIPE with an exit code that is not the command's.
	signal.Ignore(unix.SIGPIPE)
	if sum.Errors+sum.Denied > 0 {
		printFailures(os.Stderr, r.run.Fetched(ctx))
	}
	fmt.Fprintln(os.Stderr, "larder:", summaryLine(sum))
	if sum.Distrusted > 0 {
		printDistrust(os.Stderr, r.run.Fetched(ctx))
	}
	return errors.Join(err, r.run.Close())
}

// otherLarder says in words how the background larder that is there differs from
// the one that is wanted: by its program or only by its configuration.
func otherLarder(err error, paths daemon.Paths) error {
	other, ok := errors.AsType[*daemon.VersionError](err)
	if !ok {
		return err
	}
	running, _, _ := strings.Cut(other.Running, buildConfig)
	wanted, _, _ := strings.Cut(other.Wanted, buildConfig)
	difference := "has another configuration"
	if running != wanted {
		difference = "is another build of larder"
	}
	return withHint(fmt.Errorf("the background larder of %s (process %d) %s, and has %s under way",
		paths.State, other.PID, difference, plural(int64(other.Runs), "run")),
		"wait for that to end, then it is replaced; or give this run a folder of its own with --state")
}
