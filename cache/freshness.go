package cache

import (
	"net/http"
	"strconv"
	"time"
)

const (
	// forever is the lifetime of what never becomes stale.
	forever = time.Duration(1<<63 - 1)
	// heuristicFraction and maxHeuristic bound heuristic freshness: a tenth of the
	// time since the last modification (RFC 9111, section 4.2.2), at most a day.
	heuristicFraction = 10
	maxHeuristic      = 24 * time.Hour
)

// judgement is what may be done with a stored response for one request.
type judgement struct {
	fresh bool
	// ttl is the remaining freshness lifetime, negative when stale, forever when
	// the response has no end.
	ttl time.Duration
	// whileRevalidate and ifError allow a stale response to be served meanwhile, or
	// when upstream fails.
	whileRevalidate, ifError bool
	// because is "stale" or, when the request's directives refuse a response that is
	// fresh, "request" (RFC 9211, section 2.2).
	because string
	// without names fields that are left out of a response used without validation
	// (RFC 9111, section 5.2.2.4).
	without []string
	// expired: it must not be served any more, offline or not.
	expired bool
	// overrules is what prevails where a response is fresh by the word of policy though
	// by its own it is not: the rule's mode, or negative-ttl. "" where nothing has to.
	overrules string
}

// judge decides about the reuse of a stored response (RFC 9111, section 4).
func judge(m *record, rule *Rule, req directives, now time.Time) judgement {
	if absent(m.status) {
		if rule.Mode != HTTP || rule.NegativeTTL > 0 {
			return judgeByRule(m, rule, rule.NegativeTTL, req, now).byWordOf("negative-ttl", m, now)
		}
	}
	switch rule.Mode {
	case Immutable:
		ttl := rule.TTL
		if ttl == 0 {
			ttl = forever
		}
		return judgeByRule(m, rule, ttl, nil, now).byWordOf("immutable", m, now)
	case Revalidate:
		return judgeByRule(m, rule, rule.TTL, req, now).byWordOf("revalidate", m, now)
	default:
		return judgeHTTP(m, rule, req, now).untilSigned(m, now)
	}
}

// untilSigned bounds the use of a redirect by the signature in its target: beyond that
// it leads nowhere, so that no permission to serve what is stale extends to it.
func (j judgement) untilSigned(m *record, now time.Time) judgement {
	end, ok := redirectEnd(m.url, m.status, m.header)
	if ok && end.IsZero() {
		return j
	}
	left := end.Sub(now)
	j.ttl = min(j.ttl, left)
	if left <= 0 {
		j.fresh, j.whileRevalidate, j.ifError, j.expired = false, false, false, true
	}
	return j
}

// byWordOf notes what makes a response fresh that says of itself that it is not.
func (j judgement) byWordOf(what string, m *record, now time.Time) judgement {
	if j.fresh && currentAge(m, now) >= lifetimeOf(m) {
		j.overrules = what
	}
	return j
}

// judgeByRule judges where the rule fixes the lifetime. It is counted from when
// larder last heard of the response, not from its Date: the rule says how old
// larder's knowledge may be.
func judgeByRule(m *record, rule *Rule, lifetime time.Duration, req directives, now time.Time) judgement {
	resident := max(now.Sub(m.received), 0)
	j := judgement{ttl: forever, because: "stale"}
	if lifetime != forever {
		j.ttl = lifetime - resident
	}
	j.fresh = j.ttl > 0
	if j.fresh && demandsValidation(req, resident, j.ttl) {
		j.fresh, j.because = false, "request"
	} else if !j.fresh {
		j.whileRevalidate = rule.StaleWhileRevalidate > 0 && -j.ttl <= rule.StaleWhileRevalidate &&
			!demandsValidation(req, resident, 0)
	}
	j.ifError = rule.StaleIfError > 0 && -j.ttl <= rule.StaleIfError
	return j
}

// demandsValidation reports whether the request's directives refuse a response of
// the given age and remaining lifetime (RFC 9111, sections 5.2.1.1, 5.2.1.3, 5.2.1.4).
func demandsValidation(req directives, age, ttl time.Duration) bool {
	if req.has("no-cache") {
		return true
	}
	if maxAge, ok := req.seconds("max-age"); ok && (maxAge == 0 || age > maxAge) {
		return true
	}
	minFresh, ok := req.seconds("min-fresh")
	return ok && ttl < minFresh
}

