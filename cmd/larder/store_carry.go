package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"larder/admin"
	"larder/cache/archive"
)

func newStoreExport(f *storeFlags) *cobra.Command {
	var output, match string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write stored responses to an archive, for another larder",
		Long: `Write stored responses to an archive, those that --match matches or all. It is a
tar file whose names carry the digests of what they hold; the same responses give
the same archive. The exit code is 1 when something was damaged, and then the
archive says so.`,
		Example: `  larder store export --output site.tar
  larder store export --match '*.example.org' | zstd > site.tar.zst`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if match != "" {
				if _, err := admin.ParseGlob(match); err != nil {
					return usageError(err)
				}
			}
			if output == "-" && isTerminal(cmd.OutOrStdout()) {
				return usageError(withHint(errors.New("an archive is nothing for a terminal"), "write it to a file with --output FILE"))
			}
			return f.withStore(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				return exportArchive(ctx, cmd, c, match, output)
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "-", "`file` to write; - for the standard output")
	cmd.Flags().StringVar(&match, "match", "", "`GLOB` of the URLs to export")
	return cmd
}

// exportArchive writes the archive and checks it on the way: what is cut short or
// damaged in transit is no archive.
func exportArchive(ctx context.Context, cmd *cobra.Command, c *admin.Client, match, output string) (err error) {
	body, err := c.Export(ctx, match)
	if err != nil {
		return err
	}
	defer body.Close()
	out := cmd.OutOrStdout()
	if output != "-" {
		file, err := os.Create(output)
		if err != nil {
			return withHint(fmt.Errorf("write the archive: %w", err), "choose another file with --output")
		}
		defer func() {
			if cerr := file.Close(); err == nil && cerr != nil {
				err = fmt.Errorf("write the archive: %w", cerr)
			}
		}()
		out = file
	}
	totals, err := checkArchive(io.TeeReader(body, out), newProgress(cmd.ErrOrStderr()))
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "larder: exported %s, %s\n", plural(totals.Responses, "response"), size(totals.Bytes))
	if totals.Damaged > 0 {
		return withHint(fmt.Errorf("%d of %d bodies are damaged in the store; an import of the archive names what it lacks", totals.Damaged, totals.Bodies),
			"'larder store verify' looks at the rest")
	}
	return nil
}

// checkArchive reads an archive to its end.
func checkArchive(r io.Reader, p *progress) (archive.Totals, error) {
	defer p.clear()
	a := archive.NewReader(r)
	for {
		e, err := a.Next()
		if err == io.EOF {
			_, err := io.Copy(io.Discard, r) // what tar puts behind the last file
			return a.Totals(), err
		}
		if err != nil {
			return a.Totals(), err
		}
		if e.Err != nil {
			return a.Totals(), e.Err
		}
		if e.Body != nil {
			_, err := io.Copy(io.Discard, e.Body)
			if _, damaged := errors.AsType[*archive.DamagedError](err); err != nil && !damaged {
				return a.Totals(), err
			}
			p.show("%d bodies, %s", a.Totals().Bodies, size(a.Totals().Bytes))
		}
	}
}

func newStoreImport(f *storeFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE",
		Short: "Store the responses of an archive",
		Long: `Store the responses of an archive that "larder store export" wrote; - is the
standard input. Each is checked against its digest before it is visible. Those
that are damaged, or that this larder's policy would not store, are named and left
out; then the exit code is 1.`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := cmd.InOrStdin()
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return fmt.Errorf("read the archive: %w", err)
				}
				defer file.Close()
				in = file
			}
			return f.withStore(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				return importArchive(ctx, cmd, c, in)
			})
		},
	}
}

func importArchive(ctx context.Context, cmd *cobra.Command, c *admin.Client, in io.Reader) error {
	p := newProgress(cmd.ErrOrStderr())
	done, err := c.Import(ctx, in, func(i admin.Imported) {
		p.show("%s, %s", plural(i.Responses, "response"), size(i.Bytes))
	}, func(no admin.Refusal) {
		p.clear()
		fmt.Fprintf(cmd.ErrOrStderr(), "larder: refused: %s: %s\n", no.URL, no.Reason)
	})
	p.clear()
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "imported %s, %s; %d present already, %d refused\n",
		plural(done.Responses, "response"), size(done.Bytes), done.Present, done.Refused)
	if done.Refused > 0 {
		return fmt.Errorf("%s refused", plural(done.Refused, "response"))
	}
	return nil
}
