package policy

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Authorized says who may have what a rule has stored of responses to requests with
// credentials.
type Authorized uint8

const (
	// ByResponse stores only what says of itself that it is for everybody (RFC 9111,
	// section 3.5).
	ByResponse Authorized = iota
	// Recheck stores all, and asks upstream with each client's own credentials, or
	// without any if it has none, before it serves.
	Recheck
	// Signed stores what signed URLs bring, under a key without the signature, and serves
	// it to who has such a URL that upstream has given out, or lets pass.
	Signed
	// Public stores all and serves everybody: the operator's word that nothing under
	// the rule is private.
	Public
)

var authorizedNames = [...]string{ByResponse: "", Recheck: "recheck", Signed: "signed", Public: "public"}

// String returns the word of the policy file, "" for what holds without one.
func (a Authorized) String() string {
	if int(a) >= len(authorizedNames) {
		return "invalid"
	}
	return authorizedNames[a]
}

func (d *ruleDecoder) authorized(v *yaml.Node) {
	if i, ok := d.word(v, "authorized", authorizedNames[Recheck:]); ok {
		d.rule.Authorized = Recheck + Authorized(i)
	}
}

func (d *ruleDecoder) signedBy(v *yaml.Node) {
	d.rule.SignedBy = d.list(v, "signed_by", func(s string) *valueError {
		p, err := parseHostPattern(s)
		if err != nil {
			return err
		}
		if p.everything() {
			return badValue("name the registries whose redirects lead here", "signed_by cannot be every host: any could then give itself the right to what is stored")
		}
		d.rule.signers = append(d.rule.signers, p)
		return nil
	})
}

// Signs reports whether redirects of a host give the right to the signed URLs in them, by
// signed_by.
func (r *Rule) Signs(host string) bool {
	return slices.ContainsFunc(r.signers, func(p *HostPattern) bool { return p.Match(host) })
}

func (d *ruleDecoder) recheckScope(v *yaml.Node) {
	s, ok := d.text(v, d.context, "recheck_scope")
	if !ok {
		return
	}
	if !strings.HasPrefix(s, "^/") {
		d.problem(v, d.context, "write ^/v2/(.+)/blobs/ for example", "recheck_scope %q does not begin with ^/", s)
		return
	}
	re, err := regexp.Compile(s)
	if err != nil {
		d.bad(v, d.context, "recheck_scope", badRegexp(s, err))
		return
	}
	if re.NumSubexp() == 0 {
		d.problem(v, d.context, "put what names the repository into ( )", "recheck_scope %q has no group, so one verdict would do for everything that it matches", s)
		return
	}
	d.rule.RecheckScope = re
}

func (d *ruleDecoder) recheckAt(v *yaml.Node) {
	s, ok := d.text(v, d.context, "recheck_at")
	if !ok {
		return
	}
	if !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "$") || strings.ContainsAny(s, "# ") {
		d.problem(v, d.context, "write a path such as /$1/info/refs?service=git-upload-pack", "recheck_at %q is no path", s)
		return
	}
	d.rule.RecheckAt = s
}

// rechecks reports whether upstream is asked before what is stored is served.
func (r *Rule) rechecks() bool { return r.Authorized == Recheck || r.Authorized == Signed }

// maxRecheckTTL bounds how long somebody whose access was withdrawn may still read.
const maxRecheckTTL = time.Hour

// recheckKeys reports keys of rechecks where there are none.
func (d *ruleDecoder) recheckKeys() {
	if d.rule.Authorized != Signed {
		d.complain("signed_by", "", "signed_by has no effect without authorized: signed")
	}
	if d.rule.Authorized != Recheck {
		for _, key := range []string{"recheck_scope", "recheck_at"} {
			d.complain(key, "", "%s has no effect without authorized: recheck", key)
		}
	}
	if !d.rule.rechecks() {
		d.complain("recheck_ttl", "", "recheck_ttl has no effect without authorized: recheck or signed")
		return
	}
	if d.rule.RecheckTTL > maxRecheckTTL {
		d.complain("recheck_ttl", "5m is long already", "recheck_ttl is above an hour, for which somebody whose access was withdrawn could still read")
	}
	if d.keys["recheck_ttl"] != nil && d.rule.RecheckTTL <= 0 {
		d.complain("recheck_ttl", "leave it out for 2m, or write 1s", "recheck_ttl must be above 0")
	}
	if d.rule.RecheckAt != "" && d.rule.RecheckScope == nil {
		d.complain("recheck_at", "", "recheck_at needs recheck_scope, to which $1 refers")
	}
}
