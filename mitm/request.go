package mitm

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	"larder/cache"
	"larder/policy"
)

// serveProxy answers on the connections of clients themselves.
func (s *Server) serveProxy(w http.ResponseWriter, r *http.Request) {
	if !s.active.enter() {
		panic(http.ErrAbortHandler) // its connection was cut
	}
	defer s.active.leave()
	switch {
	case r.Method == http.MethodConnect:
		s.serveConnect(w, r)
	case r.URL.Scheme != "":
		s.serveRequest(w, r, true)
	default:
		s.serveOrigin(w, r)
	}
}

// serveOpened answers on connections that larder looks into after CONNECT.
func (s *Server) serveOpened(w http.ResponseWriter, r *http.Request) {
	if !s.active.enter() {
		panic(http.ErrAbortHandler)
	}
	defer s.active.leave()
	s.serveRequest(w, r, false) // who asks was found out when the connection was made
}

// serveOrigin answers requests to larder itself.
func (s *Server) serveOrigin(w http.ResponseWriter, r *http.Request) {
	if s.options.Origin != nil {
		if c := connOf(r.Context()); c.outer != nil {
			r = r.WithContext(r.Context()) // a copy
			state := c.outer.ConnectionState()
			r.TLS = &state
		}
		s.options.Origin.ServeHTTP(w, r)
		return
	}
	http.Error(w, "larder: this is a proxy; set it as http_proxy and https_proxy", http.StatusNotFound)
}

// serveRequest carries out what policy says of one request, of which it first finds
// out whose it is if identify is true.
func (s *Server) serveRequest(w http.ResponseWriter, r *http.Request, identify bool) {
	recoverExpect(r)
	r, unknown := unextended(r)
	c := connOf(r.Context())
	x := s.begin(c, r.Method, "")
	defer x.finish()
	target, err := targetOf(r, c.authority)
	if err == nil && unknown != nil {
		err = unknown
	}
	if err == nil && c.misnamed != "" {
		err = &misdirectedError{got: c.misnamed, want: c.authority.String(), what: "server name"}
	}
	w, recorded := s.recorded(w, r, target, x)
	defer recorded() // before the exchange is told
	if err != nil {
		x.URL = loggable(r.URL, r.Host)
		x.reject(w, r, err)
		return
	}
	x.target = target
	rules := s.rules.Load()
	if identify {
		if err := rules.access.identify(r, x); err != nil {
			x.reject(w, r, err)
			return
		}
	}
	if s.isOwnName(target.Hostname()) {
		s.serveOwnName(w, r, x)
		return
	}
	s.answer(w, r, target, rules, x)
}

// answer carries out what rules say of a request for target.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, target *url.URL, rules *ruleset, x *exchange) {
	decision := rules.policy.Classify(x.who, r.Method, target)
	body, err := s.bodyFor(decision.Rule, r)
	if err != nil {
		x.reject(w, r, err)
		return
	}
	if body != nil {
		defer s.giveBack(body)
		decision = rules.policy.ClassifyBody(x.who, r.Method, target, body.kind)
	}
	rule := rules.of(decision)
	x.decided(decision, rule)
	if decision.Action == policy.Deny {
		x.reject(w, r, &deniedError{rule.name})
		return
	}
	if rules.curator != nil && rule.registry != "" && s.curate(w, r, target, rules, rule, decision, x) {
		return
	}
	if extendedOf(r) == nil && s.serveReady(w, r, decision, rule, x) {
		return
	}
	upgrade := upgradeOf(r.ProtoMajor, r.Header)
	if e := extendedOf(r); e != nil {
		upgrade = e.protocol
	}
	cached := decision.Action.Stores() && rule.cache != nil && (rule.body != policy.BodyUnread || storable(r, upgrade))
	var out *http.Request
	if cached && rule.request == nil && endsHere(r.Header) {
		out = forwarded(r, target, r.Header) // the cache changes no header
	} else {
		out = forwarded(r, target, forwardHeader(r, upgrade))
	}
	if rule.request != nil {
		if err := rule.request.ModifyRequest(out); err != nil {
			x.reject(w, r, fmt.Errorf("change request header by rule %q: %w", rule.name, err))
			return
		}
	}
	if cached {
		s.serveCached(w, out, rules, rule, body, x)
		return
	}
	if x.offline || rule.cache != nil && rule.cache.Offline {
		x.reject(w, r, ErrOffline) // what cannot be answered from the store is not asked for
		return
	}
	s.pass(w, r, out, rule, x)
}

