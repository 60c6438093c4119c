package policy

import (
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// configFile is what one larder.yaml says.
type configFile struct {
	settings Settings
	presets  presetChoice
	rules    []*Rule
}

// presetChoice is the value of the key presets before names are looked up.
type presetChoice struct {
	all   bool
	names []string
}

// config reads the document of a larder.yaml.
func (d *decoder) config(n *yaml.Node, presetNames []string) configFile {
	f := configFile{settings: defaultSettings(), presets: presetChoice{all: true}}
	s := &f.settings
	var defaultMode, onDistrust *yaml.Node
	var listeners []*listenerDecoder
	d.mapping(n, "", "the file", []field{
		{"listen", func(v *yaml.Node) { d.address(v, "", "listen", &s.Listen) }},
		{"listeners", func(v *yaml.Node) { listeners = d.listeners(v) }},
		{"unnamed", func(v *yaml.Node) {
			d.word(v, "", "unnamed", unnamedNames[TunnelUnnamed:], func(i int) { s.Unnamed = TunnelUnnamed + Unnamed(i) })
		}},
		{"admin", func(v *yaml.Node) { d.admin(v, &s.Admin) }},
		{"state", func(v *yaml.Node) { d.path(v, "", "state", &s.State) }},
		{"limits", func(v *yaml.Node) { d.limits(v, &s.Limits) }},
		{"store", func(v *yaml.Node) { d.store(v, &s.Store) }},
		{"ledger", func(v *yaml.Node) { d.ledger(v, &s.Ledger) }},
		{"upstream", func(v *yaml.Node) { d.upstream(v, &s.Upstream) }},
		{"no_proxy", func(v *yaml.Node) { s.NoProxy = d.texts(v, "", "no_proxy", checkNoProxy) }},
		{"kit", func(v *yaml.Node) { d.kit(v, &s.Kit) }},
		{"offline", func(v *yaml.Node) { d.boolean(v, "", "offline", &s.Offline) }},
		{"default", func(v *yaml.Node) { d.defaultAction(v, &s.Default) }},
		{"default_mode", func(v *yaml.Node) { d.mode(v, "", "default_mode", &s.DefaultMode); defaultMode = v }},
		{"on_distrust", func(v *yaml.Node) {
			d.word(v, "", "on_distrust", distrustNames[RefuseDistrust:], func(i int) { s.OnDistrust = RefuseDistrust + OnDistrust(i) })
			onDistrust = v
		}},
		{"auth", func(v *yaml.Node) { s.Auth = d.auth(v) }},
		{"curation", func(v *yaml.Node) { s.Curation = d.curation(v) }},
		{"wheels", func(v *yaml.Node) { d.wheels(v, &s.Wheels) }},
		{"presets", func(v *yaml.Node) { f.presets = d.presetChoice(v, presetNames) }},
		{"rules", func(v *yaml.Node) { f.rules = d.rules(v, "") }},
	})
	if defaultMode != nil && s.Default != Deny {
		d.problem(defaultMode, "", "write default: deny beside it", "default_mode has no effect under default %s, which refuses nothing", s.Default)
	}
	d.distrustOfDefault(onDistrust, &f)
	d.settleListeners(listeners, s)
	return f
}

// mode reads a Mode, of a rule or of the default.
func (d *decoder) mode(n *yaml.Node, context, key string, into *Mode) {
	s, ok := d.text(n, context, key)
	if !ok {
		return
	}
	if *into, ok = parseMode(s); ok {
		return
	}
	hint := didYouMean(s, modeNames[:])
	if hint == "" {
		hint = "known: " + strings.Join(modeNames[:], ", ")
	}
	d.problem(n, context, hint, "unknown %s %q", key, s)
}

func (d *decoder) admin(n *yaml.Node, a *Admin) {
	d.mapping(n, "admin", "admin", []field{
		{"listen", func(v *yaml.Node) {
			if v.Kind == yaml.ScalarNode && v.Tag == "!!str" && v.Value == "" {
				a.Listen = ""
				return
			}
			d.address(v, "admin", "listen", &a.Listen)
		}},
	})
}

// maxConnections is the most that a limit may allow, and more than a process has
// files for.
const maxConnections = 1 << 20

func (d *decoder) limits(n *yaml.Node, l *Limits) {
	bound := func(key string, into *int) field {
		return field{key, func(v *yaml.Node) {
			if most, ok := d.integer(v, "limits", key, "a number of connections", 0, maxConnections); ok {
				*into = most
			}
		}}
	}
	d.mapping(n, "limits", "limits", []field{
		bound("connections", &l.Connections),
		bound("connections_per_client", &l.ConnectionsPerClient),
	})
}

func (d *decoder) store(n *yaml.Node, s *Store) {
	d.mapping(n, "store", "store", []field{
		{"max_size", func(v *yaml.Node) {
			before := len(d.problems)
			d.size(v, "store", "max_size", &s.MaxSize)
			if len(d.problems) == before && s.MaxSize < 64<<20 {
				d.problem(v, "store", "", "max_size: %s is too little to be of use, the least is 64MiB", v.Value)
			}
		}},
		{"on_failure", func(v *yaml.Node) { d.onFailure(v, &s.OnFailure) }},
	})
}

func (d *decoder) wheels(n *yaml.Node, w *Wheels) {
	d.mapping(n, "wheels", "wheels", []field{
		{"overlay", func(v *yaml.Node) { d.boolean(v, "wheels", "overlay", &w.Overlay) }},
		{"max_size", func(v *yaml.Node) { d.size(v, "wheels", "max_size", &w.MaxSize) }},
	})
}

func (d *decoder) ledger(n *yaml.Node, l *LedgerBounds) {
	d.mapping(n, "ledger", "ledger", []field{
		{"max_size", func(v *yaml.Node) {
			before := len(d.problems)
			d.size(v, "ledger", "max_size", &l.MaxSize)
			if len(d.problems) == before && l.MaxSize < 1<<20 {
				d.problem(v, "ledger", "to have none, write ledger: off in the rules", "max_size: %s is too little to be of use, the least is 1MiB", v.Value)
			}
		}},
	})
}

func (d *decoder) onFailure(n *yaml.Node, into *OnFailure) {
	s, ok := d.text(n, "store", "on_failure")
	if !ok {
		return
	}
	for _, f := range []OnFailure{PassOnFailure, RefuseOnFailure} {
		if s == f.String() {
			*into = f
			return
		}
	}
	hint := didYouMean(s, []string{"pass", "refuse"})
	if hint == "" {
		hint = "write pass or refuse"
	}
	d.problem(n, "store", hint, "on_failure: %q is neither pass nor refuse", s)
}

func (d *decoder) upstream(n *yaml.Node, u *Upstream) {
	keys := d.mapping(n, "upstream", "upstream", []field{
		{"ca_file", func(v *yaml.Node) { d.path(v, "upstream", "ca_file", &u.CAFile) }},
		{"allow_addresses", func(v *yaml.Node) {
			d.sequence(v, "upstream", "allow_addresses", func(item *yaml.Node) {
				if network, ok := d.network(item, "upstream", "allow_addresses"); ok {
					u.AllowAddresses = append(u.AllowAddresses, network)
				}
			})
		}},
		{"connect_to", func(v *yaml.Node) { u.ConnectTo = d.connectTo(v) }},
		{"parents", func(v *yaml.Node) { u.Parents = d.parents(v) }},
		{"no_parent", func(v *yaml.Node) { u.NoParent = d.texts(v, "upstream", "no_parent", checkNoParent) }},
		{"hosts", func(v *yaml.Node) { u.Hosts = d.origins(v) }},
		{"dns", func(v *yaml.Node) { d.dns(v, &u.DNS) }},
		{"max_connections_per_host", func(v *yaml.Node) {
			if most, ok := d.integer(v, "upstream", "max_connections_per_host", "a number", 0, 65535); ok {
				u.MaxConnectionsPerHost = most
			}
		}},
	})
	if at := keys["no_parent"]; at != nil && keys["parents"] == nil {
		d.problem(at, "upstream", "", "no_parent has no effect without parents")
	}
}

func (d *decoder) network(n *yaml.Node, context, key string) (netip.Prefix, bool) {
	s, ok := d.text(n, context, key)
	if !ok {
		return netip.Prefix{}, false
	}
	network, ok, err := parseNetwork(s)
	if err == nil && !ok {
		err = badValue("write it as 10.0.0.0/8 or 10.1.2.3", "%q is not an address or network", s)
	}
	if err != nil {
		d.bad(n, context, key, err)
	}
	return network, err == nil
}

func (d *decoder) connectTo(n *yaml.Node) []Redirection {
	const context, key = "upstream", "connect_to"
	if n.Kind != yaml.MappingNode {
		d.problem(n, context, `write { "host:443": "address:port" }`, "%s must be a mapping, found %s", key, describe(n))
		return nil
	}
	var all []Redirection
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		from, to := resolve(n.Content[i]), resolve(n.Content[i+1])
		target, ok := d.text(from, context, key)
		var r Redirection
		d.address(to, context, key, &r.Address)
		if !ok {
			continue
		}
		if seen[target] {
			d.problem(from, context, "", "%s: %q appears twice", key, target)
			continue
		}
		seen[target] = true
		if err := r.parseTarget(target); err != nil {
			d.bad(from, context, key, err)
			continue
		}
		all = append(all, r)
	}
	return all
}

