package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"larder/admin"
)

func newStoreLs(f *storeFlags) *cobra.Command {
	var asJSON, onlyURLs bool
	cmd := &cobra.Command{
		Use:   "ls [GLOB]",
		Short: "List stored responses: size, age, freshness, uses, URL",
		Long: `List stored responses, those that GLOB matches or all: size, how long ago it was
fetched or last validated, whether it is fresh, how often it was used since the
larder started, and the URL with the request fields that select it.`,
		Args: maximumArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			match, err := optionalGlob(args)
			if err != nil {
				return err
			}
			return f.withStore(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				w := bufio.NewWriter(cmd.OutOrStdout())
				show := showLine(time.Now())
				switch {
				case asJSON:
					show = showJSON
				case onlyURLs:
					show = func(w io.Writer, o *admin.Object) error { _, err := fmt.Fprintln(w, o.URL); return err }
				}
				for o, err := range c.List(ctx, match) {
					if err == nil {
						err = show(w, &o)
					}
					if err != nil {
						return err
					}
				}
				return w.Flush()
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	cmd.Flags().BoolVarP(&onlyURLs, "urls", "q", false, "print URLs only")
	cmd.MarkFlagsMutuallyExclusive("json", "urls")
	return cmd
}

// optionalGlob checks the pattern before it travels: the shell may have eaten it.
func optionalGlob(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	if _, err := admin.ParseGlob(args[0]); err != nil {
		return "", usageError(err)
	}
	return args[0], nil
}

func showJSON(w io.Writer, o *admin.Object) error { return json.NewEncoder(w).Encode(o) }

// showLine prints for people. Columns have fixed widths, for the list may be long and
// is printed as it comes.
func showLine(now time.Time) func(io.Writer, *admin.Object) error {
	return func(w io.Writer, o *admin.Object) error {
		url := o.URL
		if o.Status != 200 {
			url = fmt.Sprintf("%s [%d]", url, o.Status)
		}
		_, err := fmt.Fprintf(w, "%10s %5s %-5s %4d  %s%s\n",
			size(o.Size), ago(now.Sub(o.Stored)), freshness(o), o.Uses, url, selection(o.Select))
		return err
	}
}

func freshness(o *admin.Object) string {
	if o.Fresh {
		return "fresh"
	}
	return "stale"
}

// ago rounds to the unit that says enough.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, d/time.Second))
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// selection shows the request fields that select a response.
func selection(fields map[string]*string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if v := fields[name]; v != nil {
			parts = append(parts, name+": "+*v)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, "; ") + ")"
}

func newStoreStat(f *storeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stat URL",
		Short: "Show what is stored under one URL, with its header",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := parseTarget(args[0]); err != nil {
				return usageError(err)
			}
			return f.withStore(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				found, err := c.Find(ctx, args[0])
				if err != nil {
					return err
				}
				w := bufio.NewWriter(cmd.OutOrStdout())
				for i := range found {
					if i > 0 && !asJSON {
						fmt.Fprintln(w)
					}
					if asJSON {
						err = showJSON(w, &found[i])
					} else {
						showObject(w, &found[i])
					}
					if err != nil {
						return err
					}
				}
				return w.Flush()
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	return cmd
}

// showObject prints all that is known of an object.
func showObject(w io.Writer, o *admin.Object) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-9s %s\n", name+":", fmt.Sprintf(format, args...))
	}
	line("url", "%s", o.URL)
	if s := selection(o.Select); s != "" {
		line("for", "%s", strings.Trim(s, " ()"))
	}
	line("status", "%d", o.Status)
	line("size", "%d bytes (%s)", o.Size, size(o.Size))
	line("sha256", "%s", o.SHA256)
	if len(o.Verified) == 0 {
		line("verified", "no: no digest was known when it was stored")
	}
	for _, v := range o.Verified {
		line("verified", "%s", v)
	}
	line("stored", "%s", o.Stored.Local().Format(time.RFC3339))
	line("uses", "%d since the larder started", o.Uses)
	switch {
	case o.Rule == "":
		line("rule", "none stores it any more")
	case o.TTL == nil:
		line("rule", "%s: fresh for ever", o.Rule)
	case o.Fresh:
		line("rule", "%s: fresh for %v", o.Rule, time.Duration(*o.TTL)*time.Second)
	default:
		line("rule", "%s: stale for %v", o.Rule, time.Duration(-*o.TTL)*time.Second)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Header)) {
		for _, v := range o.Header[name] {
			fmt.Fprintf(w, "  %s: %s\n", name, v)
		}
	}
}
