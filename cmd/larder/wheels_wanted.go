package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"larder/admin"
	"larder/wheels"
)

// wantedSource is one line of "wheels wanted". Its names are part of larder's interface.
type wantedSource struct {
	admin.WantedSource
	// Wheels that the index has of the version: usable (one that suits this machine and
	// the interpreters asked for), other, none, unknown; or own, where larder has one.
	Wheels string `json:"wheels"`
}

type wantedFlags struct {
	limit   int
	index   string
	pythons []string
	asJSON  bool
}

func newWheelsWanted(f *storeFlags) *cobra.Command {
	var w wantedFlags
	cmd := &cobra.Command{
		Use:   "wanted",
		Short: "List the source distributions that are fetched most, and which wheels there are",
		Long: `List the source distributions that are fetched most, and which wheels the index has of
the same version: usable (one for this machine), other, none; own, where this larder
has one that it has built or was given.`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.withStore(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				all, err := w.list(ctx, c)
				if err != nil {
					return err
				}
				return showWanted(cmd, all, w.asJSON)
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&w.asJSON, "json", false, "print each as a line of JSON")
	fl.IntVar(&w.limit, "limit", 20, "how `many` at most; 0 for all")
	fl.StringVar(&w.index, "index", "", "base `URL` of the index (default: $PIP_INDEX_URL, else PyPI)")
	fl.StringArrayVar(&w.pythons, "python", nil, "`interpreter` that a usable wheel is for; may be repeated (default: any)")
	return cmd
}

func (w *wantedFlags) list(ctx context.Context, c *admin.Client) ([]wantedSource, error) {
	var pythons []wheels.Python
	if len(w.pythons) > 0 {
		var err error
		if pythons, err = (&wheels.Builder{Pythons: w.pythons}).Ask(ctx); err != nil {
			return nil, err
		}
	}
	counted, err := c.Wanted(ctx)
	if err != nil {
		return nil, err
	}
	if w.limit > 0 && len(counted) > w.limit {
		counted = counted[:w.limit]
	}
	own, err := c.Wheels(ctx)
	if err != nil {
		return nil, err
	}
	pages := make(map[string]*projectPage)
	all := make([]wantedSource, len(counted))
	for i, n := range counted {
		all[i] = wantedSource{n, "unknown"}
		page, asked := pages[n.Project]
		if !asked {
			page = firstPage(ctx, c, pypiIndexes(w.index), n.Project)
			pages[n.Project] = page
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if page != nil {
			all[i].Wheels = page.wheelsOf(n.Project, n.Version, pythons)
		}
		for _, o := range own {
			if o.Project == n.Project && o.Version == n.Version {
				all[i].Wheels = "own"
			}
		}
	}
	return all, nil
}

// firstPage is nil where no index can tell.
func firstPage(ctx context.Context, c *admin.Client, indexes []string, project string) *projectPage {
	for _, index := range indexes {
		if page, err := readProject(ctx, c, index, project); err == nil && page != nil {
			return page
		}
	}
	return nil
}

func showWanted(cmd *cobra.Command, all []wantedSource, asJSON bool) error {
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
	fmt.Fprintln(tw, "FETCHED\tBYTES\tPROJECT\tVERSION\tWHEELS\tFILE")
	for _, w := range all {
		fmt.Fprintf(tw, "%d\t%s\t%s\t%s\t%s\t%s\n", w.Count, size(w.Bytes), w.Project, w.Version, w.Wheels, w.File)
	}
	return tw.Flush()
}
