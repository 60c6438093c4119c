package cache

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// addConditions makes req conditional on the stored response (RFC 9111, section
// 4.3.1) and reports whether it had any validator to do so with.
func addConditions(req *http.Request, m *record) bool {
	if m.etag != "" {
		req.Header["If-None-Match"] = []string{m.etag}
	}
	if m.lastModified != "" {
		req.Header["If-Modified-Since"] = []string{m.lastModified}
	}
	return m.etag != "" || m.lastModified != ""
}

// selects reports whether a 304 to our own conditions speaks of the stored response
// (RFC 9111, section 4.3.4). By the letter a strong validator must be the stored
// one's, a weak one must correspond to it, and a 304 without any is about a response
// that has none. The last is too much: origins leave out what RFC 9110, section
// 15.4.5, asks them to repeat, and their 304 says that what we sent matched.
func selects(m *record, notModified http.Header, mode Mode) bool {
	etag := notModified.Get("Etag")
	if mode != HTTP {
		// Where a rule vouches for the origin, a server that compresses on the way and
		// so weakens its tag in the 200 alone (nginx) is let through.
		return etag == "" || isWeak(etag) || weakEqual(etag, m.etag) || weakEqual(etag, m.header.Get("Etag"))
	}
	switch modified := notModified.Get("Last-Modified"); {
	case etag != "" && !isWeak(etag):
		return strongEqual(etag, m.etag)
	case etag != "":
		return weakEqual(etag, m.etag)
	case modified != "" && m.lastModified != "":
		return modified == m.lastModified
	}
	return true
}

// freshened is the record after a validation that found the stored response to be
// the current one: RFC 9111, section 3.2, with the fields of the new response but
// what describes the stored bytes. Vary stays as well, since the keys depend on it
// (and npm's 304 has a narrower one than its 200).
func freshened(m *record, h http.Header, rule *Rule, requested, received time.Time) *record {
	n := *m
	n.requested, n.received, n.date = requested, received, time.Time{}
	n.header = make(http.Header, len(m.header))
	for name, values := range m.header {
		n.header[name] = values
	}
	// Age speaks of the response that carried it.
	delete(n.header, "Age")
	for name, values := range storedHeader(h, rule, received) {
		if !describesStored(name) && (rule.Mode == HTTP || !describesContent(name)) {
			n.header[name] = values
		}
	}
	if rule.Mode == HTTP && !sharesCookies(parseCacheControl(n.header["Cache-Control"]), n.header) {
		delete(n.header, "Set-Cookie")
	}
	if v := h.Get("Last-Modified"); v != "" {
		n.lastModified = v
	}
	return &n
}

// revalidated is the record after upstream sent the stored bytes once more in a 200.
// The validators that clients know stay; upstream's new ones are kept beside them.
func revalidated(m *record, h http.Header, rule *Rule, requested, received time.Time) *record {
	n := freshened(m, h, rule, requested, received)
	for _, name := range []string{"Last-Modified", "Etag"} {
		if old, ok := m.header[name]; ok {
			n.header[name] = old
		} else {
			delete(n.header, name)
		}
	}
	n.etag, n.lastModified = h.Get("Etag"), h.Get("Last-Modified")
	return n
}

// describesStored lists the fields that a validation never changes, because the
// stored bytes or the keys depend on them.
func describesStored(name string) bool {
	switch name {
	case "Content-Encoding", "Content-Length", "Content-Md5", "Content-Range", "Content-Digest",
		"Repr-Digest", "Digest", "Etag", "Vary":
		return true
	}
	return false
}

// describesContent lists fields that RFC 9111, section 3.2, would update and that the
// rules for artifacts do not: frameworks add their default type to a 304.
func describesContent(name string) bool { return name == "Content-Type" || name == "Accept-Ranges" }

// notModified evaluates the client's own preconditions against a response (RFC 9111,
// section 4.3.2; RFC 9110, section 13.2.2): true means that the client gets a 304.
func notModified(req, response http.Header, status int, received time.Time) bool {
	// RFC 9110, section 13.2.1: preconditions are for what would be a success.
	if status < 200 || status >= 300 {
		return false
	}
	if tags := req["If-None-Match"]; len(tags) > 0 {
		return matchesTag(tags, response.Get("Etag"))
	}
	since := req["If-Modified-Since"]
	if len(since) != 1 {
		return false
	}
	limit, ok := parseDate(since[0], received)
	if !ok {
		return false
	}
	// 4.3.2: without Last-Modified its Date counts, or when it was received.
	for _, name := range []string{"Last-Modified", "Date"} {
		if t, ok := parseDate(response.Get(name), received); ok {
			return !t.After(limit)
		}
	}
	return !received.Truncate(time.Second).After(limit)
}

// matchesTag reports whether a list of entity tags holds tag by weak comparison, or
// is "*" (RFC 9110, section 13.1.2).
func matchesTag(lists []string, tag string) bool {
	for _, list := range lists {
		for list != "" {
			var one string
			one, list = nextTag(list)
			if one == "*" || one != "" && tag != "" && weakEqual(one, tag) {
				return true
			}
		}
	}
	return false
}

// nextTag cuts the first entity tag off a list. Tags without quotes, which some
// origins send, are taken as they are.
func nextTag(s string) (tag, rest string) {
	s = strings.TrimLeft(s, " \t,")
	open := 0
	if strings.HasPrefix(s, "W/") {
		open = 2
	}
	if len(s) > open && s[open] == '"' {
		if end := strings.IndexByte(s[open+1:], '"'); end >= 0 {
			return s[:open+end+2], s[open+end+2:]
		}
	}
	tag, rest, _ = strings.Cut(s, ",")
	return strings.TrimSpace(tag), rest
}

func isWeak(tag string) bool { return strings.HasPrefix(tag, "W/") }

// weakEqual and strongEqual are RFC 9110, section 8.8.3.2.
func weakEqual(a, b string) bool {
	return strings.TrimPrefix(a, "W/") == strings.TrimPrefix(b, "W/")
}

func strongEqual(a, b string) bool { return a != "" && a == b && !isWeak(a) }

// strongDate returns Last-Modified where it is a strong validator: at least a second
// before Date (RFC 9110, section 8.8.2.2).
func strongDate(response http.Header) (string, bool) {
	lm := response.Get("Last-Modified")
	// Two digits of a year prove nothing, so the century does not matter.
	modified, ok1 := parseDate(lm, time.Time{})
	date, ok2 := parseDate(response.Get("Date"), time.Time{})
	return lm, ok1 && ok2 && date.Sub(modified) >= time.Second
}

// notModifiedHeader is the header of a 304 to a client: RFC 9110, section 15.4.5,
// asks for the validators, Date, Vary and what is needed to update a stored copy.
func notModifiedHeader(h http.Header) http.Header {
	out := make(http.Header, len(h))
	for name, values := range h {
		if !slices.Contains([]string{
			"Content-Length", "Content-Encoding", "Content-Type", "Content-Language",
			"Content-Range", "Content-Md5", "Content-Digest", "Repr-Digest", "Digest", "Accept-Ranges",
		}, name) {
			out[name] = values
		}
	}
	return out
}

// failsForNow lists the answers that say nothing about the resource but that
// upstream cannot give it now: RFC 5861, section 4, and 429.
func failsForNow(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}
