package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// required reports keys without which a rule says nothing.
func (d *ruleDecoder) required() {
	for _, key := range []struct{ name, hint string }{
		{"name", "a name appears in logs and explanations"},
		{"hosts", `write hosts: ["*.example.org"], or ["*"] for every host`},
		{"action", "one of " + strings.Join(actionNames[Deny:], ", ")},
	} {
		if d.keys[key.name] == nil {
			d.problem(d.node, d.context, key.hint, "rule has no %s", key.name)
		}
	}
}

// combinations reports keys that are fine by themselves and make no sense
// together: each would be ignored in silence.
func (d *ruleDecoder) combinations() {
	d.tunnelSeesNothing()
	d.modeOfDeny()
	d.queryKeys()
	d.cachingKeys()
	d.freshnessKeys()
	d.quota()
	d.recheckKeys()
	d.contentKeys()
	d.integrity()
	d.shareable()
	d.bodyKeys()
	d.distrustKeys()
	d.broadHosts()
}

// complain reports a problem at a key, if the key is there.
func (d *ruleDecoder) complain(key, hint, format string, args ...any) {
	if n := d.keys[key]; n != nil {
		d.problem(n, d.context, hint, "%s", fmt.Sprintf(format, args...))
	}
}

func (d *ruleDecoder) tunnelSeesNothing() {
	if d.rule.Action == Tunnel {
		for _, key := range []string{"paths", "methods"} {
			d.complain(key, "use action pass to open the connection and let everything through unmodified",
				"%s has no effect under action tunnel: a CONNECT does not show them", key)
		}
	}
	if d.rule.Action == Tunnel || d.rule.Action == Deny {
		for _, key := range []string{"registry", "request", "response"} {
			d.complain(key, "", "%s has no effect under action %s: no message goes through", key, d.rule.Action)
		}
	}
}

// modeOfDeny keeps anybody from taking a rule that lets through for one that does
// so only to report.
func (d *ruleDecoder) modeOfDeny() {
	if d.rule.Action != Deny {
		d.complain("mode", "only a rule that denies has one; to see what it lets through, read the log",
			"mode has no effect under action %s, which refuses nothing", d.rule.Action)
	}
}

func (d *ruleDecoder) cachingKeys() {
	if !d.rule.Action.Stores() {
		for _, key := range []string{
			"ttl", "stale_if_error", "stale_while_revalidate", "negative_ttl", "vary", "drop_query", "max_object", "max_store", "pin", "offline", "fill_ranges", "finish_fill",
			"authorized", "signed_by", "key", "redirects", "validate", "recheck_ttl", "recheck_scope", "recheck_at", "digest", "verify", "index", "vouches_for", "ledger", "request_body",
			"share",
		} {
			d.complain(key, "use action immutable, revalidate or http to store responses",
				"%s has no effect under action %s, which stores nothing", key, d.rule.Action)
		}
		return
	}
	for _, m := range d.rule.Methods {
		if d.rule.RequestBody != BodyUnread {
			break // bodyKeys says which
		}
		if m != "GET" && m != "HEAD" {
			d.complain("methods", "leave methods out: what is neither GET nor HEAD is passed anyway",
				"method %s cannot be stored, so it makes no sense under action %s", m, d.rule.Action)
		}
	}
}

func (d *ruleDecoder) freshnessKeys() {
	if d.rule.Action == HTTP {
		for _, key := range []string{"ttl", "negative_ttl"} {
			d.complain(key, "use action revalidate for a lifetime that the rule fixes",
				"%s has no effect under action http: the response itself says how long it is fresh", key)
		}
	}
	if d.rule.Action != Immutable || d.rule.TTL > 0 {
		return
	}
	d.complain("ttl", "leave ttl out to keep for ever, or use action revalidate to validate each time",
		"ttl 0 makes no sense under action immutable")
	for _, key := range []string{"stale_if_error", "stale_while_revalidate"} {
		if key == "stale_if_error" && d.rule.rechecks() {
			continue // it is then about how long a verdict may be old
		}
		d.complain(key, "give the rule a ttl, or use action revalidate",
			"%s has no effect under action immutable without ttl: what is stored never gets stale", key)
	}
}

// minQuota is the least that makes sense as max_store.
const minQuota = 1 << 20

func (d *ruleDecoder) quota() {
	switch r := d.rule; {
	case d.keys["max_store"] == nil || !r.Action.Stores():
	case r.MaxStore < minQuota:
		d.complain("max_store", "leave max_store out for no bound, or use action pass to store nothing",
			"max_store is below 1MiB, which keeps next to nothing")
	case r.MaxObject > r.MaxStore:
		d.complain("max_object", "lower max_object or raise max_store",
			"max_object is above max_store, so the largest could not be stored")
	}
}

// shareable wants nothing under share that not everybody may have: whoever knows a
// digest is given the content.
func (d *ruleDecoder) shareable() {
	switch r := d.rule; {
	case r.Share == "" || !r.Action.Stores():
	case r.Verify == VerifyOff:
		d.complain("share", "leave verify out", "share has no effect with verify: off")
	case r.Authorized == Recheck || r.Authorized == Signed:
		d.complain("share", "leave share out: what not everybody may have is found under its own URL alone",
			"share would serve what authorized: %s protects to whoever knows its digest", r.Authorized)
	case r.Key == KeyDigest:
		d.complain("share", "leave share out", "share has no effect with key: digest: the content has one key already")
	}
}

