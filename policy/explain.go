package policy

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Explanation says what larder would do with a request, and why.
type Explanation struct {
	Client Client
	Method string
	URL    string
	// Body is the kind of the request's body, BodyUnread where nobody has said.
	Body RequestBody
	// Connect is what happens to the connection that carries the request; the
	// zero Decision for an http:// URL, which needs none.
	Connect Decision
	// Request is what happens to the request itself.
	Request Decision
	// Steps lists the rules that name the host, in the order tried, up to the
	// one that decided.
	Steps []Step
	// Words says in a few sentences what larder would do.
	Words string
}

// Step is one rule that names the host of the request.
type Step struct {
	Rule    *Rule
	Matched bool
	// Waived: it matched, and by its mode did not decide.
	Waived bool
	Reason string // why it did not match, "" if it did
}

// Explain traces the decision on a client's request. It does what Connect and
// Classify do, slower, and tells why.
func (p *Policy) Explain(c Client, method string, u *url.URL) Explanation {
	return p.ExplainBody(c, method, u, BodyUnread)
}

// ExplainBody is Explain for a request whose body is known to be of a kind, as
// ClassifyBody is Classify.
func (p *Policy) ExplainBody(c Client, method string, u *url.URL, body RequestBody) Explanation {
	q := newRequest(c, method, u)
	q.body = body
	e := Explanation{Client: q.client, Method: method, URL: u.Redacted(), Body: body, Request: p.classify(&q)}
	p.index.first(q.host, func(r *Rule) bool {
		m := r.mismatch(&q)
		step := Step{Rule: r, Matched: m == matches, Reason: r.reason(m, &q)}
		step.Waived = step.Matched && r.waives()
		e.Steps = append(e.Steps, step)
		return step.Matched && !step.Waived
	})
	if q.tls {
		e.Connect = p.connect(&q.client, q.host, q.port)
	}
	e.Words = p.words(&e, &q)
	return e
}

// reason puts a mismatch into words.
func (r *Rule) reason(m mismatch, q *request) string {
	switch m {
	case wrongPort:
		return fmt.Sprintf("port %d is not among %s", q.port, joinInts(r.Ports))
	case wrongClient:
		if !q.client.Addr.IsValid() {
			return "it is for the clients " + joinNetworks(r.Clients) + ", and no client is given"
		}
		return fmt.Sprintf("client %s is not within %s", q.client.Addr, joinNetworks(r.Clients))
	case wrongUser:
		if q.client.User == "" {
			return "it is for the users " + strings.Join(r.Users, ", ") + ", and no user is given"
		}
		return fmt.Sprintf("user %s is not among %s", q.client.User, strings.Join(r.Users, ", "))
	case wrongMethod:
		return fmt.Sprintf("method %s is not among %s", q.method, strings.Join(r.Methods, ", "))
	case wrongPath:
		return "no pattern in paths matches " + q.path
	case wrongQuery:
		return r.queryReason(q.query)
	case wrongBody:
		return fmt.Sprintf("it is for requests with a body of the kind %s", r.RequestBody)
	case dotSegments:
		return "the path has dot segments, and only a deny rule takes such a path for what it seems"
	default:
		return ""
	}
}

func joinNetworks(all []netip.Prefix) string {
	texts := make([]string, len(all))
	for i, n := range all {
		texts[i] = n.String()
	}
	return strings.Join(texts, ", ")
}

func joinInts(all []int) string {
	texts := make([]string, len(all))
	for i, n := range all {
		texts[i] = strconv.Itoa(n)
	}
	return strings.Join(texts, ", ")
}

