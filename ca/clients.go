package ca

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// defaultNewNames is far beyond what a build asks for, also of many builds
	// behind one address, and far below what keeps a core busy with signing.
	defaultNewNames = 1200
	// maxClients bounds the table of clients; each takes about 200 octets.
	maxClients = 4096
)

// A LimitError says that a client asks for more new names than it may.
type LimitError struct {
	Client netip.Addr
	Limit  int // names a minute
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("no certificate: client %v asks for more than %d new names a minute", e.Client, e.Limit)
}

// Hint returns what to do about it.
func (e *LimitError) Hint() string {
	return "see in the log what the client connects to: random names are a scan, or a tool gone wrong"
}

type clientKey struct{}

// WithClient returns a context for Leaf on behalf of a client: only then the
// limit of new names holds.
func WithClient(ctx context.Context, client netip.Addr) context.Context {
	return context.WithValue(ctx, clientKey{}, client)
}

// clientOf returns what a client is counted by: its address, of IPv6 the
// network of 64 bits that one machine can have all of.
func clientOf(ctx context.Context) (netip.Addr, bool) {
	addr, ok := ctx.Value(clientKey{}).(netip.Addr)
	if !ok || !addr.IsValid() {
		return netip.Addr{}, false
	}
	addr = addr.Unmap().WithZone("")
	if addr.IsLoopback() {
		return netip.Addr{}, false // the machine's own jobs, all of them
	}
	if addr.Is6() {
		network, err := addr.Prefix(64)
		return network.Addr(), err == nil
	}
	return addr, true
}

// clientLimits counts the new names of each client. It is safe for concurrent
// use.
type clientLimits struct {
	perMinute int

	mu      sync.Mutex
	clients map[netip.Addr]*rate.Limiter
	// others is for all those that found the table full of clients that ask.
	others *rate.Limiter
}

func newClientLimits(perMinute int) *clientLimits {
	l := &clientLimits{perMinute: perMinute, clients: make(map[netip.Addr]*rate.Limiter)}
	l.others = l.limiter()
	return l
}

func (l *clientLimits) limiter() *rate.Limiter {
	return rate.NewLimiter(rate.Limit(float64(l.perMinute)/60), l.perMinute)
}

// of returns the limiter of the context's client, nil if it is on behalf of none.
func (l *clientLimits) of(ctx context.Context, now time.Time) *rate.Limiter {
	client, ok := clientOf(ctx)
	if !ok {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if limiter, ok := l.clients[client]; ok {
		return limiter
	}
	if len(l.clients) >= maxClients {
		l.forgetIdle(now)
	}
	if len(l.clients) >= maxClients {
		return l.others
	}
	limiter := l.limiter()
	l.clients[client] = limiter
	return limiter
}

// forgetIdle drops the clients that a new entry would treat no better. It is
// called with mu held.
func (l *clientLimits) forgetIdle(now time.Time) {
	for client, limiter := range l.clients {
		if limiter.TokensAt(now) >= float64(l.perMinute) {
			delete(l.clients, client)
		}
	}
}

// check returns an error if the client may have no new name at now.
func (l *clientLimits) check(ctx context.Context, now time.Time) error {
	limiter := l.of(ctx, now)
	if limiter == nil || limiter.TokensAt(now) >= 1 {
		return nil
	}
	client, _ := clientOf(ctx)
	return &LimitError{client, l.perMinute}
}

// count takes one new name from the client's share.
func (l *clientLimits) count(ctx context.Context, now time.Time) {
	if limiter := l.of(ctx, now); limiter != nil {
		limiter.AllowN(now, 1)
	}
}
