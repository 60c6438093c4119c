package policy

import (
	"fmt"
	"time"

	"go.yaml.in/yaml/v4"
)

// OnDistrust says what becomes of a client that keeps refusing larder's certificate for
// a host whose TLS larder opens.
type OnDistrust uint8

const (
	// DistrustUnset leaves it to Settings.OnDistrust.
	DistrustUnset OnDistrust = iota
	// RefuseDistrust goes on opening its connections, which it goes on refusing.
	RefuseDistrust
	// TunnelDistrust tunnels its connections to the host for a while.
	TunnelDistrust
)

var distrustNames = [...]string{DistrustUnset: "", RefuseDistrust: "refuse", TunnelDistrust: "tunnel"}

// String returns the word of the policy file, "" if it says none.
func (o OnDistrust) String() string {
	if int(o) >= len(distrustNames) {
		return "invalid"
	}
	return distrustNames[o]
}

const (
	defaultDistrustAfter = 3
	defaultDistrustTTL   = time.Hour
	// maxDistrustTTL is the longest that a client may be out of sight without being
	// asked again.
	maxDistrustTTL   = 7 * 24 * time.Hour
	minDistrustTTL   = time.Minute
	maxDistrustAfter = 100
)

// Distrust is what policy says of a client that keeps refusing larder's certificate for
// a host.
type Distrust struct {
	// Tunnel: its connections may be tunnelled.
	Tunnel bool
	// After is how many handshakes it must have refused, TTL for how long it is
	// tunnelled then. They mean nothing unless Tunnel is true.
	After int
	TTL   time.Duration
	// Rule says so, nil where it is Settings.OnDistrust.
	Rule *Rule
	// Why is a clause on why not, although a rule or Settings.OnDistrust says tunnel;
	// "" if none does.
	Why string
}

// OnDistrust says what becomes of a client that keeps refusing larder's certificate for
// host and port.
//
// A connection carries requests for all rules of its host. So it is tunnelled if one
// of them says so, or Settings.OnDistrust does, and none says refuse; and never where
// anything is to be kept from the client that only shows inside: else refusing
// certificates were the way round the policy.
func (p *Policy) OnDistrust(c Client, host string, port int) Distrust {
	c = c.plain()
	return p.onDistrust(&c, normalizeHost(host), port)
}

func (p *Policy) onDistrust(c *Client, h host, port int) Distrust {
	d := Distrust{After: defaultDistrustAfter, TTL: defaultDistrustTTL}
	said, why := DistrustUnset, ""
	if p.settings.Default == Deny && p.settings.DefaultMode != Open {
		why = "default is deny, and what is allowed shows inside"
	}
	p.index.first(h, func(r *Rule) bool {
		if !r.concerns(c, port) {
			return false
		}
		if why == "" {
			why = p.wantsInside(r)
		}
		if r.OnDistrust == TunnelDistrust && said == DistrustUnset {
			said, d.Rule = TunnelDistrust, r
		}
		if r.OnDistrust == RefuseDistrust {
			said = RefuseDistrust
		}
		return !r.sees() && !r.waives() // nothing comes past a rule that sees nothing
	})
	if said == DistrustUnset {
		said = p.settings.OnDistrust
	}
	if said != TunnelDistrust {
		return Distrust{}
	}
	if why != "" {
		return Distrust{Rule: d.Rule, Why: why}
	}
	d.Tunnel = true
	if d.Rule != nil {
		d.After, d.TTL = d.Rule.DistrustAfter, d.Rule.DistrustTTL
	}
	return d
}

// wantsInside says what a rule looks for inside of a connection that must not be missed,
// "" if nothing.
func (p *Policy) wantsInside(r *Rule) string {
	switch {
	case r.Action == Deny && r.Mode != Open:
		return fmt.Sprintf("rule %q denies some of what may come", r.Name)
	case r.Verify == VerifyRequired:
		return fmt.Sprintf("rule %q wants what comes verified", r.Name)
	case r.Offline:
		return fmt.Sprintf("rule %q is offline", r.Name)
	case r.Registry != "" && len(p.settings.Curation) > 0:
		return fmt.Sprintf("packages under rule %q are curated", r.Name)
	}
	return ""
}

