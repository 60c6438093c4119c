package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/textproto"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"larder/cache/integrity"
	"larder/cache/store"
)

const (
	// holdLimit is how much of a 200 to a conditional request is read before clients
	// see any of it: if it turns out to be what is stored, they get that instead.
	holdLimit = 4 << 20
	// soonDone: a fill that nobody waits for is finished all the same when it needs
	// no longer than this at its present pace.
	soonDone = time.Minute
	// firstByte is how long clients wait for the first byte of the body before they
	// get the header: a body that breaks off before it can still become an error that
	// says so, or a stale response.
	firstByte = 200 * time.Millisecond
	// maxEcho is the largest error body that is given to all who wait for a fill.
	maxEcho = 64 << 10
)

// errAbandoned is the cause of a fill's end when its last client has left.
var errAbandoned = errors.New("every client has left")

// verdict is what became of a fill's request once its response header was in.
type verdict uint8

const (
	failed    verdict = iota + 1 // no response: err
	refused                      // 429 or 5xx while something is stored: the leader has resp
	unshared                     // not for others: the leader has resp
	validated                    // the stored response is the current one
	shared                       // every client reads from spool
	again                        // look up once more: the fill learned what selects the response
)

// fill is one request to upstream on behalf of any number of clients: a fetch that
// stores, a validation, or both. It runs in its own goroutine, ends when the body is
// stored or has failed, and is cancelled when no client is left and it is not worth
// finishing.
type fill struct {
	c       *Cache
	began   time.Time
	key     store.Key // in the table of flights
	private bool      // nobody may join
	primary store.Key
	rule    *Rule
	sent    *http.Request // the canonical request, without conditions
	content *Content      // in it, or nil
	stored  *selected     // what is being validated, or nil
	noStore bool          // a client's wish (RFC 9111, section 5.2.1.5)
	log     *slog.Logger

	ctx    context.Context
	cancel context.CancelCauseFunc

	// decided is closed when the fields below it are set, finished when all is over.
	decided                        chan struct{}
	verdict                        verdict
	err                            error
	status                         int
	header                         http.Header // end-to-end fields, for the leader
	common                         http.Header // the same as stored, for all others
	total                          int64       // Content-Length, or -1
	limit                          int64       // the size above which the body is not stored
	trailers                       bool        // trailer fields are announced
	why                            string      // why it is not shared, for Cache-Status
	echo                           []byte      // the body of an error that joiners get as well, or nil
	vouched                        bool        // see exchangeUnder
	set                            []string    // request fields that select the response
	current                        *record     // with validated: the freshened record
	spool                          *spool
	requested, received, decidedAt time.Time

	finished chan struct{}
	sum      [32]byte
	whole    bool // the body came to its proper end; sum is its SHA-256
	kept     bool // and it may be stored
	saved    bool // it is in the store
	trailer  http.Header

	hints    []integrity.Claim // what the client that asked expects
	check    *integrity.Check  // what the body is held to; nil: nothing
	withheld int64             // of the end of the body, until it is verified
	verified []integrity.Claim // what it was found to have
	ledgered *ledgered         // what the ledger calls it; nil: nothing
	epoch    uint64            // of the table of digests, when it was asked
	lesson   *lesson           // reads the body as an index; nil: nobody does
	taught   bool              // what the body says as an index is known

	checker  Checker // reads the body, if somebody has to judge it
	unusable string  // why the whole body is not stored, by the checker's word

	held     bool        // clients see nothing until it is known to be another response
	patience *time.Timer // decides when the first byte takes long; nil with held

	interim chan interim // for the leader, until decided; nil without one

	upstreamBytes atomic.Int64
	readers       atomic.Int32 // changed with c.mu held
	outdated      atomic.Bool  // an unsafe request came in between: do not store
	keep          atomic.Bool  // finish without clients
	released      sync.Once

	mu       sync.Mutex
	resp     *http.Response // for the leader to take
	orphaned bool           // there is no leader (any more)
}

// maxInterim bounds the interim responses that wait for the leader to pass them on.
const maxInterim = 8

// interim is a response that is not the final one (RFC 9110, section 15.2).
type interim struct {
	code   int
	header textproto.MIMEHeader
}

