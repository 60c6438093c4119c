package main

import (
	"context"
	"fmt"
	"strings"
)

// benchCase measures one or more figures.
type benchCase struct {
	name string
	run  func(ctx context.Context) ([]figure, error)
}

func (c benchCase) matches(words string) bool { return strings.Contains(c.name, words) }

// cases are in the order of the table. The store's contents only grow from case to
// case; what each needs it fetches itself.
func (b *bench) cases() []benchCase {
	all := []benchCase{
		{"hits of 64 MiB, HTTP/1.1", b.largeHits},
		{"hits of 64 MiB, HTTP/2", b.largeHits2},
		{"hits of 10 KiB, HTTP/1.1", b.smallHits},
		{"hits of 10 KiB, HTTP/2", b.smallHits2},
		{"new connections", b.newConnections},
		{"first connections to a host", b.firstConnections},
		{"tunnels, bytes", b.tunnelBytes},
		{"tunnels, openings", b.tunnelOpenings},
		{"cold 64 MiB", b.cold},
		{"64 clients on one cold object", b.crowd},
		{"memory of 64 readers", b.memory},
		{"memory of idle connections", b.idle},
	}
	if b.options.million > 0 {
		all = append(all, benchCase{"a full store", b.fullStore})
	}
	return all
}

// values collects a median of each crew under the name of its column.
func values(crews map[string]*crew, f func(sample) float64) map[string]float64 {
	out := map[string]float64{}
	for name, k := range crews {
		out[name] = k.median(f)
	}
	return out
}

// idleNote says where a server waited for the load.
func idleNote(crews map[string]*crew) string {
	var idle []string
	for _, name := range []string{"bare", "larder", "nginx", "squid"} {
		if k, ok := crews[name]; ok {
			if busy := k.median(sample.busy); busy < 0.9 {
				idle = append(idle, fmt.Sprintf("%s %.0f %%", name, busy*100))
			}
		}
	}
	if idle == nil {
		return ""
	}
	return "the load was slower than the server, which was busy: " + strings.Join(idle, ", ")
}

// prepare warms every cache with path and returns the servers by column.
func (b *bench) prepare(ctx context.Context, bare *target, path string) (map[string]*target, error) {
	servers := map[string]*target{"bare": bare, "larder": b.larder}
	if b.nginx != nil {
		servers["nginx"] = b.nginx
	}
	if b.squid != nil {
		servers["squid"] = b.squid
	}
	for _, t := range b.caches() {
		if err := t.warm(ctx, b.origin, path); err != nil {
			return nil, err
		}
	}
	return servers, nil
}

// compare makes a crew for each server, measures them in turn and ends them.
func (b *bench) compare(ctx context.Context, servers map[string]*target, recruit func(*target) (*crew, error)) (map[string]*crew, error) {
	crews, order := map[string]*crew{}, []*crew{}
	defer func() {
		for _, k := range order {
			k.close()
		}
	}()
	for _, name := range []string{"bare", "loop", "direct", "larder", "nginx", "squid"} {
		if t, ok := servers[name]; ok {
			k, err := recruit(t)
			if err != nil {
				return nil, err
			}
			crews[name] = k
			order = append(order, k)
		}
	}
	return crews, measure(ctx, order, b.options)
}

func (b *bench) largeHits(ctx context.Context) ([]figure, error) {
	servers, err := b.prepare(ctx, b.bare[bareHTTP], largeHit)
	if err != nil {
		return nil, err
	}
	crews, err := b.compare(ctx, servers, func(t *target) (*crew, error) { return getters(ctx, t, 4, largeHit) })
	if err != nil {
		return nil, err
	}
	return []figure{{
		name: "hits of 64 MiB, HTTP/1.1", unit: "CPU s/GiB",
		values: values(crews, sample.perGiB), times: 1.15, note: idleNote(crews),
	}}, nil
}

func (b *bench) largeHits2(ctx context.Context) ([]figure, error) {
	servers, err := b.prepare(ctx, b.bare[bareH2], largeHit)
	if err != nil {
		return nil, err
	}
	delete(servers, "squid") // speaks no HTTP/2 to clients
	crews, err := b.compare(ctx, servers, func(t *target) (*crew, error) { return streamers(ctx, t, 4, 1, largeHit, largeSize) })
	if err != nil {
		return nil, err
	}
	return []figure{{
		name: "hits of 64 MiB, HTTP/2", unit: "CPU s/GiB",
		values: values(crews, sample.perGiB), note: idleNote(crews),
	}}, nil
}

func (b *bench) smallHits(ctx context.Context) ([]figure, error) {
	servers, err := b.prepare(ctx, b.bare[bareHTTP], smallHit)
	if err != nil {
		return nil, err
	}
	servers["loop"] = b.bare[bareLoop]
	crews, err := b.compare(ctx, servers, func(t *target) (*crew, error) { return getters(ctx, t, 16, smallHit) })
	if err != nil {
		return nil, err
	}
	cpu := values(crews, sample.perOp)
	loop := map[string]float64{"bare": cpu["loop"], "larder": cpu["larder"]}
	delete(cpu, "loop")
	p99 := values(crews, sample.p99)
	delete(p99, "loop")
	return []figure{
		{name: "hits of 10 KiB, HTTP/1.1, beside net/http", unit: "CPU µs", values: cpu, times: 1.25, note: idleNote(crews)},
		{name: "the same beside a hand-written loop", unit: "CPU µs", values: loop, times: 1.5},
		{name: "the same, 99th percentile of 16 connections", unit: "ms", values: p99, times: 3},
	}, nil
}

func (b *bench) smallHits2(ctx context.Context) ([]figure, error) {
	servers, err := b.prepare(ctx, b.bare[bareH2], smallHit)
	if err != nil {
		return nil, err
	}
	delete(servers, "squid")
	crews, err := b.compare(ctx, servers, func(t *target) (*crew, error) { return streamers(ctx, t, 4, 4, smallHit, smallSize) })
	if err != nil {
		return nil, err
	}
	return []figure{
		{name: "hits of 10 KiB, HTTP/2, beside x/net", unit: "CPU µs", values: values(crews, sample.perOp), times: 1.2, note: idleNote(crews)},
		{name: "the same, 99th percentile of 4 × 4 streams", unit: "ms", values: values(crews, sample.p99), times: 3},
	}, nil
}
