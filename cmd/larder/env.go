package main

import (
	"cmp"
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
}

func newEnv() *cobra.Command {
	var f envFlags
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print the environment that a job needs to use a running 'larder serve'",
		Long: `Print the environment that a job needs to use a running "larder serve".

The trust files it names are below the state folder of the server; on another
node, copy the folder to the same path.`,
		Example: `  eval "$(larder env)"
  larder env --proxy http://cache.example:3128 --format github >> "$GITHUB_ENV"`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			vars, err := serverEnvironment(f)
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

func serverEnvironment(f envFlags) ([]certs.Var, error) {
	if !slices.Contains(certs.Formats(), f.format) {
		return nil, usageError(withHint(fmt.Errorf("--format %q is not known", f.format), "formats are: %s", strings.Join(certs.Formats(), ", ")))
	}
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
		proxy, err = localProxy(settings.Listen)
	} else {
		err = checkProxy(proxy)
	}
	if err != nil {
		return nil, err
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