// broadHosts wants "*" to be written as such where it opens connections: that
// everything is intercepted must be plain to see.
func (d *ruleDecoder) broadHosts() {
	if !d.rule.opens() {
		return
	}
	for i, p := range d.rule.hosts {
		if p.boundless() && !p.everything() {
			d.problem(resolve(d.hostNodes[i]), d.context, `name a domain, or write "*" alone if every host is meant`,
				"host pattern %q names no domain, but the rule opens the TLS of what it matches", p.text)
		}
	}
}

// earlierRules finds, for a rule, the rules before it that might cover it,
// without going through all: a file written by a program may hold thousands.
type earlierRules map[string][]*Rule

// networkKey stands for addresses among the suffixes; no suffix has a slash.
const networkKey = "/"

func (e earlierRules) add(r *Rule) {
	for _, p := range r.hosts {
		for i := range p.globs {
			e.addUnder(p.globs[i].suffix, r)
		}
		if len(p.networks) > 0 || p.everything() {
			e.addUnder(networkKey, r)
		}
	}
}

func (e earlierRules) addUnder(key string, r *Rule) {
	if of := e[key]; len(of) == 0 || of[len(of)-1] != r {
		e[key] = append(of, r)
	}
}

// mayCover returns the rules that have a pattern for the first host of r: one
// that covers r entirely is among them.
func (e earlierRules) mayCover(r *Rule) []*Rule {
	first := r.hosts[0]
	if len(first.globs) == 0 {
		return e[networkKey]
	}
	var all []*Rule
	for s, more := first.globs[0].suffix, true; more; s, more = parent(s) {
		all = append(all, e[s]...)
	}
	return all
}

// reachable reports a rule that an earlier rule of the same file leaves nothing
// to, or whose tunnel an earlier rule has opened.
func (d *decoder) reachable(r *Rule, earlier earlierRules, context string) {
	if len(r.hosts) == 0 || r.Action == 0 {
		return
	}
	for _, e := range earlier.mayCover(r) {
		if e.Action == 0 || e.waives() && !e.opens() || !e.covers(r) {
			continue
		}
		at := r.Position
		switch {
		case !e.sees():
			d.problemAt(at.Line, at.Column, context, "put the narrower rule first",
				fmt.Sprintf("rule is never reached: rule %q in line %d matches all its connections before it", e.Name, e.Position.Line))
			return
		case r.Action == Tunnel:
			d.problemAt(at.Line, at.Column, context, "use action pass for what remains",
				fmt.Sprintf("hosts cannot be tunnelled: rule %q in line %d looks inside their connections", e.Name, e.Position.Line))
			return
		}
	}
}

// covers reports whether the rule's hosts, ports, clients and users include, as far
// as can be told by suffix, all of another's.
func (r *Rule) covers(other *Rule) bool {
	if !r.coversClients(other) || !r.coversUsers(other) {
		return false
	}
	if len(r.Ports) > 0 {
		if len(other.Ports) == 0 {
			return false
		}
		for _, port := range other.Ports {
			if !slices.Contains(r.Ports, port) {
				return false
			}
		}
	}
	for _, p := range other.hosts {
		for i := range p.globs {
			if !r.coversGlob(&p.globs[i]) {
				return false
			}
		}
		for _, n := range p.networks {
			if !r.coversNetwork(n) {
				return false
			}
		}
	}
	return true
}

func (r *Rule) coversGlob(g *hostGlob) bool {
	for _, p := range r.hosts {
		for i := range p.globs {
			if p.globs[i].covers(g) {
				return true
			}
		}
	}
	return false
}

func (r *Rule) coversNetwork(n netip.Prefix) bool {
	for _, p := range r.hosts {
		if p.everything() {
			return true
		}
		for _, m := range p.networks {
			if m.Bits() <= n.Bits() && m.Contains(n.Addr()) {
				return true
			}
		}
	}
	return false
}

// covers reports whether every name that other matches is matched by g. It may
// say no where the truth is yes, never the reverse.
func (g *hostGlob) covers(other *hostGlob) bool {
	if g.lead == other.lead && g.suffix == other.suffix && slices.Equal(g.middle, other.middle) {
		return true
	}
	if len(g.middle) > 0 {
		return false
	}
	if g.suffix == "" { // "*"
		return true
	}
	// An exact name or a suffix of whole labels: what other matches lies within
	// other.suffix, so it is enough to place that.
	switch g.lead {
	case leadAny:
		return other.suffix == g.suffix || strings.HasSuffix(other.suffix, "."+g.suffix)
	case leadLabels:
		if strings.HasSuffix(other.suffix, "."+g.suffix) {
			return true
		}
		return other.suffix == g.suffix && (other.lead == leadLabels || len(other.middle) > 0)
	default:
		return false
	}
}
