package policy

import "net/url"

// Candidates lists the rules that may decide on a request for u, by whichever client, in
// their order: up to the first that is for every client. byDefault is true where the
// default may decide.
func (p *Policy) Candidates(method string, u *url.URL) (all []*Rule, byDefault bool) {
	q := newRequest(Client{}, method, u)
	last := p.index.first(q.host, func(r *Rule) bool {
		for _, n := range r.Clients {
			if n.IsValid() {
				q.client.Addr = n.Addr()
				break
			}
		}
		q.client.User = ""
		if len(r.Users) > 0 {
			q.client.User = r.Users[0]
		}
		if r.mismatch(&q) != matches || r.waives() {
			return false
		}
		all = append(all, r)
		return len(r.Clients) == 0 && len(r.Users) == 0
	})
	return all, last == nil
}

// RefusesAll reports whether a request for u is refused by rules whoever makes it.
func (p *Policy) RefusesAll(method string, u *url.URL) bool {
	all, byDefault := p.Candidates(method, u)
	for _, r := range all {
		if r.Action != Deny {
			return false
		}
	}
	return !byDefault || p.settings.Default == Deny && p.byDefault == nil
}
