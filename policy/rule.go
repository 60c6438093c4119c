package policy

import (
	"net/netip"
	"regexp"
	"slices"
	"time"
)

// Rule says what larder does with the requests that match it. A Rule that comes
// out of a Policy is valid and complete; it is shared, and nobody changes it.
//
// The yaml tags are the keys of the file; the decoder is held to them by a test.
type Rule struct {
	// Name identifies the rule in logs, metrics and explanations. It is unique
	// in its file: letters, digits, '.', '_' and '-'. A preset's rule is called
	// PRESET/NAME, so that it never collides with a rule of the operator's.
	Name string `yaml:"name"`
	// Hosts lists host patterns; see HostPattern for what may be written.
	Hosts []string `yaml:"hosts"`
	// Ports lists ports of the target. Empty: any.
	Ports []int `yaml:"ports"`
	// Methods lists request methods. Empty: any. A caching action stores
	// answers to GET and HEAD alone, and with RequestBody those to the methods listed;
	// other methods under it are passed.
	Methods []string `yaml:"methods"`
	// RequestBody makes the rule one for questions that are asked with a body of that
	// kind, which is part of the key: any, git-fetch (asks git-upload-pack for objects
	// by name) or git-refs (asks it which refs there are). Other requests match other
	// rules. Absent: bodies make no difference.
	RequestBody RequestBody `yaml:"request_body"`
	// Paths lists path patterns, matched on the path as sent, before the query:
	// globs (* inside a segment, ** across, {a,b}) or, beginning with ^, RE2.
	// Empty: any path. Those of a deny rule match the path also decoded, however
	// often it was encoded, and without dot segments and repeated slashes; a dot
	// segment beside an encoded slash is denied whatever they say.
	Paths []string `yaml:"paths"`
	// Query lists parameters that the query must have, each once: name=value, or name
	// for any value. Empty: any query. Not under deny.
	Query []string `yaml:"query"`
	// Clients lists networks that clients' connections come from. Empty: any.
	Clients []netip.Prefix `yaml:"clients"`
	// Users lists names that clients have proved to larder (see Auth), or * for
	// anybody who has proved one. Empty: any, and those without a name.
	Users []string `yaml:"users"`
	// Action is one of deny, tunnel, pass, immutable, revalidate, http.
	Action Action `yaml:"action"`
	// Mode of a deny rule is enforce, report (let pass what the next matching rule
	// lets pass; log and count it) or open (only count it). Absent: enforce.
	Mode Mode `yaml:"mode"`
	// TTL is how long a stored response is served without asking upstream. 0 or
	// absent: for ever under immutable, never under revalidate.
	TTL time.Duration `yaml:"ttl"`
	// StaleIfError is how long beyond its freshness a stored response may be
	// served when upstream fails (RFC 5861, section 4). 0: not at all.
	StaleIfError time.Duration `yaml:"stale_if_error"`
	// StaleWhileRevalidate is how long beyond its freshness a stored response
	// may be served while it is validated (RFC 5861, section 3). 0: not at all.
	StaleWhileRevalidate time.Duration `yaml:"stale_while_revalidate"`
	// NegativeTTL is how long a 404 or 410 is served without asking. 0: never.
	NegativeTTL time.Duration `yaml:"negative_ttl"`
	// Vary lists request header fields by whose value responses are kept apart,
	// besides those that the response's own Vary names.
	Vary []string `yaml:"vary"`
	// DropQuery lists query parameters that are left out of the cache key, by
	// exact name or with a trailing *. They are sent upstream all the same.
	DropQuery []string `yaml:"drop_query"`
	// MaxObject is the size in bytes above which a response streams through
	// without being stored. 0: no limit.
	MaxObject int64 `yaml:"max_object"`
	// MaxStore is how many bytes of the store what is stored under the rule may take
	// together. For more, those of its responses that were used least go, and no others.
	// A change holds from the next response that is stored under the rule. 0: no limit.
	MaxStore int64 `yaml:"max_store"`
	// Pin: what is stored under the rule stays, used or not, when others go for lack of
	// room, as long as all that is pinned takes at most half of the store. It holds for
	// what is stored or validated from then on. Absent: false.
	Pin bool `yaml:"pin"`
	// Offline: upstream is never asked. What is stored is served whatever its age;
	// for the rest, and for requests that cannot be stored, there is a 504. Absent:
	// false.
	Offline bool `yaml:"offline"`
	// FillRanges has the whole fetched beside the first range of something not
	// stored; ranges after that are fed from that fetch. false: ranges go upstream by
	// themselves.
	FillRanges bool `yaml:"fill_ranges"`
	// FinishFill says whether a fetch goes on when the last client has left.
	FinishFill FinishFill `yaml:"finish_fill"`
	// Authorized says who may have what was stored of responses to requests with
	// credentials: recheck (upstream is asked, with the client's own credentials, before
	// anything is served), signed (for URLs with a signature: who has one that upstream has
	// sent in a redirect, or lets pass now; the signature is not part of the key), public (everybody: nothing under the rule is private). Absent:
	// they are stored only where they say themselves that they are for everybody (RFC
	// 9111, section 3.5).
	Authorized Authorized `yaml:"authorized"`
	// SignedBy lists, under authorized: signed, patterns of the hosts whose redirects give
	// the right to the URLs in them. Absent: upstream is asked for each URL.
	SignedBy []string `yaml:"signed_by"`
	// RecheckTTL is how long upstream's word on a credential is relied on, up to 1h; a
	// token that says when it expires, not beyond that. While upstream fails, what it
	// said holds for stale_if_error besides. Absent: 2m.
	RecheckTTL time.Duration `yaml:"recheck_ttl"`
	// RecheckScope is RE2 on the path: upstream's word on one URL holds for all of its
	// host whose path gives the same groups, as those of one repository. Absent, or no
	// match: for that URL alone.
	RecheckScope *regexp.Regexp `yaml:"recheck_scope"`
	// RecheckAt is where upstream is asked, with GET: a path and query in which $1 is a
	// group of recheck_scope. Absent: at the URL itself, with HEAD.
	RecheckAt string `yaml:"recheck_at"`
	// Key is url or digest: what digest finds in the path, whatever host, path and query it
	// comes with. Absent: url.
	Key Key `yaml:"key"`
	// Redirects is pass (to the client), or follow: those to https, with credentials for
	// the origin asked for alone, and to nothing that deny rules keep from the client. What
	// is at their end is stored and served as the response. Absent: pass.
	Redirects Redirects `yaml:"redirects"`
	// Validate is how what is stale is validated: get, conditional, or head, by the
	// Docker-Content-Digest or ETag of the answer. Absent: get.
	Validate Validate `yaml:"validate"`
	// Digest says where in the path the digest of the body is, by algorithm.
	Digest []PathDigest `yaml:"digest"`
	// Verify is one of required, when-known, off. Absent: when-known.
	Verify Verify `yaml:"verify"`
	// Index is the kind of index that the responses are, from which digests of other
	// URLs are learnt: see IndexKinds. Absent: none.
	Index string `yaml:"index"`
	// VouchesFor lists patterns of the hosts besides its own for whose files the index
	// may name digests.
	VouchesFor []string `yaml:"vouches_for"`
	// Ledger is one of refuse, warn, off. Absent: refuse under immutable without ttl,
	// warn with one. Other actions have none.
	Ledger Ledger `yaml:"ledger"`
	// Share names what rules of mirrors have in common: what is stored under one is
	// served under another where the path, or an index that came from the mirror asked,
	// names its SHA-256. "": nothing is.
	Share string `yaml:"share"`
	// Registry says that what the rule serves is of a package registry of this kind, an
	// index or the files that one lists: curation and wheels apply to it. Absent: none.
	Registry Registry `yaml:"registry"`
	// OnDistrust is what becomes of a client that keeps refusing larder's certificate for
	// the host: refuse, or tunnel, its connections there for a while. It is for the
	// connection, and so for all rules of the host: one that says refuse prevails, and so
	// do deny rules, default: deny, verify: required, offline and curation, for which
	// larder has to look inside. Absent: as Settings.OnDistrust.
	OnDistrust OnDistrust `yaml:"on_distrust"`
	// DistrustAfter is how many handshakes the client must have refused, since it last
	// took the certificate, 1 to 100. Absent: 3.
	DistrustAfter int `yaml:"distrust_after"`
	// DistrustTTL is how long it is tunnelled then, 1m to 7d, before larder opens a
	// connection again. Absent: 1h.
	DistrustTTL time.Duration `yaml:"distrust_ttl"`
	// Request is changed before it goes upstream.
	Request HeaderChanges `yaml:"request"`
	// Response is changed before it goes to the client; what is stored is not.
	Response HeaderChanges `yaml:"response"`

	// Position is where the rule begins in its file.
	Position Position `yaml:"-"`
	// Preset is the name of the preset the rule comes from, "" for a rule of
	// the operator's own file.
	Preset string `yaml:"-"`

	hosts   []*HostPattern
	signers []*HostPattern // of SignedBy
	paths   []pathPattern
	query   []queryTerm
	vouches []*HostPattern
}

