package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"larder/admin"
	"larder/wheels"
)

func newWheels() *cobra.Command {
	cmd := asGroup(&cobra.Command{
		Use:   "wheels",
		Short: "Build wheels for Python packages that publish none, and add them to the index",
		Long: `Build wheels for Python packages that publish none, and add them to the index.

With "wheels: { overlay: true }" in its configuration larder adds its own wheels to
the index pages of PyPI, so that plain "pip install" takes them in place of source
distributions; never over a file that the index itself has. See docs/wheels.md.`,
		Example: `  larder wheels wanted
  larder wheels build --wanted 10 --python python3.11 --python python3.12
  larder wheels build docopt==0.6.2
  larder wheels add dist/corp_tool-1.0-py3-none-any.whl
  larder wheels rm 'docopt-*'`,
	})
	var f storeFlags
	fl := cmd.PersistentFlags()
	fl.StringVar(&f.config, "config", "", "configuration `file` of the larder (default: the user's or system's, else the built-in one)")
	fl.StringVar(&f.state, "state", "", "state `folder` of the larder")
	fl.StringVar(&f.admin, "admin", "", "`address` (host:port) of the larder's admin listener, in place of its state folder")
	fl.StringVar(&f.token, "token-file", "", "`file` with the token for --admin (default: $LARDER_ADMIN_TOKEN, else that of the state folder)")
	cmd.AddCommand(newWheelsWanted(&f), newWheelsBuild(&f), newWheelsAdd(&f), newWheelsLs(&f), newWheelsRm(&f))
	return cmd
}

func newWheelsLs(f *storeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the wheels: size, age, file, and what it was built of",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.withStore(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				all, err := c.Wheels(ctx)
				if err != nil {
					return err
				}
				return showWheels(cmd, all, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	return cmd
}

func showWheels(cmd *cobra.Command, all []admin.Wheel, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetEscapeHTML(false)
		for _, w := range all {
			if err := enc.Encode(w); err != nil {
				return err
			}
		}
		return nil
	}
	tw := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, w := range all {
		of := "given"
		if w.Source != nil {
			of = "of " + w.Source.File
			if w.Source.Python != "" {
				of += " with " + w.Source.Python
			}
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", size(w.Size), w.Added.Local().Format("2006-01-02"), w.File, of)
	}
	return tw.Flush()
}

func newWheelsRm(f *storeFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "rm PATTERN...",
		Short: "Remove wheels by file name (* and ? as in a shell) or SHA-256",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(withHint(errors.New("nothing to remove"), "usage: %s", cmd.UseLine()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.withStore(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				var failed error
				for _, match := range args {
					removed, err := c.RemoveWheels(ctx, match)
					if err != nil {
						return err
					}
					for _, w := range removed {
						fmt.Fprintln(cmd.OutOrStdout(), "removed", w.File)
					}
					if len(removed) == 0 {
						failed = errors.Join(failed, fmt.Errorf("no wheel matches %s", match))
					}
				}
				return failed
			})
		},
	}
}

func newWheelsAdd(f *storeFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "add FILE...",
		Short: "Add wheels that were built elsewhere",
		Long: `Add wheels that were built elsewhere. They are added to the page of their project
where that lists a file of the same version.`,
		Args: func(cmd *cobra.Command, args []string) error {
			for _, file := range args {
				if _, err := wheels.ParseName(filepath.Base(file)); err != nil {
					return usageError(err)
				}
			}
			if len(args) == 0 {
				return usageError(withHint(errors.New("no file to add"), "usage: %s", cmd.UseLine()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.withStore(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				for _, file := range args {
					w, err := addWheel(ctx, c, file, nil)
					if err != nil {
						return err
					}
					fmt.Fprintf(cmd.OutOrStdout(), "added %s (%s)\n", w.File, size(w.Size))
				}
				f.noteOverlay(cmd)
				return nil
			})
		},
	}
}

func addWheel(ctx context.Context, c *admin.Client, path string, source *admin.WheelSource) (admin.Wheel, error) {
	file, err := os.Open(path)
	if err != nil {
		return admin.Wheel{}, err
	}
	defer file.Close()
	return c.AddWheel(ctx, filepath.Base(path), source, file)
}

// noteOverlay says so where wheels are there and not used, as far as that can be told.
func (f *storeFlags) noteOverlay(cmd *cobra.Command) {
	if f.admin != "" {
		return
	}
	if p, err := loadPolicy(f.config); err == nil && !p.Settings().Wheels.Overlay {
		fmt.Fprintln(cmd.ErrOrStderr(), "larder: note: they are not in the index yet: the configuration has no wheels: { overlay: true }")
	}
}
