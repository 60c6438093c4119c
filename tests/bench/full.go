package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// fullSize is the size of the objects of the full store.
const fullSize = 2 << 10

// fullStore compares a store of -million objects with one of a thousand: the time
// to open, and the CPU of hits all over it.
func (b *bench) fullStore(ctx context.Context) ([]figure, error) {
	few, err := b.filled(ctx, "few", 1000)
	if err != nil {
		return nil, err
	}
	many, err := b.filled(ctx, "many", b.options.million)
	if err != nil {
		return nil, err
	}
	crews := []*crew{few.crew, many.crew}
	defer few.crew.close()
	defer many.crew.close()
	if err := measure(ctx, crews, b.options); err != nil {
		return nil, err
	}
	if n := b.origin.total() - few.fetched - many.fetched; n > few.fetched/100 {
		return nil, fmt.Errorf("%d of what should have been hits went to the origin", n)
	}
	name := strconv.Itoa(b.options.million) + " objects"
	return []figure{
		{name: "open the store with " + name, unit: "s", values: map[string]float64{"larder": many.opened.Seconds()}, absolute: 5},
		{
			name: "hits of 2 KiB among " + name + " (bare: larder with 1000)", unit: "CPU µs", times: 1.3,
			values: map[string]float64{"bare": few.crew.median(sample.perOp), "larder": many.crew.median(sample.perOp)},
		},
	}, nil
}

// filledStore is a larder that was started with n objects in its store.
type filledStore struct {
	crew    *crew
	opened  time.Duration
	fetched int
}

func (b *bench) filled(ctx context.Context, name string, n int) (*filledStore, error) {
	// Twice what it takes: nothing shall be evicted.
	t, argv, err := b.larderCommand(name, max(1<<30, int64(n)*fullSize*4))
	if err != nil {
		return nil, err
	}
	if t, err = b.launch(t, argv...); err != nil {
		return nil, err
	}
	if err := t.trustLarder(filepath.Join(b.dir, name)); err != nil {
		return nil, err
	}
	before := b.origin.total()
	if err := fillWith(ctx, t, n); err != nil {
		return nil, err
	}
	f := &filledStore{fetched: b.origin.total() - before}
	t.process.stop()
	p, err := startProcess(b.dir, name, argv)
	if err != nil {
		return nil, err
	}
	b.running = append(b.running, p)
	t.process = p
	if f.opened, err = t.await(ctx, time.Minute); err != nil {
		return nil, err
	}
	f.crew = &crew{target: t}
	for range 16 {
		c, err := t.dial(ctx, "http/1.1")
		if err != nil {
			return nil, err
		}
		f.crew.workers = append(f.crew.workers, &wanderer{c, n})
	}
	return f, nil
}

func fullPath(i int) string { return pathOf(fullSize, strconv.Itoa(i)) }

// fillWith fetches n objects over 32 connections.
func fillWith(ctx context.Context, t *target, n int) error {
	clients, err := dialAll(ctx, t, 32)
	defer closeAll(clients)
	if err != nil {
		return err
	}
	var next atomic.Int64
	errs := make([]error, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			for k := next.Add(1); k <= int64(n) && ctx.Err() == nil; k = next.Add(1) {
				if _, err := c.get(fullPath(int(k-1)), time.Time{}); err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// wanderer fetches objects of a full store at random.
type wanderer struct {
	c *client
	n int
}

func (w *wanderer) run(ctx context.Context, end time.Time) (s sample, err error) {
	for time.Now().Before(end) && ctx.Err() == nil {
		began := time.Now()
		a, err := w.c.get(fullPath(rand.IntN(w.n)), time.Time{})
		if err != nil {
			return s, err
		}
		s.ops++
		s.bytes += a.bytes
		s.latency = append(s.latency, time.Since(began))
	}
	return s, nil
}

func (w *wanderer) close() { w.c.close() }