// HeaderChanges are changes to the header section of a message, made in the
// order remove, set, add.
type HeaderChanges struct {
	// Set replaces all fields of that name with one.
	Set []HeaderField `yaml:"set"`
	// Add appends a field and keeps those that are there.
	Add []HeaderField `yaml:"add"`
	// Remove deletes all fields of that name.
	Remove []string `yaml:"remove"`
}

// HeaderField is one header field.
type HeaderField struct{ Name, Value string }

// Empty reports whether there is nothing to change.
func (h HeaderChanges) Empty() bool {
	return len(h.Set) == 0 && len(h.Add) == 0 && len(h.Remove) == 0
}

// mismatch is the first reason for which a rule does not match a request whose
// host it names.
type mismatch uint8

const (
	matches mismatch = iota
	wrongPort
	wrongClient
	wrongUser
	wrongMethod
	wrongPath
	dotSegments
	wrongBody
	wrongQuery
)

// mismatch compares everything but the host.
func (r *Rule) mismatch(q *request) mismatch {
	if !r.at(q.port) {
		return wrongPort
	}
	if !r.from(&q.client) {
		return wrongClient
	}
	if !r.by(&q.client) {
		return wrongUser
	}
	if len(r.Methods) > 0 && !slices.Contains(r.Methods, q.method) {
		return wrongMethod
	}
	if !r.RequestBody.admits(q.body) {
		return wrongBody
	}
	if len(r.query) > 0 && !r.matchesQuery(q.query) {
		return wrongQuery
	}
	if len(r.paths) == 0 {
		return matches
	}
	if r.Action == Deny {
		return r.denyMismatch(q)
	}
	if !r.matchesPath(q.path) {
		return wrongPath
	}
	// Where /public/../x leads only the origin knows, so a rule that gives
	// something away does not take the path by its word.
	if hasDotSegments(q.path) {
		return dotSegments
	}
	return matches
}

