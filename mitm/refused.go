package mitm

import (
	"errors"
	"net/http"
	"net/url"

	"larder/curation"
	"larder/policy"
)

// refusingPolicy is what a Policy may have besides: a word about requests whoever makes
// them. *policy.Policy is one.
type refusingPolicy interface {
	// Candidates lists the rules that may decide on a request for u.
	Candidates(method string, u *url.URL) (all []*policy.Rule, byDefault bool)
	// RefusesAll reports whether a request for u is refused by rules whoever makes it.
	RefusesAll(method string, u *url.URL) bool
}

// Refuses reports whether what is stored for target, with a body of size bytes (-1: of
// whatever size), will not be served to anybody any more: it is denied by a rule or by
// the curation of its registry, or larger than every rule stores that may decide. What
// is only too young is not refused, for it will be served one day.
func (s *Server) Refuses(target *url.URL, size int64) bool {
	rules := s.rules.Load()
	p, ok := rules.policy.(refusingPolicy)
	if !ok {
		return false
	}
	// What is stored is the answer to a GET, or to a POST by its content.
	if p.RefusesAll(http.MethodGet, target) && p.RefusesAll(http.MethodPost, target) {
		return true
	}
	all, _ := p.Candidates(http.MethodGet, target)
	posted, _ := p.Candidates(http.MethodPost, target)
	all = append(all, posted...)
	large := size >= 0
	stores := false
	for _, r := range all {
		if rules.curator != nil && r.Registry != "" && denies(rules.curator, r.Registry, target) {
			return true
		}
		if r.Action.Stores() {
			stores = true
			large = large && r.MaxObject > 0 && size > r.MaxObject
		}
	}
	return stores && large
}

// denies asks the curation, without regard to age.
func denies(c *curation.Curator, registry policy.Registry, target *url.URL) bool {
	ask := curation.Look(registry, target, http.Header{})
	refusal, ok := errors.AsType[*curation.Refusal](c.Judge(&ask).Refused)
	return ok && !refusal.Verdict.AgeUnknown && refusal.Verdict.Until.IsZero()
}
