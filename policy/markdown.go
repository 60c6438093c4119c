package policy

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Markdown writes a table of presets, a row each: their hosts, which of their rules
// serve without asking and which validate, and by what bodies are verified.
func Markdown(w io.Writer, presets []Preset) error {
	var b strings.Builder
	b.WriteString("| preset | hosts | immutable | validated (after) | verified by | known limits |\n|---|---|---|---|---|---|\n")
	for _, p := range presets {
		fmt.Fprintf(&b, "| **%s**: %s | %s | %s | %s | %s | %s |\n", p.Name, cell(p.Summary), hostCell(p),
			ruleCell(p, Immutable), ruleCell(p, Revalidate), verifiedCell(p), cell(strings.Join(p.Limits, " ")))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cell keeps a text within its cell, and globs from being read as emphasis.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "\n", " ").Replace(text)
}

func hostCell(p Preset) string {
	var all []string
	for _, r := range p.rules {
		for _, h := range r.Hosts {
			if code := "`" + h + "`"; !slices.Contains(all, code) {
				all = append(all, code)
			}
		}
	}
	return strings.Join(all, " ")
}

// ruleCell lists the rules of an action, with their ttl.
func ruleCell(p Preset, a Action) string {
	var all []string
	for _, r := range p.rules {
		if r.Action != a {
			continue
		}
		text := r.short()
		switch {
		case r.TTL > 0:
			text += " " + duration(r.TTL)
		case a == Revalidate:
			text += " 0"
		}
		all = append(all, text)
	}
	if len(all) == 0 {
		return "–"
	}
	return strings.Join(all, ", ")
}

// verifiedCell says how what the immutable rules store is held to a digest.
func verifiedCell(p Preset) string {
	var parts []string
	for _, r := range p.rules {
		if len(r.Digest) > 0 && r.Verify != VerifyOff {
			parts = append(parts, r.short()+": "+algorithms(r)+" in the URL")
		}
	}
	for _, r := range p.rules {
		if r.RequestBody == BodyGitFetch {
			parts = append(parts, r.short()+": the checksum that a pack ends with")
		}
	}
	learnt := learntCell(p)
	if learnt != "" {
		parts = append(parts, learnt)
	}
	for _, rest := range []struct {
		ledger Ledger
		text   string
	}{
		{LedgerRefuse, "trust on first use (ledger)"},
		{LedgerWarn, "first use, other bytes reported (ledger: warn)"},
	} {
		if names := unproved(p, rest.ledger); len(names) > 0 {
			of := ": "
			if learnt != "" {
				of = " that no index has named: "
			}
			parts = append(parts, strings.Join(names, ", ")+of+rest.text)
		}
	}
	if len(parts) == 0 {
		return "TLS, each time"
	}
	return strings.Join(parts, "; ")
}

// learntCell lists the indexes from which digests are learnt, by kind.
func learntCell(p Preset) string {
	rules := make(map[string][]string)
	for _, r := range p.rules {
		if r.Index != "" {
			rules[r.Index] = append(rules[r.Index], r.short())
		}
	}
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(rules)) {
		all = append(all, "indexes of kind "+kind+" ("+strings.Join(rules[kind], ", ")+")")
	}
	return strings.Join(all, ", ")
}

// unproved lists the immutable rules whose URLs name no digest.
func unproved(p Preset, l Ledger) []string {
	var names []string
	for _, r := range p.rules {
		if r.Action == Immutable && len(r.Digest) == 0 && r.Ledger == l {
			names = append(names, r.short())
		}
	}
	return names
}

func algorithms(r *Rule) string {
	names := make([]string, len(r.Digest))
	for i, d := range r.Digest {
		names[i] = d.Algorithm
	}
	return strings.Join(names, ", ")
}

// short is the rule's name without its preset.
func (r *Rule) short() string { return strings.TrimPrefix(r.Name, r.Preset+"/") }
