package mitm

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"larder/policy"
)

// maxNames bounds the names whose addresses are kept.
const maxNames = 4096

// resolver keeps what was looked up for as long as the answers say, within
// bounds. Whoever asks for a name that is being looked up waits for that answer.
// It is safe for concurrent use.
type resolver struct {
	bounds policy.DNS
	look   func(ctx context.Context, host string) ([]netip.Addr, time.Duration, error)

	mu    sync.Mutex // guards the map and what its entries hold once they are done
	names map[string]*lookup
}

// lookup is one name: asked for until done is closed, then an answer.
type lookup struct {
	done  chan struct{}
	until time.Time
	addrs []netip.Addr
	err   error
}

func newResolver(bounds policy.DNS) *resolver {
	return &resolver{bounds: bounds, look: lookSystem, names: map[string]*lookup{}}
}

// lookup returns the addresses of a name, best first. An error is a *net.DNSError.
func (r *resolver) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	for {
		l, ours := r.join(host)
		if ours {
			return r.ask(ctx, host, l)
		}
		select {
		case <-l.done:
		case <-ctx.Done():
			return nil, dnsCanceled(ctx, host)
		}
		// Whoever asked may have left before the answer came; then it is our turn.
		if l.err == nil || !isContext(l.err) {
			return l.addrs, l.err
		}
	}
}

// join returns the entry of a name, and whether it is the caller's to fill.
func (r *resolver) join(host string) (l *lookup, ours bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l = r.names[host]; l != nil && (!l.isDone() || time.Now().Before(l.until)) {
		return l, false
	}
	r.makeRoom()
	l = &lookup{done: make(chan struct{})}
	r.names[host] = l
	return l, true
}

func (r *resolver) ask(ctx context.Context, host string, l *lookup) ([]netip.Addr, error) {
	addrs, ttl, err := r.look(ctx, host)
	if err == nil && len(addrs) == 0 {
		err = &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
	}
	if err != nil && ctx.Err() != nil {
		err = dnsCanceled(ctx, host)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l.addrs, l.err = addrs, err
	keep := min(max(ttl, r.bounds.MinTTL), r.bounds.MaxTTL)
	if err != nil {
		keep = r.bounds.NegativeTTL
	}
	l.until = time.Now().Add(keep)
	if (keep <= 0 || isContext(err)) && r.names[host] == l {
		delete(r.names, host)
	}
	close(l.done)
	return addrs, err
}

// forget drops a name none of whose addresses answers: they may have changed.
func (r *resolver) forget(host string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.names[host]; l != nil && l.isDone() {
		delete(r.names, host)
	}
}

// makeRoom drops what is over, and if that is nothing any answer. The caller
// holds mu.
func (r *resolver) makeRoom() {
	if len(r.names) < maxNames {
		return
	}
	now := time.Now()
	for host, l := range r.names {
		if l.isDone() && !now.Before(l.until) {
			delete(r.names, host)
		}
	}
	for host, l := range r.names {
		if len(r.names) < maxNames {
			return
		}
		if l.isDone() {
			delete(r.names, host)
		}
	}
}

func (l *lookup) isDone() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// dnsContextError is a look-up that ended with its caller's context.
type dnsContextError struct {
	*net.DNSError
	cause error
}

func (e *dnsContextError) Unwrap() []error { return []error{e.DNSError, e.cause} }

func dnsCanceled(ctx context.Context, host string) error {
	late := errors.Is(ctx.Err(), context.DeadlineExceeded)
	return &dnsContextError{&net.DNSError{Err: ctx.Err().Error(), Name: host, IsTimeout: late}, ctx.Err()}
}

func isContext(err error) bool {
	_, ok := errors.AsType[*dnsContextError](err)
	return ok
}

// lookSystem looks a name up with Go's resolver, which knows resolv.conf and the
// hosts file, and sees on the way for how long the answer holds.
func lookSystem(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	return lookOver(new(net.Dialer).DialContext)(ctx, host)
}

// lookOver is lookSystem over connections to name servers that dial makes.
func lookOver(dial func(ctx context.Context, network, address string) (net.Conn, error)) func(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	return func(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
		seen := &ttlSeen{}
		r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return seen.watch(c), nil
		}}
		addrs, err := r.LookupNetIP(ctx, "ip", host)
		return addrs, seen.least(), err
	}
}
