package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v4"
	"golang.org/x/net/http/httpguts"
)

// rules reads a list of rules. preset is the name of the preset they belong
// to, or "".
func (d *decoder) rules(n *yaml.Node, preset string) []*Rule {
	var all []*Rule
	named := make(map[string]*Rule)
	earlier := make(earlierRules)
	index := 0
	d.sequence(n, "", "rules", func(item *yaml.Node) {
		index++
		r := d.rule(item, index, preset)
		if r == nil {
			return
		}
		if first, twice := named[r.Name]; twice && r.Name != "" {
			d.problemAt(r.Position.Line, r.Position.Column, ruleContext(item, index), "",
				fmt.Sprintf("name %q is taken by the rule in line %d", nameIn(item), first.Position.Line))
		} else {
			named[r.Name] = r
		}
		d.reachable(r, earlier, ruleContext(item, index))
		earlier.add(r)
		all = append(all, r)
	})
	return all
}

// ruleContext names a rule in messages, before it is known to be valid.
func ruleContext(n *yaml.Node, index int) string {
	if name := nameIn(n); name != "" {
		return fmt.Sprintf("rule %q", name)
	}
	return fmt.Sprintf("rule %d", index)
}

func nameIn(n *yaml.Node) string {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if value := resolve(n.Content[i+1]); n.Content[i].Value == "name" && value.Kind == yaml.ScalarNode {
			return value.Value
		}
	}
	return ""
}

// ruleDecoder reads one rule and keeps the nodes that later checks point at.
type ruleDecoder struct {
	*decoder
	rule    *Rule
	context string
	node    *yaml.Node
	keys    map[string]*yaml.Node
	// hostNodes runs parallel to rule.Hosts, if all of them could be read.
	hostNodes []*yaml.Node
}

// rule reads one rule; it is nil only if the node is no mapping.
func (d *decoder) rule(n *yaml.Node, index int, preset string) *Rule {
	r := &ruleDecoder{
		decoder: d, node: n, context: ruleContext(n, index),
		rule: &Rule{Position: d.position(n), Preset: preset},
	}
	before := len(d.problems)
	r.keys = d.mapping(n, r.context, "a rule", r.fields())
	if r.keys == nil {
		return nil
	}
	r.required()
	r.denyPaths()
	// A value that could not be read would only lead to false alarms here.
	if len(d.problems) == before {
		r.combinations()
	}
	if preset != "" {
		r.rule.Name = preset + "/" + r.rule.Name
	}
	return r.rule
}

func (d *ruleDecoder) fields() []field {
	r := d.rule
	return []field{
		{"name", d.name},
		{"hosts", d.hosts},
		{"ports", d.ports},
		{"methods", func(v *yaml.Node) { r.Methods = d.list(v, "methods", checkMethod) }},
		{"request_body", d.requestBody},
		{"paths", d.paths},
		{"query", func(v *yaml.Node) {
			r.Query = d.list(v, "query", func(s string) *valueError {
				term, err := parseQueryTerm(s)
				r.query = append(r.query, term)
				return err
			})
		}},
		{"clients", d.clients},
		{"users", d.users},
		{"action", d.action},
		{"mode", d.ruleMode},
		{"ttl", func(v *yaml.Node) { d.duration(v, "ttl", &r.TTL) }},
		{"stale_if_error", func(v *yaml.Node) { d.duration(v, "stale_if_error", &r.StaleIfError) }},
		{"stale_while_revalidate", func(v *yaml.Node) { d.duration(v, "stale_while_revalidate", &r.StaleWhileRevalidate) }},
		{"negative_ttl", func(v *yaml.Node) { d.duration(v, "negative_ttl", &r.NegativeTTL) }},
		{"vary", func(v *yaml.Node) { r.Vary = d.list(v, "vary", checkFieldName) }},
		{"drop_query", func(v *yaml.Node) { r.DropQuery = d.list(v, "drop_query", checkParameter) }},
		{"max_object", func(v *yaml.Node) { d.size(v, d.context, "max_object", &r.MaxObject) }},
		{"max_store", func(v *yaml.Node) { d.size(v, d.context, "max_store", &r.MaxStore) }},
		{"pin", func(v *yaml.Node) { d.flag(v, "pin", &r.Pin) }},
		{"offline", func(v *yaml.Node) { d.flag(v, "offline", &r.Offline) }},
		{"fill_ranges", func(v *yaml.Node) { d.flag(v, "fill_ranges", &r.FillRanges) }},
		{"finish_fill", d.finishFill},
		{"authorized", d.authorized},
		{"signed_by", d.signedBy},
		{"key", d.key},
		{"redirects", d.redirects},
		{"validate", d.validate},
		{"recheck_ttl", func(v *yaml.Node) { d.duration(v, "recheck_ttl", &r.RecheckTTL) }},
		{"recheck_scope", d.recheckScope},
		{"recheck_at", d.recheckAt},
		{"digest", d.digests},
		{"verify", d.verify},
		{"index", d.indexKind},
		{"vouches_for", d.vouchesFor},
		{"ledger", d.ledger},
		{"share", d.share},
		{"registry", d.registry},
		{"on_distrust", d.onDistrust},
		{"distrust_after", d.distrustAfter},
		{"distrust_ttl", d.distrustTTL},
		{"request", func(v *yaml.Node) { d.headers(v, "request", &r.Request) }},
		{"response", func(v *yaml.Node) { d.headers(v, "response", &r.Response) }},
	}
}

