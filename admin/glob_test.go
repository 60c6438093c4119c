package admin

import (
	"strings"
	"testing"
)

func TestGlob(t *testing.T) {
	for _, tc := range []struct {
		pattern  string
		yes, not []string
	}{
		{"*", []string{"https://a.test/", "http://b.a.test:8080/x/y?z=/"}, nil},
		{"**", []string{"https://a.test/", "http://b.a.test/x/y?z"}, nil},
		{"a.test", []string{"https://a.test/", "https://a.test/x?y", "http://a.test/x/y", "https://a.test:444/"}, []string{"https://b.a.test/", "https://a.test.evil/", "https://a.test:evil/"}},
		{"127.0.0.1/**", []string{"http://127.0.0.1:8080/x", "http://127.0.0.1/x"}, []string{"http://127.0.0.1.evil:8080/x", "http://127.0.0.10:80/"}},
		{"a.test:444", []string{"https://a.test:444/x"}, []string{"https://a.test/x", "https://a.test:4444/x", "https://a.test:445/x"}},
		{"a.test:{444,445}/x", []string{"https://a.test:445/x"}, []string{"https://a.test/x"}},
		{"[::1]/**", []string{"http://[::1]:8080/x", "http://[::1]/x"}, []string{"http://[::2]/x"}},
		{"[::1]:80", []string{"http://[::1]:80/x"}, []string{"http://[::1]:8080/x", "http://[::1]/x"}},
		{"A.Test", []string{"https://a.test/"}, nil},
		{"*.a.test", []string{"https://b.a.test/", "https://c.b.a.test/x"}, []string{"https://a.test/", "https://ba.test/"}},
		{"https://a.test", []string{"https://a.test/x"}, []string{"http://a.test/x"}},
		{"a.test/x/*", []string{"https://a.test/x/y", "https://a.test/x/?q", "https://a.test/x/y?q=1/2"}, []string{"https://a.test/x/y/z", "https://a.test/x"}},
		{"a.test/x/**", []string{"https://a.test/x/y/z", "https://a.test/x/"}, []string{"https://a.test/y/x/"}},
		{"a.test/**/left-pad/*", []string{"https://a.test/q/left-pad/1"}, []string{"https://a.test/left-pad/1"}},
		{"{a,b.c}.test/{x,y/*}", []string{"https://a.test/x", "http://b.c.test/y/1"}, []string{"https://a.test/y", "https://c.test/x"}},
		{"a.test/x?v=*", []string{"https://a.test/x?v=1"}, []string{"https://a.test/x", "https://a.test/x?w=1"}},
		{"a.test/x?**", []string{"https://a.test/x?v=1/2?3"}, []string{"https://a.test/x"}},
		{"a.test/x+(y)[z].$", []string{"https://a.test/x+(y)[z].$"}, []string{"https://a.test/xx(y)z."}},
		{"{http,ftp}://a.test", []string{"http://a.test/"}, []string{"https://a.test/"}},
		{"a.test/x,y", []string{"https://a.test/x,y"}, nil},
	} {
		g, err := ParseGlob(tc.pattern)
		if err != nil {
			t.Errorf("%q: %v", tc.pattern, err)
			continue
		}
		for _, u := range tc.yes {
			if !g.Match(u) {
				t.Errorf("%q does not match %s", tc.pattern, u)
			}
		}
		for _, u := range tc.not {
			if g.Match(u) {
				t.Errorf("%q matches %s", tc.pattern, u)
			}
		}
	}
	for pattern, want := range map[string]string{
		"":                        "is empty",
		"a.test/{x":               "not closed",
		"a.test/x}":               "without its",
		"a b":                     "percent-encoded",
		"a.test/ü":                "percent-encoded",
		strings.Repeat("x", 5000): "at most 4096",
	} {
		if _, err := ParseGlob(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want an error with %q", pattern, err, want)
		}
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("*.a.test/{x,y}/**?z", "https://b.a.test/x/1?z")
	f.Add("a.test/{{a,b},c}", "https://a.test/b")
	f.Fuzz(func(t *testing.T, pattern, url string) {
		g, err := ParseGlob(pattern)
		if err != nil {
			return
		}
		g.Match(url)
		// A pattern without wildcards is a URL, and matches itself.
		if u, ok := strings.CutPrefix(pattern, "https://"); ok && !strings.ContainsAny(u, "*{}?") && strings.Contains(u, "/") && strings.ToLower(u) == u && !g.Match(pattern) {
			t.Errorf("%q does not match itself", pattern)
		}
	})
}
