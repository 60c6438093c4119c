package cache

import (
	"bytes"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"

	"larder/cache/integrity"
)

// storable decides whether the response to sent, a GET as it went upstream, may be
// stored (RFC 9111, section 3). If not, why is a short reason for Cache-Status.
func storable(rule *Rule, sent *http.Request, resp *http.Response) (ok bool, why string) {
	if rule.byContent() {
		switch {
		case resp.StatusCode != http.StatusOK:
			return false, "status" // it says something of that URL, and not of the content
		case !isIdentity(resp.Header):
			return false, "recoded"
		}
	}
	cc := parseCacheControl(resp.Header["Cache-Control"])
	if !cacheableStatus(rule, resp.StatusCode, cc) {
		return false, "status"
	}
	if why := forbidden(rule, sent, resp, cc); why != "" {
		return false, why
	}
	if rule.Mode == HTTP && len(resp.Header["Set-Cookie"]) > 0 &&
		!slices.Contains(cc.fields("private"), "set-cookie") && !sharesCookies(cc, resp.Header) {
		return false, "set-cookie"
	}
	if why := unstorableBody(rule, resp); why != "" {
		return false, why
	}
	if sent.URL != nil {
		if _, ok := redirectEnd(sent.URL.String(), resp.StatusCode, resp.Header); !ok {
			return false, "signed" // nobody knows until when
		}
	}
	if rule.MaxObject > 0 && resp.ContentLength > rule.MaxObject {
		return false, "too-large"
	}
	if rule.Mode == HTTP && !useful(resp, cc) {
		return false, "no-freshness"
	}
	return true, ""
}

// cacheableStatus: under a rule that gives the lifetime only a 200, and 404 and 410
// where it says so; otherwise any final status, known or with explicit freshness,
// except 206 and 304, which are no whole responses.
func cacheableStatus(rule *Rule, status int, cc directives) bool {
	switch {
	case status == http.StatusOK:
		return true
	case status < 200 || status == http.StatusPartialContent || status == http.StatusNotModified:
		return false
	case absent(status) && rule.checked():
		return false // many say that there is nothing where they mean: not for you
	case absent(status):
		if rule.Mode != HTTP || rule.NegativeTTL > 0 {
			return rule.NegativeTTL > 0
		}
	}
	if rule.Mode != HTTP {
		return false
	}
	return !cc.has("must-understand") || understood(status)
}

// understood lists the status codes whose caching requirements larder knows and
// follows (RFC 9111, section 3): the final ones of RFC 9110, section 15, without 206
// and 304, which are never stored by themselves.
func understood(status int) bool {
	switch {
	case status == http.StatusPartialContent || status == http.StatusNotModified:
		return false
	case status >= 200 && status <= 205, status >= 300 && status <= 305, status == 307, status == 308,
		status >= 400 && status <= 417, status == 421, status == 422, status == 426, status >= 500 && status <= 505:
		return true
	}
	return false
}

// forbidden names what in request or response keeps a shared cache from storing. No
// rule prevails over any of it.
func forbidden(rule *Rule, sent *http.Request, resp *http.Response, cc directives) string {
	// 5.2.2.3: must-understand replaces no-store for a cache that knows the status.
	if cc.has("no-store") && (!cc.has("must-understand") || !understood(resp.StatusCode)) {
		return "no-store"
	}
	if cc.unqualified("private") && !rule.trustsPrivate() {
		return "private"
	}
	if rule.Access == AccessByResponse && !sharesAuthorized(rule, cc) {
		if hasCredentials(rule, sent) {
			return "authorization"
		}
		// The transport may have a credential of its own for the origin, and says so
		// unless what it opens is for everybody.
		if resp.Request != nil && hasCredentialFields(rule, resp.Request) {
			return "injected"
		}
	}
	if r := resp.Request; r != nil && sent.URL != nil && !sameOrigin(r.URL, sent.URL) && hasCredentialFields(rule, r) {
		return "injected" // where a redirect led, and nobody had asked for
	}
	if _, any := varyFields(resp.Header); any {
		return "vary"
	}
	// What selects a response is kept with it, and a credential is not to be.
	for _, name := range keyFields(rule, sent.Header, resp.Header) {
		if IsSecret(name) && len(sent.Header[http.CanonicalHeaderKey(name)]) > 0 {
			return "vary"
		}
	}
	return ""
}

// sharesAuthorized reports whether the response to a request with credentials says that
// it is for others too (RFC 9111, section 3.5). Two of the three directives that may
// say so rest on the response going stale by its own word: must-revalidate, which git's
// http-backend sends with private packs, and s-maxage=0. A rule fixes the lifetime, and
// may serve what is stale, so there they say nothing.
func sharesAuthorized(rule *Rule, cc directives) bool {
	if cc.has("public") || rule.Mode == HTTP {
		return cc.has("public") || cc.has("must-revalidate") || cc.has("s-maxage")
	}
	shared, ok := cc.seconds("s-maxage")
	return ok && shared > 0
}

