package warm

import (
	"slices"
	"strings"
)

// list reads a list of URLs: one per line, after it perhaps a digest; a line that
// begins with # is a comment.
func list(name, text string) Plan {
	var plan Plan
	seen := make(map[string]bool)
	number := 0
	for line := range strings.Lines(text) {
		number++
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if i := slices.Index(words, "#"); i > 0 {
			words = words[:i]
		}
		it, err := target(words[0])
		if err == nil && len(words) > 1 {
			it.Digest, err = ParseDigest(words[1])
		}
		if err != nil {
			plan.note(name, number, true, "%v", err)
			continue
		}
		if len(words) > 2 {
			plan.note(name, number, true, "%q after the digest: a line is URL, or URL and digest", words[2])
			continue
		}
		plan.add(seen, it)
	}
	return plan
}
