package cache

import (
	"net/http"
	"net/url"
	"testing"
)

func TestPrimaryKey(t *testing.T) {
	drop := []string{"X-Amz-*", "token"}
	tests := []struct {
		name, a, b string
		same       bool
	}{
		{"scheme and host are case-insensitive", "https://EXAMPLE.org/a", "HTTPS://example.org/a", true},
		{"a trailing dot names the same host", "https://example.org./a", "https://example.org/a", true},
		{"the default port may be left out", "https://example.org:443/a", "https://example.org/a", true},
		{"ports differ", "https://example.org:8443/a", "https://example.org/a", false},
		{"schemes differ", "http://example.org/a", "https://example.org/a", false},
		{"the empty path is /", "https://example.org", "https://example.org/", true},
		{"escapes are case-insensitive", "https://e.org/@s%2fn", "https://e.org/@s%2Fn", true},
		{"an escaped slash separates nothing", "https://e.org/@s%2fn", "https://e.org/@s/n", false},
		{"an escaped plus is not a plus", "https://e.org/g%2b%2b", "https://e.org/g++", false},
		{"unreserved characters need no escape", "https://e.org/%7Ea%2Db", "https://e.org/~a-b", true},
		{"case of the path matters", "https://e.org/A", "https://e.org/a", false},
		{"empty segments are kept", "https://e.org/a//b", "https://e.org/a/b", false},
		{"dot segments are kept", "https://e.org/a/../b", "https://e.org/b", false},
		{"an empty query is one", "https://e.org/a?", "https://e.org/a", false},
		{"the order of parameters matters", "https://e.org/a?x&y", "https://e.org/a?y&x", false},
		{"a question mark in the path is escaped", "https://e.org/a%3Fb", "https://e.org/a?b", false},
		{"dropped parameters do not matter", "https://e.org/a?X-Amz-Date=1&v=2&token=3", "https://e.org/a?v=2", true},
		{"nothing left is no query", "https://e.org/a?token=3", "https://e.org/a", true},
		{"a dropped name may be escaped", "https://e.org/a?%74oken=3", "https://e.org/a", true},
		{"a longer name is not dropped", "https://e.org/a?tokens=3", "https://e.org/a", false},
		{"nothing moves from host to path", "https://e.orgx/y", "https://e.org/xy", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, b := primaryKey(mustURL(t, test.a), drop), primaryKey(mustURL(t, test.b), drop)
			if (a == b) != test.same {
				t.Errorf("same key: %v, want %v", a == b, test.same)
			}
		})
	}
}

// plain decodes every escape, as an origin does at most.
func plain(s string) string {
	u, err := url.PathUnescape(s)
	if err != nil {
		return s
	}
	return u
}

func FuzzNormalEscapes(f *testing.F) {
	for _, s := range []string{"/a%2fb", "%", "%%%41", "%4%31", "%25%34%31", "%zz%7e", "/%E4%f6"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := normalEscapes(s)
		if again := normalEscapes(n); again != n {
			t.Errorf("%q → %q → %q", s, n, again)
		}
		if _, err := url.PathUnescape(s); err == nil && plain(n) != plain(s) {
			t.Errorf("%q means %q, %q means %q", s, plain(s), n, plain(n))
		}
		if _, err := url.PathUnescape(s); err != nil {
			// Whatever is malformed stays so.
			if _, err := url.PathUnescape(n); err == nil {
				t.Errorf("malformed %q became %q", s, n)
			}
		}
	})
}

// FuzzKeysAreInjective: sequences of strings that differ give different bytes to hash.
func FuzzKeysAreInjective(f *testing.F) {
	f.Add("a", "b", "ab", "")
	f.Add("", "\x01a", "\x01", "a")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		var x, y keyBuilder
		x.add(a)
		x.add(b)
		y.add(c)
		y.add(d)
		if same := a == c && b == d; (string(x.buf) == string(y.buf)) != same {
			t.Errorf("%q %q and %q %q", a, b, c, d)
		}
		var z keyBuilder
		z.add(c)
		if string(x.buf) == string(z.buf) {
			t.Errorf("%q %q and %q", a, b, c)
		}
	})
}