// inform keeps an interim response for the leader; when too many wait, others, which
// nobody is obliged to read, are dropped. The joiners' requests did not go upstream.
func (f *fill) inform(code int, header textproto.MIMEHeader) error {
	select {
	case f.interim <- interim{code, header}:
	default:
	}
	return nil
}

// run does the fill's work.
func (f *fill) run() {
	defer f.c.retire(f)
	resp, err := f.ask()
	if err != nil {
		f.err = err
		f.decide(failed)
		return
	}
	f.describe(resp)
	switch {
	case f.stored != nil && f.content == nil && resp.StatusCode == http.StatusNotModified:
		f.notModified(resp)
	case f.stored != nil && failsForNow(resp.StatusCode):
		f.hand(refused, resp)
	default:
		f.response(resp)
	}
}

// describe notes what the header of resp says.
func (f *fill) describe(resp *http.Response) {
	f.status, f.total = resp.StatusCode, resp.ContentLength
	f.header, f.trailers = endToEnd(resp.Header), len(resp.Trailer) > 0
}

// ask sends the canonical request, conditional when something is stored.
func (f *fill) ask() (*http.Response, error) {
	req := f.sent
	if f.stored != nil && f.content == nil {
		// With other methods than GET a condition that fails is 412, not 304.
		req = f.sent.Clone(f.ctx)
		addConditions(req, f.stored.rec)
	}
	f.requested = f.c.now()
	resp, vouched, err := f.c.exchangeUnder(f.rule, req)
	f.vouched = vouched
	f.received = f.c.now()
	return resp, err
}

// notModified handles a 304 to our own conditions.
func (f *fill) notModified(resp *http.Response) {
	resp.Body.Close()
	if !selects(f.stored.rec, resp.Header, f.rule.Mode) {
		// RFC 9111, section 4.3.4: it speaks of another response than ours. Asking
		// without conditions gives that one.
		f.c.drop(f.stored.key)
		f.decide(again)
		return
	}
	f.current = freshened(f.stored.rec, resp.Header, f.rule, f.requested, f.received)
	f.refresh()
	f.decide(validated)
}

// refresh writes the freshened record. If the object has gone in the meantime the
// clients that wait still get it from the leader's hands.
func (f *fill) refresh() {
	if f.outdated.Load() || f.noStore {
		return
	}
	f.c.freshen(f.log, f.primary, f.stored.key, f.current, f.rule)
	f.c.bindings.validated(f.stored.key)
	f.unstoreOutdated()
}

// unstoreOutdated takes back what the fill has stored when an unsafe request came
// while it was doing so, and reports whether that was so. One that comes later finds
// it in the store.
func (f *fill) unstoreOutdated() bool {
	if !f.outdated.Load() {
		return false
	}
	f.c.drop(f.primary)
	return true
}

// response decides what a whole response is good for, and stores it if it may be. One
// that breaks off before its body has begun gives way to the next.
func (f *fill) response(resp *http.Response) {
	r := resumption{f: f}
	for f.receive(resp) {
		var err error
		if resp, err = f.copy(resp, &r); resp == nil {
			f.end(err)
			return
		}
		f.describe(resp)
	}
}

// receive prepares for the body of resp, or passes it on if it is not to be stored.
func (f *fill) receive(resp *http.Response) bool {
	ok, why := storable(f.rule, f.sent, resp)
	if ok && f.noStore {
		ok, why = false, "no-store"
	}
	f.epoch = f.c.learning.epoch()
	claims := f.claims(resp.Header)
	if ok && resp.StatusCode == http.StatusOK && f.rule.unproved(claims) {
		ok, why = false, "unverified"
	}
	trusted := f.rule.trusts(f.sent.URL, f.vouched)
	if ok && !trusted {
		ok, why = false, "redirected"
	}
	if ok && f.tooLarge() {
		ok, why = false, "too-large"
	}
	throttled := f.c.circuits.throttles(f.sent.URL, f.received)
	if ok && throttled && resp.StatusCode >= 400 {
		// Some registries answer 404 to who asks too much.
		ok, why = false, "throttled"
	}
	if !ok {
		if f.stored != nil && trusted && supersedes(resp.StatusCode) && !(throttled && resp.StatusCode >= 400) {
			f.c.drop(f.stored.key)
		}
		f.why = why
		f.hand(unshared, resp)
		return false
	}
	f.set = keyFields(f.rule, f.sent.Header, resp.Header)
	f.common = storedHeader(resp.Header, f.rule, f.received)
	f.begin(resp)
	if f.spool == nil && !f.openSpool() {
		f.why = "store-failure"
		f.hand(unshared, resp)
		return false
	}
	f.expect(resp, claims)
	f.held, f.patience = f.mayBeUnchanged(), nil
	if !f.held {
		f.patience = time.AfterFunc(f.c.firstByte, func() { f.decide(shared) })
	}
	return true
}

