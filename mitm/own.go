package mitm

import (
	"net"
	"net/http"
	"net/url"

	"larder/cache"
	"larder/policy"
)

// ServeOwn answers a request that larder makes to itself, such as to fill the cache
// ahead of time, as it would answer a client's: by policy, with log and metrics. Its
// URL is the absolute target URI. Like every handler it panics with
// http.ErrAbortHandler where a response breaks off. It reports whether what it sent is
// in the store now, which the header, written before the body came, cannot promise.
func (s *Server) ServeOwn(w http.ResponseWriter, r *http.Request) (stored bool) {
	if !s.enter(&s.active) {
		writeFailure(w, r, describe(errStopping), loggable(r.URL, r.Host))
		return false
	}
	defer s.active.leave()
	x := s.begin(nil, r.Method, "")
	defer x.finish()
	x.Client, x.own = r.RemoteAddr, true
	x.target = r.URL
	s.answer(w, r, r.URL, s.rules.Load(), x)
	return x.stored
}

// RuleFor returns the rule under which the cache would store the response to a GET
// of target, nil when it would not.
func (s *Server) RuleFor(target *url.URL) *cache.Rule {
	rules := s.rules.Load()
	decision := rules.policy.Classify(policy.Client{}, http.MethodGet, target)
	if !decision.Action.Stores() {
		return nil
	}
	return rules.of(decision).cache
}

// RuleForContent returns the rule under which the cache would store the response to a
// request for target whose body is of a kind, nil when it would not.
func (s *Server) RuleForContent(method, kind string, target *url.URL) *cache.Rule {
	body, ok := policy.ParseRequestBody(kind)
	if !ok {
		return nil
	}
	rules := s.rules.Load()
	decision := rules.policy.ClassifyBody(policy.Client{}, method, target, body)
	if !decision.Action.Stores() || decision.Rule.RequestBody != body {
		return nil
	}
	return rules.of(decision).cache
}

// isOffline asks a listener whether upstream must not be asked on its account.
func isOffline(l net.Listener) bool {
	o, ok := l.(interface{ Offline() bool })
	return ok && o.Offline()
}

// runOf asks a listener which run it is for.
func runOf(l net.Listener) *Run {
	r, ok := l.(interface{ Run() (id, command string) })
	if !ok {
		return nil
	}
	id, command := r.Run()
	return &Run{ID: id, Command: command}
}

// isOffline reports whether upstream is not to be asked, for this connection or any.
func (x *exchange) isOffline() bool { return x.offline || x.server.options.Upstream.offline.Load() }
