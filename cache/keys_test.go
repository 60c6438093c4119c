package cache

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"larder/cache/store"
)

func TestPrimaryKey(t *testing.T) {
	drop := &Rule{DropQuery: []string{"X-Amz-*", "token"}}
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

// target is what a stored response is for, as plain values.
type target struct {
	scheme, host, port, path, query string
	hasQuery                        bool
	variant                         [2]string // of the fields x-a and x-b; with a 0 before it: absent
}

// url returns the target as a URL, false where there is no such one.
func (g *target) url() (*url.URL, bool) {
	host := g.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if g.port != "" {
		host += ":" + g.port
	}
	raw := g.scheme + "://" + host + "/" + g.path
	if g.hasQuery {
		raw += "?" + g.query
	}
	u, err := url.Parse(raw)
	// Characters that end a part make another target of it, for which there are others.
	if err != nil || u.User != nil || u.Fragment != "" || strings.Contains(raw, "#") || u.Hostname() == "" ||
		strings.ContainsAny(g.path, "?") || u.Host != host {
		return nil, false
	}
	return u, true
}

func (g *target) header() http.Header {
	h := http.Header{}
	for i, name := range []string{"X-A", "X-B"} {
		if value, absent := strings.CutPrefix(g.variant[i], "\x00"); !absent {
			h[name] = []string{value}
		}
	}
	return h
}

// canonical is the target in a form in which two are equal only if they mean the same,
// worked out in another way than by the code under test.
func (g *target) canonical() []string {
	port := g.port
	switch scheme := strings.ToLower(g.scheme); {
	case port != "":
	case scheme == "http":
		port = "80"
	case scheme == "https":
		port = "443"
	}
	query := "none"
	if g.hasQuery {
		query = "?" + tokens(g.query)
	}
	form := []string{strings.ToLower(g.scheme), strings.TrimSuffix(strings.ToLower(g.host), "."), port, tokens(g.path), query}
	for _, v := range g.variant {
		if strings.HasPrefix(v, "\x00") {
			form = append(form, "absent")
		} else {
			form = append(form, "="+normalList([]string{v}))
		}
	}
	return form
}

// tokens spells every octet of a path or query out: as itself, or as an escape where that
// means something else. So no two of different meaning are the same.
func tokens(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if n, err := strconv.ParseUint(s[min(i+1, len(s)):min(i+3, len(s))], 16, 8); s[i] == '%' && err == nil && i+2 < len(s) && s[i+1] != '+' && s[i+1] != '-' {
			if c := byte(n); isUnreserved(c) {
				fmt.Fprintf(&b, "octet %d,", c)
			} else {
				fmt.Fprintf(&b, "escape %d,", c)
			}
			i += 2
			continue
		}
		fmt.Fprintf(&b, "octet %d,", s[i])
	}
	return b.String()
}

// FuzzKeysAreInjective: two requests have one key if and only if scheme, host, port, path,
// query and the fields that select the response are the same.
func FuzzKeysAreInjective(f *testing.F) {
	f.Add("https", "a.test", "", "x", "", false, "1", "\x00", "HTTPS", "A.test.", "443", "%78", "", false, "1", "\x00")
	f.Add("https", "a.test", "8443", "x/y", "q=1", true, "1", "2", "https", "a.test", "8443", "x%2Fy", "q=1", true, "1", "2")
	f.Add("https", "a.test", "", "x", "", true, "", "", "https", "a.test", "", "x", "", false, "\x00", "")
	f.Add("http", "a.test", "443", "", "", false, "12", "", "https", "a.test", "", "", "", false, "1", "2")
	f.Add("http", "::1", "80", "%2541", "%7e", true, "a,b", "", "http", "::1", "", "%41", "~", true, "a, b", "")
	f.Add("https", "a.test4", "43", "", "", false, "", "", "https", "a.test", "443", "", "", false, "", "")
	f.Add("https", "a.test", "", "", "", false, "1x-b=2", "\x00", "https", "a.test", "", "", "", false, "1", "2x-b")
	f.Add("https", "a.testb", "", "c", "", false, "", "", "https", "a.test", "", "bc", "", false, "", "")
	f.Fuzz(func(t *testing.T, scheme1, host1, port1, path1, query1 string, has1 bool, a1, b1, scheme2, host2, port2, path2, query2 string, has2 bool, a2, b2 string) {
		one := target{scheme1, host1, port1, path1, query1, has1, [2]string{a1, b1}}
		two := target{scheme2, host2, port2, path2, query2, has2, [2]string{a2, b2}}
		u1, ok1 := one.url()
		u2, ok2 := two.url()
		if !ok1 || !ok2 {
			return
		}
		set := []string{"x-a", "x-b"}
		key := func(g *target, u *url.URL) store.Key {
			return variantKey(primaryKey(u, &Rule{}), [8]byte{1}, set, fieldSource(g.header()))
		}
		want := slices.Equal(one.canonical(), two.canonical())
		if got := key(&one, u1) == key(&two, u2); got != want {
			t.Errorf("%s with %q and %s with %q: one key %v, want %v", u1, one.variant, u2, two.variant, got, want)
		}
		if slices.Equal(one.canonical()[:5], two.canonical()[:5]) != (primaryKey(u1, &Rule{}) == primaryKey(u2, &Rule{})) {
			t.Errorf("%s and %s: the primary keys say otherwise", u1, u2)
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
