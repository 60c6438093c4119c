package policy

import "slices"

// MayTunnel reports whether bytes that larder does not understand may go to
// host and port on a connection that Connect opens: only if no request to them
// could be denied. What larder cannot read it cannot hold against a deny rule,
// so a client would else get round the rule by not speaking TLS.
func (p *Policy) MayTunnel(host string, port int) bool {
	r := p.index.first(normalizeHost(host), func(r *Rule) bool {
		if len(r.Ports) > 0 && !slices.Contains(r.Ports, port) {
			return false
		}
		return r.Action == Deny || !r.sees() // nothing comes past a rule that sees nothing
	})
	if r == nil {
		return p.settings.Default != Deny
	}
	return r.Action != Deny
}
