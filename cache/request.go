package cache

import (
	"context"
	"net/http"
	"slices"
	"strings"
)

// fillAgent is the User-Agent of a fill whose key does not hold the client's. Some
// origins refuse requests without any.
const fillAgent = "larder"

// canonicalRequest is what goes upstream when the answer may be given to others too.
//
// Under Immutable and Revalidate it is a function of the target URI and of the
// fields in set, the ones that the key holds, so that nothing else in a client's
// request can change what others get: Accept-Encoding in its normalised form, Accept
// and User-Agent fixed unless in set (and Accept where the URI has the digest of the
// body), everything else withheld. A response whose Vary names a field that was withheld
// is not used for a client that sent it; the request is repeated with it and the set
// remembered. Credentials go along, since without them private registries answer nothing,
// under AccessRecheck also those in fields of other names; what may be stored then is for
// Rule.Access to say. Should upstream refuse (4xx), the client's own request follows, see
// exchange.unshared.
//
// Under HTTP the origin's Vary is trusted, as RFC 9111 does: all end-to-end
// fields go along, Accept-Encoding in its normalised form, but for those by which
// something before the origin chooses what is asked (see routing), unless they are in
// set.
//
// Never sent: the client's Range and preconditions, which are for the client's own
// copy, and anything of one connection. Method, target and its spelling are kept.
func canonicalRequest(ctx context.Context, r *http.Request, rule *Rule, set []string) *http.Request {
	req := (&http.Request{
		Method: http.MethodGet, URL: r.URL, Host: r.URL.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if rule.Mode == HTTP {
		req.Header = endToEnd(r.Header)
		for name := range req.Header {
			_, keyed := slices.BinarySearch(set, strings.ToLower(name))
			if ownCopyField(name) || routing(name) && !keyed {
				delete(req.Header, name)
			}
		}
		// Also where the client sent none: it shares a key with one that wants identity,
		// and to an origin the absent field means any coding (RFC 9110, section 12.5.3).
		req.Header["Accept-Encoding"] = []string{fieldSource(r.Header).normal("accept-encoding")}
		keepAgentAway(req.Header)
		return req
	}
	req.Header = http.Header{
		"Accept":          {"*/*"},
		"Accept-Encoding": {fieldSource(r.Header).normal("accept-encoding")},
		"User-Agent":      {fillAgent},
	}
	if _, ok := rule.URLDigest(r.URL); ok && rule.Mode == Immutable && fieldSource(r.Header).normal("accept") != "" {
		// The body can be no other, and distribution answers 404 to who does not accept by
		// name the type of manifest that it has under the digest.
		req.Header["Accept"] = slices.Clone(r.Header["Accept"])
	}
	for name, v := range r.Header {
		if len(v) > 0 && (name == "Authorization" || name == "Cookie" || rule.checked() && IsSecret(name)) && !hopByHop(name) {
			req.Header[name] = slices.Clone(v)
		}
	}
	for _, name := range set {
		key := http.CanonicalHeaderKey(name)
		switch {
		case key == "Accept-Encoding" || hopByHop(key) || ownCopyField(key):
		case key == "Accept" && fieldSource(r.Header).normal("accept") == "":
		case len(r.Header[key]) > 0:
			req.Header[key] = slices.Clone(r.Header[key])
		default:
			delete(req.Header, key)
		}
	}
	if rule.byContent() {
		req.Header["Accept-Encoding"] = []string{"identity"} // what the digest is of
	}
	keepAgentAway(req.Header)
	return req
}

// ownRequest is the client's request as it goes upstream on its own behalf:
// everything end-to-end, including Range and preconditions.
func ownRequest(ctx context.Context, r *http.Request) *http.Request {
	req := (&http.Request{
		Method: r.Method, URL: r.URL, Host: r.Host, Header: endToEnd(r.Header),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if acceptsTrailers(r.Header) {
		// larder passes trailers on, so it may say so (RFC 9110, section 10.1.4).
		req.Header["Te"] = []string{"trailers"}
	}
	keepAgentAway(req.Header)
	return req
}

func acceptsTrailers(h http.Header) bool {
	return strings.Contains(strings.ToLower(strings.Join(h["Te"], ",")), "trailers")
}

// keepAgentAway stops net/http from adding its own User-Agent.
func keepAgentAway(h http.Header) {
	if len(h["User-Agent"]) == 0 {
		h["User-Agent"] = nil
	}
}

// ownCopyField reports whether a request field speaks of the client's own copy of
// the response: a range of it or a precondition.
func ownCopyField(name string) bool {
	switch name {
	case "Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since":
		return true
	}
	return false
}

// routing reports whether a request field may make a proxy, a framework or an application
// take the request for one of another host, path or method. Those who do so seldom say
// Vary, and who sends such a field to them through a cache chooses what others get. A
// client has no cause to: they are for proxies, about the connection behind them.
func routing(name string) bool {
	switch name {
	case "Forwarded", "Front-End-Https", "Base-Url", "Proxy-Host", "Proxy-Url", "Request-Uri",
		"X-Host", "X-Original-Host", "X-Http-Host-Override", "X-Real-Ip", "X-Client-Ip", "Client-Ip", "True-Client-Ip", "X-Cluster-Client-Ip",
		"X-Original-Url", "X-Original-Uri", "X-Rewrite-Url", "X-Override-Url", "X-Proxy-Url", "X-Script-Name", "X-Url-Scheme",
		"X-Http-Method", "X-Http-Method-Override", "X-Method-Override":
		return true
	}
	for _, prefix := range []string{"X-Forwarded-", "X-Envoy-", "X-Middleware-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return name == "X-Forwarded"
}

// withholdsOdd reports whether canonicalRequest withholds a field of which larder does not
// know that origins have no use for it: a token, say, under a name of its own.
func withholdsOdd(r *http.Request, rule *Rule, set []string) bool {
	if rule.Mode == HTTP {
		return false
	}
	for name := range r.Header {
		if name == "Authorization" || name == "Cookie" || rule.checked() && IsSecret(name) || hopByHop(name) || ownCopyField(name) || harmless(name) {
			continue
		}
		if _, keyed := slices.BinarySearch(set, strings.ToLower(name)); !keyed {
			return true
		}
	}
	return false
}

// harmless lists fields that package clients and browsers send and that no origin
// needs to answer a GET of something public.
func harmless(name string) bool {
	switch name {
	case "Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Cache-Control", "Pragma",
		"User-Agent", "Referer", "Origin", "Dnt", "Priority", "Traceparent", "Tracestate", "Baggage",
		"Content-Length", "Content-Type", "Date", "Expires", "Via", "Forwarded", "Max-Forwards",
		"X-Requested-With", "X-Request-Id", "Upgrade-Insecure-Requests", "Save-Data", "Cargo-Protocol":
		return true
	}
	for _, prefix := range []string{"X-Forwarded-", "Sec-", "Npm-", "Pacote-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
