package cache

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"larder/cache/integrity"
	"larder/cache/store"
)

// Mode says where the freshness of a stored response comes from.
type Mode uint8

const (
	// Immutable: the target URI names content that never changes. A stored 200 is
	// fresh for Rule.TTL, whatever either side's freshness directives say.
	Immutable Mode = iota + 1
	// Revalidate: a stored response is fresh for Rule.TTL and is then validated;
	// a client's no-cache or max-age=0 validates it at once.
	Revalidate
	// HTTP: freshness is what RFC 9111 makes of the response itself, with
	// heuristics and all request directives.
	HTTP
)

// String returns the mode's name as policy files write it.
func (m Mode) String() string {
	switch m {
	case Immutable:
		return "immutable"
	case Revalidate:
		return "revalidate"
	case HTTP:
		return "http"
	}
	return "invalid"
}

// FinishFill says what becomes of a fill that nobody waits for any more.
type FinishFill uint8

const (
	// FinishNear lets it go on when more than half of it is there, or when it needs
	// less than a minute more at its present pace.
	FinishNear FinishFill = iota
	// FinishAlways lets it go on.
	FinishAlways
	// FinishNever ends it.
	FinishNever
)

// Rule says how the response to one request may be stored and reused. It comes
// from policy, is never changed once handed over, and may serve any number of
// requests at once.
type Rule struct {
	// Name of the rule, for logs.
	Name string
	// Mode must be one of the constants.
	Mode Mode
	// TTL is the freshness lifetime under Immutable (0: for ever) and Revalidate
	// (0: validated before every use). HTTP has no use for it.
	TTL time.Duration
	// StaleIfError is how long after it became stale a response may still answer
	// when upstream cannot be reached or answers 429, 500, 502, 503 or 504 (RFC 5861,
	// section 4). Given by an operator, it prevails over must-revalidate and its like,
	// except under HTTP.
	StaleIfError time.Duration
	// StaleWhileRevalidate is how long after it became stale a response may be
	// served at once while it is validated in the background (RFC 5861, section 3);
	// under HTTP not where the response forbids it.
	StaleWhileRevalidate time.Duration
	// NegativeTTL is how long a 404 or 410 is stored; 0: not at all.
	NegativeTTL time.Duration
	// Vary names request fields that belong to the key besides those that the
	// response's Vary names.
	Vary []string
	// Partition keeps what is stored under the rule apart from what other rules store,
	// but for those with the same one: what upstream is sent besides the client's own
	// request may change what it answers. "" is one as well, that of most rules.
	Partition string
	// OwnFields names, in canonical form, the request fields whose value is the rule's and
	// not the client's: no credentials of a client are in them.
	OwnFields []string
	// DropQuery names query parameters that are left out of the key; a trailing *
	// matches any ending.
	DropQuery []string
	// Offline: upstream is never asked. What is stored is served whatever its age, and
	// for the rest there is a 504.
	Offline bool
	// MaxObject is the largest body in bytes that is stored; larger ones stream
	// through. 0: no limit.
	MaxObject int64
	// MaxStore is how many bytes of the store the responses of all rules of this Name may
	// take together; for more, those of them that were used least go. 0: no bound.
	MaxStore int64
	// Pin: what is stored stays, used or not, when others go for lack of room, as long as
	// all that is pinned takes at most half of the store (store.CommitOptions). It holds
	// for what is stored or validated from then on.
	Pin bool
	// FillRanges: a range of something not stored has the whole fetched beside it,
	// whatever its size, so that ranges asked for at the same time, as by clients that
	// download in parallel, are fed from one fetch. Without it a range goes upstream by
	// itself, unless the whole is being fetched already.
	FillRanges bool
	// FinishFill says what becomes of a fill whose last client has left.
	FinishFill FinishFill
	// Access says how it is made sure that a client may have what is stored.
	Access Access
	// SignedBy reports, under AccessSigned, whether a host's redirects are believed to
	// give the right to the signed URLs in them; nil: none's.
	SignedBy func(host string) bool
	// FollowRedirects has upstream's redirects followed for GET and HEAD as long as they
	// lead to https, and the response at their end answers for the URL that was asked for.
	// Credentials go to the origin asked for alone.
	FollowRedirects bool
	// KeyByDigest makes the SHA-256 digest that Digests find in the path the key, whatever
	// host, path and query it comes with. A URL without one has its own key.
	KeyByDigest bool
	// ValidateHead has what is stale validated with HEAD, by the Docker-Content-Digest of
	// the answer, or its ETag; where it has neither of those that are stored, with GET.
	ValidateHead bool
	// RecheckTTL is how long AccessRecheck relies on what upstream has said of a
	// credential, as long as that has not expired; 0: two minutes. While upstream fails
	// it does so for StaleIfError besides.
	RecheckTTL time.Duration
	// RecheckScope, matched on the path, says what upstream's word is good for: all
	// paths of a host with the same groups, as of one repository. nil, or no match: that
	// URL alone.
	RecheckScope *regexp.Regexp
	// RecheckAt is where upstream is asked with GET about what RecheckScope matches: a
	// request target, with $1 for a group. "": at the URL itself, with HEAD.
	RecheckAt string
	// RecheckProof judges a 200 at RecheckAt, of which it reads little: whether it is the
	// yes that its status seems to say. Then nothing else is one, neither another status
	// nor what upstream sends of what is to be stored. nil: any status below 400 is.
	// It may be called by several goroutines at once.
	RecheckProof func(header http.Header, body io.Reader) bool
	// Digests find the digest of the body in the path of the target URI.
	Digests []integrity.PathPattern
	// Verify says what becomes of responses by the digest that they should have.
	Verify Verify
	// Share: what is stored is found by its content as well, by rules with the same Share,
	// where a request's own target or an index of its host names the SHA-256. "": by
	// nobody.
	Share string
	// Index says that the responses are indexes of other responses' digests; nil: no.
	Index *Index
	// Ledger says what becomes of other bytes than those first seen under a URL.
	Ledger LedgerMode

	// content is the digest that is the key, and overrides are the fields that the query
	// of a signed URL sets in the response; see at.
	content   integrity.Digest
	overrides http.Header
}

