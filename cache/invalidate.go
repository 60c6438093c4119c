package cache

import (
	"net/http"
	"net/url"
	"strings"
)

// Invalidated returns the URIs whose stored responses a response makes unusable (RFC
// 9111, section 4.4): after one that is no error to a method not known to be safe,
// the target URI, and what Location and Content-Location name at the same origin. A
// URI elsewhere is left alone, or anybody could empty the cache of everybody else's.
func Invalidated(method string, target *url.URL, status int, header http.Header) []*url.URL {
	if safe(method) || status < 200 || status >= 400 {
		return nil
	}
	all := []*url.URL{target}
	for _, name := range []string{"Location", "Content-Location"} {
		ref, err := target.Parse(header.Get(name))
		if err != nil || header.Get(name) == "" {
			continue
		}
		// Fragments are no part of a URI that is fetched.
		ref.Fragment, ref.RawFragment = "", ""
		if sameOrigin(ref, target) && ref.String() != target.String() {
			all = append(all, ref)
		}
	}
	return all
}

// safe lists the safe methods of the IANA HTTP method registry. A method that is not
// known counts as unsafe (RFC 9111, section 4.4).
func safe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace,
		"PRI", "PROPFIND", "REPORT", "SEARCH", "QUERY":
		return true
	}
	return false
}

func sameOrigin(a, b *url.URL) bool {
	port := func(u *url.URL) string {
		if p := u.Port(); p != "" {
			return p
		}
		return defaultPort(strings.ToLower(u.Scheme))
	}
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}
