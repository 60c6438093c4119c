package cache

import (
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestCacheStatusIsAStructuredField(t *testing.T) {
	for _, test := range []struct {
		status cacheStatus
		want   string
	}{
		{cacheStatus{hit: true}, "larder; hit"},
		{cacheStatus{hit: true, ttl: new(-1500 * time.Millisecond), detail: "stale-while-revalidate"}, "larder; hit; ttl=-1; detail=stale-while-revalidate"},
		{cacheStatus{fwd: "stale", fwdStatus: 304, ttl: new(time.Minute), collapsed: true}, "larder; fwd=stale; fwd-status=304; ttl=60; collapsed"},
		{cacheStatus{fwd: "uri-miss", stored: true}, "larder; fwd=uri-miss; stored"},
		{cacheStatus{hit: true, key: `accept: a;q=1, "b"`, detail: "x"}, `larder; hit; key="accept: a;q=1, \"b\""; detail=x`},
		{cacheStatus{detail: "only-if-cached"}, "larder; detail=only-if-cached"},
	} {
		got := test.status.String()
		if got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
		list, err := httpsfv.UnmarshalList([]string{got})
		if err != nil || len(list) != 1 {
			t.Errorf("%s: %v", got, err)
		}
	}
}

func TestMetricsLint(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := newMetrics(reg)
	m.observe(&Outcome{Hit: true}, nil)
	m.fills.WithLabelValues("stored").Inc()
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