// Verify says what becomes of responses by the digest that they should have.
type Verify uint8

const (
	// VerifyWhenKnown holds a body to every digest that is known of it.
	VerifyWhenKnown Verify = iota
	// VerifyRequired does so, and stores nothing of which none is known.
	VerifyRequired
	// VerifyOff holds bodies to nothing.
	VerifyOff
)

// LedgerMode says what becomes of a response whose bytes are not those that were first
// seen under its URL.
type LedgerMode uint8

const (
	// LedgerOff: what is first seen is not written down.
	LedgerOff LedgerMode = iota
	// LedgerWarn says so and lets it pass.
	LedgerWarn
	// LedgerRefuse breaks the client's transfer and stores nothing.
	LedgerRefuse
)

// Index says what may be learnt from the responses under a rule.
type Index struct {
	// Kind of index, such as pypi.
	Kind string
	// Vouches reports whether the index may name digests of files on a host besides its
	// own.
	Vouches func(host string) bool
	// Hosts lists those of them whose names are known.
	Hosts []string
}

// URLDigest returns the digest of the body that the path of the target URI names, the
// first where it names several. It is none of anybody's business under VerifyOff.
func (r *Rule) URLDigest(target *url.URL) (integrity.Digest, bool) {
	if len(r.Digests) == 0 || r.Verify == VerifyOff {
		return integrity.Digest{}, false
	}
	path := target.EscapedPath()
	for _, p := range r.Digests {
		if d, ok := p.Find(path); ok {
			return d, true
		}
	}
	return integrity.Digest{}, false
}

// byContent reports whether the digest of the content is the key.
func (r *Rule) byContent() bool { return !r.content.IsZero() }

// at returns the rule as it is for a target URI: from there on it knows what there is of
// the digest that is the key, and of fields that the query of a signed URL sets.
func (r *Rule) at(target *url.URL) *Rule {
	d, ok := r.contentOf(target)
	var overrides http.Header
	if r.Access == AccessSigned {
		overrides = overridesOf(target)
	}
	if (!ok || r.byContent()) && overrides == nil {
		return r
	}
	found := *r
	found.overrides = overrides
	if ok {
		found.content = d
	}
	return &found
}

// contentOf returns the digest that is the key of a target URI. Others than SHA-256 are
// none: that is the one by which the store knows what it holds.
func (r *Rule) contentOf(target *url.URL) (integrity.Digest, bool) {
	if !r.KeyByDigest {
		return integrity.Digest{}, false
	}
	if r.byContent() {
		return r.content, true
	}
	d, ok := r.URLDigest(target)
	return d, ok && d.Algorithm() == integrity.SHA256
}

// keeping says how the store keeps what is stored under the rule.
func (r *Rule) keeping() store.CommitOptions {
	return store.CommitOptions{Pinned: r.Pin, Group: r.Name, MaxGroup: r.MaxStore}
}

// required lists, in lower case, the request fields that every key under the rule
// holds. What is validated are indexes, and those negotiate by Accept (PyPI has
// three representations under one URI), so there Accept is always among them; but for
// what signed lists name, which is one representation by its digest, and of which apt
// asks for the list with one Accept and for the rest with another.
func (r *Rule) required() []string {
	_, listed := r.listKind()
	negotiated := r.Mode == Revalidate && !listed
	if len(r.Vary) == 0 && !negotiated {
		return nil
	}
	set := r.Vary
	if negotiated {
		set = append([]string{"accept"}, set...)
	}
	return fieldSet(set)
}
