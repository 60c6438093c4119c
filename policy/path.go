package policy

import (
	"regexp"
	"strings"
)

// pathPattern matches the path of a target URI, percent-encoding as sent,
// without the query.
//
//	/releases/**    everything below /releases/, which includes /releases/ itself
//	/v*/x.tar.gz    * is any run of characters without a slash
//	/a/**/b         ** as a whole segment is any number of segments, also none
//	/x/{a,b}        /x/a or /x/b
//	^/v[0-9]+/      what begins with ^ is RE2, anchored there alone
type pathPattern struct {
	text  string
	re    *regexp.Regexp // nil for a glob
	tail  string         // what every match of re ends with: a cheap first test
	globs []pathGlob     // one for each alternative
	// deny is what takes their place in a deny rule; see compileDeny.
	deny []*regexp.Regexp
}

type pathGlob struct {
	segments []string
	tail     string // what every match ends with: a cheap first test
}

func parsePathPattern(text string) (pathPattern, *valueError) {
	p := pathPattern{text: text}
	if strings.HasPrefix(text, "^") {
		re, err := regexp.Compile(text)
		if err != nil {
			return p, badRegexp(text, err)
		}
		p.re, p.tail = re, literalTail(text)
		return p, nil
	}
	if !strings.HasPrefix(text, "/") {
		return p, badValue("a glob begins with /, a regular expression with ^/", "path pattern %q begins with neither / nor ^", text)
	}
	alternatives, err := expandBraces(text)
	if err != nil {
		return p, err
	}
	for _, a := range alternatives {
		segments := strings.Split(a[1:], "/")
		for _, segment := range segments {
			if err := checkSegment(text, segment); err != nil {
				return p, err
			}
		}
		// Behind its last * a pattern is literal.
		p.globs = append(p.globs, pathGlob{segments: segments, tail: a[strings.LastIndexByte(a, '*')+1:]})
	}
	return p, nil
}

func badRegexp(text string, err error) *valueError {
	reason := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
	hint := "the syntax is RE2, https://github.com/google/re2/wiki/Syntax"
	if strings.Contains(reason, "(?=") || strings.Contains(reason, "(?!") || strings.Contains(reason, "(?<") {
		hint = "RE2 has no look-around; write two rules, the narrower one first"
	}
	return badValue(hint, "path pattern %q is not a regular expression: %s", text, reason)
}

func checkSegment(pattern, segment string) *valueError {
	if strings.Contains(segment, "**") && segment != "**" {
		return badValue("write /**/ for any number of segments, * within one", "path pattern %q has a ** that is not a whole segment", pattern)
	}
	for _, r := range segment {
		switch {
		case r == '?':
			return badValue("only the path is matched, never the query; * stands for any run of characters", "path pattern %q has a ?", pattern)
		case r == '[' || r == ']':
			return badValue("globs know *, ** and {a,b}; for sets begin the pattern with ^ and write RE2", "path pattern %q has a %c", pattern, r)
		case r <= ' ' || r > '~' || r == '#':
			return badValue("paths are matched with their percent-encoding as sent, so write it encoded", "path pattern %q has a character that no path has as sent: %q", pattern, r)
		}
	}
	return nil
}

// literalTail returns a literal that every match of the expression ends with,
// as far as a glance at its end tells, or "". It only has to be right, not long:
// it spares most requests the run of the expression.
func literalTail(expression string) string {
	body, ok := strings.CutSuffix(expression, "$")
	// Any of these could make the end optional, an alternative, or change what
	// the letters mean.
	if !ok || strings.ContainsAny(body, "|") || strings.Contains(body, "(?") || strings.Contains(body, `\Q`) {
		return ""
	}
	start := len(body)
	for start > 0 {
		c := body[start-1]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '/' || c == '-' || c == '_' {
			start--
			continue
		}
		if c == '.' && start > 1 && body[start-2] == '\\' && (start < 3 || body[start-3] != '\\') {
			start -= 2
			continue
		}
		break
	}
	// Behind a backslash letters and digits are a class, an escape or a quote.
	if start > 0 && body[start-1] == '\\' {
		return ""
	}
	return strings.ReplaceAll(body[start:], `\.`, ".")
}

// match reports whether the path falls under the pattern.
func (p *pathPattern) match(path string) bool {
	if p.re != nil {
		return strings.HasSuffix(path, p.tail) && p.re.MatchString(path)
	}
	for i := range p.globs {
		if g := &p.globs[i]; strings.HasSuffix(path, g.tail) && matchSegments(g.segments, path) {
			return true
		}
	}
	return false
}

// matchSegments matches a path segment by segment. Only the last ** met is ever
// returned to: what an earlier one could still take, the later one takes too.
// So the cost is bounded by the path's length times the pattern's.
func matchSegments(pattern []string, path string) bool {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return false
	}
	more := true // whether a segment is left; rest may be "" and still be one
	next := func() string {
		segment, tail, found := strings.Cut(rest, "/")
		rest, more = tail, found
		return segment
	}
	i, back, backRest := 0, -1, ""
	for {
		switch {
		case i < len(pattern) && pattern[i] == "**":
			if i == len(pattern)-1 {
				return more
			}
			if !more {
				return false
			}
			i++
			back, backRest = i, rest
			continue
		case i == len(pattern) && !more:
			return true
		case i < len(pattern) && more && matchSegment(pattern[i], next()):
			i++
			continue
		}
		if back < 0 {
			return false
		}
		// Let the ** take one segment more.
		_, tail, found := strings.Cut(backRest, "/")
		if !found {
			return false
		}
		i, rest, more, backRest = back, tail, true, tail
	}
}

func matchSegment(pattern, segment string) bool {
	if pattern == "*" {
		return segment != ""
	}
	return matchLabel(pattern, segment)
}
