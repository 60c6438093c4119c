package policy

import (
	"net/netip"
	"slices"
	"strings"
)

// index finds the rules that name a host, in the order of the rules, without
// looking at those that do not. It is built once and then only read.
type index struct {
	rules []*Rule
	// bySuffix holds, under each suffix that a glob ends with, every glob that
	// could match a name ending so: its own, and those of all shorter suffixes,
	// in rule order. A lookup takes the longest suffix that is there.
	bySuffix map[string][]indexed
	networks []indexedNetwork
}

type indexed struct {
	rule int
	glob *hostGlob
}

type indexedNetwork struct {
	rule    int
	network netip.Prefix
	all     bool // "*"
}

func newIndex(rules []*Rule) *index {
	x := &index{rules: rules, bySuffix: make(map[string][]indexed)}
	own := make(map[string][]indexed)
	for i, r := range rules {
		for _, p := range r.hosts {
			for j := range p.globs {
				g := &p.globs[j]
				own[g.suffix] = append(own[g.suffix], indexed{i, g})
				if g.suffix == "" && len(g.middle) == 0 {
					x.networks = append(x.networks, indexedNetwork{rule: i, all: true})
				}
			}
			for _, n := range p.networks {
				x.networks = append(x.networks, indexedNetwork{rule: i, network: n})
			}
		}
	}
	for suffix := range own {
		var all []indexed
		for s, more := suffix, true; more; s, more = parent(s) {
			all = append(all, own[s]...)
		}
		slices.SortStableFunc(all, func(a, b indexed) int { return a.rule - b.rule })
		x.bySuffix[suffix] = all
	}
	return x
}

// parent returns the suffix one label shorter; "" is the last.
func parent(suffix string) (string, bool) {
	if suffix == "" {
		return "", false
	}
	_, rest, _ := strings.Cut(suffix, ".")
	return rest, true
}

// first returns the first rule that names the host and that accept takes, or
// nil. Each rule is offered at most once, in order.
func (x *index) first(h host, accept func(*Rule) bool) *Rule {
	if h.isIP {
		for _, n := range x.networks {
			if (n.all || n.network.Contains(h.addr)) && accept(x.rules[n.rule]) {
				return x.rules[n.rule]
			}
		}
		return nil
	}
	last := -1
	for _, e := range x.candidates(h.name) {
		if e.rule == last || !e.glob.matchName(h.name) {
			continue
		}
		last = e.rule
		if r := x.rules[e.rule]; accept(r) {
			return r
		}
	}
	return nil
}

func (x *index) candidates(name string) []indexed {
	for s, more := name, true; more; s, more = parent(s) {
		if found, ok := x.bySuffix[s]; ok {
			return found
		}
	}
	return nil
}
