package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// The objects of the cases of hits.
var (
	largeHit = pathOf(largeSize, "hit")
	smallHit = pathOf(smallSize, "hit")
)

// sample is one round of one case against one server.
type sample struct {
	ops, bytes int64
	wall, cpu  time.Duration
	load       time.Duration // CPU that the load used
	latency    []time.Duration
}

func (s *sample) add(other sample) {
	s.ops += other.ops
	s.bytes += other.bytes
	s.latency = append(s.latency, other.latency...)
}

// perGiB is the server's CPU seconds per GiB, perOp its microseconds per request.
func (s sample) perGiB() float64 { return s.cpu.Seconds() / (float64(s.bytes) / (1 << 30)) }
func (s sample) perOp() float64  { return s.cpu.Seconds() * 1e6 / float64(s.ops) }

// busy is the share of the time in which the server ran.
func (s sample) busy() float64 { return s.cpu.Seconds() / s.wall.Seconds() }

// p99 is in milliseconds.
func (s sample) p99() float64 {
	if len(s.latency) == 0 {
		return 0
	}
	slices.Sort(s.latency)
	return s.latency[len(s.latency)*99/100].Seconds() * 1e3
}

// worker is one goroutine's load on one server until end.
type worker interface {
	run(ctx context.Context, end time.Time) (sample, error)
	close()
}

// getter fetches one path over a kept HTTP/1.1 connection.
type getter struct {
	c    *client
	path string
}

func (g *getter) run(ctx context.Context, end time.Time) (s sample, err error) {
	for time.Now().Before(end) && ctx.Err() == nil {
		began := time.Now()
		a, err := g.c.get(g.path, time.Time{})
		if err != nil {
			return s, err
		}
		s.ops++
		s.bytes += a.bytes
		s.latency = append(s.latency, time.Since(began))
	}
	return s, nil
}

func (g *getter) close() { g.c.close() }

// streamer keeps several streams of one HTTP/2 connection busy.
type streamer struct {
	c     *h2client
	path  string
	size  int64
	width int
}

func (w *streamer) run(_ context.Context, end time.Time) (s sample, err error) {
	if err = w.c.load(w.path, w.width, end, &s); err == nil && s.bytes != s.ops*w.size {
		err = fmt.Errorf("%d responses had %d bytes", s.ops, s.bytes)
	}
	return s, err
}

func (w *streamer) close() { w.c.close() }

// dialler opens a connection for each request.
type dialler struct {
	target *target
	path   string
}

func (d *dialler) run(ctx context.Context, end time.Time) (s sample, err error) {
	for time.Now().Before(end) && ctx.Err() == nil {
		began := time.Now()
		a, err := d.target.fetch(ctx, d.path)
		if err != nil {
			return s, err
		}
		s.ops++
		s.bytes += a.bytes
		s.latency = append(s.latency, time.Since(began))
	}
	return s, nil
}

func (*dialler) close() {}

// crew is the load on one server.
type crew struct {
	target  *target
	workers []worker
	samples []sample
}

// getters is a crew of n kept HTTP/1.1 connections.
func getters(ctx context.Context, t *target, n int, path string) (*crew, error) {
	k := &crew{target: t}
	for range n {
		c, err := t.dial(ctx, "http/1.1")
		if err != nil {
			k.close()
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
		k.workers = append(k.workers, &getter{c, path})
	}
	return k, nil
}

// streamers is a crew of n HTTP/2 connections with width streams each.
func streamers(ctx context.Context, t *target, n, width int, path string, size int64) (*crew, error) {
	k := &crew{target: t}
	for range n {
		c, err := t.dialH2(ctx)
		if err != nil {
			k.close()
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
		k.workers = append(k.workers, &streamer{c, path, size, width})
	}
	return k, nil
}

func diallers(t *target, n int, path string) *crew {
	k := &crew{target: t}
	for range n {
		k.workers = append(k.workers, &dialler{t, path})
	}
	return k
}

func (k *crew) close() {
	for _, w := range k.workers {
		w.close()
	}
}

// round lets all workers run for d.
func (k *crew) round(ctx context.Context, d time.Duration) (total sample, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cpu, err := k.target.cpu()
	if err != nil {
		return total, err
	}
	load, start := ownCPU(), time.Now()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, w := range k.workers {
		wg.Go(func() {
			s, err := w.run(ctx, start.Add(d))
			if err != nil {
				cancel(fmt.Errorf("%s: %w", k.target.name, err))
			}
			mu.Lock()
			defer mu.Unlock()
			total.add(s)
		})
	}
	wg.Wait()
	total.wall, total.load = time.Since(start), ownCPU()-load
	if err := context.Cause(ctx); err != nil {
		return total, err
	}
	after, err := k.target.cpu()
	total.cpu = after - cpu
	return total, err
}

// measure runs the crews in turn, a warm-up and then the counted rounds.
func measure(ctx context.Context, crews []*crew, o options) error {
	for round := range o.rounds + 1 {
		for _, k := range crews {
			d := o.time
			if round == 0 {
				d /= 2
			}
			s, err := k.round(ctx, d)
			if err != nil {
				return err
			}
			if round > 0 {
				k.samples = append(k.samples, s)
			}
		}
	}
	return nil
}

// median of f over the rounds.
func (k *crew) median(f func(sample) float64) float64 {
	values := make([]float64, 0, len(k.samples))
	for _, s := range k.samples {
		values = append(values, f(s))
	}
	return medianOf(values)
}

func medianOf(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}
