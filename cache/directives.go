package cache

import (
	"math"
	"net/http"
	"strings"
	"time"
)

// directives is a parsed Cache-Control field: argument by lower-case name. RFC 9111,
// section 5.2: unknown directives are ignored, which here means kept and not asked for.
type directives map[string]string

// parseCacheControl reads the field's lines as one list. It accepts what RFC 9111,
// section 5.2, lets a sender write and more, and never fails: a cache has to make
// something of every origin's spelling. Of a directive given twice the first counts
// for durations where it is the smaller, since being less fresh is safe (4.2.1).
func parseCacheControl(values []string) directives {
	if len(values) == 0 {
		return nil
	}
	d := directives{}
	for _, v := range values {
		for v != "" {
			var name, arg string
			name, arg, v = nextDirective(v)
			if name == "" {
				continue
			}
			if old, twice := d[name]; twice {
				arg = stricter(old, arg)
			}
			d[name] = arg
		}
	}
	return d
}

// nextDirective cuts the first member off a list: name, argument without quotes,
// and the rest after its comma.
func nextDirective(s string) (name, arg, rest string) {
	i := strings.IndexAny(s, ",=")
	if i < 0 {
		return strings.ToLower(strings.TrimSpace(s)), "", ""
	}
	name = strings.ToLower(strings.TrimSpace(s[:i]))
	if s[i] == ',' {
		return name, "", s[i+1:]
	}
	s = strings.TrimLeft(s[i+1:], " \t")
	if !strings.HasPrefix(s, `"`) {
		arg, rest, _ = strings.Cut(s, ",")
		return name, strings.TrimSpace(arg), rest
	}
	var b strings.Builder
	for i = 1; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	_, rest, _ = strings.Cut(s[min(i, len(s)):], ",")
	return name, b.String(), rest
}

// stricter picks between two arguments of one directive: the smaller duration, and
// no argument at all (which is unqualified, so covers all) before any list of fields.
func stricter(a, b string) string {
	x, okA := parseSeconds(a)
	y, okB := parseSeconds(b)
	switch {
	case okA && okB && y < x:
		return b
	case okA && okB:
		return a
	case a == "" || b == "":
		return ""
	}
	return a + "," + b
}

func (d directives) has(name string) bool {
	_, ok := d[name]
	return ok
}

// unqualified reports whether the directive is there and without a list of fields.
func (d directives) unqualified(name string) bool {
	arg, ok := d[name]
	return ok && strings.Trim(arg, " ,") == ""
}

// fields returns the field names of a qualified directive such as private="Set-Cookie".
func (d directives) fields(name string) []string {
	if arg := d[name]; arg != "" {
		return fieldSet(strings.Split(arg, ","))
	}
	return nil
}

// seconds returns the directive's argument as a duration. A directive that is there
// with an argument that cannot be read counts as 0: RFC 9111, section 4.2.1,
// encourages to consider such responses stale.
func (d directives) seconds(name string) (time.Duration, bool) {
	arg, ok := d[name]
	if !ok {
		return 0, false
	}
	n, _ := parseSeconds(arg)
	return n, true
}

// parseSeconds reads delta-seconds (RFC 9111, section 1.2.2). What is too large
// becomes 2^31 seconds.
func parseSeconds(s string) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = min(n*10+int64(s[i]-'0'), math.MaxInt32+1)
	}
	return time.Duration(n) * time.Second, true
}

// requestDirectives returns what a request asks of caches. RFC 9111, section 5.4:
// Pragma: no-cache counts only where there is no Cache-Control.
func requestDirectives(header http.Header) directives {
	if cc := header["Cache-Control"]; len(cc) > 0 {
		return parseCacheControl(cc)
	}
	if len(header["Pragma"]) > 0 && parseCacheControl(header["Pragma"]).has("no-cache") {
		return directives{"no-cache": ""}
	}
	return nil
}
