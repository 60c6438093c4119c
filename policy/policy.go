package policy

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Policy is a compiled policy: what larder does with each connection and each
// request. It never changes, and any number of goroutines may use it at once; a
// reload makes a new one.
type Policy struct {
	settings  Settings
	index     *index
	byDefault *Rule // see defaultRule
}

// Decision is what larder does with one connection or request.
type Decision struct {
	Action Action
	// Rule is the rule that decided, nil when none matched and the default
	// holds. Its own action may differ from Action where the request left no
	// choice: a POST under a caching rule is passed.
	Rule *Rule
	// Waived is the rule, or the default, that would have refused this and by its
	// mode did not; nil if none. See Mode.
	Waived *Rule
}

// Settings returns what the file says apart from its rules, defaults filled in.
func (p *Policy) Settings() Settings { return p.settings }

// Rules returns every rule in the order in which they are tried: the file's own,
// then the presets'. The caller must not change them.
func (p *Policy) Rules() []*Rule { return p.index.rules }

// Connect decides on a connection of a client to host and port before any of its
// bytes are known: Deny, Tunnel, or Pass, which here means that larder opens the
// TLS and asks Classify about each request. The first rule that names host, port
// and client decides; one that looks at methods or paths can only do so on the
// inside.
func (p *Policy) Connect(c Client, host string, port int) Decision {
	c = c.plain()
	return p.connect(&c, normalizeHost(host), port)
}

func (p *Policy) connect(c *Client, h host, port int) Decision {
	var d Decision
	d.Rule = p.index.first(h, func(r *Rule) bool {
		if !r.concerns(c, port) {
			return false
		}
		if !r.waives() {
			return true
		}
		if r.sees() {
			return r.opens()
		}
		d.waive(r)
		return false
	})
	switch {
	case d.Rule == nil:
		return p.fallBack(d)
	case d.Rule.opens():
		d.Action = Pass
	default:
		d.Action = d.Rule.Action
	}
	return d
}

// Classify decides on a client's request by its method and absolute target URI; the
// path is matched with its percent-encoding as sent. The first rule that
// matches in all it names decides. Methods other than GET and HEAD are stored under
// rules with RequestBody alone: under another caching rule the decision is Pass. Tunnel comes back for an
// https URI only if Connect tunnels its host; on the inside of a connection that
// is open already, a tunnel rule or default means Pass.
func (p *Policy) Classify(c Client, method string, u *url.URL) Decision {
	return p.ClassifyBody(c, method, u, BodyUnread)
}

// ClassifyBody is Classify for a request whose body is known to be of a kind. A rule
// with RequestBody that Classify finds decides only if the request has such a body:
// who gets one is to look, and to ask ClassifyBody.
func (p *Policy) ClassifyBody(c Client, method string, u *url.URL, body RequestBody) Decision {
	q := newRequest(c, method, u)
	q.body = body
	return p.classify(&q)
}

// Storing lists the rules under which responses from the host of u may be stored,
// whichever client asks for what of it.
func (p *Policy) Storing(u *url.URL) []*Rule {
	var all []*Rule
	p.index.first(normalizeHost(u.Hostname()), func(r *Rule) bool {
		if r.Action.Stores() {
			all = append(all, r)
		}
		return false
	})
	return all
}

func (p *Policy) classify(q *request) Decision {
	var d Decision
	d.Rule = p.index.first(q.host, func(r *Rule) bool {
		if r.mismatch(q) != matches {
			return false
		}
		if r.waives() {
			d.waive(r)
			return false
		}
		return true
	})
	if d.Rule != nil {
		d.Action = d.Rule.Action
	} else {
		d = p.fallBack(d)
	}
	if d.Action.Stores() && q.method != "GET" && q.method != "HEAD" && d.Rule.RequestBody == BodyUnread {
		d.Action = Pass
	}
	if d.Action == Tunnel && q.tls && p.connect(&q.client, q.host, q.port).Action != Tunnel {
		d.Action = Pass
	}
	return d
}

// request is what of a request the rules look at.
type request struct {
	client Client // plain
	method string
	host   host
	port   int
	path   string
	query  string
	tls    bool
	body   RequestBody

	readings *readings // of path, when a deny rule has asked
}

func newRequest(c Client, method string, u *url.URL) request {
	q := request{client: c.plain(), method: method, host: normalizeHost(u.Hostname()), path: sentPath(u), query: u.RawQuery}
	switch strings.ToLower(u.Scheme) {
	case "https", "wss":
		q.tls, q.port = true, 443
	case "http", "ws":
		q.port = 80
	}
	if s := u.Port(); s != "" {
		// Not a number: no port that a rule could name.
		q.port, _ = strconv.Atoi(s)
	}
	return q
}

// sentPath returns the path as it was sent. url.URL.EscapedPath would encode
// anew a path with characters that a URI must not hold but clients send.
func sentPath(u *url.URL) string {
	switch {
	case u.RawPath != "":
		return u.RawPath
	case u.Path == "":
		return "/"
	default:
		return u.EscapedPath()
	}
}

// Interceptable returns what covers every host whose TLS this policy may open,
// fit for the permitted subtrees of X.509 name constraints (RFC 5280, section
// 4.2.1.10): DNS suffixes, where "example.org" stands for itself and everything
// below, then networks in CIDR notation for IP literals. Both are sorted, and no
// suffix is covered by another. It returns nil when the hosts cannot be
// bounded, and an empty slice when there are none.
func (p *Policy) Interceptable() []string {
	suffixes, networks := []string{}, []string{}
	for _, r := range p.index.rules {
		if !r.opens() {
			continue
		}
		for _, pattern := range r.hosts {
			for i := range pattern.globs {
				if pattern.globs[i].suffix == "" {
					return nil
				}
				suffixes = append(suffixes, pattern.globs[i].suffix)
			}
			for _, network := range pattern.networks {
				networks = append(networks, network.String())
			}
		}
	}
	slices.Sort(networks)
	return append(withoutCovered(suffixes), slices.Compact(networks)...)
}

func withoutCovered(suffixes []string) []string {
	slices.Sort(suffixes)
	suffixes = slices.Compact(suffixes)
	all := slices.Clone(suffixes)
	return slices.DeleteFunc(suffixes, func(s string) bool {
		for rest, more := parent(s); more && rest != ""; rest, more = parent(rest) {
			if _, found := slices.BinarySearch(all, rest); found {
				return true
			}
		}
		return false
	})
}
