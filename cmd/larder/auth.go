package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"larder/auth"
)

func newAuth() *cobra.Command {
	cmd := asGroup(&cobra.Command{
		Use:   "auth",
		Short: "Make lines for the files of credentials that clients of the proxy have",
		Long: `Make lines for the files of credentials that clients of the proxy have.

The configuration names the files as auth.passwords_file and auth.tokens_file. They
are of mode 0600 or 0640, and read again at a reload (SIGHUP).`,
	})
	cmd.AddCommand(newAuthPassword(), newAuthToken())
	return cmd
}

func newAuthPassword() *cobra.Command {
	return &cobra.Command{
		Use:     "password NAME",
		Aliases: []string{"hash"},
		Short:   "Read a password from standard input, print the line of a passwords file",
		Example: `  read -rs PASSWORD && printf %s "$PASSWORD" | larder auth password alice >> /etc/larder/passwords`,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if isTerminal(cmd.InOrStdin()) {
				return usageError(withHint(errors.New("the password would show on the terminal"),
					`pipe it in: read -rs PASSWORD && printf %%s "$PASSWORD" | %s %s`, cmd.CommandPath(), args[0]))
			}
			password, err := readPassword(cmd.InOrStdin())
			if err != nil {
				return err
			}
			line, err := auth.Hash(args[0], password)
			if err != nil {
				return usageError(err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), line)
			return err
		},
	}
}

func newAuthToken() *cobra.Command {
	return &cobra.Command{
		Use:   "token NAME",
		Short: "Make a token: it goes to standard error, the line of a tokens file to standard output",
		Example: `  larder auth token ci >> /etc/larder/tokens
  HTTPS_PROXY=http://ci:TOKEN@larder.example:3128`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			token, line, err := auth.NewToken(args[0])
			if err != nil {
				return usageError(err)
			}
			if _, err = fmt.Fprintln(cmd.OutOrStdout(), line); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.ErrOrStderr(), token)
			return err
		},
	}
}

// readPassword reads the first line.
func readPassword(r io.Reader) (string, error) {
	line, err := bufio.NewReaderSize(io.LimitReader(r, 4096), 4096).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}
