package policy

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

func mustPath(t testing.TB, s string) pathPattern {
	t.Helper()
	p, err := parsePathPattern(s)
	if err != nil {
		t.Fatalf("parsePathPattern(%q) = %v", s, err)
	}
	return p
}

func TestPathPatternMatch(t *testing.T) {
	for _, tt := range []struct{ pattern, yes, no string }{
		{"/", "/", "/a //"},
		{"/a", "/a", "/ /a/ /A /a/b /aa"},
		{"/a/", "/a/", "/a /a/b"},
		{"/releases/**", "/releases/ /releases/a /releases/a/b/ /releases//x", "/releases /releasesx/a /x/releases/a"},
		{"/**", "/ /a /a/b //", ""},
		{"/a/**/b", "/a/b /a/x/b /a/x/y/b /a//b /a/b/b", "/a/bb /ab /a/x /a/b/c"},
		{"/**/b", "/b /x/b /x/y/b", "/bx /b/ /xb"},
		{"/**/a/**/b", "/a/b /x/a/y/b /a/a/b /a/x/a/b", "/b/a /a /x/b"},
		{"/**/@v/*", "/m/@v/list /a/b/@v/v1.info /@v/x", "/m/@v/ /m/@v /m/@v/a/b"},
		{"/*", "/a /%2f", "/ /a/b"},
		{"/v*/x", "/v/x /v1.2/x", "/v1/y /x/v1/x /v1/2/x"},
		{"/*-SNAPSHOT/**", "/1-SNAPSHOT/a /-SNAPSHOT/", "/1-SNAPSHOT /1-SNAPSHOTS/a"},
		{"/{a,b}/x{,.sig}", "/a/x /b/x.sig", "/c/x /a/x.asc"},
		{"/{a/b,c}/d", "/a/b/d /c/d", "/a/d"},
		{"/a%2fb", "/a%2fb", "/a/b /a%2Fb"},
		{"/@*/*", "/@scope/name", "/@scope%2fname /@scope/"},
		{"^/v[0-9]+/", "/v1/ /v12/x", "/v/ /x/v1/"},
		{`^/x/.*\.tgz$`, "/x/a.tgz /x/.tgz", "/x/a.tgzx /x/atgz /y/a.tgz"},
		{`^/(a|b)$`, "/a /b", "/c"},
	} {
		p := mustPath(t, tt.pattern)
		for path := range strings.FieldsSeq(tt.yes) {
			if !p.match(path) {
				t.Errorf("%q does not match %s", tt.pattern, path)
			}
		}
		for path := range strings.FieldsSeq(tt.no) {
			if p.match(path) {
				t.Errorf("%q matches %s", tt.pattern, path)
			}
		}
	}
}

// globRegexp writes a glob as the regular expression that it stands for: slow,
// and plain enough to be held against.
func globRegexp(segments []string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`(?s)^`)
	for i, s := range segments {
		last := i == len(segments)-1
		switch {
		case s == "**" && last:
			b.WriteString(`/.*`)
		case s == "**":
			b.WriteString(`(/[^/]*)*`)
		case s == "*":
			b.WriteString(`/[^/]+`)
		default:
			b.WriteString("/" + strings.ReplaceAll(regexp.QuoteMeta(s), `\*`, `[^/]*`))
		}
	}
	b.WriteString(`$`)
	return regexp.MustCompile(b.String())
}

func FuzzPathGlob(f *testing.F) {
	for _, g := range []string{"/a/**/b", "/**/a/**/b*", "/releases/**", "/*/x", "/{a,b}/**/c", "/**", "/*a*b*/"} {
		for _, p := range []string{"/a/b", "/a/x/a/b", "/", "//", "/releases/", "/b/b/c", "/xaxbx/"} {
			f.Add(g, p)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, path string) {
		if len(pattern) > 100 || len(path) > 200 || !strings.HasPrefix(pattern, "/") {
			return
		}
		p, err := parsePathPattern(pattern)
		if err != nil {
			return
		}
		want := false
		for _, g := range p.globs {
			want = want || globRegexp(g.segments).MatchString(path)
		}
		if got := p.match(path); got != want {
			t.Errorf("%q matches %q: %v, its regular expression: %v", pattern, path, got, want)
		}
	})
}

// The literal tail is a shortcut and must never change the outcome.
func FuzzLiteralTail(f *testing.F) {
	for _, e := range []string{`^/a.*\.tgz$`, `^/x\x41b$`, `^/\Qa$`, `^/a*b$`, `^/(a|b)c$`, `^/[abc]$`, `^/a\\.b$`, `^/a{2}b$`, `^/a\d$`, `^/a\$`, `^/\pLb$`} {
		for _, p := range []string{"/a.tgz", "/xAb", "/a$", "/ac", "/\\d", "/b"} {
			f.Add(e, p)
		}
	}
	f.Fuzz(func(t *testing.T, expression, path string) {
		if len(expression) > 100 || !strings.HasPrefix(expression, "^") {
			return
		}
		p, err := parsePathPattern(expression)
		if err != nil {
			return
		}
		if want := regexp.MustCompile(expression).MatchString(path); p.match(path) != want {
			t.Errorf("%q (tail %q) on %q: %v, regexp alone: %v", expression, p.tail, path, !want, want)
		}
	})
}

func TestHostileLongPathIsCheapToMatch(t *testing.T) {
	long := strings.Repeat("/aaaa", 20_000) + strings.Repeat("a", 100_000)
	patterns := []string{"/**/a*a*a*b/**/c", "/**/a/**/a/**/a/**/b", "/**/*a*a*b"}
	start := time.Now()
	for _, s := range patterns {
		if p := mustPath(t, s); p.match(long) {
			t.Errorf("%q matches", s)
		}
	}
	// Quadratic behaviour takes minutes; the bound is for a loaded machine.
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestDotSegments(t *testing.T) {
	for path, want := range map[string]bool{
		"/a/b": false, "/": false, "/a/.b": false, "/a/...": false, "/a/b..": false, "/.well-known/x": false, "/a.b/c": false,
		"/a/../b": true, "/..": true, "/a/.": true, "/a/./b": true, "/a/%2e%2E/b": true, "/a/.%2e": true,
		"/a%2f..%2fb": true, `/a\..\b`: true, "/a/..%5cb": true, "/%2e": true, "/a/%2e%2e%2e/b": false,
	} {
		if got := hasDotSegments(path); got != want {
			t.Errorf("hasDotSegments(%q) = %v", path, got)
		}
	}
}