func (r *Rule) at(port int) bool { return len(r.Ports) == 0 || slices.Contains(r.Ports, port) }

// concerns compares what is known of a connection before its first byte, apart
// from the host.
func (r *Rule) concerns(c *Client, port int) bool { return r.at(port) && r.from(c) && r.by(c) }

// denyMismatch looks at the path as whatever an origin may make of it, so that
// no encoding and no dot segment gets anybody around a deny rule.
func (r *Rule) denyMismatch(q *request) mismatch {
	if q.readings == nil {
		q.readings = readPath(q.path)
	}
	if q.readings.hidden {
		return matches
	}
	for i := range r.paths {
		if r.paths[i].denies(q.readings) {
			return matches
		}
	}
	return wrongPath
}

func (r *Rule) matchesPath(path string) bool {
	for i := range r.paths {
		if r.paths[i].match(path) {
			return true
		}
	}
	return false
}

// sees reports whether the rule needs more than is known of a connection to decide.
func (r *Rule) sees() bool { return len(r.Methods) > 0 || len(r.Paths) > 0 || len(r.Query) > 0 }

// opens reports whether the rule makes larder open the TLS of its hosts.
func (r *Rule) opens() bool {
	return r.Action.intercepts() || r.Action == Deny && r.sees() && r.Mode != Open
}

// String returns the name, with its preset.
func (r *Rule) String() string { return r.Name }

// hasDotSegments reports whether a path holds a segment "." or "..", also
// percent-encoded, or behind an encoded slash or a backslash, which some
// origins take for a slash.
func hasDotSegments(path string) bool {
	for i := 0; i < len(path); i++ {
		n := slash(path[i:])
		if n == 0 {
			continue
		}
		dots, j := 0, i+n
		for d := dot(path[j:]); d > 0; d = dot(path[j:]) {
			dots++
			j += d
		}
		if (dots == 1 || dots == 2) && (j == len(path) || slash(path[j:]) > 0) {
			return true
		}
	}
	return false
}

// slash returns the length of what may be read as a slash at the start of s.
func slash(s string) int {
	if s == "" {
		return 0
	}
	if s[0] == '/' || s[0] == '\\' {
		return 1
	}
	if len(s) >= 3 && s[0] == '%' && (s[1] == '2' && s[2]|0x20 == 'f' || s[1] == '5' && s[2]|0x20 == 'c') {
		return 3
	}
	return 0
}

// dot returns the length of a dot at the start of s.
func dot(s string) int {
	if s == "" {
		return 0
	}
	if s[0] == '.' {
		return 1
	}
	if len(s) >= 3 && s[0] == '%' && s[1] == '2' && s[2]|0x20 == 'e' {
		return 3
	}
	return 0
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}