func TestNormalisedFields(t *testing.T) {
	tests := []struct {
		name, field string
		a, b        []string
		same        bool
	}{
		{"gem and go accept gzip", "Accept-Encoding", []string{"gzip;q=1.0,deflate;q=0.6,identity;q=0.3"}, []string{"gzip"}, true},
		{"order does not matter", "Accept-Encoding", []string{"br, gzip"}, []string{"gzip", "br"}, true},
		{"none, identity and deflate alone are one class", "Accept-Encoding", nil, []string{"identity"}, true},
		{"deflate", "Accept-Encoding", []string{"deflate"}, []string{"identity"}, true},
		{"q=0 excludes", "Accept-Encoding", []string{"gzip;q=0, br"}, []string{"br"}, true},
		{"q=0.000 too", "Accept-Encoding", []string{"gzip; q=0.000"}, nil, true},
		{"q=0.1 does not", "Accept-Encoding", []string{"gzip;q=0.1"}, []string{"gzip"}, true},
		{"zstd differs from gzip", "Accept-Encoding", []string{"zstd,gzip"}, []string{"gzip"}, false},
		{"Accept may be absent or anything", "Accept", []string{"*/*"}, nil, true},
		{"skopeo sends six lines", "Accept", []string{"a/b", "c/d"}, []string{"a/b,c/d"}, true},
		{"weights matter", "Accept", []string{"a/b;q=0.1"}, []string{"a/b"}, false},
		{"absent is not empty", "X-Y", nil, []string{""}, false},
		{"case matters", "X-Y", []string{"A"}, []string{"a"}, false},
		{"quoted commas are no separators", "X-Y", []string{`"a,b"`}, []string{`"a, b"`}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, b := http.Header{}, http.Header{}
			if test.a != nil {
				a[test.field] = test.a
			}
			if test.b != nil {
				b[test.field] = test.b
			}
			if got := sameFields(fieldSet([]string{test.field}), a, b); got != test.same {
				t.Errorf("same: %v, want %v", got, test.same)
			}
		})
	}
}

func TestKeyFields(t *testing.T) {
	gzip := http.Header{"Accept-Encoding": {"gzip"}}
	identity := http.Header{"Accept-Encoding": {"identity"}}
	tests := []struct {
		name     string
		rule     *Rule
		sent     http.Header
		response http.Header
		want     string
	}{
		{"nothing varies", immutable, gzip, http.Header{}, ""},
		{"4.1: what Vary names", immutable, gzip, http.Header{"Vary": {"X-B, Accept", "x-a"}}, "accept x-a x-b"},
		{"what the rule requires", &Rule{Mode: Immutable, Vary: []string{"Accept"}}, gzip, http.Header{}, "accept"},
		{"indexes negotiate", &Rule{Mode: Revalidate}, gzip, http.Header{}, "accept"},
		{"a coding although Vary is missing", immutable, gzip, http.Header{"Content-Encoding": {"gzip"}}, "accept-encoding"},
		{"an artifact without coding suits all", immutable, identity, http.Header{"Vary": {"Accept-Encoding"}}, ""},
		{"an index without coding, none offered", &Rule{Mode: Revalidate}, identity, http.Header{"Vary": {"Accept-Encoding"}}, "accept accept-encoding"},
		{"an index without coding, though offered", &Rule{Mode: Revalidate}, gzip, http.Header{"Vary": {"Accept-Encoding"}}, "accept"},
		{"HTTP alone", &Rule{Mode: HTTP}, gzip, http.Header{"Vary": {"Accept-Encoding"}}, "accept-encoding"},
		{"ranges and preconditions are answered here", immutable, gzip, http.Header{"Vary": {"Range, If-None-Match, Connection"}}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := keyFields(test.rule, test.sent, test.response)
			if s := joined(got); s != test.want {
				t.Errorf("got %q, want %q", s, test.want)
			}
		})
	}
}