// storable reports whether a request is of the kind that the cache answers.
func storable(r *http.Request, upgrade string) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.ContentLength == 0 && upgrade == ""
}

// forwarded is the request as it goes upstream, with header.
func forwarded(r *http.Request, target *url.URL, header http.Header) *http.Request {
	out := r.WithContext(r.Context())
	out.URL = target
	out.RequestURI = ""
	out.Header = header
	out.Close = false
	out.TransferEncoding = nil
	if r.ContentLength == 0 {
		out.Body = http.NoBody
		if len(r.Header["Content-Length"]) == 0 {
			sendWithoutLength(out)
		}
	}
	if out.Host == "" {
		out.Host = target.Host // HTTP/1.0
	}
	return out
}

// sendWithoutLength keeps net/http from adding a Content-Length of 0 to a POST,
// PUT or PATCH that came without one: a body of unknown length in no coding goes
// out as no body at all.
func sendWithoutLength(out *http.Request) {
	switch out.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		empty := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil }
		out.Body, _ = empty()
		out.GetBody = empty // it can be sent again
		out.ContentLength = -1
		out.TransferEncoding = []string{"identity"}
	}
}

// serveReady answers a plain request with what the cache holds in memory, if it
// does.
func (s *Server) serveReady(w http.ResponseWriter, r *http.Request, d policy.Decision, rule *rule, x *exchange) bool {
	if !s.mayBeReady(d, rule) || !isPlain(r) {
		return false
	}
	ready, ok := s.ready.Ready(x.target, rule.cache)
	if !ok || len(r.Header[expectsField]) > 0 && !ready.Proved() {
		return false
	}
	n, err := ready.WriteTo(w)
	x.told(s.ready.Served(ready, n, err))
	if err != nil {
		x.fail(err)
		abort(r)
	}
	return true
}

// mayBeReady reports whether a plain request under a rule may be answered without
// more than a look into memory: nothing of it or the answer is to be changed.
func (s *Server) mayBeReady(d policy.Decision, rule *rule) bool {
	return s.ready != nil && d.Action == policy.Immutable &&
		rule.cache != nil && rule.request == nil && rule.response == nil && !rule.curated
}

// serveCached lets the cache answer.
func (s *Server) serveCached(w http.ResponseWriter, out *http.Request, rules *ruleset, rule *rule, body *content, x *exchange) {
	to := w
	if rule.response != nil {
		to = &modifyingWriter{ResponseWriter: w, request: out, modifier: rule.response}
	}
	w.Header()["Content-Type"] = nil // what the origin did not say is not guessed
	x.Class = ClassMiss
	use := rule.cache
	if x.offline {
		use = rule.offline
	}
	if use.FollowRedirects {
		out = out.WithContext(cache.WithHops(out.Context(), rules.hops(x.who)))
	}
	var o cache.Outcome
	var err error
	if rule.body != policy.BodyUnread {
		out, as := body.question(rule.body, out)
		o, err = s.options.Cache.ServeContent(to, out, use, as)
	} else {
		o, err = s.options.Cache.Serve(to, out, use)
	}
	x.told(o)
	switch {
	case err == nil:
	case o.Status == 0:
		x.reject(w, out, err)
	default:
		x.fail(err)
		abort(out)
	}
}

// abort breaks the response off in a way that the client cannot take for its
// end. Over HTTP/1.0 the end of the connection is the end of the body.
func abort(r *http.Request) {
	if c := connOf(r.Context()); c != nil && r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		c.abort()
	}
	panic(http.ErrAbortHandler)
}

