package cache

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// hopByHop are the fields for one connection only: RFC 9110, section 7.6.1, with the
// proxy's own (11.7; RFC 9111, section 3.1) and those that RFC 2616 listed.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization", "Http2-Settings":
		return true
	}
	return false
}

// endToEnd returns a copy of h without what belongs to one connection, including the
// fields that Connection names. Repeated fields keep their lines.
func endToEnd(h http.Header) http.Header {
	named := connectionOptions(h)
	out := make(http.Header, len(h))
	for name, values := range h {
		if values == nil || hopByHop(name) || named[name] {
			continue
		}
		// Clipped, since copies of the header share the lines.
		out[name] = slices.Clip(slices.Clone(values))
	}
	return out
}

func connectionOptions(h http.Header) map[string]bool {
	var named map[string]bool
	for _, v := range h["Connection"] {
		for option := range strings.SplitSeq(v, ",") {
			if option = textproto.TrimString(option); option != "" {
				if named == nil {
					named = map[string]bool{}
				}
				named[http.CanonicalHeaderKey(option)] = true
			}
		}
	}
	return named
}

// setHeader writes the fields of from into a response header. Where from has no
// Date or Content-Type, net/http is kept from making them up.
func setHeader(to, from http.Header) {
	for name, values := range from {
		to[name] = values
	}
	for _, name := range []string{"Date", "Content-Type"} {
		if _, ok := to[name]; !ok {
			to[name] = nil
		}
	}
}

// firstMember returns the first member of a comma-separated list.
func firstMember(s string) string {
	first, _, _ := strings.Cut(s, ",")
	return strings.TrimSpace(first)
}
