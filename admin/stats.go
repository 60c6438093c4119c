package admin

import (
	"context"
	"time"
)

// checkTime bounds all checks of one request together. Load balancers ask often
// and give up soon.
const checkTime = 2 * time.Second

// Readiness is the answer of /-/ready.
type Readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []Reason `json:"reasons,omitempty"`
	// Warnings are failed checks in spite of which larder does its work.
	Warnings []Reason `json:"warnings,omitempty"`
}

// Reason is one failed check.
type Reason struct {
	Check string `json:"check"`
	Error string `json:"error"`
}

// Stats is the answer of /api/v1/stats. Fields may be added, and none will
// change its meaning.
type Stats struct {
	Version       string    `json:"version"`
	Started       time.Time `json:"started"`
	UptimeSeconds int64     `json:"uptime_seconds"`
	Readiness
	// Store is absent where there is none.
	Store *Usage `json:"store,omitempty"`
}

// readiness runs the checks one after another; those that the time did not reach
// have failed too.
func (h *handler) readiness(ctx context.Context) Readiness {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	var r Readiness
	for _, c := range h.o.Checks {
		err := ctx.Err()
		if err == nil {
			err = c.Ready(ctx)
		}
		switch {
		case err == nil:
		case c.Advisory:
			r.Warnings = append(r.Warnings, Reason{Check: c.Name, Error: err.Error()})
		default:
			r.Reasons = append(r.Reasons, Reason{Check: c.Name, Error: err.Error()})
		}
	}
	r.Ready = len(r.Reasons) == 0
	return r
}

func (h *handler) read(ctx context.Context) Stats {
	st := Stats{
		Version:       h.o.Version,
		Started:       h.o.Started.UTC().Truncate(time.Second),
		UptimeSeconds: int64(time.Since(h.o.Started) / time.Second),
		Readiness:     h.readiness(ctx),
	}
	if h.o.Store != nil {
		u := h.o.Store.Usage()
		st.Store = &u
	}
	return st
}
