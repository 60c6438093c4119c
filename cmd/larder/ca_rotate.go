package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"larder/ca"
)

func newCARenew(f *caFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "renew",
		Short: "Make a new intermediate now, for the hosts that the policy intercepts",
		Long: `Make a new intermediate now, for the hosts that the policy intercepts.

A larder that can reach the root key does so by itself, when the intermediate is
eight months old and when the policy opens more hosts. This is for those that
cannot: the background larder of "larder run", which is given no passphrase, or
any where root.key is put back for a moment only. Clients notice nothing.`,
		Example: `  larder ca renew --passphrase-file passphrase`,
		Args:    exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, permitted, err := f.keeper()
			if err != nil {
				return err
			}
			status, err := k.Renew(permitted, nil)
			if err != nil {
				return err
			}
			return writeStatus(cmd.OutOrStdout(), status, time.Now())
		},
	}
}

type caRotateFlags struct {
	*caFlags
	retire, early, unconstrained bool
	importRoot, rootKey, install string
}

func newCARotate(base *caFlags) *cobra.Command {
	f := caRotateFlags{caFlags: base}
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Replace the root: trust both for a while, then retire the old one",
		Long: `Replace the root: trust both for a while, then retire the old one.

The new root signs from now on. The trust files hold both roots, and the old one
has certified the new one's key, so that clients with either are served. When
every client has fetched the new root, 30 days from now at the earliest,
--retire ends the trust in the old one.

The new root is made here, or one of yours: with its key (--import-root), or by
what a company's PKI answered to "larder ca init --csr" (--install), whose key
never comes here.

Nodes with an intermediate of their own get another from issue-node, or from
"larder ca serve" by themselves, before the old root is retired.`,
		Example: `  larder ca rotate && systemctl reload larder
  larder ca rotate --retire && systemctl reload larder

  larder ca rotate --import-root corp.pem --root-key corp.key

  larder ca init --csr > node.csr
  larder ca rotate --install node.pem`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.early && !f.retire {
				return usageError(errors.New("--early means nothing without --retire"))
			}
			if f.unconstrained && f.install == "" {
				return usageError(errors.New("--unconstrained means nothing without --install"))
			}
			k, permitted, err := f.keeper()
			if err != nil {
				return err
			}
			k.Bounded = permitted != nil && !f.unconstrained
			status, err := f.run(k, cmd.InOrStdin())
			if err != nil {
				return err
			}
			return writeStatus(cmd.OutOrStdout(), status, time.Now())
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.retire, "retire", false, "end the trust in the old root, and forget its key")
	fl.BoolVar(&f.early, "early", false, "with --retire: before 30 days have passed; clients that lack the new root lose larder")
	fl.StringVar(&f.importRoot, "import-root", "", "`file` with a root of yours, in PEM, in place of a new one")
	fl.StringVar(&f.rootKey, "root-key", "", "`file` with its key; PKCS #8, encrypted or not")
	fl.StringVar(&f.install, "install", "", "`file` with the answer to 'larder ca init --csr' and the new root in PEM; - is standard input")
	fl.BoolVar(&f.unconstrained, "unconstrained", false, unconstrainedUsage)
	cmd.MarkFlagsRequiredTogether("import-root", "root-key")
	cmd.MarkFlagsMutuallyExclusive("retire", "import-root", "install")
	return cmd
}

func (f *caRotateFlags) run(k ca.Keeper, in io.Reader) (ca.Status, error) {
	switch {
	case f.retire:
		return k.Retire(f.early)
	case f.importRoot != "":
		return withRoot(f.importRoot, f.rootKey, k.RotateTo)
	case f.install != "":
		return withAnswer(f.install, in, k.RotateInstall)
	}
	return k.Rotate()
}

func newCAIssueNode(f *caFlags) *cobra.Command {
	var csr, output string
	cmd := &cobra.Command{
		Use:   "issue-node NAME",
		Short: "Sign an intermediate for another node of the fleet",
		Long: `Sign an intermediate for another node of the fleet, constrained to the hosts that
the policy here intercepts, and print what "larder ca init --install" takes on
that node: a client that trusts the root is then served by either.

Without --csr the key is made here and printed with it: keep the output secret.`,
		Example: `  larder ca issue-node build2 --output build2.pem
  larder ca issue-node build3 --csr build3.csr > build3.pem`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, permitted, err := f.keeper()
			if err != nil {
				return err
			}
			var request []byte
			if csr != "" {
				if request, err = readInput(csr, cmd.InOrStdin()); err != nil {
					return err
				}
			}
			out, err := k.IssueNode(args[0], request, permitted, nil)
			if err != nil {
				return err
			}
			if output == "" {
				_, err = cmd.OutOrStdout().Write(out)
				return err
			}
			return writeSecret(output, out)
		},
	}
	cmd.Flags().StringVar(&csr, "csr", "", "`file` with the node's request (larder ca init --csr); - is standard input")
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to a new `file` that only its owner reads, in place of standard output")
	return cmd
}

// writeSecret makes a file that nobody else reads. It replaces none.
func writeSecret(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return withHint(fmt.Errorf("%s is there already", path), "remove it first, or name another file")
	}
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Sync(), file.Close())
}
