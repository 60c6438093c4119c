package cache

import (
	"cmp"
	"encoding/hex"
	"errors"
	"net/http"

	"larder/cache/store"
)

const (
	// maxRounds bounds how often a request starts over because what it relied on went
	// away. Then it is passed through.
	maxRounds = 5
	// maxLooks bounds how often it looks up, other fills' ends included.
	maxLooks = 1000
)

// errAgain: look up once more.
var errAgain = errors.New("look up again")

// exchange is one request on its way through the cache.
type exchange struct {
	c       *Cache
	w       http.ResponseWriter
	r       *http.Request
	rule    *Rule
	req     directives
	primary store.Key
	content *Content // nil: the method has none
	out     Outcome

	// alone: waiting for other requests has proved useless.
	alone bool
	// learned: request fields that were seen to select the response.
	learned []string
	// seen is what flights.savesOf said before the latest look-up.
	seen uint64
	// cleared: the client may have what is stored; clearedBy says how that was found
	// out, in a word of Cache-Status, where it was only now.
	cleared   bool
	clearedBy string
	// kept: the answer is what is stored, or being stored.
	kept bool
	// vouched is that of the latest request of its own; see exchangeUnder.
	vouched bool
}

func newExchange(c *Cache, w http.ResponseWriter, r *http.Request, rule *Rule) *exchange {
	rule = rule.at(r.URL)
	return &exchange{
		c: c, w: w, r: r, rule: rule,
		req:     requestDirectives(r.Header),
		primary: primaryKey(r.URL, rule),
	}
}

// serve answers the request.
func (x *exchange) serve() error {
	if x.offline() {
		return x.serveOffline()
	}
	if x.content == nil && !x.answerable() {
		return x.forward("method", "")
	}
	if x.forOrigin() || !x.answerable() {
		return x.forward("request", "")
	}
	for n, looks := 0, 0; n < maxRounds && looks < maxLooks; looks++ {
		err := x.round()
		if !errors.Is(err, errAgain) {
			return err
		}
		if err != errSaved { // which happens to others' keys as well, and costs nothing
			n++
		}
	}
	return x.forward("miss", "contended")
}

// round looks up and acts on what is found.
func (x *exchange) round() error {
	x.seen = x.c.flights.savesOf(x.primary)
	f := x.c.lookup(x.primary, x.rule, x.r.Header)
	defer f.release()
	by, other := x.bind(&f)
	if by != nil {
		return x.byList(by)
	}
	if f.selected == nil {
		if f.selected = x.adopt(); f.selected == nil {
			return x.miss(f)
		}
	}
	j := judge(f.rec, x.rule, x.req, x.c.now())
	switch x.reverify(f.selected) {
	case unsettled:
		return errAgain
	case wrong:
		x.c.drop(f.key)
		return errAgain
	case outdated:
		j.fresh, j.whileRevalidate, j.because = false, false, "stale"
	}
	if x.content == nil {
		x.c.teach(f.selected, x.r.URL, x.rule)
		if x.disagrees(f.selected) {
			return x.forward("request", "client-digest")
		}
	}
	if other {
		x.c.metrics.bound.WithLabelValues("another-generation").Inc()
		j = judgement{because: "stale"}
	}
	if j.ifError && !j.fresh {
		j.ifError = x.mayGoUnasked()
	}
	switch {
	case j.fresh:
		return x.hit(f.selected, j, "")
	case j.whileRevalidate && !x.req.has("no-store"):
		if x.c.circuits.spared(x.r.URL, x.c.now()) == "" {
			if _, err := x.background(f); err != nil {
				return err
			}
		}
		return x.hit(f.selected, j, "stale-while-revalidate")
	case x.req.has("only-if-cached"):
		return x.onlyIfCached()
	}
	if j.ifError {
		if why := x.c.circuits.spared(x.r.URL, x.c.now()); why != "" {
			x.c.metrics.spared.WithLabelValues(why).Inc()
			s, old := x.generation(f.selected)
			defer old.release()
			return x.hit(s, j, why)
		}
	}
	if x.r.Method == http.MethodHead {
		return x.validateHead(f, j)
	}
	if x.rule.ValidateHead && !x.req.has("no-store") {
		return x.validateByHead(f, j)
	}
	return x.fetch(f, j)
}

