package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"
)

// figure is one row of the table.
type figure struct {
	name string
	unit string
	// values by server: "bare", "larder", "nginx", "squid". What is not there was
	// not measured.
	values map[string]float64
	// times bounds larder's value by a multiple of bare's, plus by a sum with it,
	// absolute by itself; the zero value bounds nothing.
	times, plus, absolute float64
	note                  string
}

// limit is what larder's value may be at most, in its unit.
func (f figure) limit() (value float64, text string, ok bool) {
	bare := f.values["bare"]
	switch {
	case f.times > 0:
		return f.times * bare, fmt.Sprintf("%.2f × bare", f.times), true
	case f.plus > 0:
		return bare + f.plus, fmt.Sprintf("bare + %s", number(f.plus)), true
	case f.absolute > 0:
		return f.absolute, number(f.absolute), true
	}
	return 0, "", false
}

// table is the result of a run.
type table struct {
	cores, rounds int
	started       time.Time
	figures       []figure
}

func (t *table) add(f ...figure) { t.figures = append(t.figures, f...) }

// markdown renders the table with what it takes to read it.
func (t *table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s, %s, every server alone on one core, the load on %d more; medians of %d rounds.\n\n",
		t.started.Format(time.DateOnly), platform(), t.cores, t.rounds)
	b.WriteString("| figure | unit | bare Go | larder | larder/bare | at most | met | nginx | squid |\n")
	b.WriteString("|---|---|--:|--:|--:|---|---|--:|--:|\n")
	for _, f := range t.figures {
		t.row(&b, f)
	}
	notes := slices.DeleteFunc(slices.Clone(t.figures), func(f figure) bool { return f.note == "" })
	if len(notes) > 0 {
		b.WriteString("\n")
	}
	for _, f := range notes {
		fmt.Fprintf(&b, "- %s: %s\n", f.name, f.note)
	}
	return b.String()
}

func (t *table) row(b *strings.Builder, f figure) {
	cell := func(server string) string {
		v, ok := f.values[server]
		if !ok {
			return "–"
		}
		return number(v)
	}
	ratio, met := "–", "–"
	larder, measured := f.values["larder"]
	if bare, ok := f.values["bare"]; ok && measured && bare > 0 {
		ratio = fmt.Sprintf("%.2f", larder/bare)
	}
	limit, text, bounded := f.limit()
	if !bounded {
		text = "–"
	} else if measured {
		met = "yes"
		if larder > limit {
			met = "**no**"
		}
	}
	fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n",
		f.name, f.unit, cell("bare"), cell("larder"), ratio, text, met, cell("nginx"), cell("squid"))
}

// number prints three significant digits.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// The marks between which a Markdown file holds the table.
const (
	beginMark = "<!-- bench: begin -->"
	endMark   = "<!-- bench: end -->"
)

// writeBetweenMarks puts text into file in place of what is between the marks.
func writeBetweenMarks(file, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(old, []byte(beginMark))
	_, after, ok2 := bytes.Cut(rest, []byte(endMark))
	if !ok || !ok2 {
		return fmt.Errorf("write the table: %s has no %s and %s", file, beginMark, endMark)
	}
	out := slices.Concat(before, []byte(beginMark+"\n"+text+endMark), after)
	return os.WriteFile(file, out, 0o644)
}
