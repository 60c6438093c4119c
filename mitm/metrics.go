package mitm

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"larder/curation"
	"larder/policy"
)

// metrics holds the collectors of this package. Labels have few values, and
// none comes from a client; rules are those of the policy that refuse.
type metrics struct {
	connections prometheus.Gauge
	tunnels     prometheus.Gauge
	classes     map[string]*classMetrics // looked up by label once and for all
	failures    *prometheus.CounterVec
	handshakes  *prometheus.CounterVec
	distrust    *prometheus.CounterVec
	bypasses    *prometheus.CounterVec
	denials     *prometheus.CounterVec
	renderings  *prometheus.CounterVec
	bodies      *prometheus.CounterVec
}

// classMetrics are what each exchange of one class counts.
type classMetrics struct {
	exchanges      prometheus.Counter
	durations      prometheus.Observer
	sent, received prometheus.Counter
}

// newMetrics makes the collectors and registers them with r unless it is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	class, result, reason := []string{"class"}, []string{"result"}, []string{"reason"}
	exchanges := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "larder_mitm_exchanges_total",
		Help: "Requests and tunnels that ended, by class.",
	}, class)
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "larder_mitm_exchange_duration_seconds",
		Help:    "Time from request to end of response in seconds, by class.",
		Buckets: []float64{.001, .005, .025, .1, .5, 2, 10, 60, 300},
	}, class)
	sent := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "larder_mitm_client_bytes_total",
		Help: "Body bytes sent to clients, for tunnels bytes of both directions, by class.",
	}, class)
	received := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "larder_mitm_upstream_bytes_total",
		Help: "Body bytes received from upstream, by class.",
	}, class)
	m := &metrics{
		classes: map[string]*classMetrics{},
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "larder_mitm_connections",
			Help: "Client connections that are open.",
		}),
		tunnels: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "larder_mitm_tunnels",
			Help: "Tunnels that are open.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "larder_mitm_failures_total",
			Help: "Requests, tunnels and handshakes that failed, by reason.",
		}, reason),
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "larder_mitm_handshakes_total",
			Help: "TLS handshakes with clients, by result: full, resumed or failed.",
		}, result),
		distrust: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "larder_mitm_distrust_total",
			Help: "TLS handshakes in which a client did not trust larder's certificate, by reason and likely tool.",
		}, []string{"reason", "tool"}),
		bypasses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "larder_mitm_distrust_tunnels_total",
			Help: "Connections that were tunnelled instead of opened, since their client keeps refusing larder's certificate, by rule.",
		}, []string{"rule"}),
		denials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "larder_mitm_denials_total",
			Help: "Requests and tunnels that a rule refuses, by rule and its mode: enforce refused them, report and open let them pass.",
		}, []string{"rule", "mode"}),
		renderings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "larder_mitm_indexes_total",
			Help: "Package indexes that were written anew for curation or wheels, by result: rendered, refused (nothing of it may be had) or failed. One that is in memory is not counted.",
		}, result),
	}
	m.bodies = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "larder_mitm_request_bodies_total",
		Help: "Request bodies that were read for rules with request_body, by the kind found: git-fetch, git-refs, any (another), unusable (too large, in a way that is not understood, or no memory left).",
	}, []string{"kind"})
	for _, name := range []string{ClassHit, ClassMiss, ClassPass, ClassTunnel, ClassDeny, ClassError} {
		m.classes[name] = &classMetrics{
			exchanges: exchanges.WithLabelValues(name), durations: durations.WithLabelValues(name),
			sent: sent.WithLabelValues(name), received: received.WithLabelValues(name),
		}
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.connections, m.tunnels, exchanges, durations, sent, received, m.failures, m.handshakes, m.distrust, m.bypasses, m.denials, m.bodies,
		m.renderings,
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register wire metrics: %w", err)
		}
	}
	return m, nil
}

// rendered counts an index that was written anew, or could not be.
func (m *metrics) rendered(err error) {
	result := "rendered"
	if err != nil {
		result = "failed"
		if _, refused := errors.AsType[*curation.Refusal](err); refused {
			result = "refused"
		}
	}
	m.renderings.WithLabelValues(result).Inc()
}

func (m *metrics) ended(x *exchange) {
	c, ok := m.classes[x.Class]
	if !ok {
		c = m.classes[ClassError] // it ended before anything was known of it
	}
	c.exchanges.Inc()
	c.durations.Observe(x.Duration.Seconds())
	c.sent.Add(float64(x.Bytes))
	c.received.Add(float64(x.UpstreamBytes))
	if x.waived != nil {
		m.denials.WithLabelValues(x.waived.Name, x.waived.Mode.String()).Inc()
	}
	if x.reason == deniedLabel {
		m.denials.WithLabelValues(cmp.Or(x.Rule, "default"), policy.Enforce.String()).Inc()
	}
	if x.reason != "" {
		m.failures.WithLabelValues(x.reason).Inc()
	}
}
