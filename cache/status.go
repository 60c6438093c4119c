package cache

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
)

// cacheName is what larder calls itself in Cache-Status.
const cacheName = "larder"

// cacheStatus is larder's member of a Cache-Status field (RFC 9211, section 2).
type cacheStatus struct {
	hit       bool
	fwd       string // why the request went forward; "" with hit
	fwdStatus int    // only where it differs from the status sent
	ttl       *time.Duration
	stored    bool
	collapsed bool
	key       string // secondary key, where the response chose it
	detail    string
}

// String returns the member as sent.
func (s cacheStatus) String() string {
	switch s { // what artifacts get nearly always
	case cacheStatus{hit: true}:
		return cacheName + "; hit"
	case cacheStatus{hit: true, detail: "immutable"}:
		return cacheName + "; hit; detail=immutable"
	}
	item := httpsfv.NewItem(httpsfv.Token(cacheName))
	if s.hit {
		item.Params.Add("hit", true)
	}
	if s.fwd != "" {
		item.Params.Add("fwd", httpsfv.Token(s.fwd))
	}
	if s.fwdStatus != 0 {
		item.Params.Add("fwd-status", int64(s.fwdStatus))
	}
	if s.ttl != nil {
		item.Params.Add("ttl", int64(*s.ttl/time.Second))
	}
	if s.stored {
		item.Params.Add("stored", true)
	}
	if s.collapsed {
		item.Params.Add("collapsed", true)
	}
	if s.key != "" {
		item.Params.Add("key", s.key)
	}
	if s.detail != "" {
		item.Params.Add("detail", httpsfv.Token(s.detail))
	}
	// All names and tokens are constants of this package and keyText lets only
	// printable strings through, so that marshalling cannot fail.
	text, _ := httpsfv.Marshal(httpsfv.List{item})
	return spaced(text)
}

// spaced puts a space after each semicolon that separates, as RFC 9211 prints its
// examples.
func spaced(s string) string {
	out := make([]byte, 0, len(s)+8)
	quoted := false
	for i := range len(s) {
		out = append(out, s[i])
		switch {
		case s[i] == '"' && s[i-1] != '\\':
			quoted = !quoted
		case s[i] == ';' && !quoted:
			out = append(out, ' ')
		}
	}
	return string(out)
}

// maxKeyText bounds what Cache-Status shows of a key.
const maxKeyText = 256

// keyText shows the secondary key of a response for Cache-Status (RFC 9211, section
// 2.8): the request fields that select it, normalised, and without the value of one
// that may hold a credential. It is "" without any, under
// rules that choose the fields themselves, and for what no string can hold.
func keyText(rule *Rule, request, response http.Header) string {
	if rule.Mode != HTTP {
		return ""
	}
	var parts []string
	for _, name := range keyFields(rule, request, response) {
		if !mayBeShown(name) {
			parts = append(parts, name)
			continue
		}
		value, _ := strings.CutPrefix(fieldSource(request).normal(name), "=")
		parts = append(parts, name+": "+value)
	}
	text := strings.Join(parts, "; ")
	// A backslash would be escaped, which spaced does not look for twice.
	if len(text) > maxKeyText || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' || c == '\\' }) {
		return ""
	}
	return text
}

// appended returns lines with larder's member after those of caches nearer to the
// origin. The lines may be shared and are not written to.
func appended(lines []string, member string) []string {
	return append(slices.Clip(lines), member)
}
