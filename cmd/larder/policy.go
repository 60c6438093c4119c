package main

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"larder/curation"
	"larder/policy"
)

func newPolicy() *cobra.Command {
	cmd := asGroup(&cobra.Command{Use: "policy", Short: "Ask what larder would do, and why"})
	cmd.AddCommand(newPolicyExplain(), newPolicyPresets())
	return cmd
}

func newPolicyExplain() *cobra.Command {
	var config, address, user, body string
	cmd := &cobra.Command{
		Use:   "explain METHOD URL",
		Short: "Say which rule decides about a request, in which file and line",
		Example: `  larder policy explain GET https://registry.example/left-pad/-/left-pad-1.3.0.tgz
  larder policy explain --config larder.yaml HEAD http://mirror.example/pool/x.deb
  larder policy explain --client 10.0.0.7 --user alice PUT https://registry.example/left-pad
  larder policy explain --body git-refs POST https://git.example/repository.git/git-upload-pack`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := parseTarget(args[1])
			if err != nil {
				return usageError(err)
			}
			client, err := parseClient(address, user)
			if err != nil {
				return usageError(err)
			}
			kind, err := parseBody(body)
			if err != nil {
				return usageError(err)
			}
			p, err := loadPolicy(config)
			if err != nil {
				return err
			}
			e := p.ExplainBody(client, args[0], target, kind)
			text := strings.TrimRight(e.String(), "\n")
			if rule := e.Request.Rule; rule != nil && e.Connect.Action != policy.Tunnel {
				for _, line := range curation.Explain(p.Policy, rule.Registry, target) {
					text += "\n  " + line
				}
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&config, "config", "", "configuration `file` (default: the user's or system's, else all presets)")
	fl.StringVar(&address, "client", "", "`address` that the client has, for rules with clients")
	fl.StringVar(&user, "user", "", "`name` that the client has proved, for rules with users")
	fl.StringVar(&body, "body", "", "`kind` of the request's body, for rules with request_body: git-fetch, git-refs or any")
	return cmd
}

// parseBody reads a kind of request body; "" is one that nobody has looked at.
func parseBody(s string) (policy.RequestBody, error) {
	kind, ok := policy.ParseRequestBody(s)
	if !ok && s != "" {
		return kind, withHint(fmt.Errorf("--body %q is no kind of request body", s), "write git-fetch, git-refs, or any for another")
	}
	return kind, nil
}

// parseClient makes a client of the flags; both may be empty.
func parseClient(address, user string) (policy.Client, error) {
	c := policy.Client{User: user}
	if address == "" {
		return c, nil
	}
	var err error
	if c.Addr, err = netip.ParseAddr(address); err != nil {
		return c, withHint(fmt.Errorf("--client %q is no address", address), "write one address, as in --client 10.0.0.7")
	}
	return c, nil
}

// parseTarget accepts the absolute URLs a proxy can be asked for.
func parseTarget(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("read the URL: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, withHint(fmt.Errorf("%q is no absolute http or https URL", raw),
			"write it whole, as in https://host.example/path")
	}
	return u, nil
}

func newPolicyPresets() *cobra.Command {
	var markdown bool
	cmd := &cobra.Command{
		Use:   "presets [NAME]",
		Short: "List the presets, or print one: a preset is a policy in the words you would use",
		Args: func(cmd *cobra.Command, args []string) error {
			return usageError(cobra.MaximumNArgs(1)(cmd, args))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			presets, err := policy.Presets()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if len(args) == 1 {
				one, err := presetNamed(presets, args[0])
				if err != nil {
					return err
				}
				if !markdown {
					_, err := fmt.Fprint(out, one.Text)
					return err
				}
				presets = []policy.Preset{one}
			}
			if markdown {
				return policy.Markdown(out, presets)
			}
			tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			for _, p := range presets {
				fmt.Fprintf(tw, "%s\t%s\n", p.Name, p.Summary)
			}
			return tw.Flush()
		},
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "print a table of hosts, lifetimes, verification and known limits")
	return cmd
}

func presetNamed(presets []policy.Preset, name string) (policy.Preset, error) {
	names := make([]string, 0, len(presets))
	for _, p := range presets {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return policy.Preset{}, usageError(withHint(fmt.Errorf("there is no preset %q", name), "presets are: %s", strings.Join(names, ", ")))
}
