package mitm

import (
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"larder/cache"
)

// leftOut stands for what may be a credential.
const leftOut = "(left out)"

// redaction is a martian modifier that takes credentials out of copies of messages:
// header fields that hold one by their name, and in the target and in URLs of other
// fields user information and query parameters that are one by their name. What is a
// capability by the path alone nobody can tell.
type redaction struct{ user, query *regexp.Regexp }

func newRedaction() *redaction {
	return &redaction{
		user:  regexp.MustCompile(`//[^/?#\s"<>]*@`),
		query: regexp.MustCompile(`\?[^#\s"<>]+`),
	}
}

// ModifyRequest implements martian.RequestModifier.
func (s *redaction) ModifyRequest(r *http.Request) error {
	r.URL.User = nil
	r.URL.RawQuery = withoutSecrets(r.URL.RawQuery)
	s.cleanHeader(r.Header)
	return nil
}

// ModifyResponse implements martian.ResponseModifier.
func (s *redaction) ModifyResponse(r *http.Response) error {
	s.cleanHeader(r.Header)
	return nil
}

func (s *redaction) cleanHeader(h http.Header) {
	for name, values := range h {
		for i := range values {
			if cache.IsSecret(name) {
				values[i] = leftOut
				continue
			}
			values[i] = s.cleanURLs(values[i])
		}
	}
	// The HAR logger complains of what it cannot read in a log of its own.
	if _, _, err := mime.ParseMediaType(h.Get("Content-Type")); err != nil {
		delete(h, "Content-Type")
	}
}

// withoutSecrets goes through a raw query, which stays as it was but for values.
func withoutSecrets(query string) string {
	if query == "" {
		return ""
	}
	var b strings.Builder
	for len(query) > 0 {
		end := strings.IndexAny(query, "&;")
		pair, separator := query, ""
		if end >= 0 {
			pair, separator = query[:end], query[end:end+1]
		}
		query = query[len(pair)+len(separator):]
		name, _, valued := strings.Cut(pair, "=")
		decoded, err := url.QueryUnescape(name)
		switch {
		case !valued && err == nil:
			b.WriteString(pair)
		case err != nil || cache.IsSecret(decoded):
			b.WriteString(name + "=" + url.QueryEscape(leftOut))
		default:
			b.WriteString(pair)
		}
		b.WriteString(separator)
	}
	return b.String()
}

// cleanURLs cleans what looks like a URL within a field value, such as Location,
// Link or Referer, and the query of a reference without a host.
func (s *redaction) cleanURLs(value string) string {
	if !strings.ContainsAny(value, "?@") {
		return value
	}
	value = s.user.ReplaceAllString(value, "//")
	return s.query.ReplaceAllStringFunc(value, func(q string) string { return "?" + withoutSecrets(q[1:]) })
}