// finish ends the exchange, also when the handler panics, and then lets the
// panic go on to net/http, which closes the connection or stream.
func (x *exchange) finish() {
	v := recover()
	if v != nil && x.Err == "" {
		if v == http.ErrAbortHandler {
			x.fail(http.ErrAbortHandler)
		} else {
			x.fail(&panicError{value: v})
		}
	}
	x.end()
	if v != nil {
		panic(v)
	}
}

// targetOf rebuilds the target URI (RFC 9110, Section 7.1) with the path and
// query exactly as sent. opened is the authority for which the connection was
// opened, zero on a plain one.
func targetOf(r *http.Request, opened authority) (*url.URL, error) {
	if strings.IndexByte(r.RequestURI, '#') >= 0 {
		return nil, &requestError{errors.New("a request target has no fragment")}
	}
	if r.URL.User != nil {
		return nil, &requestError{errors.New("a request target has no user information; send Authorization")}
	}
	if r.Method == http.MethodConnect {
		return nil, &requestError{errors.New("CONNECT inside of a connection that is open already")}
	}
	if err := saysOneThing(r); err != nil {
		return nil, err
	}
	a, scheme, err := authorityOf(r, opened)
	if err != nil {
		return nil, err
	}
	u := &url.URL{
		Scheme: scheme, Host: a.urlHost(scheme),
		Path: r.URL.Path, RawPath: r.URL.RawPath,
		RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery,
	}
	switch {
	case u.Path == "" && r.Method == http.MethodOptions && u.RawQuery == "" && !u.ForceQuery:
		u.Path = "*" // RFC 9112, Section 3.2.4
	case u.Path == "":
		u.Path = "/"
	case u.Path == "*" && r.Method != http.MethodOptions, u.Path[0] != '/' && u.Path != "*":
		return nil, &requestError{errors.New("a request target begins with a slash")}
	}
	return u, nil
}

// saysOneThing refuses a request of HTTP/2 that names two hosts (RFC 9113, Section
// 8.3.1) or lengths, or whose method is no token. Those of HTTP/1 net/http has not let through; see framing.
func saysOneThing(r *http.Request) error {
	if r.ProtoMajor != 2 {
		return nil
	}
	if !httpguts.ValidHeaderFieldName(r.Method) { // a token too
		return &requestError{errors.New("a method is a token")}
	}
	if h := r.Header["Host"]; len(h) > 1 || len(h) == 1 && !strings.EqualFold(h[0], r.Host) {
		return &requestError{errors.New("the Host field is not what :authority says")}
	}
	if len(r.Header["Content-Length"]) > 1 {
		return &requestError{errors.New("the length is given twice")}
	}
	return nil
}

// authorityOf finds the authority of a request and holds it against the one
// that its connection was opened for.
func authorityOf(r *http.Request, opened authority) (a authority, scheme string, err error) {
	scheme = "http"
	if r.TLS != nil {
		scheme = "https"
	}
	if s := strings.ToLower(r.URL.Scheme); s != "" && s != scheme {
		return a, "", &requestError{fmt.Errorf("scheme %q does not belong here: https goes through CONNECT", s)}
	}
	if r.Host == "" && opened.Host != "" && r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		return opened, scheme, nil // HTTP/1.0 need not say
	}
	if opened.Host != "" && opened.spelled(r.Host, scheme) {
		return opened, scheme, nil // nearly always
	}
	a, err = parseAuthority(r.Host, defaultPort(scheme))
	if err != nil {
		return a, "", &requestError{err}
	}
	if opened.Host != "" && a != opened || opened.Host == "" && opened.Port != 0 && a.Port != opened.Port {
		return a, "", &misdirectedError{got: r.Host, want: opened.String(), what: "request for"}
	}
	return a, scheme, nil
}

// loggable is a URI without what may be a credential. host is used where the
// URI has none.
func loggable(u *url.URL, host string) string {
	path := u.RawPath
	if path == "" {
		path = u.EscapedPath()
	}
	if u.Host != "" {
		host = u.Host
	}
	host = withoutCredentials(host)
	if u.Scheme == "" {
		return host + path
	}
	return u.Scheme + "://" + host + path
}
