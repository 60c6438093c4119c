package admin

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

// checkHost refuses requests that name another host than ours. A web page whose
// name is made to resolve to this address would otherwise be same-origin with us
// (DNS rebinding). An address cannot be rebound, so every address is let in.
func checkHost(ours map[string]bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !hostAllowed(r.Host, ours) {
			// RFC 9110, Section 15.5.20: this server does not answer for that host.
			http.Error(w, "larder's admin listener is not known by this name;\n"+
				"use its address, localhost or the machine's host name\n", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func allowedHosts(extra []string) map[string]bool {
	ours := map[string]bool{"localhost": true}
	if name, err := os.Hostname(); err == nil {
		ours[canonical(name)] = true
	}
	for _, name := range extra {
		ours[canonical(name)] = true
	}
	return ours
}

// hostAllowed judges a Host field value: host or host:port (RFC 9110, Section
// 7.2). HTTP/1.0 clients, some health checkers among them, send none; browsers
// always do.
func hostAllowed(field string, ours map[string]bool) bool {
	if field == "" {
		return true
	}
	host := field
	if h, _, err := net.SplitHostPort(field); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return ours[canonical(host)]
}

func canonical(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// withHeaders keeps browsers from doing anything with the answers but show them.
func withHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
