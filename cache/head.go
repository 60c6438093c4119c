package cache

import (
	"context"
	"net/http"
	"slices"
	"strings"
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
	resp, vouched, err := x.c.exchangeUnder(x.rule, req)
	x.vouched = vouched
	received := x.c.now()
	if err != nil || failsForNow(resp.StatusCode) {
		return x.headFailed(s, j, resp, err)
	}
	agrees := resp.StatusCode == http.StatusNotModified && selects(s.rec, resp.Header, x.rule.Mode) ||
		resp.StatusCode == http.StatusOK && x.rule.sameByHead(s, resp.StatusCode, resp.Header, resp.ContentLength)
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
		if x.rule.ValidateHead && absent(resp.StatusCode) {
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

// validateByHead answers a GET for which something stale is stored by a HEAD with the
// client's credentials: where registries count GETs and where a 304 costs as much as a
// pull. Clients with the same credential wait for the same answer.
func (x *exchange) validateByHead(f found, j judgement) error {
	s := f.selected
	claim := x.c.verdicts.claimOf(x.r, x.rule)
	requested := x.c.now()
	q, err := x.c.ask(x, claim, s)
	if err != nil {
		return err
	}
	var patience <-chan time.Time // nil for who has nothing else
	if j.ifError {
		t := time.NewTimer(x.c.budget)
		defer t.Stop()
		patience = t.C
	}
	select {
	case <-q.done:
	case <-patience:
		x.c.metrics.spared.WithLabelValues("upstream-slow").Inc()
		x.out.Hit = true
		return x.fromStore(s, cacheStatus{fwd: j.because, ttl: &j.ttl, detail: "stale-if-error"})
	case <-x.r.Context().Done():
		return x.r.Context().Err()
	}
	switch {
	case q.err != nil || failsForNow(q.status):
		if j.ifError {
			x.out.Hit = true
			return x.fromStore(s, cacheStatus{fwd: j.because, fwdStatus: q.status, ttl: &j.ttl, detail: "stale-if-error"})
		}
		if q.err != nil {
			return q.err
		}
		return x.relayStatus(q)
	case q.status == http.StatusOK && x.rule.sameByHead(s, q.status, q.header, q.length):
		if x.rule.checked() {
			x.admit(claim, "allowed")
		}
		fresh := *s
		fresh.rec = freshened(s.rec, q.header, x.rule, requested, x.c.now())
		x.c.freshen(x.c.log, x.primary, s.key, fresh.rec, x.rule)
		x.out.Hit, x.out.Stored = true, true
		cs := cacheStatus{fwd: j.because, detail: "unchanged"}
		if after := judge(fresh.rec, x.rule, nil, x.c.now()); after.ttl != forever {
			cs.ttl = new(max(after.ttl, 0))
		}
		return x.fromStore(&fresh, cs)
	case q.status >= 400 && q.status < 500:
		if gone := absent(q.status); gone || q.status == http.StatusUnauthorized || q.status == http.StatusForbidden {
			x.c.verdicts.refuse(claim, gone)
			if gone {
				x.c.drop(s.key)
			}
			// The client's own request gets upstream's answer, body and all.
			return x.forward(j.because, "")
		}
	}
	return x.fetch(f, j)
}

// sameByHead reports whether the answer to a HEAD describes the stored response.
func (r *Rule) sameByHead(s *selected, status int, header http.Header, length int64) bool {
	resp := &http.Response{StatusCode: status, Header: header, ContentLength: length}
	if !r.ValidateHead {
		return sameRepresentation(s, resp, r.Mode)
	}
	// The digest of what is stored is known; what upstream once called it is not asked.
	if d := header.Get("Docker-Content-Digest"); d != "" {
		if length >= 0 && length != s.size && isIdentity(header) {
			return false
		}
		return strings.EqualFold(d, "sha256:"+hexSum(s.sum)) && isIdentity(s.rec.header)
	}
	return sameRepresentation(s, resp, r.Mode)
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
