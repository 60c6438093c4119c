package mitm

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"larder/curation"
	"larder/policy"
)

// curatingPolicy is what a Policy may have besides: a say in which packages of
// registries may be had. *policy.Policy is one.
type curatingPolicy interface {
	curation.Policy
	// IndexHosts lists hosts of indexes of a registry that may speak for files on a host.
	IndexHosts(r policy.Registry, host string) []string
	// OverlaysWheels reports whether the operator's wheels are added to indexes.
	OverlaysWheels() bool
}

// newRuleset prepares what follows from a policy.
func (s *Server) newRuleset(p Policy, a Access) *ruleset {
	rules := &ruleset{policy: p, access: a}
	curating, ok := p.(curatingPolicy)
	if !ok {
		return rules
	}
	var overlay curation.Overlay
	if s.options.Wheels != nil && curating.OverlaysWheels() {
		overlay = s.options.Wheels
	}
	if rules.curator = curation.New(curating, overlay, s.indexes.published); rules.curator != nil {
		rules.curating = curating
	}
	return rules
}

// curate carries out what the curation says of a request under a rule that is for a
// registry. It returns false where the request goes on as any other.
func (s *Server) curate(w http.ResponseWriter, r *http.Request, target *url.URL, rules *ruleset, rule *rule, d policy.Decision, x *exchange) bool {
	ask := curation.Look(rule.registry, target, r.Header)
	ask.Vouches = d.Rule.Vouches
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if ask.Kind == curation.Other || !reads && ask.Kind != curation.File && ask.Kind != curation.Odd {
		return false
	}
	j := rules.curator.Judge(&ask)
	if j.NeedsAge {
		s.learnAge(r, target, rules, &ask, x)
		j = rules.curator.Judge(&ask)
	}
	if j.Waived != nil {
		x.waive(j.Waived)
	}
	switch {
	case j.Refused != nil:
		x.rejectCurated(w, r, rule.registry, j.Refused)
		return true
	case !reads, extendedOf(r) != nil: // whose 200 would be a switch
		return false
	case s.isWheel(target, rules):
		s.serveWheel(w, r, target, x)
		return true
	case rules.curator.Renders(&ask):
		return s.serveRendered(w, r, target, rules, rule, d, &ask, x)
	}
	return false
}

// curatedName is how log and metrics name an entry of the curation among rules.
func curatedName(c *policy.Curation) string { return "curation/" + c.Name }

// waive notes an entry that would have refused and by its mode did not.
func (x *exchange) waive(c *policy.Curation) {
	x.waived = &policy.Rule{Name: curatedName(c), Mode: c.Mode}
	if c.Mode == policy.Report {
		x.Reported = x.waived.Name
	}
}

// rejectCurated refuses with the reason in the form that the registry's clients show.
func (x *exchange) rejectCurated(w http.ResponseWriter, r *http.Request, registry policy.Registry, err error) {
	if refusal, ok := errors.AsType[*curation.Refusal](err); ok {
		x.Rule = curatedName(refusal.Verdict.By)
	}
	if registry == policy.NPM && r.Method != http.MethodHead {
		w = &npmErrorWriter{ResponseWriter: w}
	}
	x.reject(w, r, &curatedError{err})
}

// curatedError is a refusal by the curation.
type curatedError struct{ err error }

func (e *curatedError) Error() string { return e.err.Error() }
func (e *curatedError) Unwrap() error { return e.err }

// learnAge asks the indexes that may tell when a file was published. Whatever fails in
// it leaves the age unknown.
func (s *Server) learnAge(r *http.Request, target *url.URL, rules *ruleset, ask *curation.Ask, x *exchange) {
	hosts := []string{target.Host}
	if ask.Registry == policy.PyPI {
		hosts = append(rules.curating.IndexHosts(ask.Registry, target.Hostname()), hosts...)
	}
	for _, name := range ask.Names() {
		for _, host := range hosts {
			index := ask.IndexURL(name, target.Scheme, host)
			header := http.Header{}
			if host == target.Host {
				copyCredentials(header, r.Header)
			}
			if s.readIndex(r.Context(), rules, index, header, x) && rules.curator.Knows(ask) {
				return
			}
		}
	}
}

func copyCredentials(to, from http.Header) {
	for _, name := range []string{"Authorization", "Cookie"} {
		if v := from[name]; len(v) > 0 {
			to[name] = v
		}
	}
}

// readIndex renders an index for what can be learnt from it.
func (s *Server) readIndex(ctx context.Context, rules *ruleset, target *url.URL, header http.Header, x *exchange) bool {
	d := rules.policy.Classify(x.who, http.MethodGet, target)
	rule := rules.of(d)
	if d.Action == policy.Deny || d.Action == policy.Tunnel || rule.registry == "" {
		return false
	}
	ask := curation.Look(rule.registry, target, header)
	ask.Vouches = d.Rule.Vouches
	if ask.Kind != curation.Index {
		return false
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return false
	}
	r.URL, r.Header = target, header
	quiet := &exchange{server: s, who: x.who, offline: x.offline, target: target}
	got := s.indexes.get(ctx, indexKeyOf(r, &ask, rule, x), func() indexed {
		return s.fetchIndex(nil, &indexRequest{r: r, rules: rules, rule: rule, decision: d, ask: &ask, x: quiet})
	})
	if got.rendering != nil {
		rules.curator.Learn(got.rendering)
	}
	return got.rendering != nil
}

// isWheel reports whether a target is one of the overlay's wheels.
func (s *Server) isWheel(target *url.URL, rules *ruleset) bool {
	return strings.HasPrefix(target.Path, curation.WheelPath) && s.options.Wheels != nil && rules.curating.OverlaysWheels()
}
