package mitm

import (
	"context"
	"sync"
)

// count counts what is under way. Unlike a sync.WaitGroup it may grow while
// somebody waits for it. The zero value is ready; a nil one counts nothing. It
// is safe for concurrent use.
type count struct {
	mu     sync.Mutex // guards the rest
	n      int
	closed bool
	zero   chan struct{} // closed when n is 0; nil when nobody waits
}

// enter counts one more, unless drain has returned.
func (c *count) enter() bool {
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.n++
	return true
}

func (c *count) leave() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n == 0 && c.zero != nil {
		close(c.zero)
		c.zero = nil
	}
}

// drain returns when nothing is under way, and nothing will be; or the error of
// ctx, and then it has changed nothing.
func (c *count) drain(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.n == 0 {
			c.closed = true
			c.mu.Unlock()
			return nil
		}
		if c.zero == nil {
			c.zero = make(chan struct{})
		}
		zero := c.zero
		c.mu.Unlock()
		select {
		case <-zero:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
