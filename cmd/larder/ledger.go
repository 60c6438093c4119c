package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"larder/admin"
	"larder/cache"
	"larder/daemon"
	"larder/ledger"
	"larder/policy"
)

func newLedger() *cobra.Command {
	cmd := asGroup(&cobra.Command{
		Use:   "ledger",
		Short: "Look at the digests under which URLs were first seen, and accept others",
		Long: `Look at the digests under which URLs were first seen, and accept others.

Under rules that say so (ledger: refuse or warn) larder writes down, for good, the
digest of what it first gets from a URL whose content never changes, and compares
everything that comes under it later. The ledger is in the state folder, outlives
what is stored, and is read there while a larder is running. Its head is signed:
who keeps a checkpoint, or an export, can prove that nothing was changed since.`,
		Example: `  larder ledger events
  larder ledger show https://files.example.org/a-1.0.tar.gz
  larder ledger accept https://files.example.org/a-1.0.tar.gz
  larder ledger export --output ledger.jsonl
  larder ledger verify --earlier checkpoint.txt
  larder ledger verify --export new.jsonl --earlier old.jsonl --key key.pub`,
	})
	var f ledgerFlags
	fl := cmd.PersistentFlags()
	fl.StringVar(&f.config, "config", "", "configuration `file` of the larder (default: the user's or system's, else the built-in one)")
	fl.StringVar(&f.state, "state", "", "state `folder` of the larder")
	cmd.AddCommand(newLedgerEvents(&f), newLedgerShow(&f), newLedgerAccept(&f), newLedgerExport(&f), newLedgerCheckpoint(&f), newLedgerVerify(&f))
	return cmd
}

// ledgerFlags say whose ledger it is.
type ledgerFlags struct{ config, state string }

func (f *ledgerFlags) store() *storeFlags { return &storeFlags{config: f.config, state: f.state} }

// open opens the ledger of the state folder.
func (f *ledgerFlags) open(readOnly bool) (*ledger.Ledger, error) {
	paths, err := f.store().paths()
	if err != nil {
		return nil, err
	}
	p, err := loadPolicy(f.config)
	if err != nil {
		return nil, err
	}
	l, err := ledger.Open(ledger.Options{Dir: paths.Ledger(), ReadOnly: readOnly, MaxSize: p.Settings().Ledger.MaxSize})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, withHint(fmt.Errorf("there is no ledger in the state folder %s", paths.State), "larder makes one when it starts; name its state folder with --state")
	}
	return l, err
}

// read calls do with the ledger, opened for reading, and its API.
func (f *ledgerFlags) read(do func(*ledger.Ledger, *ledgerAPI) error) error {
	l, err := f.open(true)
	if err != nil {
		return err
	}
	api, err := f.api(l)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	return errors.Join(do(l, api), l.Close())
}

// api knows which parameters of a query the rules drop.
func (f *ledgerFlags) api(l *ledger.Ledger) (*ledgerAPI, error) {
	p, err := loadPolicy(f.config)
	if err != nil {
		return nil, err
	}
	return &ledgerAPI{ledger: l, rule: func(u *url.URL) *cache.Rule {
		d := p.Classify(policy.Client{}, "GET", u)
		if d.Rule == nil {
			return nil
		}
		return &cache.Rule{DropQuery: d.Rule.DropQuery}
	}}, nil
}

