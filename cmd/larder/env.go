package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"larder/certs"
	"larder/daemon"
)

type envFlags struct {
	config, state, proxy, format string

	verify      []string // fingerprints; none: the server is on this machine
	from, files string
}

func newEnv() *cobra.Command {
	var f envFlags
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print the environment that a job needs to use a running 'larder serve'",
		Long: `Print the environment that a job needs to use a running "larder serve".

The trust files it names are below the state folder of the server. On another node,
--verify fetches the server's root, holds it against the fingerprint that "larder ca
show" prints there, and writes trust files of this node's roots and that one; so
nothing is trusted that only came over the network.`,
		Example: `  eval "$(larder env)"
  larder env --proxy http://cache.example:3128 --format github >> "$GITHUB_ENV"
  eval "$(larder env --from http://cache.example:3128 --verify SHA256:85:4F:E3:...)"`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			vars, err := f.environment(cmd.Context(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			printNotes(cmd.ErrOrStderr(), vars)
			return certs.Format(cmd.OutOrStdout(), f.format, vars)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", "", "configuration `file` of the server (default: the system's or user's, else the built-in one)")
	fl.StringVar(&f.state, "state", "", "state `folder` of the server")
	fl.StringVar(&f.proxy, "proxy", "", "`URL` under which jobs reach the proxy (default: this machine, with the port of the configuration)")
	fl.StringVar(&f.format, "format", "sh", "output `format`: "+strings.Join(certs.Formats(), ", "))
	fl.StringArrayVar(&f.verify, "verify", nil, "SHA-256 `fingerprint` of the server's root, which is fetched from it; repeat it for the other root of a rotation")
	fl.StringVar(&f.from, "from", "", "with --verify: `URL` of the server (default: --proxy, http_proxy, or this machine)")
	fl.StringVar(&f.files, "files", "", "with --verify: `folder` to write the trust files to (default: kit in the state folder)")
	// The flag exists, so registering its completion cannot fail.
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(certs.Formats(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// printNotes says what of the caller's own settings larder's take the place of.
func printNotes(w io.Writer, vars []certs.Var) {
	said := make(map[string]bool) // no_proxy and NO_PROXY have the same to say
	for _, v := range vars {
		if line := strings.ToUpper(v.Name) + ": " + v.Note; v.Note != "" && !said[line] {
			said[line] = true
			fmt.Fprintf(w, "larder: note: %s\n", line)
		}
	}
}

// environment checks the flags and makes the variables.
func (f envFlags) environment(ctx context.Context, notes io.Writer) ([]certs.Var, error) {
	if !slices.Contains(certs.Formats(), f.format) {
		return nil, usageError(withHint(fmt.Errorf("--format %q is not known", f.format), "formats are: %s", strings.Join(certs.Formats(), ", ")))
	}
	if f.proxy != "" {
		if err := checkProxy(f.proxy); err != nil {
			return nil, err
		}
	}
	if len(f.verify) > 0 {
		return verifiedEnvironment(ctx, f, notes)
	}
	if f.from != "" || f.files != "" {
		return nil, usageError(withHint(errors.New("--from and --files mean nothing without --verify"), "'larder ca show' on the proxy prints the fingerprint"))
	}
	return serverEnvironment(f)
}

func serverEnvironment(f envFlags) ([]certs.Var, error) {
	p, err := loadPolicy(f.config)
	if err != nil {
		return nil, err
	}
	settings := p.Settings()
	paths, err := daemon.DefaultPaths(cmp.Or(f.state, settings.State), os.Getenv, os.Getuid())
	if err != nil {
		return nil, err
	}
	files := certs.Paths(paths.Trust())
	if _, err := os.Stat(files.Bundle); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, withHint(fmt.Errorf("there are no trust files in %s", files.Dir),
				"start 'larder serve' once, or name its folder with --state")
		}
		return nil, fmt.Errorf("look for the trust files: %w", err)
	}
	proxy := f.proxy
	if proxy == "" {
		if proxy, err = localProxy(settings.Listen); err != nil {
			return nil, err
		}
	}
	return certs.Environment(files, certs.Proxy{URL: proxy, NoProxy: settings.NoProxy}, os.Getenv), nil
}

// checkProxy accepts what every client understands: http://host:port.
func checkProxy(raw string) error {
	u, err := url.Parse(raw)
	if err == nil && u.Scheme == "http" && u.Hostname() != "" && u.Port() != "" && strings.Trim(u.Path, "/") == "" && u.RawQuery == "" {
		return nil
	}
	return usageError(withHint(fmt.Errorf("--proxy %q is no proxy that every client understands", raw),
		"write it as http://cache.example:3128"))
}

// localProxy is how this machine reaches a proxy that listens on addr.
func localProxy(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("read the listen address: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}
