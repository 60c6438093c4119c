package cache

import "github.com/prometheus/client_golang/prometheus"

// metrics are the collectors of a Cache. Labels take values of bounded sets only.
type metrics struct {
	counted

	requests      *prometheus.CounterVec
	sent          *prometheus.CounterVec
	received      prometheus.Counter
	fills         *prometheus.CounterVec
	digests       *prometheus.CounterVec
	ledger        *prometheus.CounterVec
	learnt        prometheus.Counter
	notVouched    prometheus.Counter
	unreadable    prometheus.Counter
	resumed       prometheus.Counter
	joined        prometheus.Counter
	offline       prometheus.Counter
	storeUp       prometheus.Gauge
	withoutStore  *prometheus.CounterVec
	storeFailures prometheus.Counter

	answers        *prometheus.CounterVec
	bound          *prometheus.CounterVec
	rechecks       *prometheus.CounterVec
	redirects      *prometheus.CounterVec
	circuitsOpened prometheus.Counter
	spared         *prometheus.CounterVec
}

// counted are what every request counts, looked up by label once and for all.
type counted struct {
	hits, collapsed, misses, errors prometheus.Counter
	fromStore, fromUpstream         prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "larder_cache_requests_total",
			Help: "Requests answered, by result: hit, collapsed, miss or error.",
		}, []string{"result"}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "larder_cache_sent_bytes_total",
			Help: "Body bytes sent to clients, by source: store or upstream.",
		}, []string{"source"}),
		received: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "larder_cache_received_bytes_total",
			Help: "Body bytes received from upstream.",
		}),
		fills: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "larder_cache_fills_total",
			Help: "Fills that ended, by result: stored, unstored, failed or refused (a digest does not match).",
		}, []string{"result"}),
		digests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "larder_cache_digests_total",
			Help: "Digests that bodies were held to, by source (url, index, header, client; none where there was no digest) and result: verified, mismatch (refused), contradicted (by a more trusted source), outdated (an index of what may change), unknown.",
		}, []string{"source", "result"}),
		ledger: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "larder_cache_ledger_total",
			Help: "Bodies held to the ledger, by result: first (written down), same, refused and warned (another digest than the first), left-out (the ledger is full), failed.",
		}, []string{"result"}),
		learnt: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "larder_cache_digests_learnt_total",
			Help: "Digests of other files that were read in indexes, known ones included.",
		}),
		notVouched: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "larder_cache_digests_not_vouched_total",
			Help: "Digests in indexes that were left out because the index may not speak for the file's host.",
		}),
		unreadable: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "larder_cache_indexes_unreadable_total",
			Help: "Indexes that could not be read, so that nothing was learnt from them.",
		}),
		resumed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "larder_cache_fills_resumed_total",
			Help: "Times that a body broken off by upstream was taken up again.",
		}),
		joined: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "larder_cache_parts_joined_total",
			Help: "Objects stored by joining ranges that clients had asked for one by one.",
		}),
		storeFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "larder_cache_store_failures_total",
			Help: "Store operations that failed; the requests went on without the store.",
		}),
		storeUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "larder_cache_store_up",
			Help: "Whether the store works (1), or is broken and being tried again (0).",
		}),
		withoutStore: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "larder_cache_without_store_total",
			Help: "Requests that needed the store while it was broken, by what became of them: passed or refused.",
		}, []string{"action"}),
		offline: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "larder_cache_offline_misses_total",
			Help: "Requests answered with 504 because nothing was stored and upstream was not to be asked.",
		}),
	}
	m.answers = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "larder_cache_answers_total",
		Help: "Answers to requests with a body that were judged before they were stored, by result: whole, unusable (an error, or not understood) or damaged (the client's transfer was cut).",
	}, []string{"result"})
	m.bound = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "larder_cache_bound_total",
		Help: "Requests for files of a repository that its signed list has decided, by how: named (served without asking), another-generation (what is stored is not what the list names), or generation-before (a stale list was served as it was before).",
	}, []string{"result"})
	m.rechecks = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "larder_cache_rechecks_total",
		Help: "Requests for which upstream had to say whether the client may have what is stored, by what came of it: allowed, remembered (it had said so lately), denied, failed, or unasked (upstream failed, and it had said so before).",
	}, []string{"result"})
	m.redirects = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "larder_cache_redirects_total",
		Help: "Redirects of upstream under rules that have them followed, by what became of them: followed, or passed to the client because their target may not be asked.",
	}, []string{"result"})
	m.circuitsOpened = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "larder_cache_circuits_opened_total",
		Help: "Times that an upstream was found to be down, so that only probes are sent to it.",
	})
	m.spared = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "larder_cache_stale_unasked_total",
		Help: "Stale responses served without an answer from upstream, by reason: throttled, upstream-down or upstream-slow.",
	}, []string{"reason"})
	m.counted = counted{
		hits: m.requests.WithLabelValues("hit"), collapsed: m.requests.WithLabelValues("collapsed"),
		misses: m.requests.WithLabelValues("miss"), errors: m.requests.WithLabelValues("error"),
		fromStore: m.sent.WithLabelValues("store"), fromUpstream: m.sent.WithLabelValues("upstream"),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.sent, m.received, m.fills, m.digests, m.ledger, m.learnt, m.notVouched, m.unreadable, m.resumed, m.joined, m.offline, m.storeUp, m.withoutStore, m.storeFailures,
			m.circuitsOpened, m.spared, m.rechecks, m.redirects, m.bound, m.answers)
	}
	return m
}

func (m *metrics) observe(out *Outcome, err error) {
	result := m.misses
	switch {
	case err != nil:
		result = m.errors
	case out.Hit:
		result = m.hits
	case out.Collapsed:
		result = m.collapsed
	}
	result.Inc()
	addBytes(m.fromStore, out.CacheBytes)
	addBytes(m.fromUpstream, out.Bytes-out.CacheBytes)
	addBytes(m.received, out.UpstreamBytes)
}

func addBytes(c prometheus.Counter, n int64) {
	if n != 0 {
		c.Add(float64(n))
	}
}
