package policy

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// parents reads a list of parent proxies.
func (d *decoder) parents(n *yaml.Node) []Parent {
	var all []Parent
	var everything position
	d.sequence(n, "upstream", "parents", func(item *yaml.Node) {
		context := fmt.Sprintf("upstream: parent %d", len(all)+1)
		p := Parent{}
		keys := d.mapping(item, context, "a parent", []field{
			{"hosts", func(v *yaml.Node) { p.Hosts = d.patterns(v, context) }},
			{"proxy", func(v *yaml.Node) { p.Proxy = d.proxy(v, context) }},
			{"ca_file", func(v *yaml.Node) { d.path(v, context, "ca_file", &p.CAFile) }},
			{"credentials_file", func(v *yaml.Node) { d.path(v, context, "credentials_file", &p.CredentialsFile) }},
		})
		d.needs(item, keys, context, "hosts", "proxy")
		d.parentCombinations(p, keys, context)
		everything.reached(d, item, context, p.Hosts, nil)
		all = append(all, p)
	})
	return all
}

func (d *decoder) parentCombinations(p Parent, keys map[string]*yaml.Node, context string) {
	proxy := keys["proxy"]
	if proxy == nil {
		return
	}
	if ca := keys["ca_file"]; ca != nil && (p.Proxy == nil || p.Proxy.Scheme != "https") {
		d.problem(ca, context, "roots of an origin belong into upstream.hosts",
			"ca_file has no effect: only a parent with https:// shows a certificate")
	}
	if c := keys["credentials_file"]; c != nil && p.Proxy == nil {
		d.problem(c, context, "", "credentials_file has no effect without a parent")
	}
}

// proxy reads the URL of a parent; nil is direct.
func (d *decoder) proxy(n *yaml.Node, context string) *url.URL {
	s, ok := d.text(n, context, "proxy")
	if !ok || s == "direct" {
		return nil
	}
	if strings.Contains(s, "@") {
		d.hide(n.Line)
	}
	u, err := parseProxy(s)
	if err != nil {
		d.bad(n, context, "proxy", err)
		return nil
	}
	return u
}

// hide keeps a line that may hold a password out of every message, since a
// failed reload is logged.
func (d *decoder) hide(line int) {
	for i := range d.problems {
		if d.problems[i].Line == line {
			d.problems[i].Source = ""
		}
	}
	if line >= 1 && line <= len(d.lines) {
		d.lines[line-1] = ""
	}
}

