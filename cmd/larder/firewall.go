package main

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os/user"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"larder/firewall"
)

// firewallFlags are a ruleset as it is written on the command line.
type firewallFlags struct {
	mode, config, user string
	port               int
	ports              []int
	local              bool

	from, in, larder, allow, resolver []string
}

func newFirewall() *cobra.Command {
	var f firewallFlags
	cmd := &cobra.Command{
		Use:   "firewall",
		Short: "Print an nftables ruleset: turn connections to larder, or let only larder out",
		Long: `Print an nftables ruleset, for a node or a gateway. Nothing is changed by it:
read it, then load it with nft -f. Each mode has a table of its own, and loading
a ruleset again replaces its table.

  redirect   connections to ports 80 and 443 go to a redirect listener of larder's
  tproxy     the same for a tproxy listener
  egress     only larder may go out, and what is listed`,
		Example: `  larder firewall --mode redirect --config /etc/larder/larder.yaml --in lan0
  larder firewall --mode egress --user larder --resolver 10.0.0.53
  larder firewall --mode egress --larder 10.0.0.5:3128 | sudo nft -f -`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := f.ruleset()
			if err != nil {
				return usageError(err)
			}
			text, err := r.Text()
			if err != nil {
				return usageError(withHint(err, "see '%s --help'", cmd.CommandPath()))
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.mode, "mode", "egress", "`mode`: redirect, tproxy or egress")
	fl.StringVar(&f.config, "config", "", "configuration `file` whose listener of that mode connections go to")
	fl.IntVar(&f.port, "to", 0, "`port` of that listener, in place of --config")
	fl.IntSliceVar(&f.ports, "ports", nil, "destination `ports` to turn (default 80,443)")
	fl.StringSliceVar(&f.from, "from", nil, "turn only connections from these `networks`")
	fl.StringSliceVar(&f.in, "in", nil, "turn only connections that come in on these `interfaces`")
	fl.BoolVar(&f.local, "local", false, "redirect: also those of this machine's own processes; needs --user")
	fl.StringVar(&f.user, "user", "", "`user` (name or number) that larder runs as on this machine")
	fl.StringSliceVar(&f.larder, "larder", nil, "egress: `address:port` of a larder elsewhere")
	fl.StringSliceVar(&f.allow, "allow", nil, "egress: `networks` that may be reached without larder")
	fl.StringSliceVar(&f.resolver, "resolver", nil, "egress: `addresses` of DNS servers that everybody may ask")
	return cmd
}

func (f *firewallFlags) ruleset() (r firewall.Ruleset, err error) {
	r = firewall.Ruleset{
		Mode: firewall.Mode(f.mode), Port: f.port, Ports: f.ports, Interfaces: f.in, Local: f.local,
	}
	if r.UID, err = lookUpUser(f.user); err != nil {
		return r, err
	}
	if r.Mode != firewall.Egress && f.port == 0 {
		if r.Port, err = listenerPort(f.config, f.mode); err != nil {
			return r, err
		}
	}
	if r.Sources, err = parseEach("--from", f.from, parseNetwork); err != nil {
		return r, err
	}
	if r.Larder, err = parseEach("--larder", f.larder, netip.ParseAddrPort); err != nil {
		return r, err
	}
	if r.Allow, err = parseEach("--allow", f.allow, parseNetwork); err != nil {
		return r, err
	}
	r.Resolvers, err = parseEach("--resolver", f.resolver, netip.ParseAddr)
	return r, err
}

func parseEach[T any](flag string, texts []string, parse func(string) (T, error)) (all []T, err error) {
	for _, t := range texts {
		v, err := parse(t)
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", flag, t, err)
		}
		all = append(all, v)
	}
	return all, nil
}

func parseNetwork(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		return netip.PrefixFrom(a, a.BitLen()), err
	}
	return netip.ParsePrefix(s)
}

// lookUpUser gives the number of a user; nil for none.
func lookUpUser(name string) (*uint32, error) {
	if name == "" {
		return nil, nil
	}
	if u, err := user.Lookup(name); err == nil {
		name = u.Uid
	}
	id, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return nil, withHint(fmt.Errorf("--user: there is no user %q on this machine", name), "make the user first, or give its number")
	}
	return new(uint32(id)), nil
}

// listenerPort is the port of the first listener of that mode in a configuration.
func listenerPort(config, mode string) (int, error) {
	p, err := loadPolicy(config)
	if err != nil {
		return 0, err
	}
	for _, l := range p.Settings().Listeners {
		if l.Mode.String() == mode {
			_, port, err := net.SplitHostPort(l.Listen)
			if err != nil {
				return 0, err
			}
			return strconv.Atoi(port)
		}
	}
	return 0, withHint(fmt.Errorf("%s has no listener with mode %s", cmp.Or(p.file, "the built-in configuration"), mode),
		"add one to listeners, or say its port with --to")
}
