package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"larder/admin"
	"larder/policy"
)

func newStoreRm(f *storeFlags) *cobra.Command {
	var match string
	cmd := &cobra.Command{
		Use:   "rm --match GLOB",
		Short: "Remove stored responses by URL",
		Long: `Remove stored responses by URL. What is being fetched for such a URL at the
moment is not stored either. The space on disk is given back later, as the store
drops its oldest parts.`,
		Example: `  larder store rm --match https://files.example.org/a-1.0.whl
  larder store rm --match '*.example.org/left-pad/**'
  larder store rm --match '**'`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if match == "" {
				return usageError(withHint(errors.New("nothing to remove: --match is missing"), "--match '**' removes everything"))
			}
			if _, err := admin.ParseGlob(match); err != nil {
				return usageError(err)
			}
			return f.withStore(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				p := newProgress(cmd.ErrOrStderr())
				done, err := c.Remove(ctx, match, func(r admin.Removal) {
					p.show("%s of %d looked at removed", plural(r.Removed, "response"), r.Scanned)
				})
				p.clear()
				if err != nil {
					return err
				}
				if done.Removed == 0 {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "nothing matched %s: removed none of %s\n", match, plural(done.Scanned, "response"))
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "removed %s (%s) of %d\n", plural(done.Removed, "response"), size(done.Bytes), done.Scanned)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&match, "match", "", "`GLOB` of the URLs to remove")
	return cmd
}

func newStoreVerify(f *storeFlags) *cobra.Command {
	var rate string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read everything that is stored and compare it with its checksums",
		Long: `Read everything that is stored and compare it with its checksums, while the
larder goes on serving. What is damaged is dropped and will be fetched again. The
exit code is 1 when something was.`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			bytes, err := parseRate(rate)
			if err != nil {
				return usageError(err)
			}
			return f.withStore(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				p := newProgress(cmd.ErrOrStderr())
				done, err := c.Verify(ctx, bytes, func(s admin.Scrub) {
					p.show("%d of %s, %s read, %d damaged", s.Objects, plural(s.Total, "object"), size(s.Bytes), s.Damaged)
				})
				p.clear()
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "verified %s, %s read, %d damaged\n", plural(done.Objects, "object"), size(done.Bytes), done.Damaged)
				if done.Damaged > 0 {
					return withHint(fmt.Errorf("%s were damaged and have been dropped", plural(done.Damaged, "object")),
						"they will be fetched again; look at the disk if this happens more than once")
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&rate, "rate", "50MiB", "read at most this `much` a second; 0 for no limit")
	return cmd
}

// parseRate reads a size per second, such as 50MiB or 50MiB/s.
func parseRate(s string) (int64, error) {
	if s == "0" {
		return 0, nil
	}
	n, err := policy.ParseSize(strings.TrimSuffix(s, "/s"))
	if err != nil {
		return 0, withHint(fmt.Errorf("--rate %q is no size", s), "write it as 50MiB, or 0 for no limit")
	}
	return n, nil
}

// progress is a line on a terminal that is written over and over.
type progress struct {
	w     io.Writer // nil: not shown
	width int
}

func newProgress(w io.Writer) *progress {
	if !isTerminal(w) {
		return &progress{}
	}
	return &progress{w: w}
}

func (p *progress) show(format string, args ...any) {
	if p.w == nil {
		return
	}
	text := fmt.Sprintf(format, args...)
	fmt.Fprintf(p.w, "\r%-*s", p.width, text)
	p.width = len(text)
}

// clear removes the line, before anything else is printed.
func (p *progress) clear() {
	if p.w != nil && p.width > 0 {
		fmt.Fprintf(p.w, "\r%*s\r", p.width, "")
		p.width = 0
	}
}
