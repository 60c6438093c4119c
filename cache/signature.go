package cache

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// signature is what can be told of a URL that is a capability by itself: whoever has it
// may read what it names until it expires.
type signature struct {
	signed bool
	// expires is the first of the times at which a part of it expires. It is zero where
	// there is none that is known.
	expires time.Time
}

// signatureOf looks for the signatures of AWS (versions 2 and 4, with R2 and whoever else
// speaks S3), CloudFront, Google Cloud Storage (versions 2 and 4), Azure (SAS), Akamai,
// Cloudflare and the registries' own.
//
// A parameter that is a secret by its name and is none of these makes the URL one that is
// signed, for an unknown time.
func signatureOf(u *url.URL) signature {
	if u.RawQuery == "" {
		return signature{}
	}
	q := signedQuery{}
	eachParameter(u.RawQuery, func(name, raw string) {
		value, err := url.QueryUnescape(raw)
		if err != nil {
			value = raw
		}
		q.add(name, value)
	})
	return q.signature()
}

// signedQuery gathers what the parameters of a query say of its signature.
type signedQuery struct {
	secret, broken bool
	first          time.Time
	// date and life are what SigV4 gives instead of an end, by their prefix.
	date map[string]time.Time
	life map[string]time.Duration
}

// add takes a parameter into account. The names are those of the signers' documents:
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html,
// https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-creating-signed-url-canned-policy.html,
// https://cloud.google.com/storage/docs/authentication/canonical-requests,
// https://learn.microsoft.com/rest/api/storageservices/create-service-sas,
// https://techdocs.akamai.com/property-mgr/docs/auth-token-2-0-ver,
// https://developers.cloudflare.com/waf/custom-rules/use-cases/configure-token-authentication/.
func (q *signedQuery) add(name, value string) {
	lower := strings.ToLower(name)
	switch lower {
	case "x-amz-date", "x-goog-date":
		t, err := time.Parse("20060102T150405Z", value)
		q.broken = q.broken || err != nil
		set(&q.date, lower[:5], t)
	case "x-amz-expires", "x-goog-expires":
		seconds, err := strconv.ParseInt(value, 10, 32)
		q.broken = q.broken || err != nil || seconds < 0
		set(&q.life, lower[:5], time.Duration(seconds)*time.Second)
	case "expires", "cf_expiry", "p1":
		q.ends(unixTime(value))
	case "se", "ske":
		q.ends(azureTime(value))
	case "policy":
		q.secret = true
		q.ends(policyEnd(value))
	case "jwt":
		q.secret = true
		q.ends(jwtExpiry(value))
	case "verify":
		// Its time is that of issue where Cloudflare's own functions check it, who alone
		// knows for how long; so it ends no later than any rule would have it.
		q.secret = true
		issued, _, _ := strings.Cut(value, "-")
		q.ends(unixTime(issued))
	case "hdnts", "hdnea", "__token__", "__gda__":
		q.secret = true
		q.ends(akamaiEnd(value))
	case "p4", "cf_sign", "_upt":
		q.secret = true
	default:
		q.secret = q.secret || IsSecret(name)
	}
}

func set[V any](m *map[string]V, key string, v V) {
	if *m == nil {
		*m = make(map[string]V)
	}
	(*m)[key] = v
}

// ends notes an end; a zero one is of a form that is not known.
func (q *signedQuery) ends(at time.Time) {
	switch {
	case at.IsZero():
		q.broken = true
	case q.first.IsZero() || at.Before(q.first):
		q.first = at
	}
}

func (q *signedQuery) signature() signature {
	for prefix, life := range q.life {
		if at, ok := q.date[prefix]; ok {
			q.ends(at.Add(life))
		} else {
			q.broken = true
		}
	}
	s := signature{signed: q.secret}
	if q.secret && !q.broken && len(q.date) == len(q.life) {
		s.expires = q.first
	}
	return s
}

// maxUnix bounds the times that signatures may name: the year 2286.
const maxUnix = 9_999_999_999

