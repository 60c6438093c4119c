package curation

import (
	"errors"
	"net/http"
	"net/url"

	"larder/policy"
)

// Explain says in lines what the curation makes of a request for target under a rule
// for a registry; nil if nothing. It asks nobody, so it does not know ages.
func Explain(p *policy.Policy, r policy.Registry, target *url.URL) []string {
	c := New(p, nil, NewPublished())
	if r == "" || c == nil || !p.CuratesRegistry(r) {
		return nil
	}
	a := Look(r, target, http.Header{})
	var lines []string
	switch a.Kind {
	case Other:
		return nil
	case Odd:
		return []string{"The path can be read in two ways, and the curation of " + string(r) + " denies some packages: 403."}
	case List:
		return []string{"The list is served without the names of which every version is denied."}
	}
	what := "a file of"
	if a.Kind != File {
		what = "the index of"
	}
	pkg := policy.Package{Registry: r, Name: a.Name, Version: a.Version}
	for _, e := range p.Concerning(r, a.Name) {
		lines = append(lines, e.Words())
	}
	if len(lines) == 0 {
		return []string{"It is " + what + " the " + pkg.String() + ", which no entry of the curation names."}
	}
	lines = append([]string{"It is " + what + " the " + pkg.String() + ":"}, lines...)
	return append(lines, outcome(c, &a))
}

// outcome says what follows.
func outcome(c *Curator, a *Ask) string {
	j := c.Judge(a)
	refusal, refused := errors.AsType[*Refusal](j.Refused)
	switch {
	case j.NeedsAge:
		return "So it depends on its age, which the index tells: 403 while it is too young."
	case refused:
		return "So it is refused with 403: " + refusal.Verdict.Reason() + "."
	case a.Kind == File:
		return "So it may be had."
	case c.Must(a):
		return "So the index is served without the versions that are denied."
	}
	return "So the index is served as it is."
}
