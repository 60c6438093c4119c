package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// The suite's kinds of tests; a third, check, only asks what a cache does.
const (
	required = "required"
	optimal  = "optimal"
)

// test is one test with its result.
type test struct {
	ID, Name, Suite, Kind string
	Depends               []string
	Passed                bool
	Reason                string
}

// verdict says in a word how the test went.
func (t test) verdict() string {
	if t.Passed {
		return "passed"
	}
	return "failed"
}

// counts reports whether a test belongs to the two columns.
func (t test) counts() bool { return t.Kind == required || t.Kind == optimal }

// modeResult is all tests through one mode.
type modeResult struct {
	title string
	tests []test
}

// row is a line of the table.
type row struct {
	name              string
	required, optimal int
}

// report is what is said about a run.
type report struct {
	version   string
	foreign   bool // not npm's
	modes     []modeResult
	ours      []row
	others    []row // recounted from the results that come with the suite
	total     row
	explained explanations
}

func newReport(s *suite, modes []modeResult) (*report, error) {
	r := &report{modes: modes, foreign: s.foreign}
	var err error
	if r.version, err = s.version(); err != nil {
		return nil, err
	}
	published, err := s.published()
	if err != nil {
		return nil, err
	}
	if r.explained, err = readExplanations(); err != nil {
		return nil, err
	}
	known := modes[0].tests
	r.total = count("tests", known, func(test) bool { return true })
	for _, m := range modes {
		r.ours = append(r.ours, count("larder, "+m.title, m.tests, func(t test) bool { return t.Passed }))
	}
	for name, passed := range published {
		r.others = append(r.others, count(name, known, func(t test) bool { return passed[t.ID] }))
	}
	slices.SortFunc(r.others, func(a, b row) int {
		return cmp.Or(cmp.Compare(b.required, a.required), cmp.Compare(b.optimal, a.optimal), cmp.Compare(a.name, b.name))
	})
	return r, nil
}

// count counts each test by itself, as the published figures do. The suite's pages
// grey out a test whose depends_on failed.
func count(name string, tests []test, passed func(test) bool) row {
	r := row{name: name}
	for _, t := range tests {
		switch {
		case !passed(t):
		case t.Kind == required:
			r.required++
		case t.Kind == optimal:
			r.optimal++
		}
	}
	return r
}

// current are the results published at cache-tests.fyi for the suite's present
// tests, 160 required and 105 optimal, of which npm has no package.
func current() []row {
	return []row{
		{"Apache httpd", 141, 69},
		{"Squid", 138, 59},
		{"Varnish", 138, 49},
		{"Caddy", 138, 44},
		{"ATS", 136, 74},
		{"nginx", 115, 66},
	}
}

// failure is a test that failed in at least one mode.
type failure struct {
	test
	modes []string
}

// failures lists the counted tests that failed, required ones first, in the suite's
// order.
func (r *report) failures() []failure {
	at := make(map[string]int)
	var all []failure
	for _, kind := range []string{required, optimal} {
		for _, m := range r.modes {
			for _, t := range m.tests {
				if t.Passed || t.Kind != kind {
					continue
				}
				i, ok := at[t.ID]
				if !ok {
					i = len(all)
					at[t.ID] = i
					all = append(all, failure{test: t})
				}
				all[i].modes = append(all[i].modes, m.title)
			}
		}
	}
	return all
}

// surprises are failures nobody has explained and explanations of tests that pass.
func (r *report) surprises() []error {
	var errs []error
	failed := make(map[string]bool)
	for _, f := range r.failures() {
		failed[f.ID] = true
		if _, ok := r.explained[f.ID]; !ok {
			errs = append(errs, fmt.Errorf("%s fails and explained.txt does not say why (%s)", f.ID, f.Reason))
		}
	}
	for _, t := range r.modes[0].tests {
		// Tests have changed sides without a change of the version.
		if _, ok := r.explained[t.ID]; ok && !r.foreign && t.counts() && !failed[t.ID] {
			errs = append(errs, fmt.Errorf("%s passes and explained.txt says why it fails", t.ID))
		}
	}
	return errs
}

// text is the report for a terminal.
func (r *report) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "http-cache-tests %s\n\n", r.version)
	r.table(&b, r.ours)
	fmt.Fprintf(&b, "\npublished with these tests:\n")
	r.table(&b, r.others)
	fmt.Fprintf(&b, "\npublished with the present tests, 160 required and 105 optimal:\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, o := range current() {
		fmt.Fprintf(w, "%s\t%d of 160\t%d of 105\n", o.name, o.required, o.optimal)
	}
	w.Flush()
	fmt.Fprintf(&b, "\nfailures:\n")
	for _, f := range r.failures() {
		where := ""
		if len(f.modes) < len(r.modes) {
			where = " (only " + strings.Join(f.modes, ", ") + ")"
		}
		fmt.Fprintf(&b, "%s\t%s%s\n\t%s\n\t%s\n", f.Kind, f.ID, where, f.Name, f.Reason)
	}
	return b.String()
}

func (r *report) table(b *strings.Builder, rows []row) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\trequired\toptimal\n")
	for _, o := range rows {
		fmt.Fprintf(w, "%s\t%d of %d\t%d of %d\n", o.name, o.required, r.total.required, o.optimal, r.total.optimal)
	}
	w.Flush()
}

// The marks around the generated part of a document.
const (
	beginMark = "<!-- generated by make conformance -->\n"
	endMark   = "<!-- end of the generated part -->\n"
)

// document rewrites the generated part of a file.
func (r *report) document(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no part between %q and %q", file, strings.TrimSpace(beginMark), strings.TrimSpace(endMark))
	}
	return os.WriteFile(file, []byte(before+beginMark+r.markdown()+endMark+after), 0o644)
}

func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n| http-cache-tests %s | required, of %d | optimal, of %d |\n|---|---:|---:|\n", r.version, r.total.required, r.total.optimal)
	for _, o := range r.ours {
		fmt.Fprintf(&b, "| **%s** | **%d** | **%d** |\n", o.name, o.required, o.optimal)
	}
	for _, o := range r.others {
		fmt.Fprintf(&b, "| %s | %d | %d |\n", o.name, o.required, o.optimal)
	}
	failures := r.failures()
	byWhy := make(map[string][]failure)
	for _, f := range failures {
		why := r.explained[f.ID]
		byWhy[why] = append(byWhy[why], f)
	}
	fmt.Fprintf(&b, "\n## What fails, and why\n")
	for _, why := range slices.SortedFunc(maps.Keys(byWhy), func(x, y string) int {
		return cmp.Compare(slices.IndexFunc(failures, is(byWhy[x][0])), slices.IndexFunc(failures, is(byWhy[y][0])))
	}) {
		fmt.Fprintf(&b, "\n%s\n\n", cmp.Or(why, "Not explained yet."))
		for _, f := range byWhy[why] {
			fmt.Fprintf(&b, "* `%s` (%s): %s.", f.ID, f.Kind, strings.TrimRight(f.Name, ".?"))
			if len(f.modes) < len(r.modes) {
				fmt.Fprintf(&b, " Only %s.", strings.Join(f.modes, ", "))
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("\n")
	return b.String()
}

func is(f failure) func(failure) bool { return func(g failure) bool { return g.ID == f.ID } }