func (r *Redirection) parseTarget(target string) *valueError {
	host, port, err := splitAddress(target)
	if err != nil {
		return err
	}
	if port == 0 {
		return badValue("", "%q has no port that can be a target", target)
	}
	if host == "" {
		return badValue(`write "*:443" for every host`, "%q has no host", target)
	}
	r.Port = port
	r.Host, err = parseHostPattern(host)
	return err
}

// address reads a host:port.
func (d *decoder) address(n *yaml.Node, context, key string, into *string) {
	s, ok := d.text(n, context, key)
	if !ok {
		return
	}
	host, _, err := splitAddress(s)
	if err == nil && host != "" {
		if pattern, hostErr := parseHostPattern(host); hostErr != nil {
			err = badValue("", "%q has no valid host", s)
		} else if strings.ContainsAny(pattern.text, "*{}/") || strings.HasPrefix(host, ".") {
			err = badValue("", "%q must name one host, not a pattern", s)
		}
	}
	if err != nil {
		d.bad(n, context, key, err)
		return
	}
	*into = s
}

func splitAddress(s string) (host string, port int, _ *valueError) {
	const hint = `write host:port, as "127.0.0.1:3128" or ":3128"`
	host, service, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, badValue(hint, "%q is not host:port", s)
	}
	port, err = strconv.Atoi(service)
	if err != nil || port < 0 || port > 65535 || service != strconv.Itoa(port) {
		return "", 0, badValue(hint, "%q: port %q is not a number from 0 to 65535", s, service)
	}
	return host, port, nil
}

