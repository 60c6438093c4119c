package cache

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxProof bounds how much is read of an answer to see whether it is a yes.
const maxProof = 128 << 10

// question is one that is being put to upstream: may a client have something? Clients
// with the same credential wait for the same answer.
type question struct {
	done   chan struct{}
	status int
	header http.Header
	length int64
	err    error
	yes    bool
}

// admitted reports whether the client may have what is stored, or fetched for another
// client, by upstream's word. If not, the request has been answered, or err says why it
// could not be. s is what would be served, nil if it is not there yet.
func (x *exchange) admitted(s *selected) (ok bool, err error) {
	if !x.rule.checked() || x.cleared {
		return true, nil
	}
	v := &x.c.verdicts
	claim := v.claimOf(x.r, x.rule)
	if v.allows(claim, x.rule, 0, x.c.now()) {
		x.c.metrics.rechecks.WithLabelValues("remembered").Inc()
		x.cleared = true
		return true, nil
	}
	if x.offline() {
		return x.admittedUnasked(claim, "offline")
	}
	if x.rule.Access == AccessSigned && x.r.Method == http.MethodHead {
		return false, x.forward("request", "recheck") // it may be signed for, or not
	}
	known := x.verifiedLately(claim)
	if known {
		if why := x.c.circuits.spared(x.r.URL, x.c.now()); why != "" {
			return x.admittedUnasked(claim, why)
		}
	}
	q, err := x.c.ask(x, claim, s)
	if err != nil {
		return false, err
	}
	var patience <-chan time.Time // nil for who has nothing else
	if known {
		t := time.NewTimer(x.c.budget)
		defer t.Stop()
		patience = t.C
	}
	select {
	case <-q.done:
	case <-patience:
		return x.admittedUnasked(claim, "upstream-slow")
	case <-x.r.Context().Done():
		return false, x.r.Context().Err()
	}
	switch {
	case q.err != nil || failsForNow(q.status):
		if ok, _ := x.admittedUnasked(claim, "stale-if-error"); ok {
			return true, nil
		}
		x.c.metrics.rechecks.WithLabelValues("failed").Inc()
		if q.err != nil {
			return false, q.err
		}
		return false, x.relayStatus(q)
	case q.yes:
		x.admit(claim, "allowed")
		return true, nil
	}
	return x.askItself(s, claim, q)
}

// admit notes that upstream lets the client have what it asks for.
func (x *exchange) admit(claim claim, how string) {
	x.c.verdicts.allow(claim, x.c.now())
	x.c.metrics.rechecks.WithLabelValues(how).Inc()
	x.cleared, x.clearedBy = true, "recheck"
}

// admittedUnasked reports whether a verdict of before does where upstream cannot give
// one: it was given no longer ago than the rule lets stale responses be served beyond
// their time, and the credential has not expired by its own word. If offline, a request
// that is not admitted has been answered.
func (x *exchange) admittedUnasked(claim claim, how string) (bool, error) {
	if x.verifiedLately(claim) {
		x.c.metrics.rechecks.WithLabelValues("unasked").Inc()
		x.cleared, x.clearedBy = true, how
		return true, nil
	}
	if how != "offline" {
		return false, nil
	}
	x.c.metrics.offline.Inc()
	return false, x.text(http.StatusGatewayTimeout, cacheStatus{detail: "offline"},
		"larder: offline, and upstream cannot be asked who may have "+logURL(x.r.URL)+"\n")
}

func (x *exchange) verifiedLately(claim claim) bool {
	return x.c.verdicts.allows(claim, x.rule, x.rule.StaleIfError, x.c.now())
}

// mayGoUnasked reports whether a stale response may be served to the client although
// upstream fails: not to one that upstream has not let have it lately.
func (x *exchange) mayGoUnasked() bool {
	return !x.rule.checked() || x.cleared || x.verifiedLately(x.c.verdicts.claimOf(x.r, x.rule))
}

// askItself has the client's own request decide where HEAD was refused: then the answer
// is upstream's to the client, body and all, and where only HEAD is not known it is what
// was asked for. It is conditional on what is stored, so that this can be served.
func (x *exchange) askItself(s *selected, claim claim, q *question) (ok bool, err error) {
	if gone := absent(q.status); gone || q.status == http.StatusUnauthorized || q.status == http.StatusForbidden {
		x.c.verdicts.refuse(claim, gone)
	}
	cs := cacheStatus{fwd: "request", detail: "recheck"}
	if x.r.Method == http.MethodHead && x.rule.RecheckAt == "" && q.status >= 400 {
		x.c.metrics.rechecks.WithLabelValues("denied").Inc()
		return false, x.relayHead(q, cs)
	}
	resp, err := x.send(func(ctx context.Context) *http.Request {
		req := ownRequest(ctx, x.r)
		x.content.in(req)
		if s != nil && s.rec.etag != "" && x.content == nil {
			req.Header["If-None-Match"] = []string{s.rec.etag}
			delete(req.Header, "If-Modified-Since")
		}
		return req
	})
	if err != nil {
		return false, err
	}
	if s != nil && s.rec.etag != "" && x.content == nil && resp.StatusCode == http.StatusNotModified && selects(s.rec, resp.Header, HTTP) {
		resp.Body.Close()
		x.admit(claim, "allowed")
		return true, nil
	}
	switch {
	case x.vouched && resp.StatusCode < 300 && x.rule.RecheckProof == nil:
		x.admit(claim, "allowed")
	case resp.StatusCode >= 400:
		x.c.metrics.rechecks.WithLabelValues("denied").Inc()
	}
	return false, x.relay(resp, cs)
}

