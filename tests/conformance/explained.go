package main

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed explained.txt
var explainedText string

// explanations say why tests fail: paragraphs of explained.txt by test.
type explanations map[string]string

// readExplanations reads explained.txt: paragraphs of text, each followed by the
// tests that it explains on lines that begin with "- "; # begins a comment.
func readExplanations() (explanations, error) {
	all := make(explanations)
	var why []string
	ids := false
	for number, line := range strings.Split(explainedText, "\n") {
		line = strings.TrimSpace(line)
		id, isID := strings.CutPrefix(line, "- ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case isID && len(why) == 0:
			return nil, fmt.Errorf("explained.txt:%d: %s has no explanation before it", number+1, id)
		case isID:
			if _, twice := all[id]; twice {
				return nil, fmt.Errorf("explained.txt:%d: %s is explained twice", number+1, id)
			}
			all[id], ids = strings.Join(why, " "), true
		case ids:
			why, ids = []string{line}, false
		default:
			why = append(why, line)
		}
	}
	return all, nil
}
