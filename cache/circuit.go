package cache

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	// A circuit opens after openAfter failures in a row that lasted openOver at the
	// least, so that a burst of requests into a restart does not open it. It then
	// lets one request through at a time: after firstRetry, and after twice as long
	// each time that one fails, up to lastRetry.
	openAfter  = 5
	openOver   = time.Second
	firstRetry = 500 * time.Millisecond
	lastRetry  = 15 * time.Second
	// maxCircuits bounds the upstreams in trouble that are remembered.
	maxCircuits = 1024
	// maxThrottle bounds what Retry-After may ask for. An upstream that has sent a 429
	// is taken to be throttling for someThrottle at least.
	maxThrottle  = time.Hour
	someThrottle = 10 * time.Second
)

// circuits remembers which upstreams (scheme, host and port) are in trouble, and of
// what kind: that they cannot be reached, or that they ask to be left alone. Upstreams
// that are well are not in it.
type circuits struct {
	mu     sync.Mutex
	byHost map[string]*circuit
}

type circuit struct {
	// failures in a row to get any response, since when, and the last one.
	failures int
	since    time.Time
	err      error
	// dial: connections cannot be made at all. paths: the failures were of more than
	// the one in path. One URL at which an upstream chokes says nothing of the others.
	dial, paths bool
	path        string
	// open, and until when no request is let through.
	open  bool
	until time.Time
	retry time.Duration

	// throttled and unavailable: until when upstream asks to be left alone by a 429 and
	// by a 503. wary: until when its 404s are not to be believed.
	throttled, unavailable, wary time.Time
}

// resting reports whether upstream asks to be left alone.
func (c *circuit) resting(now time.Time) bool {
	return now.Before(c.throttled) || now.Before(c.unavailable)
}

// downError is a request that was not sent since its upstream has failed before.
type downError struct {
	host     string
	failures int
	err      error // the latest of the failures
}

// Error names the upstream and the latest failure.
func (e *downError) Error() string {
	return fmt.Sprintf("upstream %s is given a rest after %d failures: %v", e.host, e.failures, e.err)
}

// Unwrap gives the latest failure, whose meaning is also this one's.
func (e *downError) Unwrap() error { return e.err }

func circuitKey(u *url.URL) string { return u.Scheme + "://" + u.Host }

// spared tells why, for the moment, an upstream is better not asked by who has another
// answer: "throttled", "upstream-down", or "" when nothing speaks against it.
func (t *circuits) spared(u *url.URL, now time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.byHost[circuitKey(u)]
	switch {
	case c == nil:
		return ""
	case c.resting(now):
		return "throttled"
	case c.open && now.Before(c.until):
		return "upstream-down"
	}
	return ""
}

// throttles reports whether an upstream refuses some requests for being too many, so
// that its answers need not mean what they say.
func (t *circuits) throttles(u *url.URL, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.byHost[circuitKey(u)]
	return c != nil && (c.resting(now) || now.Before(c.wary))
}

// admit lets a request through to its upstream, or says why not. Where the circuit is
// open and its time has come, the request is the probe, and others wait for the next.
func (t *circuits) admit(u *url.URL, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.byHost[circuitKey(u)]
	if c == nil || !c.open {
		return nil
	}
	if now.Before(c.until) {
		return &downError{host: u.Host, failures: c.failures, err: c.err}
	}
	c.retry = min(2*c.retry, lastRetry)
	c.until = now.Add(c.retry)
	return nil
}

// failed notes that a request got no response. It reports whether this opened the
// circuit.
func (t *circuits) failed(u *url.URL, err error, now time.Time) bool {
	dial, counts := hostFailure(err)
	if !counts {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.of(circuitKey(u), now)
	if c.failures == 0 {
		c.since, c.path = now, u.Path
	}
	c.failures++
	c.err = err
	c.dial = c.dial || dial
	c.paths = c.paths || c.path != u.Path
	if c.open || c.failures < openAfter || now.Sub(c.since) < openOver || !c.dial && !c.paths {
		return false
	}
	c.open, c.retry, c.until = true, firstRetry, now.Add(firstRetry)
	return true
}

// answered notes a response, of whatever status: the upstream can be reached.
func (t *circuits) answered(u *url.URL, resp *http.Response, now time.Time) {
	d := retryAfter(resp, now)
	tooMany := resp.StatusCode == http.StatusTooManyRequests
	t.mu.Lock()
	defer t.mu.Unlock()
	key := circuitKey(u)
	c := t.byHost[key]
	if c == nil && d == 0 && !tooMany {
		return
	}
	if c == nil {
		c = t.of(key, now)
	}
	*c = circuit{throttled: c.throttled, unavailable: c.unavailable, wary: c.wary}
	switch {
	case tooMany:
		c.wary = later(c.wary, now.Add(someThrottle))
		c.throttled = later(c.throttled, now.Add(d))
	case d > 0:
		c.unavailable = later(c.unavailable, now.Add(d))
	case resp.StatusCode < 400:
		// A 503 was about that resource, or is over: this one was served. An error says
		// no such thing: some that are overloaded answer 404. And a 429 is about larder,
		// so that no answer in between takes it back.
		c.unavailable = time.Time{}
	}
	if !c.matters(now) {
		delete(t.byHost, key)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// matters reports whether there is anything to remember.
func (c *circuit) matters(now time.Time) bool {
	return c.failures > 0 || c.resting(now) || now.Before(c.wary)
}

// of returns the circuit for key, new when there is none. Called with mu held.
func (t *circuits) of(key string, now time.Time) *circuit {
	if c := t.byHost[key]; c != nil {
		return c
	}
	if t.byHost == nil {
		t.byHost = make(map[string]*circuit)
	}
	if len(t.byHost) >= maxCircuits {
		t.makeRoom(now)
	}
	c := &circuit{}
	t.byHost[key] = c
	return c
}

// makeRoom forgets what has no effect now, or else any one. Called with mu held.
func (t *circuits) makeRoom(now time.Time) {
	var any string
	for key, c := range t.byHost {
		any = key
		if !c.open && !c.resting(now) && !now.Before(c.wary) {
			delete(t.byHost, key)
		}
	}
	if len(t.byHost) >= maxCircuits {
		delete(t.byHost, any)
	}
}

// retryAfter returns for how long a response asks to be left alone: RFC 6585, section
// 4, and RFC 9110, sections 10.2.3 and 15.6.4.
func retryAfter(resp *http.Response, now time.Time) time.Duration {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	v := resp.Header.Get("Retry-After")
	if seconds, ok := parseOffset(v); ok {
		return time.Duration(min(seconds, int64(maxThrottle/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(at.Sub(now), 0), maxThrottle)
	}
	return 0
}

// hostFailure reports whether an error may be the upstream's as a whole, and whether
// no connection could be made. Certificates and broken protocols are not among them:
// they do not pass by waiting, and are as quick to find out once more.
func hostFailure(err error) (dial, counts bool) {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true, true
	}
	return false, timedOut(err) || connectionDied(err)
}
