package policy

import (
	"errors"
	"strings"
	"testing"
)

func TestProblemText(t *testing.T) {
	long := strings.Repeat("x", 500) + "HERE" + strings.Repeat("y", 500)
	for _, tt := range []struct {
		name    string
		problem Problem
		want    string
	}{
		{"a file as a whole", Problem{Position: Position{File: "f"}, Message: "file is empty"}, "f: file is empty"},
		{"no source", Problem{Position: Position{"f", 3, 4}, Message: "m", Hint: "h"}, "f:3:4: m\n  hint: h"},
		{"tabs stay tabs", Problem{Position: Position{"f", 1, 3}, Context: "c", Message: "m", Source: "\tab"}, "f:1:3: c: m\n  1 | \tab\n    | \t ^"},
		{"characters, not bytes", Problem{Position: Position{"f", 12, 4}, Message: "m", Source: "üüüx"}, "f:12:4: m\n  12 | üüüx\n     |    ^"},
		{
			"a long line is cut",
			Problem{Position: Position{"f", 1, 501}, Message: "m", Source: long},
			"f:1:501: m\n  1 | " + strings.Repeat("x", 60) + "HERE" + strings.Repeat("y", 56) + "\n    | " + strings.Repeat(" ", 60) + "^",
		},
		{
			"a long line is cut at its end",
			Problem{Position: Position{"f", 1, 1004}, Message: "m", Source: long},
			"f:1:1004: m\n  1 | " + strings.Repeat("y", 120) + "\n    | " + strings.Repeat(" ", 119) + "^",
		},
	} {
		if got := tt.problem.Error(); got != tt.want {
			t.Errorf("%s:\n%s\nwant:\n%s", tt.name, got, tt.want)
		}
	}
}

func TestCarriageReturnsAreNotShown(t *testing.T) {
	_, err := Parse("f.yaml", []byte("listen: \":3128\"\r\nlisen: 1\r\n"))
	problems, ok := errors.AsType[*Errors](err)
	if !ok || len(problems.Problems) != 1 || problems.Problems[0].Line != 2 || problems.Problems[0].Source != "lisen: 1" {
		t.Errorf("Parse = %+v", err)
	}
}

func TestFileTooLarge(t *testing.T) {
	_, err := Parse("f.yaml", make([]byte, maxFile+1))
	if err == nil || !strings.Contains(err.Error(), "f.yaml: file is larger than 8 MiB") {
		t.Errorf("Parse = %v", err)
	}
}

func TestActionWords(t *testing.T) {
	for a := Deny; a <= HTTP; a++ {
		if back, ok := parseAction(a.String()); !ok || back != a {
			t.Errorf("parseAction(%q) = %v, %v", a, back, ok)
		}
	}
	if _, ok := parseAction(""); ok {
		t.Error("an empty word is an action")
	}
	if got := Action(0).String() + Action(99).String(); got != "Action(0)Action(99)" {
		t.Errorf("String = %s", got)
	}
}
