package admin

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Glob is a pattern for the URLs of stored responses, in the words of policy files:
//
//	**     any characters
//	*      any characters but a slash; in the host, any number of labels
//	{a,b}  a or b
//
// It matches a whole URL. Without a scheme it matches http and https; without a port,
// any port; without a path, all of the host; without a query, URLs with any query and
// with none. So "*" is everything, "*.example.org" a family of hosts,
// "files.example.org/a/**" a folder.
type Glob struct {
	text  string
	exp   *regexp.Regexp
	query bool // the pattern speaks of the query
}

// maxGlob bounds the pattern that a request may bring.
const maxGlob = 4096

// ParseGlob reads a pattern.
func ParseGlob(pattern string) (*Glob, error) {
	if pattern == "" {
		return nil, errors.New("the pattern is empty; ** matches everything")
	}
	if len(pattern) > maxGlob {
		return nil, fmt.Errorf("the pattern has %d characters, at most %d are allowed", len(pattern), maxGlob)
	}
	for i := range len(pattern) {
		if pattern[i] <= ' ' || pattern[i] > '~' {
			return nil, fmt.Errorf("pattern %q: character %d cannot be in a URL; write it percent-encoded", pattern, i+1)
		}
	}
	scheme, rest, found := strings.Cut(pattern, "://")
	if !found {
		scheme, rest = "{http,https}", pattern
	}
	slash := endOfHost(rest)
	host, path := strings.ToLower(rest[:slash]), rest[slash:]
	if path == "" && !strings.HasSuffix(host, "**") {
		path = "/**"
	}
	g := &Glob{text: pattern, query: strings.Contains(path, "?")}
	before, err := translate(strings.ToLower(scheme) + "://" + host)
	after, errAfter := translate(path)
	if err = errors.Join(err, errAfter); err == nil {
		port := ""
		if !namesPort(host) {
			port = `(?::[0-9]+)?`
		}
		g.exp, err = regexp.Compile("^(?s:" + before + port + after + ")$")
	}
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	return g, nil
}

// namesPort reports whether the host of a pattern says something of the port: there is a
// colon in it that is not inside of an IPv6 address.
func namesPort(host string) bool {
	return strings.Contains(host[strings.LastIndexByte(host, ']')+1:], ":")
}

// endOfHost finds the slash that ends the host, outside of braces.
func endOfHost(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			depth--
		case '/':
			if depth <= 0 {
				return i
			}
		}
	}
	return len(s)
}

// Match reports whether the pattern matches a URL.
func (g *Glob) Match(url string) bool {
	if !g.query {
		if i := strings.IndexByte(url, '?'); i >= 0 {
			url = url[:i]
		}
	}
	return g.exp.MatchString(url)
}

// String returns the pattern.
func (g *Glob) String() string { return g.text }

// translate turns the pattern into a regular expression, which RE2 matches in a time
// proportional to the URL's length whatever the pattern.
func translate(pattern string) (string, error) {
	var b strings.Builder
	depth := 0
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '*' && strings.HasPrefix(pattern[i:], "**"):
			b.WriteString(`.*`)
			i++
		case c == '*':
			b.WriteString(`[^/?]*`)
		case c == '{':
			depth++
			b.WriteString(`(?:`)
		case c == '}':
			if depth--; depth < 0 {
				return "", errors.New("a } without its {")
			}
			b.WriteString(`)`)
		case c == ',' && depth > 0:
			b.WriteString(`|`)
		default:
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		}
	}
	if depth > 0 {
		return "", errors.New("a { is not closed")
	}
	return b.String(), nil
}