// path reads the name of a file or folder; a relative one is relative to the
// folder of the policy file, since a daemon's working directory is anybody's guess.
func (d *decoder) path(n *yaml.Node, context, key string, into *string) {
	s, ok := d.text(n, context, key)
	if !ok {
		return
	}
	if s == "" {
		d.problem(n, context, "leave it out instead", "%s is empty", key)
		return
	}
	if !filepath.IsAbs(s) {
		s = filepath.Join(filepath.Dir(d.file), s)
	}
	*into = s
}

func (d *decoder) size(n *yaml.Node, context, key string, into *int64) {
	s, ok := d.scalar(n, context, key, "a size such as 20GiB")
	if !ok {
		return
	}
	size, err := parseSize(s)
	if err != nil {
		d.bad(n, context, key, err)
		return
	}
	*into = size
}

func (d *decoder) defaultAction(n *yaml.Node, into *Action) {
	s, ok := d.text(n, "", "default")
	if !ok {
		return
	}
	if s != "tunnel" && s != "deny" {
		hint := didYouMean(s, []string{"tunnel", "deny"})
		if hint == "" {
			hint = "write tunnel or deny; to intercept every host write a rule with hosts: [\"*\"]"
		}
		d.problem(n, "", hint, "default: %q is neither tunnel nor deny", s)
		return
	}
	*into, _ = parseAction(s)
}

func (d *decoder) presetChoice(n *yaml.Node, known []string) presetChoice {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		switch n.Value {
		case "all":
			return presetChoice{all: true}
		case "none":
			return presetChoice{}
		}
		hint := didYouMean(n.Value, append([]string{"all", "none"}, known...))
		for _, k := range known {
			if k == n.Value {
				hint = "write [" + k + "]"
			}
		}
		d.problem(n, "", hint, "presets: %q is neither all, none nor a list of preset names", n.Value)
		return presetChoice{}
	}
	seen := make(map[string]bool)
	return presetChoice{names: d.texts(n, "", "presets", func(s string) *valueError {
		for _, k := range known {
			if k != s {
				continue
			}
			if seen[s] {
				return badValue("", "preset %q appears twice", s)
			}
			seen[s] = true
			return nil
		}
		hint := didYouMean(s, known)
		if hint == "" {
			hint = "`larder policy presets` lists them"
		}
		return badValue(hint, "unknown preset %q", s)
	})}
}

// checkNoProxy refuses what half of the clients would not understand: curl, git,
// wget, Python and npm know neither globs nor, most of them, networks.
func checkNoProxy(s string) *valueError {
	if network, ok, err := parseNetwork(s); err == nil && ok {
		if strings.Contains(s, "/") {
			return badValue("list the addresses one by one", "%q is a network, which wget, Python and npm do not understand", network)
		}
		return nil
	}
	if strings.Contains(s, "*") {
		return badValue("write .example.org for everything below", "%q is a glob, which most clients do not understand", s)
	}
	if strings.ContainsAny(s, "{},") {
		return badValue("list the hosts one by one", "%q is not a host, .suffix or address", s)
	}
	if _, err := parseHostGlob(s); err != nil {
		return badValue(err.hint, "%q is not a host, .suffix or address", s)
	}
	return nil
}