func newLedgerEvents(f *ledgerFlags) *cobra.Command {
	var asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use:   "events",
		Short: "List what came under URLs that had other bytes before, the newest first",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.read(func(_ *ledger.Ledger, api *ledgerAPI) error {
				entries, err := api.Events(limit)
				if err != nil {
					return err
				}
				return printEntries(cmd.OutOrStdout(), entries, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	cmd.Flags().IntVar(&limit, "limit", 100, "the most `entries` to print")
	return cmd
}

func newLedgerShow(f *ledgerFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show URL",
		Short: "Show what is written of a URL, the oldest first",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := parseTarget(args[0]); err != nil {
				return usageError(err)
			}
			return f.read(func(_ *ledger.Ledger, api *ledgerAPI) error {
				entries, err := api.History(args[0])
				if err != nil {
					return err
				}
				if len(entries) == 0 {
					return fmt.Errorf("the ledger has no entry of %s", args[0])
				}
				return printEntries(cmd.OutOrStdout(), entries, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	return cmd
}

// printEntries prints for people, or as the export has it.
func printEntries(w io.Writer, entries []admin.LedgerEntry, asJSON bool) error {
	b := bufio.NewWriter(w)
	for _, e := range entries {
		if asJSON {
			if err := json.NewEncoder(b).Encode(e); err != nil {
				return err
			}
			continue
		}
		what := e.Kind
		if e.Kind == ledger.Changed.String() {
			what = map[bool]string{true: "refused", false: "warned"}[e.Refused]
		}
		fmt.Fprintf(b, "%s  %-8s %s", e.Time.Local().Format(time.DateTime), what, e.SHA256)
		if e.Was != "" {
			fmt.Fprintf(b, " (was %s)", shortDigest(e.Was))
		}
		fmt.Fprintf(b, "  %s", e.URL)
		if e.Variant != "" {
			fmt.Fprintf(b, " (%s)", e.Variant)
		}
		fmt.Fprintln(b)
	}
	return b.Flush()
}

func newLedgerAccept(f *ledgerFlags) *cobra.Command {
	var a admin.LedgerAcceptance
	var variant string
	cmd := &cobra.Command{
		Use:   "accept URL",
		Short: "Let in what came under a URL and was not what was first seen",
		Long: `Let in what came under a URL and was not what was first seen: the digest of the
latest change, or the one of --sha256. Look at it before: larder ledger show URL.
What was first seen stays written down, and is a change from then on.`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := parseTarget(args[0]); err != nil {
				return usageError(err)
			}
			a.URL = args[0]
			if cmd.Flags().Changed("variant") {
				a.Variant = &variant
			}
			e, err := f.accept(cmd.Context(), a)
			if err != nil {
				return err
			}
			return printEntries(cmd.OutOrStdout(), []admin.LedgerEntry{e}, false)
		},
	}
	cmd.Flags().StringVar(&a.SHA256, "sha256", "", "the `digest` to accept, in hexadecimal")
	cmd.Flags().StringVar(&variant, "variant", "", "the `variant` to accept, as show prints it in parentheses")
	return cmd
}

// accept has the running larder do it, or does it where none is running.
func (f *ledgerFlags) accept(ctx context.Context, a admin.LedgerAcceptance) (admin.LedgerEntry, error) {
	store := f.store()
	c, err := store.client()
	if err != nil {
		return admin.LedgerEntry{}, err
	}
	defer c.Close()
	e, err := c.AcceptLedger(ctx, a)
	if !errors.Is(err, daemon.ErrNoLarder) {
		return e, err
	}
	l, err := f.open(false)
	if err != nil {
		return admin.LedgerEntry{}, err
	}
	api, err := f.api(l)
	if err == nil {
		e, err = api.Accept(a.URL, a.Variant, a.SHA256)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("the ledger has no entry of %s", a.URL)
	}
	return e, errors.Join(err, l.Close())
}

func newLedgerExport(f *ledgerFlags) *cobra.Command {
	var output, since string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the ledger as lines of JSON, with a signed checkpoint at the end",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.read(func(l *ledger.Ledger, _ *ledgerAPI) error {
				from, err := startOf(l, since)
				if err != nil {
					return err
				}
				return writeTo(output, cmd.OutOrStdout(), func(w io.Writer) error {
					b := bufio.NewWriter(w)
					return errors.Join(l.Export(b, from), b.Flush())
				})
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "`file` to write (default: standard output)")
	cmd.Flags().StringVar(&since, "since", "", "leave out what is older: the `number` of an entry, a time (RFC 3339), or a duration such as 24h or 7d")
	return cmd
}

// startOf reads --since.
func startOf(l *ledger.Ledger, since string) (int64, error) {
	if since == "" {
		return 0, nil
	}
	if n, err := strconv.ParseInt(since, 10, 64); err == nil && n >= 0 {
		return n, nil
	}
	if t, err := time.Parse(time.RFC3339, since); err == nil {
		return l.Since(t)
	}
	d, err := policy.ParseDuration(since)
	if err != nil {
		return 0, usageError(withHint(fmt.Errorf("--since %q is neither the number of an entry nor a time", since), "write 1000, 2026-01-31T00:00:00Z, or 7d"))
	}
	return l.Since(time.Now().Add(-d))
}

// writeTo writes a file as a whole, or to standard output.
func writeTo(path string, stdout io.Writer, write func(io.Writer) error) error {
	if path == "" {
		return write(stdout)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func newLedgerCheckpoint(f *ledgerFlags) *cobra.Command {
	var key bool
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Print the signed head of the ledger, to be kept elsewhere",
		Long: `Print the signed head of the ledger (https://c2sp.org/tlog-checkpoint), to be kept
elsewhere: 'larder ledger verify --earlier FILE' proves later that the ledger is a
continuation of what it was then. --key prints the public key that verifies it.`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.read(func(l *ledger.Ledger, _ *ledgerAPI) error {
				if key {
					_, err := fmt.Fprintln(cmd.OutOrStdout(), l.Verifier())
					return err
				}
				signed, err := l.Checkpoint()
				if err != nil {
					return err
				}
				_, err = io.WriteString(cmd.OutOrStdout(), signed)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&key, "key", false, "print the public key instead")
	return cmd
}

func newLedgerVerify(f *ledgerFlags) *cobra.Command {
	var export, earlier, key string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Prove that the ledger, or an export, is whole, and a continuation of an earlier one",
		Long: `Prove that the ledger, or an export, is whole, and a continuation of an earlier one.

Every entry is read, and the tree that they make is compared with the head that is
signed. --earlier names a checkpoint or an export from before. An export is verified
with a public key, as 'larder ledger checkpoint --key' prints it, or else with that of
the state folder's ledger.`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			old, err := readEarlier(earlier)
			if err != nil {
				return err
			}
			if export != "" {
				return f.verifyExport(cmd.OutOrStdout(), export, old, key)
			}
			if key != "" {
				return usageError(errors.New("--key goes with --export"))
			}
			return f.read(func(l *ledger.Ledger, _ *ledgerAPI) error {
				n, err := l.Verify(old)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d entries, all of them as they were signed%s\n", n, continued(old))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&export, "export", "", "verify this `file`, which is an export, instead of the ledger")
	cmd.Flags().StringVar(&earlier, "earlier", "", "`file` with a checkpoint, or an export, from before")
	cmd.Flags().StringVar(&key, "key", "", "`file` with the public key that has signed the export")
	return cmd
}

func continued(old string) string {
	if old == "" {
		return ""
	}
	return ", in continuation of the earlier ones"
}

// readEarlier reads a checkpoint, or the one at the end of an export.
func readEarlier(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := bufio.NewReader(f)
	if first, _ := b.Peek(1); string(first) == "{" {
		signed, err := ledger.ExportLines(b, func([]byte) error { return nil })
		if err != nil {
			return "", fmt.Errorf("read the earlier export %s: %w", path, err)
		}
		return signed, nil
	}
	text, err := io.ReadAll(io.LimitReader(b, 64<<10))
	return string(text), err
}

func (f *ledgerFlags) verifyExport(w io.Writer, path, old, keyFile string) error {
	verifier, err := f.verifier(keyFile)
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	head, err := ledger.ReadExport(file, verifier, old, nil)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%d entries of %s, all of them as they were signed%s\n", head.Size, head.Origin, continued(old))
	return err
}

func (f *ledgerFlags) verifier(keyFile string) (string, error) {
	if keyFile != "" {
		text, err := os.ReadFile(keyFile)
		return strings.TrimSpace(string(text)), err
	}
	var verifier string
	err := f.read(func(l *ledger.Ledger, _ *ledgerAPI) error {
		verifier = l.Verifier()
		return nil
	})
	return verifier, err
}