func parseProxy(s string) (*url.URL, *valueError) {
	const example = `write "http://proxy.corp.example:3128" or direct`
	u, err := url.Parse(s)
	switch {
	case strings.Contains(s, "@"): // never quoted
		return nil, badValue("put basic USER:PASSWORD into a file and name it with credentials_file", "a parent's URL holds no credentials")
	case err != nil || u.Host == "":
		return nil, badValue(example, "%q is not the URL of a proxy", s)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, badValue(example, "%q has more than a scheme, host and port", s)
	}
	schemes := []string{"http", "https", "socks5"}
	if scheme := u.Scheme; scheme != schemes[0] && scheme != schemes[1] && scheme != schemes[2] {
		hint := didYouMean(scheme, schemes)
		if scheme == "socks5h" {
			hint = "write socks5: names are always looked up by the parent"
		} else if hint == "" {
			hint = "known: http, https, socks5"
		}
		return nil, badValue(hint, "%q has a scheme that no parent speaks: %q", s, scheme)
	}
	host, port, bad := splitAddress(u.Host)
	if bad != nil || port == 0 {
		return nil, badValue(example, "%q has no port", s)
	}
	if pattern, err := parseHostPattern(host); err != nil || strings.ContainsAny(pattern.text, "*{}/") || strings.HasPrefix(host, ".") {
		return nil, badValue(example, "%q has no valid host", s)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// checkNoParent holds an entry to the language of the NO_PROXY variable.
func checkNoParent(s string) *valueError {
	const example = "write corp.example (and all below), .corp.example, 10.1.2.3, 10.0.0.0/8 or *, if need be with :port"
	if s == "*" {
		return nil
	}
	host := s
	if h, port, err := net.SplitHostPort(s); err == nil {
		if _, _, bad := splitAddress(s); bad != nil || port == "0" || h == "" {
			return badValue(example, "%q has no valid port", s)
		}
		host = h
	}
	if network, ok, err := parseNetwork(host); err != nil {
		return err
	} else if ok {
		if host != s && network.Bits() < network.Addr().BitLen() {
			return badValue(example, "%q is a network with a port", s)
		}
		return nil
	}
	if strings.ContainsAny(host, "*{},") {
		return badValue(example, "%q is a pattern, which NO_PROXY does not know", s)
	}
	if _, err := parseHostGlob(host); err != nil {
		return badValue(example, "%q is not a host, .suffix, address or network", s)
	}
	return nil
}

// origins reads what is trusted and shown to single hosts.
func (d *decoder) origins(n *yaml.Node) []Origin {
	var all []Origin
	var everything position
	d.sequence(n, "upstream", "hosts", func(item *yaml.Node) {
		context := fmt.Sprintf("upstream: host %d", len(all)+1)
		o := Origin{}
		keys := d.mapping(item, context, "a host", d.originFields(&o, context))
		d.needs(item, keys, context, "hosts")
		d.originCombinations(item, keys, context)
		everything.reached(d, item, context, o.Hosts, o.Ports)
		all = append(all, o)
	})
	return all
}

func (d *decoder) originFields(o *Origin, context string) []field {
	file := func(key string, into *string) field {
		return field{key, func(v *yaml.Node) { d.path(v, context, key, into) }}
	}
	return []field{
		{"hosts", func(v *yaml.Node) { o.Hosts = d.patterns(v, context) }},
		{"ports", func(v *yaml.Node) {
			d.filled(v, context, "ports")
			d.sequence(v, context, "ports", func(item *yaml.Node) {
				if port, ok := d.integer(item, context, "each of ports", "a port number", 1, 65535); ok {
					o.Ports = append(o.Ports, port)
				}
			})
		}},
		file("ca_file", &o.CAFile),
		{"system_roots", func(v *yaml.Node) { d.boolean(v, context, "system_roots", &o.SystemRoots) }},
		file("certificate_file", &o.CertificateFile),
		file("key_file", &o.KeyFile),
		file("credentials_file", &o.CredentialsFile),
		{"methods", func(v *yaml.Node) {
			d.filled(v, context, "methods")
			o.Methods = d.texts(v, context, "methods", checkMethod)
		}},
		{"shared", func(v *yaml.Node) { d.boolean(v, context, "shared", &o.Shared) }},
	}
}

func (d *decoder) originCombinations(item *yaml.Node, keys map[string]*yaml.Node, context string) {
	if keys == nil {
		return
	}
	for _, pair := range [][2]string{
		{"system_roots", "ca_file"},
		{"certificate_file", "key_file"},
		{"key_file", "certificate_file"},
		{"methods", "credentials_file"},
		{"shared", "credentials_file"},
	} {
		if n := keys[pair[0]]; n != nil && keys[pair[1]] == nil {
			d.problem(n, context, "", "%s has no effect without %s", pair[0], pair[1])
		}
	}
	if keys["hosts"] != nil && keys["ca_file"] == nil && keys["certificate_file"] == nil && keys["credentials_file"] == nil {
		d.problem(item, context, "add ca_file, certificate_file with key_file, or credentials_file", "says nothing about its hosts")
	}
}

func (d *decoder) dns(n *yaml.Node, dns *DNS) {
	const context = "upstream: dns"
	duration := func(key string, into *time.Duration) field {
		return field{key, func(v *yaml.Node) {
			s, ok := d.scalar(v, context, key, "a duration such as 10s")
			if !ok {
				return
			}
			t, err := parseDuration(s)
			if err != nil {
				d.bad(v, context, key, err)
				return
			}
			*into = t
		}}
	}
	before := len(d.problems)
	keys := d.mapping(n, context, "dns", []field{
		duration("min_ttl", &dns.MinTTL),
		duration("max_ttl", &dns.MaxTTL),
		duration("negative_ttl", &dns.NegativeTTL),
	})
	if at := keys["min_ttl"]; at != nil && len(d.problems) == before && dns.MinTTL > dns.MaxTTL {
		d.problem(at, context, "", "min_ttl is more than max_ttl, which is %s", dns.MaxTTL)
	}
}

// patterns reads a list of host patterns that must say something.
func (d *decoder) patterns(n *yaml.Node, context string) []*HostPattern {
	var all []*HostPattern
	d.filled(n, context, "hosts")
	d.texts(n, context, "hosts", func(s string) *valueError {
		p, err := parseHostPattern(s)
		if err == nil {
			all = append(all, p)
		}
		return err
	})
	return all
}

func (d *decoder) filled(n *yaml.Node, context, key string) {
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		d.problem(n, context, "", "%s is an empty list", key)
	}
}

func (d *decoder) needs(n *yaml.Node, keys map[string]*yaml.Node, context string, required ...string) {
	for _, key := range required {
		if keys != nil && keys[key] == nil {
			d.problem(n, context, "", "%s is missing", key)
		}
	}
}

// position remembers the entry of a list after which none is reached.
type position struct{ line int }

func (p *position) reached(d *decoder, n *yaml.Node, context string, hosts []*HostPattern, ports []int) {
	if p.line > 0 {
		d.problem(n, context, "put the narrower entry first", "is never reached: the entry in line %d matches every host before it", p.line)
		return
	}
	for _, h := range hosts {
		if h.everything() && len(ports) == 0 {
			p.line = n.Line
		}
	}
}
