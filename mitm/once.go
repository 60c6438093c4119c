package mitm

import (
	"maps"
	"net/http"
)

// onlyOnce keeps net/http from sending a request a second time on its own when a
// kept connection fails. For methods that are safe it may; for others it does if
// the client sent an Idempotency-Key without a body, which a proxy has no right to
// believe (RFC 9110, Section 9.2.2). net/http looks for the field by its
// canonical spelling alone, and field names have no case.
func onlyOnce(r *http.Request) *http.Request {
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return r
	}
	out := r
	for plain, odd := range map[string]string{"Idempotency-Key": "idempotency-key", "X-Idempotency-Key": "x-idempotency-key"} {
		values, ok := r.Header[plain]
		if !ok {
			continue
		}
		if out == r {
			out = new(*r)
			out.Header = maps.Clone(r.Header)
		}
		delete(out.Header, plain)
		out.Header[odd] = values
	}
	return out
}