// judgeHTTP judges as RFC 9111 does without any rule's word.
func judgeHTTP(m *record, rule *Rule, req directives, now time.Time) judgement {
	resp := parseCacheControl(m.header["Cache-Control"])
	age := currentAge(m, now)
	lifetime := freshnessLifetime(m, resp)
	j := judgement{ttl: lifetime - age, because: "stale", without: resp.fields("no-cache")}
	j.fresh = j.ttl > 0 && !resp.unqualified("no-cache") && !pragmaNoCache(m.header, resp)
	strict := forbidsStale(resp)
	if j.fresh {
		if refuses(req, resp, age, j.ttl) {
			j.fresh, j.because = false, "request"
		}
	} else if !strict {
		j.fresh = acceptsStale(req, -j.ttl) && !demandsValidation(req, age, forever)
		swr := max(rule.StaleWhileRevalidate, secondsOf(resp, "stale-while-revalidate"))
		j.whileRevalidate = swr > 0 && -j.ttl <= swr && !demandsValidation(req, age, forever)
	}
	// RFC 5861, section 4, gives the directive to both sides. A rule's word counts like
	// theirs: RFC 9111, section 4.2.4, lets configuration permit what is not forbidden.
	sie := max(secondsOf(resp, "stale-if-error"), secondsOf(req, "stale-if-error"), rule.StaleIfError)
	j.ifError = !strict && sie > 0 && -j.ttl <= sie
	return j
}

// forbidsStale reports whether a response must not be served stale, whoever would
// permit it (RFC 9111, section 4.2.4). no-cache is no freshness at all, and s-maxage
// implies proxy-revalidate (5.2.2.10).
func forbidsStale(resp directives) bool {
	return resp.has("must-revalidate") || resp.has("proxy-revalidate") || resp.has("s-maxage") || resp.unqualified("no-cache")
}

// refuses reports whether the request's directives ask for the validation of a fresh
// response. RFC 8246, section 2: of one that is immutable max-age does not, for which
// no-cache is there.
func refuses(req, resp directives, age, ttl time.Duration) bool {
	if resp.has("immutable") {
		return req.has("no-cache")
	}
	return demandsValidation(req, age, ttl)
}

func secondsOf(d directives, name string) time.Duration {
	v, _ := d.seconds(name)
	return v
}

// pragmaNoCache treats Pragma: no-cache in a response without Cache-Control as
// origins mean it, though RFC 9111, section 5.4, defines it for requests only.
func pragmaNoCache(header http.Header, resp directives) bool {
	return resp == nil && len(header["Expires"]) == 0 && parseCacheControl(header["Pragma"]).has("no-cache")
}

// acceptsStale reports whether max-stale lets a response be stale for so long
// (RFC 9111, section 5.2.1.2; without argument: any time).
func acceptsStale(req directives, staleFor time.Duration) bool {
	if !req.has("max-stale") {
		return false
	}
	limit, _ := req.seconds("max-stale")
	return req.unqualified("max-stale") || staleFor <= limit
}

// freshnessLifetime is RFC 9111, section 4.2.1, for a shared cache.
func freshnessLifetime(m *record, resp directives) time.Duration {
	if v, ok := resp.seconds("s-maxage"); ok {
		return v
	}
	if v, ok := resp.seconds("max-age"); ok {
		return v
	}
	date := dateOf(m)
	if expires := m.header["Expires"]; len(expires) > 0 {
		// 5.3: an invalid date, especially "0", is in the past.
		t, ok := parseDate(expires[0], date)
		if !ok {
			return 0
		}
		return max(t.Sub(date), 0)
	}
	if !heuristicallyCacheable(m.status) && !resp.has("public") {
		return 0
	}
	modified, ok := parseDate(m.header.Get("Last-Modified"), date)
	if !ok || !modified.Before(date) {
		return 0
	}
	return min(date.Sub(modified)/heuristicFraction, maxHeuristic)
}

// ownLifetime is the freshness lifetime that the response itself gives in so many
// words, forever where it gives none: then a cache may assume any (RFC 9111, section
// 4.2.2). no-cache is none at all.
func ownLifetime(m *record) time.Duration {
	resp := parseCacheControl(m.header["Cache-Control"])
	switch {
	case resp.has("no-cache") || pragmaNoCache(m.header, resp):
		return 0
	case resp.has("s-maxage") || resp.has("max-age") || len(m.header["Expires"]) > 0:
		return freshnessLifetime(m, resp)
	}
	return forever
}

// lifetimeOf is ownLifetime, from the record where it was worked out before.
func lifetimeOf(m *record) time.Duration {
	if !m.date.IsZero() {
		return m.lifetime
	}
	return ownLifetime(m)
}

// heuristicallyCacheable lists the status codes of RFC 9110, section 15.1, without
// 206, which is not stored on its own.
func heuristicallyCacheable(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// dateOf is the response's Date, or when it was received (RFC 9110, section 6.6.1).
func dateOf(m *record) time.Time {
	if !m.date.IsZero() {
		return m.date
	}
	if t, ok := parseDate(m.header.Get("Date"), m.received); ok {
		return t
	}
	return m.received
}

// currentAge is RFC 9111, section 4.2.3.
func currentAge(m *record, now time.Time) time.Duration {
	apparent := max(m.received.Sub(dateOf(m)), 0)
	var value time.Duration
	if v := m.header["Age"]; len(v) > 0 {
		// 5.1: the first member of a list counts; what is invalid is ignored.
		value, _ = parseSeconds(firstMember(v[0]))
	}
	corrected := value + max(m.received.Sub(m.requested), 0)
	return max(apparent, corrected) + max(now.Sub(m.received), 0)
}

func ageField(age time.Duration) string {
	return strconv.FormatInt(int64(age/time.Second), 10)
}
