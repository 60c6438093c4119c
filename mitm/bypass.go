package mitm

import (
	"context"
	"log/slog"
	"time"

	"larder/policy"
)

// forgotten is how long after its last refusal those before it do not count any more.
const forgotten = 24 * time.Hour

// bypass reports whether a connection that larder would open is to be tunnelled instead,
// since its client keeps refusing the certificate and policy has that tunnelled. It is
// asked anew for each connection, so that a reload of the policy ends it. reach, if not
// nil, has a last word on whether the client may be where the tunnel would go.
func (s *Server) bypass(t *trial, a authority, reach func() error) bool {
	if !s.distrust.any.Load() || t.x.isOffline() || s.isOwnName(a.Host) {
		return false // nearly always by the first
	}
	c, p := t.client, t.party()
	refusals, reason := s.distrust.refusals(p)
	if refusals == 0 {
		return false
	}
	rules := s.rules.Load()
	d := rules.policy.OnDistrust(c.asker, a.Host, a.Port)
	if !d.Tunnel || refusals < d.After || !rules.policy.MayTunnel(c.asker, a.Host, a.Port) {
		return false
	}
	// In a tunnel nobody holds the server name against the authority, which else tells
	// apart what a shared address serves.
	if _, h := peekHello(t.flight); otherName(h.ServerName, a) != "" {
		return false
	}
	if reach != nil && reach() != nil {
		return false
	}
	until, begins, tunnelled := s.distrust.tunnel(p, d.TTL, time.Now())
	if !tunnelled {
		return false
	}
	by := byRule(d)
	s.metrics.bypasses.WithLabelValues(by).Inc()
	t.x.Distrust = reason
	if begins {
		told, _ := t.judge()
		told.Reason, told.Until, told.By = reason, until, by
		t.x.Tool = told.Tool
		told.logTunnel(s.options.Logger, refusals)
		if o := s.distrust.observer; o != nil {
			o.Tunnelled(told)
		}
	}
	return true
}

// byRule names what has a client tunnelled: a rule, or the setting for all.
func byRule(d policy.Distrust) string {
	if d.Rule == nil {
		return "on_distrust"
	}
	return d.Rule.Name
}

// refusals are those of a party since it last trusted larder, and why the last.
func (g *register) refusals(p party) (n int, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.parties.get(p)
	if s == nil {
		return 0, ""
	}
	return s.refusals, s.reason
}

// tunnel reports whether a party is to be tunnelled now: for ttl from the first time,
// which begins is true of. The connection after that is opened, to see whether the
// client still refuses; if so, the next begins anew.
func (g *register) tunnel(p party, ttl time.Duration, now time.Time) (until time.Time, begins, tunnelled bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.parties.get(p)
	switch {
	case s == nil || s.refusals == 0: // it has just trusted larder
		return until, false, false
	case s.until.IsZero():
		s.until = now.Add(ttl)
		return s.until, true, true
	case now.Before(s.until):
		if latest := now.Add(ttl); s.until.After(latest) {
			s.until = latest // a reload has made ttl shorter
		}
		return s.until, false, true
	}
	s.until = time.Time{}
	return until, false, false
}

// logTunnel says that a client is tunnelled from now on.
func (d *Distrust) logTunnel(logger *slog.Logger, refusals int) {
	attrs := append(d.attrs(refusals), slog.String("policy", d.By), slog.Time("until", d.Until))
	logger.LogAttrs(context.Background(), slog.LevelWarn, "client is tunnelled, since it refuses larder's certificate", attrs...)
}
