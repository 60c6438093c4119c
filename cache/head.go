package cache

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// validateHead answers a HEAD for which something stale is stored by a conditional
// HEAD, so that a registry that counts GETs is not asked for one. A 304 freshens the
// stored response; so does a 200 that agrees with it (RFC 9111, section 4.3.5).
func (x *exchange) validateHead(f found, j judgement) error {
	s := f.selected
	ctx, cancel := context.WithCancel(x.r.Context())
	defer cancel()
	if j.ifError {
		// There is something else to answer with; see passage.wait.
		defer time.AfterFunc(x.c.budget, cancel).Stop()
	}
	req := canonicalRequest(ctx, x.r, x.rule, f.forwardSet(x.rule, nil))
	req.Method = http.MethodHead
	addConditions(req, s.rec)
	requested := x.c.now()
	resp, err := x.c.roundTrip(req)
	received := x.c.now()
	if err != nil || failsForNow(resp.StatusCode) {
		return x.headFailed(s, j, resp, err)
	}
	agrees := resp.StatusCode == http.StatusNotModified && selects(s.rec, resp.Header, x.rule.Mode) ||
		resp.StatusCode == http.StatusOK && sameRepresentation(s, resp, x.rule.Mode)
	if !agrees {
		if resp.StatusCode == http.StatusNotModified {
			resp.Body.Close()
			x.c.drop(s.key)
			return errAgain
		}
		if resp.StatusCode == http.StatusOK && x.rule.Mode == HTTP {
			// It is another one now, or at least cannot be told to be the same.
			x.c.drop(s.key)
		}
		return x.relay(resp, cacheStatus{fwd: j.because})
	}
	resp.Body.Close()
	fresh := *s
	fresh.rec = freshened(s.rec, resp.Header, x.rule, requested, received)
	if !x.req.has("no-store") {
		x.c.freshen(x.c.log, x.primary, s.key, fresh.rec, x.rule)
	}
	x.out.Hit = true
	cs := cacheStatus{fwd: j.because}
	if resp.StatusCode == http.StatusNotModified {
		cs.fwdStatus = resp.StatusCode
	}
	return x.fromStore(&fresh, cs)
}

func (x *exchange) headFailed(s *selected, j judgement, resp *http.Response, err error) error {
	if !j.ifError {
		if err != nil {
			return err
		}
		return x.relay(resp, cacheStatus{fwd: j.because})
	}
	x.out.Hit = true
	cs := cacheStatus{fwd: j.because, ttl: &j.ttl, detail: "stale-if-error"}
	if err == nil {
		cs.fwdStatus = resp.StatusCode
		resp.Body.Close()
	}
	return x.fromStore(s, cs)
}

// sameRepresentation reports whether the answer to a HEAD describes the stored
// response. RFC 9111, section 4.3.5: whatever it has of Last-Modified, ETag and
// Content-Length must agree. Where a rule fixes the lifetime, more is asked for, a
// strong validator, since nothing else would find out.
func sameRepresentation(s *selected, resp *http.Response, mode Mode) bool {
	if resp.ContentLength >= 0 && resp.ContentLength != s.size {
		return false
	}
	etag, modified := resp.Header.Get("Etag"), resp.Header.Get("Last-Modified")
	if mode != HTTP {
		return strongEqual(etag, s.rec.etag) &&
			slices.Equal(resp.Header["Content-Encoding"], s.rec.header["Content-Encoding"])
	}
	return (etag == "" || etag == s.rec.etag) && (modified == "" || modified == s.rec.lastModified)
}
