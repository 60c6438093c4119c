package mitm

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// attemptDelay is how long one attempt to connect goes on before the next one
// begins beside it (RFC 8305, Section 5).
const attemptDelay = 250 * time.Millisecond

// race connects to the first of some addresses that answers, as RFC 8305 has it:
// families take turns, the next address is tried when the one before it failed or
// takes long, and what comes second is closed. net.Dialer does much the same, but
// only with addresses that it has looked up itself. The error is that of the
// attempt that failed first.
func race(ctx context.Context, addrs []netip.AddrPort, dial func(context.Context, netip.AddrPort) (net.Conn, error)) (net.Conn, error) {
	addrs = alternate(addrs)
	if len(addrs) == 1 {
		return dial(ctx, addrs[0])
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan attempt, len(addrs))
	next, running := 0, 0
	start := func() {
		to := addrs[next]
		next++
		running++
		go func() { // ends when its dial does; awaited below
			c, err := dial(ctx, to)
			results <- attempt{c, err}
		}()
	}
	start()
	delay := time.NewTimer(attemptDelay)
	defer delay.Stop()
	var failed error
	for {
		select {
		case <-delay.C:
			if next < len(addrs) {
				start()
				delay.Reset(attemptDelay)
			}
			continue
		case r := <-results:
			running--
			if r.err == nil {
				cancel()
				closeLosers(results, running)
				return r.conn, nil
			}
			if failed == nil {
				failed = r.err
			}
		}
		switch {
		case next < len(addrs) && ctx.Err() == nil:
			start()
			delay.Reset(attemptDelay)
		case running == 0:
			return nil, failed
		}
	}
}

// attempt is what became of one attempt to connect.
type attempt struct {
	conn net.Conn
	err  error
}

// closeLosers waits for attempts that were cancelled; some have won as well.
func closeLosers(results <-chan attempt, running int) {
	for range running {
		if r := <-results; r.conn != nil {
			_ = r.conn.Close() // nothing was sent on it
		}
	}
}

// alternate orders addresses so that families take turns, beginning with that of
// the first (RFC 8305, Section 4). Within a family the resolver's order stays.
func alternate(addrs []netip.AddrPort) []netip.AddrPort {
	var first, second []netip.AddrPort
	for _, a := range addrs {
		if a.Addr().Unmap().Is4() == addrs[0].Addr().Unmap().Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	all := make([]netip.AddrPort, 0, len(addrs))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			all = append(all, first[i])
		}
		if i < len(second) {
			all = append(all, second[i])
		}
	}
	return all
}
