package main

import (
	"github.com/spf13/cobra"
)

// newRoot builds the command tree. It is built by functions, afresh for each
// call, so that tests can run commands side by side.
func newRoot() *cobra.Command {
	root := asGroup(&cobra.Command{
		Use:   "larder",
		Short: "A caching forward proxy that CI jobs need only HTTPS_PROXY and a CA bundle for",
		Long: `larder is a TLS-intercepting, caching forward proxy with a private CA of its own.
It keeps the immutable artifacts of package registries and lets everything else
through untouched.

  larder run -- pip install requests     one command through a cache of your own
  larder serve                           the cache of a fleet, on :3128
  larder policy explain GET URL          what larder would do with a request, and why`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	})
	// The zero value of cobra prints usage for every error; an operator wants
	// the error. A wrong flag is the one case where usage helps, and exits 2.
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError(withHint(err, "see '%s --help'", cmd.CommandPath()))
	})
	root.AddCommand(
		newRun(),
		newServe(),
		newEnv(),
		newCA(),
		newStore(),
		newLedger(),
		newWheels(),
		newDoctor(),
		newPolicy(),
		newAuth(),
		newConfig(),
		newFirewall(),
		newDaemon(),
		newVersion(),
	)
	return root
}

// exactArgs is cobra.ExactArgs with an error that exits with the usage code.
func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(cmd, args); err != nil {
			return usageError(withHint(err, "usage: %s", cmd.UseLine()))
		}
		return nil
	}
}