// words says what larder does with the request.
func (p *Policy) words(e *Explanation, q *request) string {
	if q.tls {
		switch e.Connect.Action {
		case Tunnel:
			return "larder tunnels the connection and sees nothing of the request."
		case Deny:
			return "larder refuses the connection with 403."
		}
	}
	opens, larder := "", "larder"
	if q.tls {
		opens, larder = "larder opens the TLS of the connection. ", "It"
	}
	d, distrust := e.Request, ""
	if q.tls {
		distrust = p.distrustWords(q)
	}
	switch {
	case d.Action == Deny:
		return opens + larder + " refuses the request with 403."
	case d.Action.Stores():
		return opens + storingWords(d.Rule) + distrust
	}
	return opens + larder + forwardingWords(d.Rule) + distrust
}

// forwardingWords says how a request is forwarded that is not stored; the rule
// is nil when the default decided.
func forwardingWords(r *Rule) string {
	how, why := "unmodified", ""
	if r != nil && (!r.Request.Empty() || !r.Response.Empty()) {
		how = "with the header changes of the rule"
	}
	if r != nil && r.Action.Stores() {
		why = ", since only GET and HEAD can be answered from the store"
	}
	return " forwards the request " + how + " and stores nothing" + why + "."
}

func storingWords(r *Rule) string {
	var parts []string
	switch {
	case r.Action == HTTP:
		parts = append(parts, "A response is stored and served as long as its own header says, to the letter of RFC 9111; a client that asks for validation gets it.")
	case r.Action == Immutable && r.TTL == 0:
		parts = append(parts, "A stored 200 is served for ever without asking upstream, whatever the client says about freshness.")
	case r.Action == Immutable:
		parts = append(parts, "A stored 200 is served for "+duration(r.TTL)+" without asking upstream, whatever the client says about freshness.")
	case r.TTL == 0:
		parts = append(parts, "A stored response is validated upstream each time before it is served.")
	default:
		parts = append(parts, "A stored response is served for "+duration(r.TTL)+" without asking upstream, then validated; a client that asks for validation gets it.")
	}
	if r.StaleWhileRevalidate > 0 {
		parts = append(parts, "For "+duration(r.StaleWhileRevalidate)+" more it is served while being validated.")
	}
	if r.StaleIfError > 0 && (r.Action != Immutable || r.TTL > 0) {
		parts = append(parts, "If upstream fails, a stale one is served for another "+duration(r.StaleIfError)+".")
	}
	if r.NegativeTTL > 0 {
		parts = append(parts, "A 404 or 410 is remembered for "+duration(r.NegativeTTL)+".")
	}
	if len(r.Vary) > 0 {
		parts = append(parts, "Responses are kept apart by "+strings.Join(r.Vary, ", ")+".")
	}
	if len(r.DropQuery) > 0 {
		parts = append(parts, "Query parameters "+strings.Join(r.DropQuery, ", ")+" are not part of the key.")
	}
	parts = append(parts, r.contentWords()...)
	parts = append(parts, r.bodyWords()...)
	if words := r.authorizedWords(); words != "" {
		parts = append(parts, words)
	}
	if r.Offline {
		parts = append(parts, "But upstream is never asked: what is stored is served whatever its age, and for the rest there is a 504.")
	}
	if r.MaxObject > 0 {
		parts = append(parts, fmt.Sprintf("Bodies above %d bytes are not stored.", r.MaxObject))
	}
	if r.MaxStore > 0 {
		parts = append(parts, fmt.Sprintf("What is stored takes at most %d bytes together; for more, what of it was used least goes.", r.MaxStore))
	}
	if r.Pin {
		parts = append(parts, "What is stored stays, used or not, as long as all that is pinned takes at most half of the store.")
	}
	if r.FillRanges {
		parts = append(parts, "Beside the first range of something not stored, the whole is fetched.")
	}
	switch r.FinishFill {
	case FinishAlways:
		parts = append(parts, "A fetch goes on when its last client has left.")
	case FinishNever:
		parts = append(parts, "A fetch ends when its last client has left.")
	}
	parts = append(parts, r.integrityWords()...)
	return strings.Join(parts, " ")
}

