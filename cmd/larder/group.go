package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// asGroup makes cmd a command that only holds others: alone it prints its help,
// and an unknown word after it is the caller's mistake (exit code 2), with the
// nearest known ones.
func asGroup(cmd *cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		err := fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
		// cobra's default distance, which it sets only in errors of its own making.
		if cmd.SuggestionsMinimumDistance == 0 {
			cmd.SuggestionsMinimumDistance = 2
		}
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return usageError(withHint(err, "did you mean %s?", strings.Join(near, " or ")))
		}
		return usageError(withHint(err, "see '%s --help'", cmd.CommandPath()))
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}