// unstorableBody names what keeps the body from being a whole that can be told from
// a truncated one.
func unstorableBody(rule *Rule, resp *http.Response) string {
	if len(resp.Header["Content-Range"]) > 0 && rule.Mode != HTTP {
		// RFC 9110, section 14.4: outside of 206 and 416 the field means nothing. An
		// origin of artifacts that sends it is broken, and what it sends perhaps a part.
		return "partial"
	}
	if resp.Uncompressed {
		// The transport took a coding away; headers and body no longer agree.
		return "recoded"
	}
	if resp.ContentLength < 0 && resp.ProtoMajor == 1 && len(resp.TransferEncoding) == 0 {
		// Ended by closing the connection: RFC 9112, section 8, counts it complete,
		// but nobody can know.
		return "close-delimited"
	}
	if t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); t == "text/event-stream" {
		return "stream"
	}
	return ""
}

// useful is the last condition of RFC 9111, section 3, and one of our own: what is
// neither ever fresh, nor can be validated, nor served stale is never reused.
func useful(resp *http.Response, cc directives) bool {
	h := resp.Header
	explicit := cc.has("max-age") || cc.has("s-maxage") || cc.has("public") || len(h["Expires"]) > 0
	if !explicit && !heuristicallyCacheable(resp.StatusCode) {
		return false
	}
	return len(h["Etag"]) > 0 || len(h["Last-Modified"]) > 0 ||
		cc.has("stale-while-revalidate") || cc.has("stale-if-error") ||
		freshnessLifetime(&record{status: resp.StatusCode, header: h}, cc) > 0
}

// sharesCookies reports whether the origin has said, not merely left to guess, that a
// response with Set-Cookie may be given to others. RFC 9111, section 7.3: the field
// alone does not keep a response from being stored, and origins that do not want that
// have to say so. Many do not know, hence not without an explicit lifetime.
func sharesCookies(cc directives, h http.Header) bool {
	if cc.unqualified("no-cache") {
		return false
	}
	for _, name := range []string{"s-maxage", "max-age"} {
		if v, ok := cc.seconds(name); ok {
			return v > 0
		}
	}
	return cc.has("public") || len(h["Expires"]) > 0
}

// contentHeader reduces a header to what may be said of content by whoever asks for it
// under any URL: which host it came from must not show, but in the type that it gave it.
// The entity tag is the digest, so that parts from different hosts are known for parts of
// the same.
func contentHeader(h http.Header, d integrity.Digest) {
	for name := range h {
		switch name {
		case "Content-Type", "Date", "Docker-Content-Digest", "Docker-Distribution-Api-Version", "Accept-Ranges":
		default:
			delete(h, name)
		}
	}
	h["Etag"] = []string{`"` + d.String() + `"`}
	h["Accept-Ranges"] = []string{"bytes"}
}

// isContent reports whether a body's digest is that of the key.
func (r *Rule) isContent(sum [32]byte) bool { return bytes.Equal(r.content.Sum(), sum[:]) }

// storedURL is the target URI as it is kept: without what may be a password, and what is
// left out of the key, signatures above all.
func storedURL(u *url.URL, rule *Rule) string {
	kept := *u
	kept.User = nil
	switch {
	case rule.byContent():
		kept.RawQuery, kept.ForceQuery = "", false
	case kept.RawQuery != "":
		kept.RawQuery = withoutParameters(kept.RawQuery, rule.dropped())
	}
	return kept.String()
}

// storedHeader is the header that is kept: all end-to-end fields (RFC 9111, section
// 3.1) without what private="..." names, and with the time of receipt for a Date that
// is missing (RFC 9110, section 6.6.1). Alt-Svc goes in spite of section 3.1: it
// would lead clients around the proxy. So does Set-Cookie where the rule, and not
// the origin, says that the response is for everybody.
func storedHeader(h http.Header, rule *Rule, received time.Time) http.Header {
	kept := endToEnd(h)
	if rule.byContent() {
		contentHeader(kept, rule.content)
	}
	for name := range rule.overrides {
		delete(kept, name) // which says more of that URL than of what it names
	}
	kept.Del("Alt-Svc")
	if rule.Mode != HTTP {
		kept.Del("Set-Cookie")
	}
	for _, name := range parseCacheControl(h["Cache-Control"]).fields("private") {
		kept.Del(name)
	}
	if len(kept["Date"]) == 0 {
		kept["Date"] = []string{received.UTC().Format(http.TimeFormat)}
	}
	return kept
}
