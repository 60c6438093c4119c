package policy

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// RequestBody is a kind of request body: the one that a rule is for, and the one that a
// request was found to have.
type RequestBody uint8

const (
	// BodyUnread is that of a request into whose body nobody has looked yet: a rule
	// that is for one of the kinds matches, for it may be so. Of a rule it means that
	// bodies make no difference.
	BodyUnread RequestBody = iota
	// BodyUnusable is that of a request whose body cannot be a key, since it is too
	// large or comes in a way that is not understood: no rule for a kind matches.
	BodyUnusable
	// BodyAny is that of any other request, and of a rule for whatever body.
	BodyAny
	// BodyGitFetch asks git-upload-pack for objects by their full names. The answer
	// holds for ever.
	BodyGitFetch
	// BodyGitRefs asks git-upload-pack for the refs: version 2's ls-refs.
	BodyGitRefs
)

var bodyNames = [...]string{BodyUnread: "unread", BodyUnusable: "unusable", BodyAny: "any", BodyGitFetch: "git-fetch", BodyGitRefs: "git-refs"}

// String returns the word of the policy file.
func (b RequestBody) String() string {
	if int(b) >= len(bodyNames) {
		return "invalid"
	}
	return bodyNames[b]
}

// ParseRequestBody returns the kind of a name that a policy file may have.
func ParseRequestBody(name string) (RequestBody, bool) {
	for b := BodyAny; int(b) < len(bodyNames); b++ {
		if bodyNames[b] == name {
			return b, true
		}
	}
	return BodyUnread, false
}

// Git reports whether it is a kind that git-upload-pack is asked with.
func (b RequestBody) Git() bool { return b == BodyGitFetch || b == BodyGitRefs }

// admits reports whether a rule for the kind b is for a request whose body is has.
func (b RequestBody) admits(has RequestBody) bool {
	switch has {
	case BodyUnread:
		return true
	case BodyUnusable:
		return b == BodyUnread
	}
	return b == BodyUnread || b == BodyAny || b == has
}

// GitRecheck is what recheck_at ends with where a server of git is asked who may read.
const GitRecheck = "/info/refs?service=git-upload-pack"

// questions are the methods whose requests may be questions.
func questions() []string { return []string{"POST", "QUERY"} }

func (d *ruleDecoder) requestBody(v *yaml.Node) {
	names := bodyNames[BodyAny:]
	if i, ok := d.word(v, "request_body", names); ok {
		d.rule.RequestBody = BodyAny + RequestBody(i)
	}
}

// bodyKeys reports what does not go with request_body. What is stored under it are no
// responses of a URL alone, and nothing that is known by URLs holds for them.
func (d *ruleDecoder) bodyKeys() {
	r := d.rule
	if r.RequestBody == BodyUnread || !r.Action.Stores() {
		return
	}
	if r.Action == HTTP {
		d.complain("request_body", "use action immutable or revalidate",
			"request_body has no effect under action http: RFC 9111 stores no response to a method that has a body")
	}
	known := questions()
	if r.RequestBody.Git() {
		known = known[:1]
	}
	switch {
	case d.keys["methods"] == nil:
		d.problem(d.node, d.context, "write methods: [POST]", "a rule with request_body: %s must name its methods", r.RequestBody)
	case slices.ContainsFunc(r.Methods, func(m string) bool { return !slices.Contains(known, m) }):
		d.complain("methods", "write methods: [POST]", "request_body: %s goes with method %s alone", r.RequestBody, strings.Join(known, " or "))
	}
	for _, key := range []string{"digest", "verify", "index", "vouches_for", "ledger", "fill_ranges", "key", "redirects", "validate", "registry"} {
		d.complain(key, "", "%s has no effect with request_body", key)
	}
	switch {
	case r.Authorized == Signed:
		d.complain("authorized", "", "authorized: signed has no effect with request_body: what is signed is the URL of a GET")
	case r.Authorized != Recheck:
	case r.RequestBody.Git() && !strings.HasSuffix(r.RecheckAt, GitRecheck):
		d.complain("authorized", fmt.Sprintf("write recheck_scope: '^/(.+)/git-upload-pack$' and recheck_at: '/$1%s'", GitRecheck),
			"with request_body: %s a recheck is at %s of the repository", r.RequestBody, GitRecheck)
	case r.RecheckAt == "":
		d.complain("authorized", "write with recheck_at where a GET shows who may read",
			"with request_body a recheck needs recheck_at: HEAD says nothing of what is asked with another method")
	}
	r.Ledger = LedgerOff
}

// bodyWords says what a body means for a rule that stores.
func (r *Rule) bodyWords() []string {
	switch r.RequestBody {
	case BodyGitFetch:
		return []string{"The objects that the body asks for belong to the key; only whole answers with sound packs are stored."}
	case BodyGitRefs:
		return []string{"What the body asks for belongs to the key; only whole answers are stored."}
	case BodyAny:
		return []string{"The body belongs to the key."}
	}
	return nil
}