func unixTime(s string) time.Time {
	seconds, err := strconv.ParseInt(s, 10, 64)
	if err != nil || seconds <= 0 || seconds > maxUnix {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// azureTime reads the forms of ISO 8601 that a SAS may have.
func azureTime(s string) time.Time {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil && t.Unix() > 0 {
			return t
		}
	}
	return time.Time{}
}

// policyEnd reads the end in a custom policy of CloudFront.
func policyEnd(s string) time.Time {
	data, err := base64.StdEncoding.DecodeString(strings.NewReplacer("-", "+", "_", "=", "~", "/").Replace(s))
	if err != nil {
		return time.Time{}
	}
	var policy struct {
		Statement []struct {
			Condition struct {
				DateLessThan struct {
					EpochTime json.Number `json:"AWS:EpochTime"`
				}
			}
		}
	}
	if json.Unmarshal(data, &policy) != nil {
		return time.Time{}
	}
	var first time.Time
	for _, s := range policy.Statement {
		at := unixTime(s.Condition.DateLessThan.EpochTime.String())
		if at.IsZero() {
			return at
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// akamaiEnd reads exp of a token such as st=1~exp=2~acl=/*~hmac=….
func akamaiEnd(s string) time.Time {
	for field := range strings.SplitSeq(s, "~") {
		if name, value, _ := strings.Cut(field, "="); name == "exp" {
			return unixTime(value)
		}
	}
	return time.Time{}
}

// signatureParameters lists the query parameters of signatures, which differ from one
// URL of the same content to the next, and those that only change a header field of the
// response. Names of which signers make another use than others do are not among them:
// a rule names those itself.
func signatureParameters() []string {
	return []string{
		"X-Amz-*", "x-id", "AWSAccessKeyId", "Signature", "Expires", "Policy", "Key-Pair-Id", "Hash-Algorithm",
		"X-Goog-*", "GoogleAccessId",
		"sv", "ss", "srt", "sr", "sp", "st", "se", "spr", "sip", "si", "sig", "skoid", "sktid", "skt", "ske", "sks", "skv",
		"sdd", "saoid", "suoid", "scid", "jwt", "regid", "P1", "P2", "P3", "P4",
		"verify", "cf_sign", "cf_expiry", "X-Xet-*", "hdnts", "hdnea", "__token__", "__gda__", "_upt",
		"response-*", "rscd", "rsct", "rsce", "rscl", "rscc",
	}
}

// overridesOf returns the response fields that the query of a signed URL sets. The body is
// the same without them.
func overridesOf(u *url.URL) (h http.Header) {
	eachParameter(u.RawQuery, func(name, raw string) {
		field := ""
		switch name {
		case "response-content-disposition", "rscd":
			field = "Content-Disposition"
		case "response-content-type", "rsct":
			field = "Content-Type"
		}
		value, err := url.QueryUnescape(raw)
		if field == "" || err != nil || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return
		}
		set((*map[string][]string)(&h), field, []string{value})
	})
	return h
}

// locationOf is where a redirect leads, and nil where there is none or it is not clear.
func locationOf(from *url.URL, status int, header http.Header) *url.URL {
	values := header["Location"]
	if !redirects(status) || len(values) != 1 || values[0] == "" {
		return nil
	}
	to, err := from.Parse(values[0])
	if err != nil || to.Host == "" {
		return nil
	}
	to.Fragment, to.RawFragment = "", ""
	return to
}

// redirects lists the statuses that send a client elsewhere (RFC 9110, section 15.4).
func redirects(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// redirectEnd is when a redirect loses its use because the signature in its target
// expires. ok is false when it is signed for an unknown time; what is not signed has no
// end, the zero time.
func redirectEnd(target string, status int, header http.Header) (end time.Time, ok bool) {
	if !redirects(status) {
		return time.Time{}, true
	}
	for _, location := range header["Location"] {
		from, err := url.Parse(target)
		if err != nil {
			return time.Time{}, false
		}
		to, err := from.Parse(location)
		if err != nil {
			return time.Time{}, false
		}
		s := signatureOf(to)
		if s.signed && s.expires.IsZero() {
			return time.Time{}, false
		}
		if s.signed && (end.IsZero() || s.expires.Before(end)) {
			end = s.expires
		}
	}
	return end, true
}