func (f *fill) openSpool() bool {
	w, err := f.c.store.Create(f.ctx)
	if err != nil {
		f.c.storeFailed(f.log, "create", err)
		return false
	}
	f.spool = newSpool(w, func() bool { return f.readers.Load() > 0 })
	return true
}

// stopPatience keeps the header from going out without a byte of the body, and
// reports whether it has not.
func (f *fill) stopPatience() bool {
	if f.patience != nil && !f.patience.Stop() {
		f.decide(shared) // as is being done
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.verdict == 0
}

// supersedes reports whether a response that is not stored ends the use of the one
// that is: another representation, or upstream's word that there is none.
func supersedes(status int) bool {
	return status == http.StatusOK || absent(status)
}

// mayBeUnchanged reports whether the body might be the stored one once more, as from
// mirrors that know neither validators nor 304. Where HTTP alone decides, a 200 is a
// new response whatever it holds.
func (f *fill) mayBeUnchanged() bool {
	if f.stored == nil || f.rule.Mode == HTTP || f.stored.rec.status != f.status {
		return false
	}
	return f.stored.size <= holdLimit && (f.total < 0 || f.total == f.stored.size)
}

// end finishes a body that was read, whole or not.
func (f *fill) end(err error) {
	if err == nil {
		f.spool.arrive()
		f.sum, f.whole, f.kept = f.spool.sum(), true, true
		if err = f.checked(); err == nil {
			err = f.verify()
		}
		f.whole, f.kept = err == nil, f.kept && f.unusable == ""
		if f.whole && f.kept {
			f.learn()
		}
	}
	f.check.Close()
	f.dismiss()
	if err == nil {
		if f.kept && f.isStoredAgain() {
			f.current = revalidated(f.stored.rec, f.header, f.rule, f.requested, f.received)
			f.refresh()
			f.saved = !f.outdated.Load()
			f.decide(validated) // if clients were held back
		}
	}
	if err != nil {
		f.err = err
		f.decide(failed) // if clients were held back they have no part of it
	}
	f.decide(shared)
	f.spool.finish(err)
	if err != nil {
		f.failed(err)
		return
	}
	switch {
	case f.saved:
	case !f.kept && f.stored != nil:
		f.c.drop(f.stored.key) // there is another one now, if only for who has asked
	case f.kept && f.spool.lostTo() == nil:
		f.commit()
	}
	result := "unstored"
	if f.saved {
		result = "stored"
	}
	f.c.metrics.fills.WithLabelValues(result).Inc()
}

// failed counts and logs a fill that has come to nothing; what is wrong with a body that
// was refused is in the log already.
func (f *fill) failed(err error) {
	if _, ok := errors.AsType[*MismatchError](err); ok {
		f.c.metrics.fills.WithLabelValues("refused").Inc()
		return
	}
	f.c.metrics.fills.WithLabelValues("failed").Inc()
	f.log.Warn("fill failed", "err", err, "bytes", f.upstreamBytes.Load())
}

func (f *fill) isStoredAgain() bool {
	if f.stored == nil || f.rule.Mode == HTTP || !f.whole || f.stored.rec.status != f.status {
		return false
	}
	size, _ := f.spool.progress()
	return size == f.stored.size && f.sum == f.stored.sum &&
		slices.Equal(f.stored.rec.header["Content-Encoding"], f.header["Content-Encoding"])
}

// commit makes the body an object. A crash between the two writes leaves a list of
// variants without this one: a miss.
func (f *fill) commit() {
	if f.outdated.Load() {
		return
	}
	key, err := f.c.storageKey(f.primary, f.rule, f.set, f.sent.Header)
	if err != nil {
		f.c.storeFailed(f.log, "put variants", err)
		return
	}
	f.keepBefore(key)
	rec := f.record()
	rec.verified = f.verified
	if f.taught {
		rec.taught = f.c.learning.table.ID()
	}
	if _, err := f.spool.w.CommitWith(key, rec.encode(), f.rule.keeping()); err != nil {
		f.c.storeFailed(f.log, "commit", err)
		return
	}
	f.c.bindings.validated(key)
	f.c.share(f.log, f.rule, key, rec, f.sum)
	f.saved = !f.unstoreOutdated()
	if f.saved && f.teaches() && !f.taught {
		f.c.learnStored(key, f.sent.URL, f.rule)
	}
}

// record describes the response. It may be asked for once the fill is shared.
func (f *fill) record() *record {
	return &record{
		kind: kindObject, status: f.status, url: storedURL(f.sent.URL, f.rule), requested: f.requested, received: f.received,
		etag: f.header.Get("Etag"), lastModified: f.header.Get("Last-Modified"), header: f.common,
		selectors: append(f.content.selectors(f.sent.Method), selectorsOf(f.set, f.sent.Header)...),
		partition: f.rule.Partition,
	}
}

// aged is the header for those who did not ask upstream themselves: a response that
// is reused carries its present Age (RFC 9111, section 4).
func (f *fill) aged() http.Header {
	h := maps.Clone(f.common)
	h["Age"] = []string{ageField(currentAge(f.record(), f.c.now()))}
	return h
}

// decide publishes the verdict; only the first counts.
func (f *fill) decide(v verdict) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.verdict != 0 {
		return
	}
	f.verdict, f.decidedAt = v, f.c.now()
	close(f.decided)
}

