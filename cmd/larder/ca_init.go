package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"larder/ca"
)

type caInitFlags struct {
	*caFlags
	rootOnly, csr, unconstrained bool
	importRoot, rootKey, install string
	signer                       signerFlags
}

func newCAInit(base *caFlags) *cobra.Command {
	f := caInitFlags{caFlags: base}
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the CA: root and intermediate, or the part of it that belongs here",
		Long: `Make the CA: root and intermediate, or the part of it that belongs here.

Alone it makes both, as a larder does that finds none when it starts. With
--root-only it makes no intermediate: this is a machine that serves nobody.

For a root that is kept elsewhere, a company's PKI or an offline machine, --csr
prints a request, with the hosts that the policy intercepts as name constraints;
--install takes the answer: the certificate, those above it, and the root, in
PEM, in any order. The key never leaves this machine.

With --signer the larder (or cfssl) there signs, at once, at each renewal and
when the root is rotated; it is "larder ca serve" that answers.`,
		Example: `  larder ca init --passphrase-file /etc/larder/passphrase
  larder ca init --import-root corp.pem --root-key corp.key

  node$    larder ca init --csr > node.csr
  offline$ larder ca init --root-only --state /media/stick
  offline$ larder ca issue-node build1 --csr node.csr --state /media/stick > node.pem
  node$    larder ca init --install node.pem`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.InOrStdin(), cmd.OutOrStdout()) },
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.rootOnly, "root-only", false, "make the root, and no intermediate")
	fl.StringVar(&f.importRoot, "import-root", "", "`file` with a root of yours, in PEM, in place of a new one")
	fl.StringVar(&f.rootKey, "root-key", "", "`file` with its key; PKCS #8, encrypted or not")
	fl.BoolVar(&f.csr, "csr", false, "print a request for an intermediate, to be signed where the root is")
	fl.StringVar(&f.install, "install", "", "`file` with the answer to the request, or what issue-node printed; - is standard input")
	fl.BoolVar(&f.unconstrained, "unconstrained", false, unconstrainedUsage)
	fl.StringVar(&f.signer.url, "signer", "", "`URL` of the larder that signs: https://host:port")
	fl.StringVar(&f.signer.node, "node", "", "this node's `name` there")
	fl.StringVar(&f.signer.keyFile, "auth-key-file", "", "`file` with this node's key there, in hexadecimal")
	fl.StringVar(&f.signer.rootFile, "signer-root", "", "`file` with the root there, in PEM (trust/ca.pem of its state folder)")
	cmd.MarkFlagsRequiredTogether("import-root", "root-key")
	cmd.MarkFlagsRequiredTogether("signer", "node", "auth-key-file", "signer-root")
	cmd.MarkFlagsMutuallyExclusive("csr", "install", "import-root", "signer")
	cmd.MarkFlagsMutuallyExclusive("csr", "install", "root-only", "signer")
	return cmd
}

const unconstrainedUsage = "with --install: take a certificate that is good for any host, though the policy opens some only"

func (f *caInitFlags) run(in io.Reader, out io.Writer) error {
	if f.unconstrained && f.install == "" {
		return usageError(errors.New("--unconstrained means nothing without --install"))
	}
	k, permitted, err := f.keeper()
	if err != nil {
		return err
	}
	k.Bounded = permitted != nil && !f.unconstrained
	var status ca.Status
	switch {
	case f.csr:
		request, err := k.Request(permitted, nil)
		if err != nil {
			return err
		}
		_, err = out.Write(request)
		return err
	case f.install != "":
		status, err = withAnswer(f.install, in, k.Install)
	case f.importRoot != "":
		status, err = withRoot(f.importRoot, f.rootKey, k.ImportRoot)
	case f.signer.url != "":
		err = f.signer.save(k.Dir)
	default:
		status, err = k.Init()
	}
	if err == nil && !f.rootOnly && f.install == "" {
		status, err = f.makeIntermediate(k, permitted)
	}
	if err != nil {
		return err
	}
	return writeStatus(out, status, time.Now())
}

// withAnswer does something with what came from where the root is.
func withAnswer(path string, in io.Reader, do func([]byte) (ca.Status, error)) (ca.Status, error) {
	data, err := readInput(path, in)
	if err != nil {
		return ca.Status{}, err
	}
	status, err := do(data)
	if h := hinter(nil); err != nil && !errors.As(err, &h) {
		err = withHint(err, "it takes what 'larder ca issue-node' prints, or a company's answer to 'larder ca init --csr' with its root appended")
	}
	return status, err
}

// withRoot does something with the files of a root that was made elsewhere.
func withRoot(certFile, keyFile string, do func(certPEM, keyPEM []byte) (ca.Status, error)) (ca.Status, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return ca.Status{}, usageError(fmt.Errorf("read the root: %w", err))
	}
	key, err := readSecret(keyFile)
	if err != nil {
		return ca.Status{}, usageError(fmt.Errorf("read the key of the root: %w", err))
	}
	return do(cert, key)
}

// readSecret reads a file with a key, which nobody but its owner may have access to:
// whoever could read it has the key, wherever larder keeps it then.
func readSecret(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if perm := info.Mode().Perm(); info.Mode().IsRegular() && perm&0o077 != 0 {
		return nil, withHint(fmt.Errorf("%s has mode %04o: others can read the key in it", path, perm), "chmod 600 %s", path)
	}
	return io.ReadAll(io.LimitReader(file, maxInput))
}

// makeIntermediate opens the authority as a larder does that starts.
func (f *caInitFlags) makeIntermediate(k ca.Keeper, permitted []string) (ca.Status, error) {
	signer, err := openSigner(k.Dir)
	if err != nil {
		return ca.Status{}, err
	}
	a, err := ca.Open(ca.Options{Dir: k.Dir, PermittedDNS: permitted, Passphrase: k.Passphrase, Signer: signer})
	if err != nil {
		return ca.Status{}, err
	}
	if err := a.Close(); err != nil {
		return ca.Status{}, err
	}
	return k.Status()
}

// maxInput bounds what the commands read: some certificates and a key.
const maxInput = 1 << 20

// readInput reads a file, or standard input if it is "-".
func readInput(path string, in io.Reader) ([]byte, error) {
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, usageError(err)
		}
		defer file.Close()
		in = file
	}
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(in, maxInput+1))
	if err == nil && n > maxInput {
		err = fmt.Errorf("%s is larger than %d octets", path, maxInput)
	}
	return b.Bytes(), err
}
