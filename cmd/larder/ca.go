package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"larder/ca"
	"larder/daemon"
)

// caFlags say which authority the commands are about.
type caFlags struct {
	config, state, passphraseFile string
	permit                        []string
}

func newCA() *cobra.Command {
	cmd := asGroup(&cobra.Command{
		Use:   "ca",
		Short: "Look after the private CA: make, show, rotate, issue for other nodes",
		Long: `Look after the private CA in the state folder, below ca.

A larder that serves from the folder learns of every change within a minute, or
at once with SIGHUP.`,
	})
	var f caFlags
	fl := cmd.PersistentFlags()
	fl.StringVar(&f.config, "config", "", "configuration `file`: certificates are constrained to the hosts that it intercepts")
	fl.StringVar(&f.state, "state", "", "state `folder` with the CA in it")
	fl.StringVar(&f.passphraseFile, "passphrase-file", "", "`file` whose first line encrypts or opens the root key")
	fl.StringSliceVar(&f.permit, "permit", nil, "`name` or address that certificates may be for besides those hosts, such as one of a node's TLS listener; may be repeated")
	cmd.AddCommand(newCAInit(&f), newCAShow(&f), newCARenew(&f), newCARotate(&f), newCALog(&f), newCAIssueNode(&f), newCAServe(&f))
	return cmd
}

// keeper returns who works on the authority, and the names that a larder with
// this configuration has to sign for.
func (f *caFlags) keeper() (ca.Keeper, []string, error) {
	p, err := loadPolicy(f.config)
	if err != nil {
		return ca.Keeper{}, nil, err
	}
	state := f.state
	if state == "" {
		state = p.Settings().State
	}
	paths, err := daemon.DefaultPaths(state, os.Getenv, os.Getuid())
	if err != nil {
		return ca.Keeper{}, nil, err
	}
	permitted := p.Interceptable()
	if permitted != nil {
		names, err := proxyNames(p.Settings().Listeners)
		if err != nil {
			return ca.Keeper{}, nil, err
		}
		permitted = slices.Concat(permitted, names, wishedNames(p.Settings()), f.permit)
	}
	return ca.Keeper{Dir: paths.CA(), Passphrase: passphrase(f.passphraseFile)}, permitted, nil
}

func newCAShow(f *caFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print roots and intermediate: fingerprints, expiry, what they are constrained to",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, _, err := f.keeper()
			if err != nil {
				return err
			}
			status, err := k.Status()
			if err != nil {
				return err
			}
			if asJSON {
				return writeStatusJSON(cmd.OutOrStdout(), status)
			}
			return writeStatus(cmd.OutOrStdout(), status, time.Now())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// shownCertificate is a certificate in the words of "larder ca show".
type shownCertificate struct {
	Role      string    `json:"role"` // root, old root, intermediate, above
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	SHA256    string    `json:"sha256"`
}

func shown(s ca.Status) []shownCertificate {
	var list []shownCertificate
	for i, cert := range s.Roots {
		role := "root"
		if i > 0 {
			role = "old root"
		}
		list = append(list, shownCertificate{
			role, cert.Subject.String(), cert.Issuer.String(), fmt.Sprintf("%x", cert.SerialNumber),
			cert.NotBefore, cert.NotAfter, ca.Fingerprint(cert),
		})
	}
	for i, cert := range s.Chain {
		role := "intermediate"
		if i > 0 {
			role = "above it"
		}
		list = append(list, shownCertificate{
			role, cert.Subject.String(), cert.Issuer.String(), fmt.Sprintf("%x", cert.SerialNumber),
			cert.NotBefore, cert.NotAfter, ca.Fingerprint(cert),
		})
	}
	return list
}

func writeStatusJSON(w io.Writer, s ca.Status) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	out := struct {
		Dir          string             `json:"dir"`
		Certificates []shownCertificate `json:"certificates"`
		Permitted    []string           `json:"permitted"` // null: no constraint
		RootKey      string             `json:"root_key"`
		RetireAfter  *time.Time         `json:"retire_after,omitempty"`
		Waiting      bool               `json:"request_waiting"`
	}{s.Dir, shown(s), s.Permitted, s.RootKey, nil, s.Waiting}
	if !s.RetireAfter.IsZero() {
		out.RetireAfter = &s.RetireAfter
	}
	return enc.Encode(out)
}

