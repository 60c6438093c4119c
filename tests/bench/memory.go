package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// memory reads an object larger than any buffer with 64 clients, cold and hot, for
// a bounded time, and reports the peak of the memory that no file backs.
func (b *bench) memory(ctx context.Context) ([]figure, error) {
	columns := map[string]*target{"larder": b.larder}
	if b.nginx != nil {
		columns["nginx"] = b.nginx
	}
	// squid was given room for objects in memory, so its figure would say nothing.
	cold, hot := map[string]float64{}, map[string]float64{}
	for name, t := range columns {
		path := pathOf(int64(b.options.huge), "huge-"+name)
		peak, err := b.readHuge(ctx, t, path)
		if err != nil {
			return nil, fmt.Errorf("%s, cold: %w", t.name, err)
		}
		cold[name] = peak
		// Who was cut off leaves it half stored; one reader brings it to its end.
		if err := t.warm(ctx, b.origin, path); err != nil {
			return nil, err
		}
		if hot[name], err = b.readHuge(ctx, t, path); err != nil {
			return nil, fmt.Errorf("%s, hot: %w", t.name, err)
		}
	}
	name := "anonymous memory, 64 clients read " + b.options.huge.String()
	return []figure{
		{name: name + " cold", unit: "MiB", values: cold, absolute: 128},
		{name: name + " hot", unit: "MiB", values: hot, absolute: 128},
	}, nil
}

// readHuge returns the peak in MiB.
func (b *bench) readHuge(ctx context.Context, t *target, path string) (float64, error) {
	clients, err := dialAll(ctx, t, crowdSize)
	defer closeAll(clients)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, crowdSize)
	var readers sync.WaitGroup
	limit := time.Now().Add(b.options.hugeTime)
	for i, c := range clients {
		readers.Go(func() {
			if _, err := c.get(path, limit); !errors.Is(err, errLimit) {
				errs[i] = err
			}
		})
	}
	var peak int64
	var watched error
	var watcher sync.WaitGroup
	watcher.Go(func() { // ends with ctx
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			n, err := t.process.anonymous()
			if err != nil {
				watched = err
				return
			}
			peak = max(peak, n)
		}
	})
	readers.Wait()
	cancel()
	watcher.Wait()
	return float64(peak) / (1 << 20), errors.Join(append(errs, watched)...)
}
