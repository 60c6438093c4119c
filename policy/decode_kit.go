package policy

import (
	"net/url"
	"strings"

	"go.yaml.in/yaml/v4"
)

// asciiHost is what a URL of scheme, host and port is written with.
const asciiHost = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:/[]"

func (d *decoder) kit(n *yaml.Node, k *Kit) {
	keys := d.mapping(n, "kit", "kit", []field{
		{"enabled", func(v *yaml.Node) { d.boolean(v, "kit", "enabled", &k.Enabled) }},
		{"proxy_url", func(v *yaml.Node) { d.proxyURL(v, "kit", "proxy_url", &k.ProxyURL) }},
		{"name", func(v *yaml.Node) { d.ownName(v, &k.Name) }},
	})
	if at := keys["proxy_url"]; at != nil && !k.Enabled && k.ProxyURL != "" {
		d.problem(at, "kit", "leave out proxy_url, or enabled: false", "proxy_url has no effect where the kit is not enabled")
	}
}

// ownName reads the name of one host, which no rule is for.
func (d *decoder) ownName(n *yaml.Node, into *string) {
	s, ok := d.text(n, "kit", "name")
	if !ok {
		return
	}
	h := normalizeHost(s)
	if s != "" && (h.isIP || strings.Trim(h.name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || !plainHost(h.name)) {
		d.problem(n, "kit", "write a name that is nobody's, as larder.internal", "name: %q does not name one host", s)
		return
	}
	*into = h.name
}

// plainHost reports whether a pattern is a host's name as it is.
func plainHost(name string) bool {
	p, bad := parseHostPattern(name)
	return bad == nil && len(p.globs) == 1 && p.globs[0].suffix == name && len(p.globs[0].middle) == 0 && p.Match(name) && !p.Match("x."+name)
}

// proxyURL reads a URL that goes into scripts which nodes run, so that nothing but
// scheme, one host and a port may be in it.
func (d *decoder) proxyURL(n *yaml.Node, context, key string, into *string) {
	s, ok := d.text(n, context, key)
	if !ok || s == "" {
		return
	}
	const hint = "write it as http://larder.corp.example:3128"
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || s != u.Scheme+"://"+u.Host {
		d.problem(n, context, hint, "%s: %q is not a proxy's URL", key, s)
		return
	}
	if u.Port() == "" || u.Port() == "0" {
		d.problem(n, context, hint, "%s: %q has no port, for which clients take different ones", key, s)
		return
	}
	pattern, bad := parseHostPattern(u.Hostname())
	if bad != nil || strings.ContainsAny(s[len(u.Scheme+"://"):], "*{}/") || strings.HasPrefix(pattern.text, ".") || strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(asciiHost, r) }) {
		d.problem(n, context, hint, "%s: %q does not name one host", key, s)
		return
	}
	*into = s
}
