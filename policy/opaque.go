package policy

// MayTunnel reports whether bytes that larder does not understand may go to
// host and port on a connection that Connect opens: only if no request to them
// of the client could be denied. What larder cannot read it cannot hold against a deny rule,
// so a client would else get round the rule by not speaking TLS.
func (p *Policy) MayTunnel(c Client, host string, port int) bool {
	c = c.plain()
	r := p.index.first(normalizeHost(host), func(r *Rule) bool {
		if !r.concerns(&c, port) || r.waives() {
			return false
		}
		return r.Action == Deny || !r.sees() // nothing comes past a rule that sees nothing
	})
	if r == nil {
		return p.fallBack(Decision{}).Action != Deny
	}
	return r.Action != Deny
}
