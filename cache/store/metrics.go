package store

import (
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counts are kept beside the collectors because a store may be without a registry
// and Stats reads them.
type counts struct {
	evicted, promoted, corrupt, written, outgrown atomic.Uint64
}

type metrics struct {
	counts  counts
	refused prometheus.Counter
	// recovered counts generations that were not closed cleanly, lost those of
	// which nothing could be read.
	recovered, lost prometheus.Counter

	registerer prometheus.Registerer
	collectors []prometheus.Collector
}

// newMetrics makes the collectors and registers them with r, if that is not nil.
func newMetrics(s *Store, r prometheus.Registerer) (*metrics, error) {
	m := &metrics{registerer: r}
	gauge := func(name, help string, f func(Stats) float64) {
		m.collectors = append(m.collectors, prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Namespace: "larder", Subsystem: "store", Name: name, Help: help},
			func() float64 { return f(s.Stats()) }))
	}
	counted := func(name, help string, n *atomic.Uint64) {
		m.collectors = append(m.collectors, prometheus.NewCounterFunc(
			prometheus.CounterOpts{Namespace: "larder", Subsystem: "store", Name: name, Help: help},
			func() float64 { return float64(n.Load()) }))
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "larder", Subsystem: "store", Name: name, Help: help})
		m.collectors = append(m.collectors, c)
		return c
	}
	gauge("bytes", "Space that the store occupies on disk.", func(st Stats) float64 { return float64(st.Bytes) })
	gauge("max_bytes", "Space that the store may occupy on disk.", func(st Stats) float64 { return float64(st.MaxSize) })
	gauge("objects", "Objects in the store.", func(st Stats) float64 { return float64(st.Objects) })
	gauge("generations", "Generations that the store is made of.", func(st Stats) float64 { return float64(st.Generations) })
	counted("evictions_total", "Objects dropped to make space.", &m.counts.evicted)
	counted("promotions_total", "Objects copied forward because they were in use.", &m.counts.promoted)
	counted("outgrown_total", "Objects deleted because all of their rule had reached its bound.", &m.counts.outgrown)
	counted("corrupt_total", "Objects dropped because their bytes did not match their checksum.", &m.counts.corrupt)
	counted("written_bytes_total", "Bytes written to disk, promotions included.", &m.counts.written)
	m.refused = counter("refused_total", "Writes refused for lack of disk space.")
	m.recovered = counter("recovered_generations_total", "Generations that a crash left open and that were recovered.")
	m.lost = counter("lost_generations_total", "Generations that could not be read and were removed.")
	m.collectors = append(m.collectors, prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{
			Namespace: "larder", Subsystem: "store", Name: "abandoned_instances",
			Help: "Instances of Badger that could not be closed, as their disk was full or gone, and stay in memory until the process ends.",
		},
		func() float64 { return float64(s.abandoned.Load()) }))
	if r == nil {
		return m, nil
	}
	for i, c := range m.collectors {
		if err := r.Register(c); err != nil {
			for _, done := range m.collectors[:i] {
				r.Unregister(done)
			}
			return nil, errors.Join(errors.New("register the store's metrics"), err)
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
}