// hand leaves the response to the leader, or closes it when there is none.
func (f *fill) hand(v verdict, resp *http.Response) {
	echo := f.mayEcho() && forbidden(f.rule, f.sent, resp, parseCacheControl(resp.Header["Cache-Control"])) == ""
	// Where the credential decides, others fare otherwise, and can wait for each other.
	denied := (f.rule.checked() || f.rule.byContent()) && f.status >= 400
	f.c.withdraw(f, !echo && !denied)
	if echo && f.readers.Load() > 1 {
		f.keepEcho(resp)
	}
	f.mu.Lock()
	orphaned := f.orphaned
	if !orphaned {
		f.resp = resp
	}
	f.mu.Unlock()
	if orphaned {
		resp.Body.Close()
	}
	f.decide(v)
}

// mayEcho reports whether all who wait get a response that is not stored: it says that
// upstream cannot answer now, or under a rule that there is nothing. Under HTTP an
// absence is shared where HTTP says for how long.
func (f *fill) mayEcho() bool {
	return failsForNow(f.status) || f.rule.Mode != HTTP && absent(f.status) && !f.rule.checked() && !f.rule.byContent()
}

// absent lists the answers that there is nothing at a URI.
func absent(status int) bool { return status == http.StatusNotFound || status == http.StatusGone }

// keepEcho reads an error's body for those who wait with the leader, if it is small.
func (f *fill) keepEcho(resp *http.Response) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxEcho+1))
	if err == nil && len(body) <= maxEcho {
		f.echo = append([]byte{}, body...) // not nil
		f.set = keyFields(f.rule, f.sent.Header, resp.Header)
		if _, named := f.rule.URLDigest(f.sent.URL); named {
			f.set = fieldSet(append(f.set, "accept")) // see canonicalRequest
		}
		f.common = storedHeader(resp.Header, f.rule, f.received)
		if f.rule.checked() {
			// That upstream cannot answer now is for all; whom it has told so, as with the
			// limit of an account, is not.
			f.echo, f.common = []byte{}, http.Header{"Date": f.common["Date"]}
			if v := resp.Header["Retry-After"]; len(v) > 0 {
				f.common["Retry-After"] = v
			}
		}
	}
	rest := io.Reader(bytes.NewReader(body))
	if err != nil {
		rest = io.MultiReader(rest, failedReader{err})
	} else {
		rest = io.MultiReader(rest, resp.Body)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{rest, resp.Body}
}

// failedReader repeats how reading ended.
type failedReader struct{ err error }

func (r failedReader) Read([]byte) (int, error) { return 0, r.err }

// take gives the leader the response that it is to pass on and to close.
func (f *fill) take() *http.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := f.resp
	f.resp = nil
	return resp
}

// orphan says that there is no leader (any more).
func (f *fill) orphan() {
	f.mu.Lock()
	f.orphaned = true
	f.mu.Unlock()
	if resp := f.take(); resp != nil {
		resp.Body.Close()
	}
}

