package cache

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const (
	// maxHops bounds the redirects that are followed for one request.
	maxHops = 5
	// maxDrain is how much of a redirect's body is read so that its connection can be
	// used again.
	maxDrain = 16 << 10
)

// hopsKey is the context key of what judges the targets of redirects.
type hopsKey struct{}

// WithHops returns a context for a request to Serve in which may says whether upstream
// may be asked for the target of a redirect on the client's behalf; an error says why
// not. Without it every target is good that Upstream lets through.
func WithHops(ctx context.Context, may func(target *url.URL) error) context.Context {
	return context.WithValue(ctx, hopsKey{}, may)
}

// exchangeUnder is roundTrip, and follows redirects where the rule says so. vouched
// reports that a success is one of what was asked for: no redirect was followed but such
// as carry a signature or the digest of the content, which nobody is sent to for want of
// a right, as to a page that asks for a password.
//
// A redirect that may not be followed is the answer.
func (c *Cache) exchangeUnder(rule *Rule, req *http.Request) (resp *http.Response, vouched bool, err error) {
	resp, err = c.roundTrip(req)
	if err != nil {
		return nil, false, err
	}
	return c.follow(rule, req, resp)
}

// follow is exchangeUnder from the first response on.
func (c *Cache) follow(rule *Rule, req *http.Request, resp *http.Response) (*http.Response, bool, error) {
	if !rule.FollowRedirects || req.Method != http.MethodGet && req.Method != http.MethodHead {
		return resp, true, nil
	}
	vouched, elsewhere, asked := true, false, req.URL
	said := http.Header{}
	for range maxHops {
		to := locationOf(req.URL, resp.StatusCode, resp.Header)
		if to == nil {
			break
		}
		if why := refusedHop(req, to); why != "" {
			c.log.Debug("redirect not followed", "rule", rule.Name, "from", logURL(req.URL), "to", to.Host, "why", why)
			c.metrics.redirects.WithLabelValues("passed").Inc()
			break
		}
		vouched = vouched && leadsToContent(rule, asked, to)
		elsewhere = elsewhere || !sameOrigin(req.URL, to)
		noteRegistry(said, resp.Header)
		c.drain(resp.Body)
		req = hop(rule, req, to, elsewhere)
		c.metrics.redirects.WithLabelValues("followed").Inc()
		var err error
		if resp, err = c.roundTrip(req); err != nil {
			return nil, false, err
		}
	}
	if len(said) > 0 && !redirects(resp.StatusCode) {
		noteRegistry(resp.Header, said)
	}
	return resp, vouched, nil
}

// noteRegistry adds to h what another response of the way says of the content as
// registries do, unless h says it itself: their storage does not.
func noteRegistry(h, other http.Header) {
	for _, name := range []string{"Docker-Content-Digest", "Docker-Distribution-Api-Version"} {
		if v := other[name]; len(v) > 0 && len(h[name]) == 0 {
			h[name] = v
		}
	}
}

// drain reads the body of a redirect, so that its connection can be used again, for as
// long as the request lasts that it answers. Nobody waits for it but Close.
func (c *Cache) drain(body io.ReadCloser) {
	read := c.start(func() {
		_, _ = io.CopyN(io.Discard, body, maxDrain) // however it ends, it is not wanted
		body.Close()
	})
	if !read {
		body.Close()
	}
}

// refusedHop says why a redirect is not followed, "" if it may be.
func refusedHop(req *http.Request, to *url.URL) string {
	switch {
	case to.Scheme != "https":
		return "not https"
	case to.User != nil:
		return "user information"
	case req.Method == http.MethodHead && signatureOf(to).signed:
		// The method is signed as well, and what registries sign is mostly GET.
		return "signed, perhaps not for HEAD"
	}
	if may, ok := req.Context().Value(hopsKey{}).(func(*url.URL) error); ok {
		if err := may(to); err != nil {
			return err.Error()
		}
	}
	return ""
}

// hop is req for the target of a redirect. Away from the origin that the client has
// addressed, nothing goes along that identifies it, nor what the rule has added, now and
// at every hop that follows.
func hop(rule *Rule, req *http.Request, to *url.URL, elsewhere bool) *http.Request {
	next := req.Clone(req.Context())
	next.URL, next.Host = to, to.Host
	if !elsewhere {
		return next
	}
	for name := range next.Header {
		if MayAdmit(name) || name == "Referer" || name == "Origin" || slices.Contains(rule.OwnFields, name) {
			delete(next.Header, name)
		}
	}
	return next
}

// trusts reports whether a response to a request for target is what is there, and no page
// that asks for a password, to which those are sent who may not have it: no redirect was
// followed but such as vouched says, or the digest of the body will tell.
func (r *Rule) trusts(target *url.URL, vouched bool) bool {
	_, named := r.URLDigest(target)
	return vouched || named || !r.checked()
}

// leadsToContent reports whether a redirect gives the right to what from names, or names
// it itself.
func leadsToContent(rule *Rule, from, to *url.URL) bool {
	if signatureOf(to).signed {
		return true
	}
	d, ok := rule.URLDigest(from)
	return ok && strings.Contains(to.EscapedPath(), d.Hex())
}