func (d *ruleDecoder) name(v *yaml.Node) {
	s, ok := d.text(v, d.context, "name")
	if !ok {
		return
	}
	if !validName(s) {
		d.problem(v, d.context, "", "name %q must be 1 to 64 letters, digits, '.', '_' or '-'", s)
		return
	}
	d.rule.Name = s
}

func validName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// list reads a list of strings that, if it is there, must say something: an
// empty one would read as "none" and mean "any".
func (d *ruleDecoder) list(v *yaml.Node, key string, check func(string) *valueError) []string {
	d.notEmpty(v, key)
	return d.texts(v, d.context, key, check)
}

func (d *ruleDecoder) notEmpty(v *yaml.Node, key string) {
	if v.Kind == yaml.SequenceNode && len(v.Content) == 0 {
		d.problem(v, d.context, "leave the key out if that is what is meant", "%s is an empty list", key)
	}
}

func (d *ruleDecoder) hosts(v *yaml.Node) {
	d.rule.Hosts = d.list(v, "hosts", func(s string) *valueError {
		p, err := parseHostPattern(s)
		if err != nil {
			return err
		}
		d.rule.hosts = append(d.rule.hosts, p)
		return nil
	})
	if v.Kind == yaml.SequenceNode {
		d.hostNodes = v.Content
	}
}

func (d *ruleDecoder) paths(v *yaml.Node) {
	d.rule.Paths = d.list(v, "paths", func(s string) *valueError {
		p, err := parsePathPattern(s)
		if err != nil {
			return err
		}
		d.rule.paths = append(d.rule.paths, p)
		return nil
	})
}

func (d *ruleDecoder) share(v *yaml.Node) {
	s, ok := d.text(v, d.context, "share")
	if !ok {
		return
	}
	if !validName(s) {
		d.problem(v, d.context, "any word will do that the rules of mirrors have in common",
			"share %q must be 1 to 64 letters, digits, '.', '_' or '-'", s)
		return
	}
	d.rule.Share = s
}

// denyPaths comes after the keys, for action may stand behind paths.
func (d *ruleDecoder) denyPaths() {
	if d.rule.Action != Deny {
		return
	}
	for i := range d.rule.paths {
		if err := d.rule.paths[i].compileDeny(); err != nil {
			d.bad(d.keys["paths"], d.context, "paths", err)
		}
	}
}

func (d *ruleDecoder) ports(v *yaml.Node) {
	d.notEmpty(v, "ports")
	d.sequence(v, d.context, "ports", func(item *yaml.Node) {
		if port, ok := d.integer(item, d.context, "each of ports", "a port number", 1, 65535); ok {
			d.rule.Ports = append(d.rule.Ports, port)
		}
	})
}

// clients, users and ruleMode leave something that covers no other rule where they
// could not read all: whoever is meant, it is not everybody.
func (d *ruleDecoder) clients(v *yaml.Node) {
	before := len(d.problems)
	d.notEmpty(v, "clients")
	d.sequence(v, d.context, "clients", func(item *yaml.Node) {
		if network, ok := d.network(item, d.context, "clients"); ok {
			d.rule.Clients = append(d.rule.Clients, network)
		}
	})
	if len(d.problems) > before {
		d.rule.Clients = []netip.Prefix{{}}
	}
}

func (d *ruleDecoder) users(v *yaml.Node) {
	before := len(d.problems)
	d.rule.Users = d.list(v, "users", checkUser)
	if len(d.problems) > before {
		d.rule.Users = []string{""}
	}
}

func (d *ruleDecoder) ruleMode(v *yaml.Node) {
	before := len(d.problems)
	d.mode(v, d.context, "mode", &d.rule.Mode)
	if len(d.problems) > before {
		d.rule.Mode = Open
	}
}

// checkUser refuses what no client can prove. A name with a colon, which Basic has
// none of (RFC 7617, section 2), may be the URI in a certificate.
func checkUser(s string) *valueError {
	if s == anyUser {
		return nil
	}
	if s == "" || len(s) > 255 || strings.ContainsFunc(s, unicode.IsControl) {
		return badValue("", "%q is not the name of a user: 1 to 255 bytes without control characters", s)
	}
	if strings.Contains(s, "*") {
		return badValue(`list the names, or write "*" alone for everybody who has one`, "%q: a name of a user is no pattern", s)
	}
	return nil
}

