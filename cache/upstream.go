package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// TimeoutError says that upstream sent nothing for too long. Its Timeout method lets
// callers answer 504.
type TimeoutError struct {
	URL   string        // without query and user information
	Phase string        // "response header" or "response body"
	After time.Duration // the limit that passed
}

// Error names the URL, what was awaited and for how long.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("get %s: no %s from upstream for %v", e.URL, e.Phase, e.After)
}

// Timeout is true: net.Error's way to ask.
func (e *TimeoutError) Timeout() bool { return true }

// roundTrip sends req and returns the response once its header is in. The body's
// reads fail with a *TimeoutError when nothing arrives for the idle timeout. A
// connection that dies before the first response byte is tried once more, since
// pooled ones do (RFC 9110, section 9.2.2: GET and HEAD may be repeated, and so may
// what a rule has called a question, see Content). net/http
// does so itself while it has pooled connections left; this one is for the fresh one
// that comes after them, as behind a load balancer that is being drained.
//
// What becomes of it is noted for the upstream's circuit; while that is open, nothing
// is sent.
func (c *Cache) roundTrip(req *http.Request) (*http.Response, error) {
	if err := c.circuits.admit(req.URL, c.now()); err != nil {
		return nil, err
	}
	resp, err := c.try(req)
	if err != nil && req.Context().Err() == nil && connectionDied(err) {
		resp, err = c.try(req)
	}
	switch {
	case err == nil:
		c.circuits.answered(req.URL, resp, c.now())
		c.NoteRedirect(req.URL, resp.StatusCode, resp.Header)
	case req.Context().Err() == nil && c.circuits.failed(req.URL, err, c.now()):
		c.metrics.circuitsOpened.Inc()
		c.log.Warn("upstream is down", "host", req.URL.Host, "err", err)
	}
	return resp, err
}

func (c *Cache) try(req *http.Request) (resp *http.Response, err error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	late := &TimeoutError{URL: logURL(req.URL), Phase: "response header", After: c.idle}
	timer := time.AfterFunc(c.idle, func() { cancel(late) })
	req = req.WithContext(ctx)
	if req.GetBody != nil {
		if req.Body, err = req.GetBody(); err != nil {
			cancel(nil)
			return nil, err
		}
	}
	resp, err = c.upstream.RoundTrip(req)
	if !timer.Stop() && err == nil {
		// The timer has fired: what came is about to be cut off anyway.
		resp.Body.Close()
		err = late
	}
	if err != nil {
		err = causeOf(ctx, err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &idleBody{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, idle: c.idle, url: late.URL}
	return resp, nil
}

// causeOf prefers the reason why larder itself ended a request to "context canceled".
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if late, ok := errors.AsType[*TimeoutError](context.Cause(ctx)); ok {
		return late
	}
	return err
}

// timedOut reports whether an error says of itself that it is a timeout.
func timedOut(err error) bool {
	timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && timeout.Timeout()
}

func connectionDied(err error) bool {
	if timedOut(err) {
		return false
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		// net/http's and x/net/http2's own errors have no exported values.
		strings.Contains(err.Error(), "server closed idle connection") ||
		strings.Contains(err.Error(), "GOAWAY") || strings.Contains(err.Error(), "REFUSED_STREAM")
}

// idleBody cancels its request when a read waits longer than idle.
type idleBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	idle   time.Duration
	url    string
	timer  *time.Timer
}

// Read reads from upstream. The timer runs only while a read waits: a slow client is
// not a silent upstream.
func (b *idleBody) Read(p []byte) (int, error) {
	if b.timer == nil {
		b.timer = time.AfterFunc(b.idle, func() {
			b.cancel(&TimeoutError{URL: b.url, Phase: "response body", After: b.idle})
		})
	} else {
		b.timer.Reset(b.idle)
	}
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if err != nil && err != io.EOF {
		err = causeOf(b.ctx, err)
	}
	return n, err
}

// Close ends the request.
func (b *idleBody) Close() error {
	if b.timer != nil {
		b.timer.Stop()
	}
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
