package policy

import (
	"slices"
	"strings"
	"testing"
)

func TestHostPatternMatch(t *testing.T) {
	for _, tt := range []struct{ pattern, yes, no string }{
		{"files.corp.test", "files.corp.test FILES.Corp.Test files.corp.test.", "x.files.corp.test corp.test xfiles.corp.test"},
		{"*.corp.test", "a.corp.test a.b.corp.test", "corp.test xcorp.test a.corp.test.evil.test 10.0.0.1"},
		{".corp.test", "corp.test a.corp.test a.b.corp.test", "xcorp.test test"},
		{"art*.corp.test", "art.corp.test artifacts.corp.test", "a.art.corp.test part.corp.test art.x.corp.test"},
		{"*art.corp.test", "art.corp.test smart.corp.test", "a.art.corp.test"},
		{"a*b*c.corp.test", "abc.corp.test aXbYc.corp.test abbc.corp.test", "ab.corp.test acb.corp.test"},
		{"ftp.*.corp.test", "ftp.de.corp.test", "ftp.corp.test ftp.a.b.corp.test x.ftp.de.corp.test"},
		{"*.s3*.corp.test", "a.s3.corp.test a.b.s3-eu.corp.test", "s3.corp.test a.x.corp.test"},
		{".s3*.corp.test", "s3.corp.test a.s3-eu.corp.test", "corp.test a.x.corp.test"},
		{"art{ifacts,}.corp.test", "artifacts.corp.test art.corp.test", "artifact.corp.test"},
		{"{a,b{c,d*}}.corp.{test,example}", "a.corp.test bc.corp.example bdz.corp.test", "b.corp.test a.corp.org"},
		{"{*.,}corp.test", "corp.test a.corp.test", "xcorp.test"},
		{"*", "anything.test localhost 10.0.0.1 ::1 [::1]", ""},
		{"registry.*", "registry.test", "registry.corp.test registry"},
		{"10.0.0.0/8", "10.1.2.3 [::ffff:10.1.2.3] ::ffff:10.1.2.3", "11.0.0.1 10.1.2.3.corp.test"},
		{"{10.0.0.0/8,fd00::/8}", "10.1.2.3 [fd00::1] fd12::5", "fe80::1"},
		{"192.0.2.1", "192.0.2.1", "192.0.2.2"},
		{"::1", "::1 [::1] 0:0:0:0:0:0:0:1", "::2"},
		{"[::1]", "::1", "::2"},
		{"bücher.test", "xn--bcher-kva.test bücher.test BÜCHER.test", "bucher.test"},
		{"xn--bcher-kva.test", "bücher.test", "bucher.test"},
		{"*.bücher.test", "a.xn--bcher-kva.test", "xn--bcher-kva.test"},
		{"_sip.corp.test", "_sip.corp.test", "sip.corp.test"},
		{"localhost", "localhost LOCALHOST", "localhost.test"},
	} {
		p, err := ParseHostPattern(tt.pattern)
		if err != nil {
			t.Errorf("ParseHostPattern(%q) = %v", tt.pattern, err)
			continue
		}
		for host := range strings.FieldsSeq(tt.yes) {
			if !p.Match(host) {
				t.Errorf("%q does not match %s", tt.pattern, host)
			}
		}
		for host := range strings.FieldsSeq(tt.no) {
			if p.Match(host) {
				t.Errorf("%q matches %s", tt.pattern, host)
			}
		}
		if p.Match("") && tt.pattern != "" {
			t.Errorf("%q matches an empty host", tt.pattern)
		}
	}
}

func TestHostPatternErrorsAreErrors(t *testing.T) {
	for _, pattern := range []string{
		"", "a..b", "{a", "a}", "{}", "a b", "a_\x00", "**", "**.corp.test", ".", "..", "*.", "10.*", "1.2.3", "10.0.0.0/99",
		strings.Repeat("a", 64) + ".test", strings.Repeat("abcdefg.", 40) + "test", "[::1", "::1%lo", "xn--\u00fc*.test",
		strings.Repeat("{a,b}", 12) + ".test", strings.Repeat("{", 20) + strings.Repeat("}", 20),
	} {
		if p, err := ParseHostPattern(pattern); err == nil {
			t.Errorf("ParseHostPattern(%q) = %+v, want an error", pattern, p.globs)
		} else if !strings.HasPrefix(err.Error(), "parse host pattern: ") {
			t.Errorf("ParseHostPattern(%q) = %q", pattern, err)
		}
	}
}

