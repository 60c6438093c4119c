package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// finishTimeout is more than the daemon takes to finish a run.
const finishTimeout = finishWait + serveWait + 30*time.Second

// Run is one command's use of larder. It lasts until Close or until this process
// ends; then the daemon closes its port. Methods may be called concurrently.
type Run struct {
	// ID tells it from other runs in the daemon's log.
	ID string
	// ProxyAddr is host:port of the run's own proxy, on the loopback address.
	ProxyAddr string
	// Files are what the command needs to trust it.
	Files TrustFiles

	http   *http.Client
	cancel context.CancelFunc
	stream io.Closer
}

// StartRun has the daemon open a run. Should the daemon end just now, its
// successor is found or started as in Connect. ctx bounds the call, not the run.
func (c *Client) StartRun(ctx context.Context, req RunRequest) (*Run, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	for {
		run, err := c.openRun(ctx, req)
		if err == nil {
			return run, nil
		}
		if ctx.Err() != nil || !gone(err) && !refusedAs(err, codeEnding) {
			return nil, fmt.Errorf("start a run: %w", err)
		}
		// One that is ending needs a moment, and nobody is served by haste.
		select {
		case <-ctx.Done():
		case <-time.After(pollFirst):
		}
		if err := c.reach(ctx); err != nil {
			return nil, err
		}
	}
}

func (c *Client) openRun(ctx context.Context, req RunRequest) (*Run, error) {
	// The stream outlives ctx, which ends only the wait for its first line.
	live, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	body, err := send(live, c.http, http.MethodPost, "/v1/runs", req)
	if err != nil {
		cancel()
		return nil, err
	}
	var first opened
	err = json.NewDecoder(body).Decode(&first)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		body.Close()
		return nil, fmt.Errorf("read the background larder's answer: %w", err)
	}
	return &Run{
		ID:        first.ID,
		ProxyAddr: first.Proxy,
		Files:     first.Files,
		http:      c.http,
		cancel:    cancel,
		stream:    body,
	}, nil
}

// Finish closes the run's port, waits for the exchanges that are under way, ten
// seconds at most, and returns the sums. Later calls return the same sums. An error that wraps ErrLost
// says that the daemon is gone, and the account with it.
func (r *Run) Finish(ctx context.Context) (Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	var sum Summary
	if err := call(ctx, r.http, http.MethodPost, r.path("finish"), nil, &sum); err != nil {
		return Summary{}, fmt.Errorf("finish the run: %w", lost(err))
	}
	return sum, nil
}

// Fetched lists the exchanges that have ended, in the order of their ends; call
// it after Finish for all of them, and before Close. The list is read while it is
// ranged over. An error is the last pair; it wraps ErrLost if the daemon is gone.
func (r *Run) Fetched(ctx context.Context) iter.Seq2[Exchange, error] {
	return func(yield func(Exchange, error) bool) {
		body, err := send(ctx, r.http, http.MethodGet, r.path("exchanges"), nil)
		if err != nil {
			yield(Exchange{}, fmt.Errorf("list the run: %w", lost(err)))
			return
		}
		defer body.Close()
		lines := json.NewDecoder(body)
		for {
			var x Exchange
			err := lines.Decode(&x)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(Exchange{}, fmt.Errorf("list the run: %w", lost(err)))
				return
			}
			if !yield(x, nil) {
				return
			}
		}
	}
}

// HAR writes the record of a run that asked for it; call it after Finish and before
// Close. What w was given is the whole of it only if there is no error.
func (r *Run) HAR(ctx context.Context, w io.Writer) error {
	body, err := send(ctx, r.http, http.MethodGet, r.path("har"), nil)
	if err != nil {
		return fmt.Errorf("read the record of the run: %w", lost(err))
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("read the record of the run: %w", lost(err))
	}
	return nil
}

// Close ends the run, and the daemon forgets its account. It may be called any
// number of times.
func (r *Run) Close() error {
	r.cancel()
	return r.stream.Close()
}

func (r *Run) path(what string) string {
	return "/v1/runs/" + url.PathEscape(r.ID) + "/" + what
}

// lost marks errors that mean the end of the daemon. A successor does not know
// the run.
func lost(err error) error {
	if gone(err) || refusedAs(err, codeUnknown) {
		return fmt.Errorf("%w (%w)", ErrLost, err)
	}
	return err
}