// authorizedWords says who gets what is stored.
func (r *Rule) authorizedWords() string {
	switch r.Authorized {
	case Public:
		return "Responses to requests with credentials are stored for everybody."
	case Signed:
		words := "But first upstream is asked whether the client's URL, without whose signature it is stored, is good"
		if len(r.SignedBy) > 0 {
			words += ", unless " + strings.Join(r.SignedBy, ", ") + " has sent it in a redirect and it has not expired"
		}
		return words + "."
	case Recheck:
		how, scope, ttl := "with HEAD", "for this URL", r.RecheckTTL
		if r.RecheckAt != "" {
			how = "at " + r.RecheckAt
		}
		if r.RecheckScope != nil {
			scope = "for all that " + r.RecheckScope.String() + " takes for the same"
		}
		if ttl == 0 {
			ttl = 2 * time.Minute
		}
		words := "But first upstream is asked " + how + ", with the client's own credentials or none, whether it may have it. A yes holds " + scope + " for " + duration(ttl)
		if r.StaleIfError > 0 {
			words += ", and while upstream fails for " + duration(r.StaleIfError) + " more"
		}
		return words + "."
	}
	return ""
}

// duration writes 24h rather than 24h0m0s, and 30d rather than 720h.
func duration(d time.Duration) string {
	if day := 24 * time.Hour; d > day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-len(zero)+1]
		}
	}
	return text
}

// String renders the explanation for a terminal.
func (e Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s%s%s\n", e.Method, e.URL, e.bodyWords(), e.Client.words())
	for _, s := range e.Steps {
		if s.Waived {
			fmt.Fprintf(&b, "  %s at %s would deny: its mode is %s\n", s.Rule.title(), s.Rule.Position, s.Rule.Mode)
		}
		if s.Matched {
			continue
		}
		fmt.Fprintf(&b, "  not %s at %s: %s\n", s.Rule.title(), s.Rule.Position, s.Reason)
	}
	switch i := slices.IndexFunc(e.Steps, func(s Step) bool { return s.Matched && !s.Waived }); {
	case i >= 0:
		r := e.Steps[i].Rule
		fmt.Fprintf(&b, "  %s at %s decides%s: %s\n", r.title(), r.Position, e.condition(r), e.Request.Action)
	case len(e.Steps) > 0:
		fmt.Fprintf(&b, "  no rule of this host %s, so the default holds: %s\n", matchesOr(e.Steps), e.Request.Action)
	default:
		fmt.Fprintf(&b, "  no rule names this host, so the default holds: %s\n", e.Request.Action)
	}
	if w := e.Request.Waived; w != nil && w.Position == (Position{}) {
		fmt.Fprintf(&b, "  enforced, the default would deny: its mode is %s\n", w.Mode)
	}
	fmt.Fprintf(&b, "  %s\n", e.Words)
	return b.String()
}

// bodyWords names the kind of the body behind the request.
func (e *Explanation) bodyWords() string {
	if e.Body == BodyUnread {
		return ""
	}
	return fmt.Sprintf(" with a body of the kind %s", e.Body)
}

// condition says on what it depends whether a rule decides.
func (e *Explanation) condition(r *Rule) string {
	if e.Body != BodyUnread || r.RequestBody == BodyUnread {
		return ""
	}
	return fmt.Sprintf(", if the body is of the kind %s", r.RequestBody)
}

// matchesOr says what the rules of a host did not do.
func matchesOr(steps []Step) string {
	if slices.ContainsFunc(steps, func(s Step) bool { return s.Waived }) {
		return "decides"
	}
	return "matches"
}

// words names a client behind its request.
func (c Client) words() string {
	var b strings.Builder
	if c.User != "" {
		b.WriteString(" by " + c.User)
	}
	if c.Addr.IsValid() {
		b.WriteString(" from " + c.Addr.String())
	}
	return b.String()
}

func (r *Rule) title() string {
	if r.Preset != "" {
		return fmt.Sprintf("rule %q of preset %s", r.short(), r.Preset)
	}
	return fmt.Sprintf("rule %q", r.Name)
}
