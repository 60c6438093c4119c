package policy

import (
	"regexp"
	"regexp/syntax"
	"strings"
)

// What a glob has besides bytes, in its form of one rune for each.
const (
	anyRun      rune = 0x100 + iota // *
	anySegments                     // ** as a segment
)

// compileDeny makes the pattern fit for a deny rule, which matches what origins
// may read instead of what was sent.
func (p *pathPattern) compileDeny() *valueError {
	if p.re != nil {
		decoded, err := decodeExpression(p.text)
		if err != nil {
			return badRegexp(p.text, err)
		}
		p.deny = []*regexp.Regexp{p.re}
		if decoded.String() != p.re.String() {
			p.deny = append(p.deny, decoded)
		}
		return nil
	}
	var alternatives []string
	for i := range p.globs {
		tokens := p.globs[i].tokens()
		plain := joinSegments(removeDots(splitSegments(tokens)))
		alternatives = appendNew(alternatives, denyExpression(tokens))
		alternatives = appendNew(alternatives, denyExpression(plain))
	}
	re, err := regexp.Compile(`(?s)\A(?:` + strings.Join(alternatives, "|") + `)\z`)
	if err != nil {
		return badRegexp(p.text, err)
	}
	p.deny = []*regexp.Regexp{re}
	return nil
}

// denies reports whether the pattern of a deny rule matches any reading.
func (p *pathPattern) denies(r *readings) bool {
	readings := r.runes
	if p.re != nil {
		readings = r.texts
	}
	for _, re := range p.deny {
		for _, reading := range readings {
			if re.MatchString(reading) {
				return true
			}
		}
	}
	return false
}

// tokens returns the glob decoded, its wildcards apart from its bytes.
func (g *pathGlob) tokens() []rune {
	var out []rune
	for _, segment := range g.segments {
		out = append(out, '/')
		if segment == "**" {
			out = append(out, anySegments)
			continue
		}
		for i, literal := range strings.Split(segment, "*") {
			if i > 0 {
				out = append(out, anyRun)
			}
			out = append(out, decodeFully(literal)...)
		}
	}
	return out
}

// denyExpression writes a glob as a regular expression on readings: a slash of
// the pattern is also a maybeSlash of the path, which * may run across besides.
func denyExpression(tokens []rune) string {
	const slash = `[/\x00]`
	at := func(i int) rune {
		if i < 0 || i >= len(tokens) {
			return '/'
		}
		return tokens[i]
	}
	var b strings.Builder
	for i, c := range tokens {
		switch {
		case c == anySegments: // with the slash before it
		case isSlash(c) && at(i+1) == anySegments && i+2 < len(tokens):
			b.WriteString(`(?:` + slash + `.*)?`)
		case isSlash(c) && at(i+1) == anySegments:
			b.WriteString(slash + `.*`)
		case isSlash(c):
			b.WriteString(slash)
		case c == anyRun && isSlash(at(i-1)) && isSlash(at(i+1)):
			b.WriteString(`[^/]+`)
		case c == anyRun:
			b.WriteString(`[^/]*`)
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	return b.String()
}

// decodeExpression decodes the percent-encoding in the literal parts of a regular
// expression, so that one written for the path as sent matches the decoded path.
func decodeExpression(expression string) (*regexp.Regexp, error) {
	tree, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, err
	}
	decodeLiterals(tree)
	return regexp.Compile(tree.String())
}

func decodeLiterals(tree *syntax.Regexp) {
	for _, sub := range tree.Sub {
		decodeLiterals(sub)
	}
	if tree.Op != syntax.OpLiteral || !strings.Contains(string(tree.Rune), "%") {
		return
	}
	if decoded, ok := bytesOf(decodeFully(string(tree.Rune))); ok {
		tree.Rune = []rune(decoded)
	}
}
