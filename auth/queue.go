package auth

import (
	"context"
	"net/netip"
	"runtime"
	"sync"
	"time"
)

const (
	// maxWaiting bounds those who wait for a verification, and maxOfClient those of
	// them from one address: who guesses keeps nobody else waiting for long.
	maxWaiting  = 256
	maxOfClient = 16
	// longestWait is how long one waits.
	longestWait = 10 * time.Second
)

// queue lets few verifications run at a time: a quarter of the processors, for the
// rest belongs to those who have proved who they are.
type queue struct {
	running chan struct{} // one for each that runs
	wait    time.Duration

	mu      sync.Mutex // guards the rest
	waiting int
	of      map[netip.Addr]int
}

func newQueue() *queue {
	return &queue{
		running: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/4)),
		wait:    longestWait,
		of:      map[netip.Addr]int{},
	}
}

// enter waits for its turn, which leave ends. Where too many wait, or it would last
// too long, the error is ErrBusy. Who finds a free turn does not count among those who
// wait, and overtakes nobody: a turn that ends goes to who waits, and is not free.
func (q *queue) enter(ctx context.Context, client netip.Addr) (leave func(), err error) {
	leave = func() { <-q.running }
	select {
	case q.running <- struct{}{}:
		return leave, nil
	default:
	}
	if !q.join(client) {
		return nil, ErrBusy
	}
	defer q.quit(client)
	ctx, cancel := context.WithTimeout(ctx, q.wait)
	defer cancel()
	select {
	case q.running <- struct{}{}:
		return leave, nil
	case <-ctx.Done():
		return nil, ErrBusy
	}
}

func (q *queue) join(client netip.Addr) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting >= maxWaiting || q.of[client] >= maxOfClient {
		return false
	}
	q.waiting++
	q.of[client]++
	return true
}

func (q *queue) quit(client netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting--
	if q.of[client]--; q.of[client] == 0 {
		delete(q.of, client)
	}
}
