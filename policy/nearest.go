package policy

import "fmt"

// didYouMean returns a hint naming the known word nearest to the given one, or
// "" when none is near enough to be what was meant.
func didYouMean(word string, known []string) string {
	if near := nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return ""
}

// nearest returns the known word with the smallest edit distance, if that is at
// most a third of the longer word (at least one edit is always forgiven).
func nearest(word string, known []string) string {
	// Longer than any word of ours by far: not worth a quadratic comparison.
	if len(word) > 64 {
		return ""
	}
	best, bestDistance := "", 0
	for _, k := range known {
		d := editDistance(word, k)
		if d > max(1, max(len(word), len(k))/3) {
			continue
		}
		if best == "" || d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// editDistance is the optimal string alignment distance: insertions, deletions,
// substitutions and swaps of neighbours count one each. Letter case is ignored.
func editDistance(a, b string) int {
	s, t := []rune(a), []rune(b)
	before, previous, current := make([]int, len(t)+1), make([]int, len(t)+1), make([]int, len(t)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(s); i++ {
		current[0] = i
		for j := 1; j <= len(t); j++ {
			cost := 1
			if lower(s[i-1]) == lower(t[j-1]) {
				cost = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, previous, current = previous, current, before
	}
	return previous[len(t)]
}

func lower(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}
