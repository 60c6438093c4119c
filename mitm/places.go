package mitm

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// placeError is a connection that would have been one too many for its host.
type placeError struct {
	host string
	most int
	wait time.Duration
}

func (e *placeError) Error() string {
	return fmt.Sprintf("%d connections to %s are in use, as many as upstream.max_connections_per_host allows, and none came free in %s", e.most, e.host, e.wait)
}

// places bounds the connections to each host. Whoever finds none free waits, in
// turn, for a while. Zero most is no bound. It is safe for concurrent use.
type places struct {
	most int
	wait time.Duration

	mu    sync.Mutex // guards the rest
	hosts map[string]*hostPlaces
}

type hostPlaces struct {
	open  int
	queue []chan struct{} // closed when a place is handed over
}

func newPlaces(most int, wait time.Duration) *places {
	return &places{most: most, wait: wait, hosts: map[string]*hostPlaces{}}
}

// take waits for a place. Without an error, leave gives it back.
func (p *places) take(ctx context.Context, host string) error {
	if p.most == 0 {
		return nil
	}
	turn := p.enter(host)
	if turn == nil {
		return nil
	}
	late := time.NewTimer(p.wait)
	defer late.Stop()
	var err error
	select {
	case <-turn:
		return nil
	case <-late.C:
		err = &placeError{host, p.most, p.wait}
	case <-ctx.Done():
		err = ctx.Err()
	}
	if !p.giveUp(host, turn) {
		return nil // it was handed over at that moment
	}
	return err
}

// enter takes a free place, or a turn in the queue.
func (p *places) enter(host string) (turn chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[host]
	if h == nil {
		h = &hostPlaces{}
		p.hosts[host] = h
	}
	if h.open < p.most {
		h.open++
		return nil
	}
	turn = make(chan struct{})
	h.queue = append(h.queue, turn)
	return turn
}

func (p *places) giveUp(host string, turn chan struct{}) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[host]
	if h == nil { // the last place was left just after it was handed over
		return false
	}
	i := slices.Index(h.queue, turn)
	if i < 0 {
		return false
	}
	h.queue = slices.Delete(h.queue, i, i+1)
	return true
}

func (p *places) leave(host string) {
	if p.most == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[host]
	if len(h.queue) > 0 {
		close(h.queue[0])
		h.queue = h.queue[1:]
		return
	}
	h.open--
	if h.open == 0 {
		delete(p.hosts, host)
	}
}

// placedConn gives its place back when it is closed.
type placedConn struct {
	net.Conn
	once  sync.Once
	leave func()
}

// Close implements net.Conn.
func (c *placedConn) Close() error {
	defer c.once.Do(c.leave)
	return c.Conn.Close()
}