func (d *ruleDecoder) onDistrust(v *yaml.Node) {
	if i, ok := d.word(v, "on_distrust", distrustNames[RefuseDistrust:]); ok {
		d.rule.OnDistrust = RefuseDistrust + OnDistrust(i)
	}
}

func (d *ruleDecoder) distrustAfter(v *yaml.Node) {
	if n, ok := d.integer(v, d.context, "distrust_after", "a number of handshakes", 1, maxDistrustAfter); ok {
		d.rule.DistrustAfter = n
	}
}

func (d *ruleDecoder) distrustTTL(v *yaml.Node) {
	before := len(d.problems)
	d.duration(v, "distrust_ttl", &d.rule.DistrustTTL)
	if ttl := d.rule.DistrustTTL; len(d.problems) == before && (ttl < minDistrustTTL || ttl > maxDistrustTTL) {
		d.problem(v, d.context, "a client that is to be tunnelled for good wants action: tunnel, with clients or users", "distrust_ttl must be between 1m and 7d, not %s", v.Value)
	}
}

// distrustKeys completes a rule with on_distrust, and complains where it would do
// nothing.
func (d *ruleDecoder) distrustKeys() {
	r := d.rule
	if !r.Action.intercepts() {
		for _, key := range []string{"on_distrust", "distrust_after", "distrust_ttl"} {
			d.complain(key, "", "%s has no effect under action %s: no connection is opened to let anything through", key, r.Action)
		}
		return
	}
	if r.OnDistrust != TunnelDistrust {
		for _, key := range []string{"distrust_after", "distrust_ttl"} {
			d.complain(key, "write on_distrust: tunnel beside it", "%s has no effect without on_distrust: tunnel", key)
		}
		return
	}
	if r.DistrustAfter == 0 {
		r.DistrustAfter = defaultDistrustAfter
	}
	if r.DistrustTTL == 0 {
		r.DistrustTTL = defaultDistrustTTL
	}
	const hint = "take one of the two away: what is tunnelled is not looked at"
	switch {
	case r.Offline:
		d.complain("on_distrust", hint, "on_distrust: tunnel has no effect with offline: true")
	case r.Verify == VerifyRequired:
		d.complain("on_distrust", hint, "on_distrust: tunnel has no effect with verify: required")
	}
}

// distrustOfDefault complains where the default keeps on_distrust from doing anything.
// at is the setting's, nil if there is none.
func (d *decoder) distrustOfDefault(at *yaml.Node, f *configFile) {
	if f.settings.Default != Deny || f.settings.DefaultMode == Open {
		return
	}
	const hint, why = "what is allowed under default: deny shows only inside", "on_distrust: tunnel has no effect under default: deny"
	if at != nil && f.settings.OnDistrust == TunnelDistrust {
		d.problem(at, "", hint, "%s", why)
	}
	for _, r := range f.rules {
		if r.OnDistrust == TunnelDistrust {
			d.problemAt(r.Position.Line, r.Position.Column, fmt.Sprintf("rule %q", r.Name), hint, why)
		}
	}
}

// distrustWords says what becomes of a client that refuses the certificate, "" where
// nothing is said of it.
func (p *Policy) distrustWords(q *request) string {
	d := p.onDistrust(&q.client, q.host, q.port)
	who := "on_distrust"
	if d.Rule != nil {
		who = d.Rule.title()
	}
	switch {
	case d.Tunnel:
		return fmt.Sprintf(" If the client refuses larder's certificate for the host %d times, %s has its connections there tunnelled for %s.", d.After, who, duration(d.TTL))
	case d.Why != "":
		return fmt.Sprintf(" If the client refuses larder's certificate, it is not tunnelled, although %s says so: %s.", who, d.Why)
	}
	return ""
}
