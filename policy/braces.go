package policy

import "strings"

// maxAlternatives bounds what one pattern with braces may stand for.
const maxAlternatives = 1000

// expandBraces returns the alternatives that a pattern with braces stands for:
// "a{b,c{d,}}" is "ab", "acd", "ac". Braces nest; there is no escape, since
// neither a host name nor a path in a URI can hold a brace.
func expandBraces(pattern string) ([]string, *valueError) {
	if !strings.ContainsAny(pattern, "{}") {
		return []string{pattern}, nil
	}
	b := braceParser{pattern: pattern}
	alternatives, err := b.sequence(0)
	if err != nil {
		return nil, err
	}
	if b.pos < len(pattern) {
		return nil, badValue("", "pattern %q has a } without a {", pattern)
	}
	return alternatives, nil
}

type braceParser struct {
	pattern string
	pos     int
}

// sequence reads literals and groups up to the end, or at depth > 0 up to the
// comma or brace that ends this alternative.
func (b *braceParser) sequence(depth int) ([]string, *valueError) {
	if depth > 8 {
		return nil, badValue("", "pattern %q nests braces deeper than 8", b.pattern)
	}
	prefixes := []string{""}
	for b.pos < len(b.pattern) {
		c := b.pattern[b.pos]
		if c == '}' || c == ',' && depth > 0 {
			return prefixes, nil
		}
		if c != '{' {
			end := b.literalEnd(depth)
			for i := range prefixes {
				prefixes[i] += b.pattern[b.pos:end]
			}
			b.pos = end
			continue
		}
		group, err := b.group(depth)
		if err != nil {
			return nil, err
		}
		if len(prefixes)*len(group) > maxAlternatives {
			return nil, badValue("split the pattern", "pattern %q stands for more than %d alternatives", b.pattern, maxAlternatives)
		}
		product := make([]string, 0, len(prefixes)*len(group))
		for _, p := range prefixes {
			for _, g := range group {
				product = append(product, p+g)
			}
		}
		prefixes = product
	}
	return prefixes, nil
}

func (b *braceParser) literalEnd(depth int) int {
	stop := "{}"
	if depth > 0 {
		stop = "{},"
	}
	if n := strings.IndexAny(b.pattern[b.pos:], stop); n >= 0 {
		return b.pos + n
	}
	return len(b.pattern)
}

// group reads "{a,b}" with pos at the opening brace.
func (b *braceParser) group(depth int) ([]string, *valueError) {
	b.pos++
	var alternatives []string
	for {
		one, err := b.sequence(depth + 1)
		if err != nil {
			return nil, err
		}
		if alternatives = append(alternatives, one...); len(alternatives) > maxAlternatives {
			return nil, badValue("split the pattern", "pattern %q stands for more than %d alternatives", b.pattern, maxAlternatives)
		}
		if b.pos == len(b.pattern) {
			return nil, badValue("", "pattern %q has a { without a }", b.pattern)
		}
		end := b.pattern[b.pos] == '}'
		b.pos++
		if !end {
			continue
		}
		if len(alternatives) == 1 && alternatives[0] == "" {
			return nil, badValue("write {a,b}", "pattern %q has empty braces", b.pattern)
		}
		return alternatives, nil
	}
}