func (d *ruleDecoder) registry(v *yaml.Node) {
	s, ok := d.text(v, d.context, "registry")
	if !ok {
		return
	}
	if err := checkRegistry(s); err != nil {
		d.bad(v, d.context, "registry", err)
		return
	}
	d.rule.Registry = Registry(s)
}

func (d *ruleDecoder) action(v *yaml.Node) {
	s, ok := d.text(v, d.context, "action")
	if !ok {
		return
	}
	if d.rule.Action, ok = parseAction(s); ok {
		return
	}
	hint := didYouMean(s, actionNames[Deny:])
	if hint == "" {
		hint = "known: " + strings.Join(actionNames[Deny:], ", ")
	}
	d.problem(v, d.context, hint, "unknown action %q", s)
}

func (d *ruleDecoder) duration(v *yaml.Node, key string, into *time.Duration) {
	s, ok := d.scalar(v, d.context, key, "a duration such as 60s, 24h or 7d")
	if !ok {
		return
	}
	duration, err := parseDuration(s)
	if err != nil {
		d.bad(v, d.context, key, err)
		return
	}
	*into = duration
}

// knownMethods are those of the IANA HTTP method registry that are in use.
func knownMethods() []string {
	return []string{
		"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH",
		"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH",
		"CHECKOUT", "CHECKIN", "UNCHECKOUT", "MKACTIVITY", "MERGE", "QUERY",
	}
}

// checkMethod accepts extension methods, unless they look like a slip of the
// pen in a known one.
func checkMethod(s string) *valueError {
	known := knownMethods()
	if slices.Contains(known, s) {
		return nil
	}
	if s == "CONNECT" {
		return badValue("a rule without methods and paths decides on CONNECT by hosts and ports", "CONNECT is not a method that rules can name")
	}
	if hint := didYouMean(s, known); hint != "" {
		return badValue(hint, "unknown method %q", s)
	}
	if !httpguts.ValidHeaderFieldName(s) || s != strings.ToUpper(s) {
		return badValue("methods are case-sensitive words such as GET", "%q is not a method", s)
	}
	return nil
}

func checkFieldName(s string) *valueError {
	if !httpguts.ValidHeaderFieldName(s) {
		return badValue("", "%q is not a header field name", s)
	}
	return nil
}

func checkParameter(s string) *valueError {
	name := strings.TrimSuffix(s, "*")
	switch {
	case s == "*":
		return nil
	case name == "" || strings.ContainsAny(name, "*&=?# "):
		return badValue("write the bare name, as X-Amz-Signature, or a beginning, as X-Amz-*", "%q is not a query parameter name", s)
	}
	return nil
}

func (d *ruleDecoder) headers(v *yaml.Node, key string, into *HeaderChanges) {
	context := d.context + ": " + key
	d.mapping(v, context, context, []field{
		{"set", func(v *yaml.Node) { into.Set = d.headerFields(v, context, "set") }},
		{"add", func(v *yaml.Node) { into.Add = d.headerFields(v, context, "add") }},
		{"remove", func(v *yaml.Node) {
			into.Remove = d.texts(v, context, "remove", checkChangeable)
		}},
	})
}

func (d *ruleDecoder) headerFields(n *yaml.Node, context, key string) []HeaderField {
	if n.Kind != yaml.MappingNode {
		d.problem(n, context, "write { Name: value }", "%s must be a mapping of field names to values, found %s", key, describe(n))
		return nil
	}
	var all []HeaderField
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		nameNode, valueNode := resolve(n.Content[i]), resolve(n.Content[i+1])
		name, ok := d.text(nameNode, context, key)
		value, valueOK := d.text(valueNode, context, key+" "+nameNode.Value)
		if !ok || !valueOK {
			continue
		}
		if err := checkChangeable(name); err != nil {
			d.bad(nameNode, context, key, err)
			continue
		}
		if !httpguts.ValidHeaderFieldValue(value) {
			d.problem(valueNode, context, "", "%s: value of %s has characters that a header field cannot carry", key, name)
			continue
		}
		if seen[strings.ToLower(name)] {
			d.problem(nameNode, context, "", "%s: %s appears twice", key, name)
			continue
		}
		seen[strings.ToLower(name)] = true
		all = append(all, HeaderField{Name: name, Value: value})
	}
	return all
}

// checkChangeable refuses fields that frame or route a message: who changes
// them lets two readers see two messages in one.
func checkChangeable(name string) *valueError {
	if err := checkFieldName(name); err != nil {
		return err
	}
	switch strings.ToLower(name) {
	case "connection", "content-length", "host", "keep-alive", "proxy-authenticate", "proxy-authorization",
		"proxy-connection", "te", "trailer", "transfer-encoding", "upgrade":
		return badValue("", "%s frames or routes the message and cannot be changed", name)
	}
	return nil
}
