package ca

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	minted  prometheus.Counter
	hits    prometheus.Counter
	refused prometheus.Counter
	limited prometheus.Counter

	registerer prometheus.Registerer
	collectors []prometheus.Collector
}

// newMetrics registers the collectors of a with r, if there is one.
func newMetrics(r prometheus.Registerer, a *Authority) (*metrics, error) {
	m := &metrics{
		minted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "larder_ca_leaves_minted_total",
			Help: "Leaf certificates signed.",
		}),
		hits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "larder_ca_leaf_cache_hits_total",
			Help: "Leaf certificates served from memory.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "larder_ca_names_refused_total",
			Help: "Names that got no certificate because none can carry them or the policy does not permit them.",
		}),
		limited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "larder_ca_names_limited_total",
			Help: "Names that got no certificate because their client asked for too many new ones.",
		}),
		registerer: r,
	}
	cached := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "larder_ca_leaves_cached",
		Help: "Leaf certificates in memory.",
	}, func() float64 { return float64(a.leaves.len()) })
	m.collectors = []prometheus.Collector{
		m.minted, m.hits, m.refused, m.limited, cached,
		notAfter("root", func() int64 { return a.Root().NotAfter.Unix() }),
		notAfter("issuing", func() int64 { return a.Issuing().NotAfter.Unix() }),
	}
	if r == nil {
		return m, nil
	}
	for i, c := range m.collectors {
		if err := r.Register(c); err != nil {
			m.collectors = m.collectors[:i]
			m.unregister()
			return nil, errors.Join(err)
		}
	}
	return m, nil
}

func notAfter(certificate string, unix func() int64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "larder_ca_not_after_timestamp_seconds",
		Help:        "End of validity of the authority's own certificates, in seconds since the epoch.",
		ConstLabels: prometheus.Labels{"certificate": certificate},
	}, func() float64 { return float64(unix()) })
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
}
