package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync/atomic"
	"time"
)

// newConnections pays for TCP, CONNECT, a handshake and one hit of 10 KiB: the
// handshake in full, and resumed by a ticket.
func (b *bench) newConnections(ctx context.Context) ([]figure, error) {
	servers, err := b.prepare(ctx, b.bare[bareConnect], smallHit)
	if err != nil {
		return nil, err
	}
	servers["direct"] = b.bare[bareHTTP]
	full, err := b.compare(ctx, servers, func(t *target) (*crew, error) { return diallers(t, 8, smallHit), nil })
	if err != nil {
		return nil, err
	}
	cpu := values(full, sample.perOp)
	note := fmt.Sprintf("a bare server without CONNECT takes %s; nginx answers without CONNECT too", number(cpu["direct"]))
	delete(cpu, "direct")
	delete(servers, "direct")
	resumed, err := b.compare(ctx, servers, func(t *target) (*crew, error) {
		return diallers(t.resuming(), 8, smallHit), nil
	})
	if err != nil {
		return nil, err
	}
	return []figure{
		{name: "new connection: CONNECT, full handshake, a hit of 10 KiB", unit: "CPU µs", values: cpu, times: 1.2, note: note},
		{name: "the same, resumed", unit: "CPU µs", values: values(resumed, sample.perOp), times: 1.25},
	}, nil
}

// resuming is the same server with clients that keep its tickets.
func (t *target) resuming() *target {
	other := *t
	other.sessions = tls.NewLRUClientSessionCache(64)
	return &other
}

// firstConnections compares the first connection to a host that larder has never
// seen, for which a leaf has to be signed, with one to a host that it knows. Neither
// is a hit; both are answered without the origin.
func (b *bench) firstConnections(ctx context.Context) ([]figure, error) {
	var next atomic.Int64
	crews := []*crew{{target: b.larder}, {target: b.larder}}
	defer crews[0].close()
	defer crews[1].close()
	for range 8 {
		crews[0].workers = append(crews[0].workers, &stranger{target: b.larder, name: func() string { return "known" }})
		crews[1].workers = append(crews[1].workers, &stranger{target: b.larder, name: func() string {
			return fmt.Sprintf("h%d", next.Add(1))
		}})
	}
	if err := measure(ctx, crews, b.options); err != nil {
		return nil, err
	}
	return []figure{{
		name: "first connection to a host (bare: larder with a host it knows)", unit: "CPU µs", times: 1.5,
		values: map[string]float64{"bare": crews[0].median(sample.perOp), "larder": crews[1].median(sample.perOp)},
	}}, nil
}

// stranger connects to hosts by name and asks for what is not stored.
type stranger struct {
	target *target
	name   func() string
}

func (w *stranger) run(ctx context.Context, end time.Time) (s sample, err error) {
	for time.Now().Before(end) && ctx.Err() == nil {
		began := time.Now()
		c, err := w.target.at(w.name()+"."+freshDomain+":443").dial(ctx, "http/1.1")
		if err != nil {
			return s, err
		}
		err = c.miss()
		c.close()
		if err != nil {
			return s, err
		}
		s.ops++
		s.latency = append(s.latency, time.Since(began))
	}
	return s, nil
}

func (*stranger) close() {}

// miss asks for what no cache holds, and not to ask the origin for it.
func (c *client) miss() error {
	if err := c.raw.SetDeadline(time.Now().Add(clientTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c.tls, "GET /immutable/nothing HTTP/1.1\r\nHost: %s\r\nCache-Control: only-if-cached\r\n\r\n", c.target.host()); err != nil {
		return err
	}
	status, _, err := c.head()
	if err == nil && status != 504 {
		err = fmt.Errorf("only-if-cached: status %d", status)
	}
	return err
}

// idleConnections is how many connections are kept for the figure of what one holds.
const idleConnections = 2000

// warmConnections have the server take from the system what it takes only once.
const warmConnections = 50

// idle measures the anonymous memory of connections that were opened, had one hit
// and are kept. larder and the bare server are fresh ones: in a process that has
// served for a while, they would take what others gave back.
func (b *bench) idle(ctx context.Context) ([]figure, error) {
	bare, err := b.startBare(bareConnect)
	if err != nil {
		return nil, err
	}
	larder, err := b.startLarder("idle", 256<<20)
	if err != nil {
		return nil, err
	}
	servers := map[string]*target{"bare": bare, "larder": larder, "nginx": b.nginx, "squid": b.squid}
	held := map[string]float64{}
	for name, t := range servers {
		if t == nil {
			continue
		}
		if held[name], err = idleMemory(ctx, t); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return []figure{{name: "memory of an idle connection", unit: "KiB", values: held, absolute: 24}}, nil
}

func idleMemory(ctx context.Context, t *target) (kib float64, err error) {
	clients := make([]*client, 0, idleConnections)
	defer func() { closeAll(clients) }()
	var before int64
	for i := range idleConnections + warmConnections {
		if i == warmConnections {
			if _, err := t.settled(ctx); err != nil {
				return 0, err
			}
			if before, err = t.process.anonymous(); err != nil {
				return 0, err
			}
		}
		c, err := t.dial(ctx, "http/1.1")
		if err != nil {
			return 0, err
		}
		clients = append(clients, c)
		if _, err := c.get(smallHit, time.Time{}); err != nil {
			return 0, err
		}
		c.buf = nil // the load's own memory
	}
	if _, err := t.settled(ctx); err != nil {
		return 0, err
	}
	after, err := t.process.anonymous()
	return float64(after-before) / 1024 / idleConnections, err
}