// relayHead answers HEAD as upstream has.
func (x *exchange) relayHead(q *question, cs cacheStatus) error {
	x.newReply(q.status, q.header, cs).start()
	return nil
}

// relayStatus passes on that upstream cannot say now, to a client that has sent another
// request than the one it was asked by.
func (x *exchange) relayStatus(q *question) error {
	cs := cacheStatus{fwd: "request", detail: "recheck"}
	if x.r.Method == http.MethodHead {
		return x.relayHead(q, cs)
	}
	fields := make(http.Header, len(q.header))
	for name, values := range q.header {
		if !strings.HasPrefix(name, "Content-") && name != "Etag" && name != "Last-Modified" && name != "Accept-Ranges" {
			fields[name] = values
		}
	}
	p := x.newReply(q.status, fields, cs)
	p.setLength(0)
	p.start()
	return nil
}

// ask puts the question whether x's client may have what it asks for, or joins those who
// wait for the answer already. s is what is stored of it, or nil.
func (c *Cache) ask(x *exchange, claim claim, s *selected) (*question, error) {
	v := &c.verdicts
	target := v.target(claim)
	v.mu.Lock()
	defer v.mu.Unlock()
	if q := v.questions[target]; q != nil {
		return q, nil
	}
	q := &question{done: make(chan struct{})}
	// It is not the asker's alone: others wait, and it must not end with the first.
	ctx, cancel := context.WithCancel(context.WithoutCancel(x.r.Context()))
	stop := context.AfterFunc(c.ctx, cancel)
	req := x.rule.question(ctx, x.r)
	size := int64(-1)
	if s != nil && x.rule.byContent() {
		size = s.size
	}
	started := c.start(func() {
		defer cancel()
		defer stop()
		defer func() {
			v.mu.Lock()
			delete(v.questions, target)
			v.mu.Unlock()
			close(q.done)
		}()
		resp, err := c.roundTrip(req)
		vouched := true
		if err == nil && (x.rule.ValidateHead || redirects(resp.StatusCode) && !x.rule.isYes(req, resp)) {
			// Where the digest is wanted, or a redirect says nothing, what is at its end may.
			resp, vouched, err = c.follow(x.rule, req, resp)
		}
		if err != nil {
			q.err = err
			return
		}
		q.status, q.header, q.length = resp.StatusCode, endToEnd(resp.Header), resp.ContentLength
		// No page that asks for a password is just as long as the content.
		q.yes = x.rule.isYes(req, resp) && (vouched || q.status == http.StatusOK && q.length == size)
		if q.yes && x.rule.RecheckProof != nil {
			q.yes = q.status == http.StatusOK && x.rule.RecheckProof(resp.Header, io.LimitReader(resp.Body, maxProof))
		}
		resp.Body.Close()
	})
	if !started {
		stop()
		cancel()
		return nil, errClosed
	}
	v.questions[target] = q
	return q, nil
}

// isYes reports whether upstream's answer to a question lets the client have it. Where the
// rule knows redirects for the way to the content, one that carries a signature or names
// the content is a yes. Any other may lead to a page that asks for a password.
func (r *Rule) isYes(asked *http.Request, resp *http.Response) bool {
	switch {
	case r.Access == AccessSigned:
		return resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent
	case resp.StatusCode < 300:
		return true
	case !r.FollowRedirects && !r.byContent() || asked.Method != http.MethodHead:
		return false
	}
	to := locationOf(asked.URL, resp.StatusCode, resp.Header)
	return to != nil && leadsToContent(r, asked.URL, to)
}

// question is the request by which upstream is asked: the client's own, without what
// speaks of its own copy, with HEAD, or with GET where the rule says.
func (r *Rule) question(ctx context.Context, client *http.Request) *http.Request {
	req := ownRequest(ctx, client)
	req.Method = http.MethodHead
	for name := range req.Header {
		if ownCopyField(name) || name == "Te" || strings.HasPrefix(name, "Content-") || name == "Expect" {
			delete(req.Header, name)
		}
	}
	if r.Access == AccessSigned {
		// The method is signed as well. Of GET one byte is enough.
		req.Method, req.Header["Range"] = http.MethodGet, []string{"bytes=0-0"}
		return req
	}
	if r.RecheckAt == "" || r.RecheckScope == nil {
		return req
	}
	path := client.URL.EscapedPath()
	m := r.RecheckScope.FindStringSubmatchIndex(path)
	if m == nil {
		return req
	}
	target := string(r.RecheckScope.ExpandString(nil, r.RecheckAt, path, m))
	raw, query, _ := strings.Cut(target, "?")
	plain, err := url.PathUnescape(raw)
	if err != nil || !strings.HasPrefix(raw, "/") {
		return req // as an escape cut in two by a group
	}
	at := *client.URL
	at.Path, at.RawPath, at.RawQuery, at.ForceQuery = plain, raw, query, false
	eachParameter(client.URL.RawQuery, func(name, value string) {
		if isUserToken(name) && !slices.Contains(strings.Split(at.RawQuery, "&"), name+"="+value) {
			at.RawQuery = strings.TrimPrefix(at.RawQuery+"&"+url.QueryEscape(name)+"="+value, "&")
		}
	})
	req.Method, req.URL = http.MethodGet, &at
	return req
}
