package cache

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"slices"
)

// Content is what a request brings along that selects its response, as a POST does that
// asks and changes nothing. RFC 9111 leaves methods but GET to their definitions, and
// RFC 9110, section 9.3.3, knows only a POST whose answer is good for a later GET; that
// one asks a question is what the rule says. The content is then a part of the primary
// key, as with the method QUERY.
type Content struct {
	// Kind is a name for what kind of content it is, for who lists what is stored.
	Kind string
	// Key identifies the content among those that the target URI may be sent with.
	// Requests of one Key must ask for the same, whatever their Bytes.
	Key [32]byte
	// Bytes go upstream, in the coding that the request's Content-Encoding names. They
	// are not changed, and must not be.
	Bytes []byte
	// Fields lists request fields that go upstream as the client sent them though the
	// key does not hold them, besides Content-Type and Content-Encoding.
	Fields []string
	// Check returns what judges the body of a 200 with the given header. nil: whatever
	// comes to its end may be stored.
	Check func(header http.Header) Checker
}

// Checker reads a body as it comes from upstream. It is used by one goroutine.
type Checker interface {
	// Write gets each byte once, in order. It must not fail.
	io.Writer
	// Done is called at the end of the body. An error means that it is damaged or cut
	// short, so that no client may take it for whole; else why says in a word what
	// keeps it from being stored, "" for nothing.
	Done() (why string, err error)
}

// ServeContent is Serve for a request of another method, whose content is part of the
// key. r.Body is not read.
func (c *Cache) ServeContent(w http.ResponseWriter, r *http.Request, rule *Rule, content *Content) (Outcome, error) {
	x := newExchange(c, w, r, rule)
	x.content = content
	x.primary = contentKey(r.URL, rule, r.Method, content)
	err := x.serve()
	c.metrics.observe(&x.out, err)
	c.countWithoutStore(&x.out, err)
	return x.out, err
}

// OutdateContent keeps fills that run for target with content of a kind from being stored
// or joined: somebody has changed what they ask about. What is stored stays.
func (c *Cache) OutdateContent(kind string, target *url.URL) {
	at := exactly(target)
	t := &c.flights
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, same := range t.all {
		for f := range same {
			if f.content != nil && f.content.Kind == kind && exactly(f.sent.URL) == at {
				t.outdateOne(f)
			}
		}
	}
}

// answerable reports whether the cache answers requests of this kind. Ranges and
// preconditions with content are the origin's to judge (RFC 9110, sections 13.1 and 14.2).
func (x *exchange) answerable() bool {
	if x.content == nil {
		return x.r.Method == http.MethodGet || x.r.Method == http.MethodHead
	}
	for name := range x.r.Header {
		if ownCopyField(name) {
			return false
		}
	}
	return true
}

// sent lists, as canonicalRequest's set does, the fields that go upstream: those in set
// and those of the content.
func (c *Content) sent(set []string) []string {
	if c == nil {
		return set
	}
	return fieldSet(append(append([]string{"content-encoding"}, c.Fields...), set...))
}

// in puts the content into a request that goes upstream.
func (c *Content) in(req *http.Request) {
	if c == nil {
		return
	}
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(c.Bytes)), nil }
	req.Body, _ = req.GetBody()
	req.ContentLength = int64(len(c.Bytes))
	delete(req.Header, "Content-Length")
}

// inCanonical is in for a request whose answer others may get.
func (c *Content) inCanonical(req, client *http.Request) {
	if c == nil {
		return
	}
	req.Method = client.Method
	for _, name := range append([]string{"Content-Type", "Content-Encoding"}, c.Fields...) {
		if v := client.Header[name]; len(v) > 0 {
			req.Header[name] = slices.Clone(v)
		}
	}
	c.in(req)
}

// begin starts to judge the body of resp.
func (f *fill) begin(resp *http.Response) {
	f.checker = nil
	if f.content != nil && f.content.Check != nil && resp.StatusCode == http.StatusOK {
		f.checker = f.content.Check(resp.Header)
	}
}

// checked judges a body at its end.
func (f *fill) checked() error {
	if f.checker == nil {
		return nil
	}
	why, err := f.checker.Done()
	result := "whole"
	switch {
	case err != nil:
		result = "damaged"
	case why != "":
		result = "unusable"
		f.log.Debug("answer is not stored", "why", why)
	}
	f.c.metrics.answers.WithLabelValues(result).Inc()
	f.unusable = why
	return err
}