func TestExpandBraces(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		want    []string
	}{
		{"plain", []string{"plain"}},
		{"a,b", []string{"a,b"}},
		{"{a,b}", []string{"a", "b"}},
		{"x{a,b}y{c,d}z", []string{"xaycz", "xaydz", "xbycz", "xbydz"}},
		{"{a,{b,c}d}", []string{"a", "bd", "cd"}},
		{"{a,}", []string{"a", ""}},
		{"{,a}", []string{"", "a"}},
		{"{a}", []string{"a"}},
	} {
		got, err := expandBraces(tt.pattern)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("expandBraces(%q) = %q, %v, want %q", tt.pattern, got, err, tt.want)
		}
	}
}

// A glob that is said to cover another must match whatever the other matches.
func TestCoversIsSound(t *testing.T) {
	patterns := []string{
		"a.test", "b.a.test", "*.a.test", ".a.test", "x*.a.test", "*.x*.a.test", ".x*.a.test", "x.*.a.test", "*", "*.test", ".test", "x*", "c.b.a.test",
	}
	hosts := []string{
		"test", "a.test", "b.a.test", "x.a.test", "xy.a.test", "c.b.a.test", "x.b.a.test", "c.x.a.test", "b.test", "x", "xa.test", "d.c.b.a.test",
	}
	covered := 0
	for _, wide := range patterns {
		for _, narrow := range patterns {
			w, n := mustPattern(t, wide), mustPattern(t, narrow)
			if !w.globs[0].covers(&n.globs[0]) {
				continue
			}
			covered++
			for _, h := range hosts {
				if n.Match(h) && !w.Match(h) {
					t.Errorf("%q covers %q but does not match %s", wide, narrow, h)
				}
			}
		}
	}
	if covered <= len(patterns) {
		t.Errorf("only %d pairs covered: nothing but the patterns themselves", covered)
	}
}

func mustPattern(t testing.TB, s string) *HostPattern {
	t.Helper()
	p, err := ParseHostPattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func FuzzHostPattern(f *testing.F) {
	for _, s := range []string{"*.corp.test", ".corp.test", "{a,b{c,*}}.x", "10.0.0.0/8", "::1", "bücher.test", "a*b*c.d", "*", "ftp.*.x", "[::1]", "{,}", "xn--bcher-kva.test"} {
		f.Add(s, "a.corp.test")
		f.Add(s, "10.1.2.3")
	}
	f.Fuzz(func(t *testing.T, pattern, host string) {
		if len(pattern) > 400 || len(host) > 400 {
			return
		}
		p, err := ParseHostPattern(pattern)
		if err != nil {
			return
		}
		matched := p.Match(host)
		// The index must agree with the pattern, whatever it was cut into.
		x := newIndex([]*Rule{{hosts: []*HostPattern{p}}})
		if got := x.first(normalizeHost(host), func(*Rule) bool { return true }) != nil; got != matched {
			t.Errorf("index finds %q under %q: %v, pattern matches: %v", host, pattern, got, matched)
		}
		// Case and a trailing dot mean nothing.
		if isASCII(host) && host != "" && !strings.HasSuffix(host, ".") && !maybeIP(host) && p.Match(strings.ToUpper(host)+".") != matched {
			t.Errorf("%q under %q depends on case or a trailing dot", host, pattern)
		}
		if matched && p.boundless() {
			return
		}
		// What matches lies below a suffix that Interceptable would name.
		if h := normalizeHost(host); matched && !h.isIP && !slices.ContainsFunc(p.globs, func(g hostGlob) bool {
			return h.name == g.suffix || strings.HasSuffix(h.name, "."+g.suffix)
		}) {
			t.Errorf("%q under %q lies below none of its suffixes", host, pattern)
		}
	})
}
