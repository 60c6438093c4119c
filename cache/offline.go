package cache

import (
	"errors"
	"net/http"
)

// SetOffline makes the cache answer from the store alone, whatever the age of what
// is there, or ends that. Fills that are under way go on.
func (c *Cache) SetOffline(offline bool) { c.offline.Store(offline) }

// offline reports whether upstream must not be asked.
func (x *exchange) offline() bool { return x.rule.Offline || x.c.offline.Load() }

// serveOffline answers from the store, whatever the age of the response there, and
// never asks upstream. RFC 9111, section 4.2.4, lets a cache serve stale responses
// when it is disconnected; that this also goes for what must be revalidated is what
// the operator asks for.
func (x *exchange) serveOffline() error {
	if !x.answerable() || x.forOrigin() {
		return x.offlineMiss()
	}
	for range maxRounds {
		if err := x.offlineRound(); !errors.Is(err, errAgain) {
			return err
		}
	}
	return x.offlineMiss()
}

func (x *exchange) offlineRound() error {
	f := x.c.lookup(x.primary, x.rule, x.r.Header)
	defer f.release()
	by, other := x.bind(&f)
	if by != nil {
		return x.byList(by)
	}
	if f.selected == nil {
		f.selected = x.adopt()
	}
	if f.selected == nil || other {
		return x.offlineMiss()
	}
	switch x.reverify(f.selected) {
	case unsettled:
		return errAgain
	case wrong:
		x.c.drop(f.key)
		return errAgain
	}
	j := judge(f.rec, x.rule, x.req, x.c.now())
	if j.expired {
		return x.offlineMiss()
	}
	if j.fresh {
		return x.hit(f.selected, j, "")
	}
	s, old := x.generation(f.selected)
	defer old.release()
	return x.hit(s, j, "offline")
}

// offlineMiss is the answer where nothing is stored.
func (x *exchange) offlineMiss() error {
	x.c.metrics.offline.Inc()
	body := "larder: offline, and nothing is stored for " + logURL(x.r.URL) + "\n"
	return x.text(http.StatusGatewayTimeout, cacheStatus{detail: "offline"}, body)
}

// forOrigin reports whether the request has preconditions that are for the origin to
// judge (RFC 9110, section 13.1.1).
func (x *exchange) forOrigin() bool {
	return len(x.r.Header["If-Match"]) > 0 || len(x.r.Header["If-Unmodified-Since"]) > 0
}
