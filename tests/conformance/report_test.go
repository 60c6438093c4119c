package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExplanationsAreReadable(t *testing.T) {
	all, err := readExplanations()
	if err != nil {
		t.Fatal(err)
	}
	for id, why := range all {
		if !strings.HasSuffix(why, ".") || strings.Contains(id, " ") {
			t.Errorf("%q is explained by %q", id, why)
		}
	}
}

// someReport is of two modes: one required test fails in both, one optimal one in
// the second.
func someReport(explained explanations) *report {
	mode := func(title string, optionalPasses bool) modeResult {
		return modeResult{title, []test{
			{ID: "a", Name: "must a", Kind: required, Passed: true},
			{ID: "b", Name: "must b", Kind: required, Reason: "Assertion: not b"},
			{ID: "c", Name: "might c?", Kind: optimal, Passed: optionalPasses, Reason: "Assertion: not c"},
			{ID: "d", Name: "does d?", Kind: "check"},
		}}
	}
	r := &report{version: "1", modes: []modeResult{mode("plain", true), mode("tls", false)}, explained: explained}
	r.total = row{required: 2, optimal: 1}
	for _, m := range r.modes {
		r.ours = append(r.ours, count(m.title, m.tests, func(t test) bool { return t.Passed }))
	}
	return r
}

func TestCountsByKind(t *testing.T) {
	r := someReport(nil)
	want := []row{{"plain", 1, 1}, {"tls", 1, 0}}
	if diff := cmp.Diff(want, r.ours, cmp.AllowUnexported(row{})); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyTheUnexplainedAndTheWronglyExplainedSurprise(t *testing.T) {
	r := someReport(explanations{"a": "It cannot.", "b": "Because."})
	var got []string
	for _, err := range r.surprises() {
		got = append(got, err.Error())
	}
	want := []string{
		"c fails and explained.txt does not say why (Assertion: not c)",
		"a passes and explained.txt says why it fails",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if r.foreign = true; len(r.surprises()) != 1 {
		t.Errorf("with another suite: %v", r.surprises())
	}
}

func TestDocumentIsRewrittenBetweenTheMarks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "doc.md")
	text := "# Title\n" + beginMark + "old\n" + endMark + "the end\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := someReport(explanations{"b": "Because.", "c": "Because."})
	if err := r.document(file); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := "# Title\n" + beginMark + `
| http-cache-tests 1 | required, of 2 | optimal, of 1 |
|---|---:|---:|
| **plain** | **1** | **1** |
| **tls** | **1** | **0** |

## What fails, and why

Because.

* ` + "`b`" + ` (required): must b.
* ` + "`c`" + ` (optimal): might c. Only tls.

` + endMark + "the end\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	if err := os.WriteFile(file, []byte("no marks"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.document(file); err == nil {
		t.Error("a document without marks is rewritten")
	}
}