// hit answers from the store without asking upstream for it.
func (x *exchange) hit(s *selected, j judgement, detail string) error {
	if ok, err := x.admitted(s); !ok {
		return err
	}
	x.out.Hit = true
	cs := cacheStatus{hit: true, detail: cmp.Or(detail, x.clearedBy, j.overrules)}
	if j.ttl != forever {
		cs.ttl = &j.ttl
	}
	return x.fromStore(s.without(j.without), cs)
}

// miss handles a request for which nothing is stored.
func (x *exchange) miss(f found) error {
	if err := x.withoutStore(); err != nil {
		return err
	}
	switch {
	case x.req.has("only-if-cached"):
		return x.onlyIfCached()
	case x.req.has("no-store"):
		return x.forward(f.reason(), "no-store")
	}
	key := flightKey(x.primary, f.flightSet(x.rule, x.learned), fieldSource(x.r.Header))
	running, err := x.c.flights.peek(key, x.primary, x.seen)
	if err != nil {
		return err
	}
	if !running {
		if x.r.Method == http.MethodHead {
			// A HEAD that became a GET would count against quotas, and cost the body.
			return x.forward(f.reason(), "")
		}
		if x.prefersPart() {
			return x.forwardPart(f)
		}
	}
	return x.fetch(f, judgement{because: f.reason()})
}

// reason is RFC 9211's word for a miss.
func (f found) reason() string {
	if f.other {
		return "vary-miss"
	}
	return "uri-miss"
}

// prefersPart reports whether a range of something not stored is better asked for
// itself than by fetching the whole.
func (x *exchange) prefersPart() bool {
	ranges, ok := parseRange(x.r.Header["Range"])
	if !ok {
		return false
	}
	if x.rule.Mode != Immutable || len(ranges) > 1 || ranges[0].first != 0 {
		return true
	}
	// From the first byte to the last is the whole. To any other, it is only where the
	// rule wants the whole fetched: who probes with bytes=0-0 would have it sent.
	return ranges[0].last >= 0 && !x.rule.FillRanges
}

// onlyIfCached is RFC 9111, section 5.2.1.7.
func (x *exchange) onlyIfCached() error {
	const body = "larder: not stored, and the request says only-if-cached\n"
	return x.text(http.StatusGatewayTimeout, cacheStatus{detail: "only-if-cached"}, body)
}

// fetch joins or starts the fill for the request and acts on what it brings.
func (x *exchange) fetch(f found, j judgement) error {
	set := f.forwardSet(x.rule, x.learned)
	fl, leader, err := x.c.board(boarding{
		key: flightKey(x.primary, f.flightSet(x.rule, x.learned), fieldSource(x.r.Header)), primary: x.primary,
		request: x.r, content: x.content, rule: x.rule, set: set, stored: f.selected,
		private: x.alone || x.req.has("no-store"), noStore: x.req.has("no-store"), seen: x.seen,
	})
	if err != nil {
		return err
	}
	p := passage{exchange: x, fill: fl, leader: leader, found: f, j: j, late: !leader && fl.bodyDone()}
	defer p.leave()
	err = p.wait()
	if errors.Is(err, errSlow) {
		// The fill goes on, for the next request.
		fl.keep.Store(true)
		x.c.metrics.spared.WithLabelValues("upstream-slow").Inc()
		return p.staleOnError(0)
	}
	if err != nil {
		return err
	}
	return p.act(set)
}

// background validates a stale response that has been served, or fetches the whole of
// which a range is served. Its fill's owner is the cache, which waits for it in Close.
// others reports that a fill was running already.
func (x *exchange) background(f found) (others bool, err error) {
	set := f.forwardSet(x.rule, x.learned)
	fl, leader, err := x.c.board(boarding{
		key: flightKey(x.primary, f.flightSet(x.rule, x.learned), fieldSource(x.r.Header)), primary: x.primary,
		request: x.r, content: x.content, rule: x.rule, set: set, stored: f.selected, background: true, seen: x.seen,
	})
	if errors.Is(err, errSaved) {
		return false, nil // perhaps just this; the next request will tell
	}
	return fl != nil && !leader, err
}

func hexSum(sum [32]byte) string { return hex.EncodeToString(sum[:]) }
