package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// coldBatch is how many objects one round fetches, so that what a server does
// later, and of several at once, weighs in.
const coldBatch = 4

// fills is what fetching cold objects cost.
type fills struct {
	first []float64 // ms to the first byte
	cpu   []float64 // s/GiB
}

func (b *bench) cold(ctx context.Context) ([]figure, error) {
	columns := map[string]*target{"bare": b.direct, "larder": b.larder, "h2": b.larder.at(benchHost2 + ":443")}
	if b.nginx != nil {
		columns["nginx"] = b.nginx
	}
	if b.squid != nil {
		columns["squid"] = b.squid
	}
	results := map[string]*fills{}
	for round := range b.options.rounds + 1 {
		for _, name := range []string{"bare", "larder", "h2", "nginx", "squid"} {
			t, ok := columns[name]
			if !ok {
				continue
			}
			if results[name] == nil {
				results[name] = &fills{}
			}
			f, err := b.coldRound(ctx, t, fmt.Sprintf("cold-%s-%d", name, round))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			if round > 0 {
				results[name].first = append(results[name].first, f.first...)
				results[name].cpu = append(results[name].cpu, f.cpu...)
			}
		}
	}
	first, cpu := map[string]float64{}, map[string]float64{}
	for name, f := range results {
		first[name], cpu[name] = medianOf(f.first), medianOf(f.cpu)
	}
	note := fmt.Sprintf("from an origin over HTTP/2: first byte %s ms, %s CPU s/GiB", number(first["h2"]), number(cpu["h2"]))
	for _, m := range []map[string]float64{first, cpu} {
		delete(m, "h2")
	}
	delete(cpu, "bare") // direct: there is no server in between
	return []figure{
		{name: "cold 64 MiB, first byte (bare: direct)", unit: "ms", values: first, plus: 5, note: note},
		{name: "cold 64 MiB", unit: "CPU s/GiB", values: cpu, absolute: 2.0},
	}, nil
}

// coldRound fetches objects that nobody asked for before, one after the other over
// one connection.
func (b *bench) coldRound(ctx context.Context, t *target, id string) (fills, error) {
	var f fills
	c, err := t.dial(ctx, "http/1.1")
	if err != nil {
		return f, err
	}
	defer c.close()
	before, err := t.settled(ctx)
	if err != nil {
		return f, err
	}
	if err := touchFree(b.dir, 16*coldBatch*largeSize); err != nil { // of some, the kernel makes other use
		return f, err
	}
	var got int64
	for i := range coldBatch {
		a, err := c.get(pathOf(largeSize, fmt.Sprintf("%s-%d", id, i)), time.Time{})
		if err != nil {
			return f, err
		}
		got += a.bytes
		if i > 0 { // the first may have had to connect to the origin
			f.first = append(f.first, a.first.Seconds()*1e3)
		}
	}
	after, err := t.settled(ctx)
	f.cpu = []float64{(after - before).Seconds() / (float64(got) / (1 << 30))}
	return f, err
}

// crowdSize clients want the same object, crowdDelay after the first of them.
const (
	crowdSize  = 64
	crowdDelay = 20 * time.Millisecond
)

// crowdRun is what one cold object for many cost.
type crowdRun struct {
	fetches int
	cpu     float64 // s
	joined  float64 // ms, median of the joiners' first bytes
	last    float64 // ms, the slowest of them
	whole   float64 // s until all had all
}

// crowd sends one client for a cold object and 63 more a moment later. The bare
// server has no origin to go to: it serves as many hits.
func (b *bench) crowd(ctx context.Context) ([]figure, error) {
	columns := map[string]*target{"bare": b.bare[bareHTTP], "larder": b.larder}
	if b.nginx != nil {
		columns["nginx"] = b.nginx
	}
	if b.squid != nil {
		columns["squid"] = b.squid
	}
	rounds := min(b.options.rounds, 3) // each carries 4 GiB
	runs := map[string][]crowdRun{}
	for round := range rounds {
		for _, name := range []string{"bare", "larder", "nginx", "squid"} {
			t, ok := columns[name]
			if !ok {
				continue
			}
			path := largeHit
			if name != "bare" {
				path = pathOf(largeSize, fmt.Sprintf("crowd-%s-%d", name, round))
			}
			r, err := b.crowdRound(ctx, t, path)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			runs[name] = append(runs[name], r)
		}
	}
	pick := func(f func(crowdRun) float64) map[string]float64 {
		out := map[string]float64{}
		for name, rs := range runs {
			all := make([]float64, 0, len(rs))
			for _, r := range rs {
				all = append(all, f(r))
			}
			out[name] = medianOf(all)
		}
		return out
	}
	fetches := pick(func(r crowdRun) float64 { return float64(r.fetches) })
	delete(fetches, "bare")
	cpu := pick(func(r crowdRun) float64 { return r.cpu })
	note := fmt.Sprintf("medians of %d rounds; a bare server takes %s for as many hits", rounds, number(cpu["bare"]))
	delete(cpu, "bare")
	return []figure{
		{name: "64 clients on one cold 64 MiB, fetches from the origin", unit: "", values: fetches, absolute: 1},
		{name: "the same, all together", unit: "CPU s", values: cpu, absolute: 2.1, note: note},
		{name: "the same, first byte of who joins, median", unit: "ms", values: pick(func(r crowdRun) float64 { return r.joined })},
		{name: "the same, first byte of the slowest", unit: "ms", values: pick(func(r crowdRun) float64 { return r.last })},
		{name: "the same, until all have all", unit: "s", values: pick(func(r crowdRun) float64 { return r.whole })},
	}, nil
}

func (b *bench) crowdRound(ctx context.Context, t *target, path string) (r crowdRun, err error) {
	clients, err := dialAll(ctx, t, crowdSize)
	defer closeAll(clients)
	if err != nil {
		return r, err
	}
	fetched := b.origin.fetched(path)
	before, err := t.settled(ctx)
	if err != nil {
		return r, err
	}
	if err := touchFree(b.dir, 16*largeSize); err != nil {
		return r, err
	}
	first := make([]float64, crowdSize)
	errs := make([]error, crowdSize)
	start := time.Now()
	var wg sync.WaitGroup
	for i, c := range clients {
		if i == 1 {
			time.Sleep(crowdDelay)
		}
		wg.Go(func() {
			a, err := c.get(path, time.Time{})
			first[i], errs[i] = a.first.Seconds()*1e3, err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return r, err
	}
	r.whole = time.Since(start).Seconds()
	after, err := t.settled(ctx)
	r.cpu = (after - before).Seconds()
	r.fetches = b.origin.fetched(path) - fetched
	joiners := first[1:]
	r.joined = medianOf(joiners)
	for _, ms := range joiners {
		r.last = max(r.last, ms)
	}
	return r, err
}

func dialAll(ctx context.Context, t *target, n int) ([]*client, error) {
	clients := make([]*client, 0, n)
	for range n {
		c, err := t.dial(ctx, "http/1.1")
		if err != nil {
			return clients, err
		}
		clients = append(clients, c)
	}
	return clients, nil
}

func closeAll(clients []*client) {
	for _, c := range clients {
		c.close()
	}
}
