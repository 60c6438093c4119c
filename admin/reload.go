package admin

import (
	"context"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Reload does one reload at a time, whether a signal or a request asks for it,
// and shows in two gauges how the last one went: a policy that was refused is
// otherwise only seen at the next start.
type Reload struct {
	mu   sync.Mutex // held during a reload
	load func(context.Context) error

	successful prometheus.Gauge
	when       prometheus.Gauge
}

// NewReload makes a Reload of load, which keeps the old policy if it returns an
// error. The gauges say that the policy of the start was good. registerer may be
// nil.
func NewReload(load func(context.Context) error, registerer prometheus.Registerer) *Reload {
	r := &Reload{load: load}
	r.successful, r.when = reloadGauges(registerer)
	r.done(nil)
	return r
}

// Reload reads the policy again and returns what is wrong with it.
func (r *Reload) Reload(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.load(ctx)
	r.done(err)
	return err
}

func (r *Reload) done(err error) {
	if err != nil {
		r.successful.Set(0)
		return
	}
	r.successful.Set(1)
	r.when.SetToCurrentTime()
}