func writeStatus(w io.Writer, s ca.Status, now time.Time) error {
	for _, c := range shown(s) {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(tw, "%s\t%s\n", c.Role, c.Subject)
		fmt.Fprintf(tw, "  issuer\t%s\n  serial\t%s\n", c.Issuer, c.Serial)
		fmt.Fprintf(tw, "  valid\t%s to %s (%s)\n", day(c.NotBefore), day(c.NotAfter), remaining(c.NotAfter, now))
		fmt.Fprintf(tw, "  sha256\t%s\n", c.SHA256)
		switch {
		case c.Role == "root":
			fmt.Fprintf(tw, "  key\t%s\n", s.RootKey)
		case c.Role == "intermediate" && s.Permitted == nil:
			fmt.Fprintf(tw, "  permitted\tevery name\n")
		case c.Role == "intermediate":
			fmt.Fprintf(tw, "  permitted\t%s\n", strings.Join(s.Permitted, " "))
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	for _, note := range notes(s, now) {
		if _, err := fmt.Fprintln(w, note); err != nil {
			return err
		}
	}
	return nil
}

// notes say what an operator may have to do next.
func notes(s ca.Status, now time.Time) []string {
	var list []string
	for _, cert := range slices.Concat(s.Roots, s.Chain) {
		if ca.Expiring(cert, now) {
			list = append(list, fmt.Sprintf("WARNING: %s ends on %s", cert.Subject.CommonName, day(cert.NotAfter)))
		}
	}
	for _, root := range s.Roots {
		if root.KeyUsage == 0 {
			list = append(list, fmt.Sprintf("note: %s has no key usage: Python 3.13 and others that verify strictly refuse such a root", root.Subject.CommonName))
		}
	}
	if len(s.Chain) == 0 && len(s.Roots) > 0 {
		list = append(list, "no intermediate yet: larder makes it when it starts")
	}
	if s.Outdated {
		list = append(list, "the intermediate is still the old root's: a running larder makes another within a minute, or at once with SIGHUP")
	}
	if !s.RetireAfter.IsZero() {
		list = append(list, fmt.Sprintf("rotation under way: clients of both roots are served; from %s on the old one can go: larder ca rotate --retire", day(s.RetireAfter)))
	}
	if s.Waiting {
		list = append(list, "a request waits for its answer: larder ca init --install FILE")
	}
	return list
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func remaining(end, now time.Time) string {
	left := end.Sub(now)
	if left <= 0 {
		return "expired"
	}
	return plural(int64(left/(24*time.Hour)), "day") + " left"
}

func newCALog(f *caFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "log",
		Short: "List every certificate that the root has signed, oldest first",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, _, err := f.keeper()
			if err != nil {
				return err
			}
			entries, broken, err := k.Log()
			if err != nil {
				return err
			}
			if broken > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "larder: note: %s of the log cannot be read (a crash cuts the last at most)\n", plural(int64(broken), "line"))
			}
			if asJSON {
				return writeLogJSON(cmd.OutOrStdout(), entries)
			}
			return writeLog(cmd.OutOrStdout(), entries)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON, with the certificate in DER (base64)")
	return cmd
}

func writeLogJSON(w io.Writer, entries []ca.Entry) error {
	enc := json.NewEncoder(w)
	for _, e := range entries {
		if err := enc.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

func writeLog(w io.Writer, entries []ca.Entry) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "TIME\tKIND\tNODE\tSERIAL\tENDS\tSUBJECT\tPERMITTED")
	for _, e := range entries {
		permitted := "-"
		switch {
		case e.Kind == ca.KindIntermediate && e.Permitted == nil:
			permitted = "every name"
		case e.Kind == ca.KindIntermediate:
			permitted = plural(int64(len(e.Permitted)), "name")
		}
		node := e.Node
		if node == "" {
			node = "-"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Time.Format(time.RFC3339), e.Kind, node, e.Serial, day(e.NotAfter), e.Subject, permitted)
	}
	return tw.Flush()
}