// copy reads the response body into the spool, resuming it where upstream breaks off.
// It returns another response instead when that takes the place of one of which
// nobody has seen anything.
func (f *fill) copy(resp *http.Response, r *resumption) (*http.Response, error) {
	r.begin(resp)
	for {
		err := f.drain(resp.Body)
		resp.Body.Close()
		if err == nil {
			f.trailer = endToEnd(resp.Trailer)
			return nil, nil
		}
		// Nobody may have anything yet: let it come to an end first.
		size, _ := f.spool.progress()
		r.unseen = size == 0 && f.spool.lostTo() == nil && f.stopPatience()
		if resp, err = r.next(err); err != nil {
			return nil, err
		}
		if r.unseen {
			f.requested, f.received = r.requested, f.c.now()
			return resp, nil
		}
	}
}

// drain appends body to the spool until its end. An error of the type *readError came from
// upstream and may be worth another try.
func (f *fill) drain(body io.Reader) error {
	buf := getBuffer()
	defer putBuffer(buf)
	for {
		n, err := body.Read(*buf)
		if n > 0 {
			f.upstreamBytes.Add(int64(n))
			if err := f.add((*buf)[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return f.checkLength()
		case err != nil:
			return &readError{err}
		}
	}
}

func (f *fill) add(p []byte) error {
	size, _ := f.spool.progress()
	size += int64(len(p))
	lostBefore := f.spool.lostTo() != nil
	if size > f.limit && !lostBefore {
		f.spool.lose(errTooLarge)
		f.c.oversize.note(f.primary, size, f.c.now())
	}
	if f.checker != nil {
		_, _ = f.checker.Write(p) // which must not fail
	}
	if f.check != nil {
		f.check.Start(p)
	}
	err := f.spool.append(f.ctx, p)
	if f.check != nil {
		f.check.Wait()
	}
	if lost := f.spool.lostTo(); lost != nil && !lostBefore {
		f.decide(shared)
		if !errors.Is(lost, errTooLarge) {
			f.c.storeFailed(f.log, "write", lost)
		}
		f.c.withdraw(f, true)
	}
	if size > f.withheld && (!f.held || size > holdLimit) {
		// After the first bytes are there, so that they go out with the header.
		f.decide(shared)
	}
	if size == int64(len(p)) {
		// Where there is but one core, an upstream that is quick would keep it until
		// the scheduler steps in after 10 ms, and the clients without a byte.
		runtime.Gosched()
	}
	return err
}

// errTooLarge: larger than the rule or the store allows.
var errTooLarge = errors.New("too large to be stored")

// unstored says in a word of Cache-Status why the body is not being stored, "" while it is.
func (f *fill) unstored() string {
	switch lost := f.spool.lostTo(); {
	case lost == nil:
		if _, done := f.spool.progress(); done { // and with it the judgement
			return f.unusable
		}
		return ""
	case errors.Is(lost, errTooLarge):
		return "too-large"
	}
	return "store-failure"
}

func (f *fill) checkLength() error {
	size, _ := f.spool.progress()
	if f.total >= 0 && size != f.total {
		return &readError{fmt.Errorf("%d of %d bytes: %w", size, f.total, io.ErrUnexpectedEOF)}
	}
	return nil
}

// readError is a failure to read the body from upstream.
type readError struct{ err error }

func (e *readError) Error() string { return "read response body from upstream: " + e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// worthFinishing reports whether a fill that nobody waits for goes on: unless its rule
// says so or not, when more than half is there, or what is left takes no longer than
// soonDone.
func (f *fill) worthFinishing() bool {
	if f.keep.Load() {
		return true
	}
	select {
	case <-f.decided:
	default:
		return false
	}
	if f.verdict != shared {
		return false
	}
	size, done := f.spool.progress()
	if done {
		return true
	}
	if f.rule.FinishFill != FinishNear {
		return f.rule.FinishFill == FinishAlways && f.spool.lostTo() == nil
	}
	if f.total <= 0 || f.spool.lostTo() != nil {
		return false
	}
	if size*2 >= f.total {
		return true
	}
	took := f.c.now().Sub(f.decidedAt)
	return took >= time.Second && float64(f.total-size)/float64(max(size, 1))*took.Seconds() < soonDone.Seconds()
}
