package mitm

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errStalled is the cause with which a stall ends a request.
var errStalled = errors.New("the origin stopped answering")

// stall cancels a passed request whose origin is waited for while nothing moves
// in either direction for the idle time. Over HTTP/2 the connection's own idle
// time says nothing of one stream: others move on it, and so do pings. While
// the client is waited for no time runs: a slow client is no silent origin.
type stall struct {
	idle  time.Duration
	timer *time.Timer

	mu      sync.Mutex // guards waiting, and the order of calls to the timer
	waiting bool
}

// newStall returns a context that ends when the origin stalls, and what is to be
// told of each wait and move. The caller cancels.
func newStall(parent context.Context, idle time.Duration) (context.Context, context.CancelFunc, *stall) {
	ctx, cancel := context.WithCancelCause(parent)
	s := &stall{idle: idle, timer: time.AfterFunc(idle, func() { cancel(errStalled) })}
	s.timer.Stop()
	return ctx, func() { s.timer.Stop(); cancel(nil) }, s
}

// begin says that the origin is waited for from now on.
func (s *stall) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = true
	s.timer.Reset(s.idle)
}

// moved says that bytes went to the origin.
func (s *stall) moved() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting {
		s.timer.Reset(s.idle)
	}
}

// end says that the origin has answered something.
func (s *stall) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = false
	s.timer.Stop()
}

// stallOr prefers a stall to what the transport made of it.
func stallOr(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}
