package mitm

import (
	"net/http"

	"larder/policy"
)

// Reach is how a request that is for larder itself has come.
type Reach struct {
	// Proxied: through the proxy, under Options.OwnName; else with larder as its origin.
	Proxied bool
	// TLS: inside of TLS for which larder has shown a certificate of its own, that of
	// the name or that of a proxy over TLS.
	TLS bool
}

// ReachOf says how a request has come that Options.Origin is asked to answer.
func ReachOf(r *http.Request) Reach {
	c := connOf(r.Context())
	if c == nil {
		return Reach{TLS: r.TLS != nil}
	}
	return Reach{Proxied: c.authority.Host != "" || c.authority.Port != 0 || r.URL.Scheme != "", TLS: r.TLS != nil}
}

// isOwnName reports whether a host is larder itself.
func (s *Server) isOwnName(host string) bool { return host == s.options.OwnName && host != "" }

// connection decides on a client's connection to an authority. To larder itself every
// client may, who may use the proxy: nothing of it goes anywhere.
func (s *Server) connection(rules *ruleset, who policy.Client, a authority) policy.Decision {
	if s.isOwnName(a.Host) {
		return policy.Decision{Action: policy.Pass}
	}
	return rules.policy.Connect(who, a.Host, a.Port)
}

// serveOwnName answers a request for larder itself that came through the proxy.
func (s *Server) serveOwnName(w http.ResponseWriter, r *http.Request, x *exchange) {
	x.release() // it is no traffic
	if s.options.Origin == nil {
		http.Error(w, "larder: there is nothing here", http.StatusNotFound)
		return
	}
	s.options.Origin.ServeHTTP(w, r)
}
