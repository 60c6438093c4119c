package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Position is a place in a policy file.
type Position struct {
	File   string // as given to Load or Parse; "presets/NAME.yaml" for an embedded preset
	Line   int    // from 1; 0: the file as a whole
	Column int    // in characters, from 1
}

// String returns file:line:column, or the file alone when there is no line.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column)
}

// Problem is one thing wrong in a policy file.
type Problem struct {
	Position
	Context string // the part of the file, as `rule "pypi"`; "" at the top level
	Message string // what was found there and why it will not do
	Hint    string // what would do; may be empty
	Source  string // the line of the file, "" when the position is outside of it
}

// Error returns the problem as text of several lines: position, context and
// message; the source line with a caret; the hint.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Position.String())
	b.WriteString(": ")
	if p.Context != "" {
		b.WriteString(p.Context)
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	if strings.TrimSpace(p.Source) != "" {
		number := strconv.Itoa(p.Line)
		source, column := excerpt(p.Source, p.Column)
		fmt.Fprintf(&b, "\n  %s | %s", number, source)
		fmt.Fprintf(&b, "\n  %s | %s^", strings.Repeat(" ", len(number)), caretIndent(source, column))
	}
	if p.Hint != "" {
		b.WriteString("\n  hint: ")
		b.WriteString(p.Hint)
	}
	return b.String()
}

// excerpt cuts a line that is too long to be read, as in a file written by a
// program, down to what is around the column.
func excerpt(line string, column int) (string, int) {
	const before, width = 60, 120
	runes := []rune(line)
	if len(runes) <= width {
		return line, column
	}
	start := max(0, min(column-1-before, len(runes)-width))
	return string(runes[start : start+width]), column - start
}

// caretIndent returns what goes before the caret: tabs of the line stay tabs,
// so that the caret lands below its character at any tab width.
func caretIndent(line string, column int) string {
	var b strings.Builder
	for _, r := range line {
		if column--; column < 1 {
			break
		}
		if r == '\t' {
			b.WriteByte('\t')
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// Errors holds everything that is wrong in one policy file, in file order.
type Errors struct {
	Problems []Problem // never empty
}

// Error returns the texts of all problems, one below the other.
func (e *Errors) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.Error()
	}
	return strings.Join(texts, "\n")
}

func sortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// valueError is a value that will not do, with the hint that belongs to it.
type valueError struct{ message, hint string }

func (e *valueError) Error() string {
	if e.hint == "" {
		return e.message
	}
	return e.message + " (" + e.hint + ")"
}

func badValue(hint, format string, args ...any) *valueError {
	return &valueError{message: fmt.Sprintf(format, args...), hint: hint}
}
