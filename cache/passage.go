package cache

import (
	"errors"
	"maps"
	"net/http"
	"time"
)

// passage is one request's part in a fill.
type passage struct {
	*exchange
	fill   *fill
	leader bool
	// late: the body was complete already when the request came.
	late  bool
	found found
	j     judgement
}

// bodyDone reports whether the fill has nothing left to do but to store.
func (f *fill) bodyDone() bool {
	select {
	case <-f.decided:
	default:
		return false
	}
	if f.verdict != shared {
		return false
	}
	_, done := f.spool.progress()
	return done
}

// errSlow: upstream takes long, and the request has something else to be answered with.
var errSlow = errors.New("upstream is slow to answer")

func (p *passage) leave() {
	if p.leader {
		p.fill.orphan()
		p.out.UpstreamBytes += p.fill.upstreamBytes.Load()
	}
	p.c.leave(p.fill)
}

// wait waits until the fill knows what it brings.
func (p *passage) wait() error {
	ready := p.fill.decided
	if p.late {
		// It is being stored: a moment later it is a hit.
		ready = p.fill.finished
	}
	var interims <-chan interim // nil for all but the leader
	if p.leader {
		interims = p.fill.interim
	}
	var patience <-chan time.Time // nil for who has nothing else
	if p.j.ifError {
		// Counted from when upstream was asked: who joins need not wait once more.
		t := time.NewTimer(time.Until(p.fill.began.Add(p.c.budget)))
		defer t.Stop()
		patience = t.C
	}
	for {
		select {
		case i := <-interims:
			p.inform(i.code, i.header)
			continue
		case <-ready:
		case <-patience:
			return errSlow
		case <-p.r.Context().Done():
			return p.r.Context().Err()
		}
		break
	}
	// Both may have been ready. What came before the final response goes out before it.
	for len(interims) > 0 {
		i := <-interims
		p.inform(i.code, i.header)
	}
	if p.late {
		return errAgain
	}
	return nil
}

// act answers the request by the fill's verdict; set holds the fields that its
// canonical request carried on.
func (p *passage) act(set []string) error {
	f := p.fill
	p.out.Collapsed = !p.leader
	if ok, err := p.mayHave(); !ok {
		p.out.Collapsed = false
		return err
	}
	switch f.verdict {
	case failed:
		if p.j.ifError {
			return p.staleOnError(0)
		}
		return f.err
	case refused:
		return p.refused()
	case unshared:
		return p.unshared(set)
	case validated:
		return p.validated()
	case shared:
		return p.shared()
	default:
		p.out.Collapsed = false
		return errAgain
	}
}

// mayHave is admitted for what the fill brings. What upstream has sent at the leader's
// request it has sent to the leader, and what it has refused nobody else can have either.
func (p *passage) mayHave() (bool, error) {
	if !p.rule.checked() {
		return true, nil
	}
	brings := p.fill.verdict == shared || p.fill.verdict == validated
	if p.leader {
		if p.rule.RecheckProof != nil {
			// What was sent to it is its own to have, and proves nothing.
			return true, nil
		}
		if p.fill.vouched && (brings || p.fill.verdict == unshared && p.fill.status < 300) {
			p.c.verdicts.allow(p.c.verdicts.claimOf(p.r, p.rule), p.c.now())
			p.cleared = true
		}
		return true, nil
	}
	if !brings {
		return true, nil
	}
	return p.admitted(nil)
}

// staleOnError serves what is stored although upstream fails (RFC 5861, section 4).
func (p *passage) staleOnError(status int) error {
	p.out.Hit = true
	ttl := p.j.ttl
	s, old := p.generation(p.found.selected)
	defer old.release()
	return p.fromStore(s, cacheStatus{
		fwd: p.j.because, fwdStatus: status, ttl: &ttl, collapsed: p.out.Collapsed, detail: "stale-if-error",
	})
}

// refused: upstream answered a validation with 429 or 5xx.
func (p *passage) refused() error {
	if p.j.ifError {
		return p.staleOnError(p.fill.status)
	}
	return p.leaderOnly("")
}

// leaderOnly passes the response on to the leader; the others ask for themselves.
func (p *passage) leaderOnly(detail string) error {
	if !p.leader && p.fill.echo != nil && sameFields(p.fill.set, p.fill.sent.Header, p.r.Header) {
		return p.echoed()
	}
	if !p.leader {
		return p.askAlone()
	}
	resp := p.fill.take()
	if resp == nil {
		return p.r.Context().Err()
	}
	return p.relay(resp, cacheStatus{fwd: p.j.because, detail: detail})
}

// askAlone gives up waiting for others.
func (p *passage) askAlone() error {
	p.out.Collapsed = false
	p.alone = true
	return errAgain
}

// echoed answers with the leader's error: asking once more for each who waited would
// make the trouble that it tells of worse, and find nothing once more.
func (p *passage) echoed() error {
	f := p.fill
	r := p.newReply(f.status, f.common, cacheStatus{fwd: p.j.because, collapsed: true})
	r.setLength(int64(len(f.echo)))
	r.start()
	if p.r.Method == http.MethodHead {
		return nil
	}
	_, err := r.Write(f.echo)
	return err
}

