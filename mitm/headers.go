package mitm

import (
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// removeHopByHop deletes the fields that end at this hop (RFC 9110, Section
// 7.6.1): those that Connection names and those known to be so. net/http's
// transport deletes the Connection field of a response that also says close,
// and what else it named stays; nothing here can know it.
func removeHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = textproto.TrimString(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range []string{
		"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate",
		"Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	} {
		delete(h, name)
	}
}

// endsHere reports whether a header holds nothing that forwardHeader would take
// away or change but the request to keep the connection, which a cache, which
// ends a connection itself, may see.
func endsHere(h http.Header) bool {
	for name, values := range h {
		switch name {
		case "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
			"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length":
			return false
		case "Connection":
			if len(values) != 1 || !strings.EqualFold(values[0], "keep-alive") {
				return false
			}
		}
	}
	return true
}

// forwardHeader is the header that goes upstream: a copy without the fields of
// this hop, except that trailers and a protocol switch are asked for again.
func forwardHeader(r *http.Request, upgrade string) http.Header {
	h := r.Header.Clone()
	removeHopByHop(h)
	if httpguts.HeaderValuesContainsToken(r.Header["Te"], "trailers") {
		h["Te"] = []string{"trailers"} // gRPC servers insist
	}
	if upgrade != "" {
		h["Connection"] = []string{"Upgrade"}
		h["Upgrade"] = []string{upgrade}
	}
	// net/http leaves the length out of a GET without body, and adds one to a
	// POST; the former is mended by a name that it does not recognise.
	if r.ContentLength == 0 && len(r.Header["Content-Length"]) > 0 && r.ProtoMajor == 1 {
		switch r.Method {
		case http.MethodPost, http.MethodPut, http.MethodPatch:
		default:
			h["content-length"] = []string{"0"}
		}
	}
	return h
}

// upgradeOf returns the protocol that a request asks to switch to, "" if none.
// HTTP/2 has no Upgrade (RFC 9113, Section 8.2.2), and a switch to h2c, which
// RFC 9113 dropped, would carry later requests past the policy.
func upgradeOf(proto int, h http.Header) string {
	if proto != 1 || !httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade") {
		return ""
	}
	p := h.Get("Upgrade")
	for token := range strings.SplitSeq(p, ",") {
		if name, _, _ := strings.Cut(textproto.TrimString(token), "/"); strings.EqualFold(name, "h2c") {
			return ""
		}
	}
	return p
}

// copyHeader hands an origin's response header to the client's writer so that
// net/http neither adds to it nor takes from it.
func copyHeader(to, from http.Header, status int) {
	for name, values := range from {
		to[name] = values
	}
	// nil keeps net/http from filling them in.
	for _, name := range []string{"Date", "Content-Type"} {
		if _, ok := to[name]; !ok {
			to[name] = nil
		}
	}
	if status == http.StatusNotModified {
		// RFC 9110, Section 15.4.5 allows both in a 304; net/http deletes them
		// unless their names are spelt in a way it does not look for.
		for _, name := range []string{"Content-Type", "Content-Length"} {
			if v := to[name]; len(v) > 0 {
				delete(to, name)
				to[strings.ToLower(name)] = v
			}
		}
	}
}
