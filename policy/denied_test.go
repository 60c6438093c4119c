package policy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// denies compiles a pattern as that of a deny rule and asks it.
func denies(t testing.TB, pattern, path string) bool {
	t.Helper()
	p := mustPath(t, pattern)
	if err := p.compileDeny(); err != nil {
		t.Fatalf("compileDeny(%q) = %v", pattern, err)
	}
	r := &Rule{Action: Deny, Paths: []string{pattern}, paths: []pathPattern{p}}
	return r.mismatch(&request{path: path}) == matches
}

func TestDenyRuleMatchesWhatAnOriginMayRead(t *testing.T) {
	for _, tt := range []struct{ pattern, yes, no string }{
		{
			"/@evil/**",
			"/@evil/x /%40evil/x /%2540evil/x /%25252540evil/x /@evil%2fx /@evil%252Fx /%%34%30evil/x //@evil//x /a/../@evil/x /a/%2e%2e/@evil/x " +
				`/@evil\x /@evil%5cx /%2F%40evil/x /@evil/ /@evil/. /@evil/x/.. /@evil/.. /%40%65%76%69%6c%2f%78 /x/..%2f@evil/x`,
			"/@evil /@evils/x /@good/x /x/@evil/x /%40good/x /@evil",
		},
		{"/@a%2fb", "/@a%2fb /@a%2Fb /@a/b /%40a%2fb /@a%252fb /@a//b", "/@a /@ab /@a/b/c"},
		{"/%65vil", "/evil /%65vil /%45vil/../evil", "/Evil /evi"},
		{"/x*/y", "/xa/y /xa%2fb/y /xa%2fb%2fy /%78/y", "/xa/b/y /y"},
		{"/a/*", "/a/b /a/%62 /a%2fb%2fc", "/a/ /a/b/c /a"},
		{"/a/**/b", "/a/b /a//b /a/x/y/b /a%2fb /a/x%2fb", "/ab /a/x"},
		{"/caf%c3%a9", "/caf%C3%A9 /caf%25c3%a9 /c%61f%c3%a9", "/caf%e9"},
		{"/caf%e9", "/caf%E9 /%63af%25e9", "/caf%c3%a9"},
		{"^/@evil/", "/@evil/x /%40evil/x /%2540evil%2fx //@evil/x /a/../@evil/x", "/@good/x /x/@evil/"},
		{"^/%40evil%2f", "/@evil/x /%40evil%2Fx /%40evil%2fx", "/@good/x"},
		{"^/x[^/]*/y$", "/xa/y /xa%2fb/y /%78a%2fb/y", "/xa/b/y"},
		{"^/(?i)EVIL%2f", "/evil/x /e%76il%2fx", "/evil"},
		{"/no/**", "/a/..%2fyes /a%2f../yes /a%252f%252e%252e/b /a%5c..%5cb /%2f./b", "/a/../yes /a%2fb /a/%2e%2e/yes /a%2f..b"},
	} {
		for path := range strings.FieldsSeq(tt.yes) {
			if !denies(t, tt.pattern, path) {
				t.Errorf("%q does not deny %s", tt.pattern, path)
			}
		}
		for path := range strings.FieldsSeq(tt.no) {
			if denies(t, tt.pattern, path) {
				t.Errorf("%q denies %s", tt.pattern, path)
			}
		}
	}
}

// reencode writes a path in another way that some origin reads the same.
func reencode(path string, r *rand.Rand) string {
	var b strings.Builder
	for i := range len(path) {
		switch c := path[i]; r.IntN(5) {
		case 0:
			fmt.Fprintf(&b, "%%%02x", c)
		case 1:
			fmt.Fprintf(&b, "%%%02X", c)
		case 2:
			fmt.Fprintf(&b, "%%25%02x", c)
		case 3:
			fmt.Fprintf(&b, "%%%%%02x%c", "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// However a denied path is encoded anew, it stays denied.
func FuzzDenyReencoded(f *testing.F) {
	for _, pattern := range []string{"/@evil/**", "/x*/y", "/@a%2fb", "/a/**/b", "/*/x", "/{a,b}/*", "/%ff*", "/a/../b/*", "^/v[0-9]+/x", "^/%40a", "/a%2f*%2fb", "/%2*", "/**/../b"} {
		for _, path := range []string{"/@evil/x", "/xa%2fb/y", "/@a%2fb", "/a//b", "/v1/x", `/a\b`, "/%ffz", "/a/../b/c", "/x/../a/.", "//", "/a/%2fb", "*", ""} {
			f.Add(pattern, path, uint64(7))
		}
	}
	f.Fuzz(func(t *testing.T, pattern, path string, seed uint64) {
		if len(pattern) > 60 || len(path) > 100 {
			return
		}
		p, err := parsePathPattern(pattern)
		if err != nil {
			return
		}
		if err := p.compileDeny(); err != nil {
			t.Fatalf("compileDeny(%q) = %v", pattern, err)
		}
		r := &Rule{Action: Deny, Paths: []string{pattern}, paths: []pathPattern{p}}
		denied := r.mismatch(&request{path: path}) == matches
		plain := !strings.ContainsAny(path+pattern, `%\`) && !strings.ContainsRune(path, 0)
		if plain && p.match(path) && !denied {
			t.Errorf("%q matches %q and does not deny it", pattern, path)
		}
		if p.re != nil && !plain {
			return // an expression may speak of the encoding itself
		}
		again := reencode(path, rand.New(rand.NewPCG(seed, 0)))
		if denied && r.mismatch(&request{path: again}) != matches {
			t.Errorf("%q denies %q and not %q", pattern, path, again)
		}
	})
}

func TestHostileEncodingIsCheapToDecode(t *testing.T) {
	start := time.Now()
	for _, path := range []string{
		"/%" + strings.Repeat("25", 50_000) + "41", strings.Repeat("/%2e%2e%2f", 10_000), strings.Repeat("%", 100_000) + strings.Repeat("25", 50_000),
		strings.Repeat("/a", 50_000) + strings.Repeat("/..", 30_000),
	} {
		denies(t, "/**/evil/**/x*y/**", path)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}