// unshared: the response is for nobody else. If upstream refuses the canonical
// request, and the client's own says more than that, its own decides. So do its
// credentials where a leader without any was told that there is nothing.
func (p *passage) unshared(set []string) error {
	status := p.fill.status
	if !p.leader && (p.rule.checked() || p.rule.byContent()) && status >= 400 && !failsForNow(status) {
		// It was the leader's credential that upstream did not like, or its URL.
		p.out.Collapsed = false
		return errAgain
	}
	odd := status >= 400 && status < 500 && status != http.StatusTooManyRequests && withholdsOdd(p.r, p.rule, p.content.sent(set))
	switch {
	case odd && p.leader:
		p.fill.orphan()
		return p.forward(p.j.because, "own-request")
	case !p.leader && (odd || absent(status) && hasCredentials(p.rule, p.r)):
		return p.askAlone()
	case !p.leader && p.fill.why == "authorization" && !hasCredentials(p.rule, p.r):
		p.out.Collapsed = false
		return errAgain
	}
	return p.leaderOnly(p.fill.why)
}

// validated serves the stored response that upstream confirmed.
func (p *passage) validated() error {
	f := p.fill
	s := p.found.selected
	if s == nil || s.key != f.stored.key {
		if s = p.c.load(f.stored.key); s == nil {
			p.out.Collapsed = false
			return errAgain
		}
		defer s.release()
	}
	fresh := *s
	fresh.rec = f.current
	if cookies := f.header["Set-Cookie"]; p.leader && len(cookies) > 0 {
		// Meant for the client whose request went upstream, whether or not it is kept.
		rec := *f.current
		rec.header = maps.Clone(rec.header)
		rec.header["Set-Cookie"] = cookies
		fresh.rec = &rec
	}
	p.out.Hit, p.out.Stored = true, !f.noStore
	cs := cacheStatus{fwd: "stale", fwdStatus: f.status, collapsed: !p.leader}
	if p.j.because == "request" {
		cs.fwd = "request"
	}
	if f.status != http.StatusNotModified {
		cs.detail = "unchanged"
	}
	if after := judge(f.current, p.rule, nil, p.c.now()); after.ttl != forever {
		cs.ttl = new(max(after.ttl, 0))
	}
	return p.fromStore(&fresh, cs)
}

// shared feeds the client from the running fill.
func (p *passage) shared() error {
	f := p.fill
	if !sameFields(f.set, f.sent.Header, p.r.Header) {
		// It varies by a field in which this client differs from what was asked.
		p.learned = append(p.learned, f.set...)
		p.out.Collapsed = false
		return errAgain
	}
	if !p.leader && !p.mayShare() {
		return p.comeBack()
	}
	header := f.common
	if p.leader {
		header = f.header
	} else if p.rule.Mode == HTTP {
		header = f.aged()
	}
	cs := cacheStatus{fwd: p.j.because, collapsed: !p.leader, detail: f.unstored()}
	cs.stored = p.leader && cs.detail == ""
	err := p.fromFill(f, header, cs)
	if err != nil || p.out.Status == 0 {
		return err
	}
	return p.awaitStored()
}

// mayShare reports whether the response to the leader may answer this request too. RFC
// 9111, section 4, allows collapsing where the response could be reused, once stored,
// for the request in question.
func (p *passage) mayShare() bool {
	return p.rule.Mode != HTTP || judge(p.fill.record(), p.rule, p.req, p.c.now()).fresh
}

// comeBack looks up once more when what another request fetched is in the store, to
// validate it; or at once and alone when there is nothing to validate it with.
func (p *passage) comeBack() error {
	p.out.Collapsed = false
	if len(p.fill.header["Etag"]) == 0 && len(p.fill.header["Last-Modified"]) == 0 {
		return p.askAlone()
	}
	if _, whole, err := p.fill.spool.reach(p.r.Context(), maxOffset); err != nil {
		return err
	} else if !whole {
		return p.askAlone() // it will not be in the store, and may wait for us to read it
	}
	select {
	case <-p.fill.finished:
		return errAgain
	case <-p.r.Context().Done():
		return p.r.Context().Err()
	}
}

// storePatience bounds how long a served request waits to learn that it was stored.
const storePatience = 2 * time.Second

// awaitStored waits, where the client has got the end of the body, until it is
// stored, so that what the log says is true.
func (p *passage) awaitStored() error {
	f := p.fill
	if size, done := f.spool.progress(); !done && size != f.total {
		return nil
	}
	select {
	case <-f.finished:
	default:
		// The client need not wait with us. It may have gone already: curl closes
		// the connection at the last byte it was promised, and has lost nothing.
		_ = p.flush()
	}
	select {
	case <-f.finished:
		p.out.Stored = f.saved
		if f.whole {
			p.out.SHA256, p.out.Verified = hexSum(f.sum), proofOf(f.verified)
		}
	case <-time.After(p.c.storePatience):
	}
	return nil
}
