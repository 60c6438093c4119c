package cache

import (
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"larder/cache/store"
)

// A Ready is the whole answer to a plain GET, in memory: a fresh response under a
// rule of mode Immutable, whose body is small and asked for often. It needs neither
// upstream nor disk, so it can be given without anything that waits.
type Ready struct {
	parts  *readyParts
	body   []byte
	age    time.Duration
	ttl    time.Duration
	detail string // of Cache-Status
}

// readyParts is what does not change from one answer to the next.
type readyParts struct {
	rec    *record
	sum    string
	sure   atomic.Pointer[assurance]
	once   sync.Once
	header http.Header // without Age and larder's member of Cache-Status
	head   [3][]byte   // the same in HTTP/1.1: before the value of Age, up to that of larder's member, and the rest
}

// assurance says when a response was held to what indexes say, and under which rule.
type assurance struct {
	epoch uint64
	rule  *Rule
}

// Ready returns the answer to a GET of target under rule, if there is one that
// Serve would give as it is: the caller vouches that the request has no body and no
// field that could change the answer, such as Range, a precondition, or one that
// asks for a secondary key. Directives of Cache-Control in it mean nothing to an
// Immutable rule. It counts as a request once Served is called.
func (c *Cache) Ready(target *url.URL, rule *Rule) (Ready, bool) {
	if rule.Mode != Immutable || len(rule.Vary) > 0 || rule.checked() {
		return Ready{}, false
	}
	hot, ok := c.store.Hot(primaryKey(target, rule))
	if !ok || rule.MaxObject > 0 && int64(len(hot.Body())) > rule.MaxObject {
		return Ready{}, false
	}
	v, err := hot.Value(decodeShared)
	if err != nil {
		return Ready{}, false // Serve will deal with it
	}
	p := v.(*loaded).ready
	if p == nil {
		return Ready{}, false
	}
	now := c.now()
	j := judge(p.rec, rule, nil, now)
	if !j.fresh || !c.sureOf(p, hot, target, rule) {
		return Ready{}, false
	}
	p.once.Do(func() { p.prepare(hot) })
	return Ready{parts: p, body: hot.Body(), age: currentAge(p.rec, now), ttl: j.ttl, detail: j.overrules}, true
}

// sureOf reports whether nothing is known by now that speaks against a response. Serve
// does the same, and what follows if something does.
func (c *Cache) sureOf(p *readyParts, hot *store.Hot, target *url.URL, rule *Rule) bool {
	if rule.Verify == VerifyOff {
		return true
	}
	epoch := c.learning.epoch()
	if a := p.sure.Load(); a == nil || a.epoch != epoch || a.rule != rule {
		_, bad, unread := c.compare(p.rec, hot.SHA256(), target, rule)
		if bad != nil || len(unread) > 0 {
			return false
		}
		p.sure.Store(&assurance{epoch, rule})
	}
	return !rule.unproved(p.rec.verified)
}

// loaded is a decoded record as it is kept with a hot object.
type loaded struct {
	*record
	ready *readyParts // nil: the record is not of a kind that could be
}

// decodeShared is decodeRecord as store.Object.Value wants it. What it returns may
// be in use by any number of requests, so nobody changes a record that was loaded.
func decodeShared(meta []byte) (any, error) {
	rec, err := decodeRecord(meta)
	if err != nil {
		return nil, err
	}
	rec.lifetime = ownLifetime(rec)
	rec.date = dateOf(rec)
	rec.proof = proofOf(rec.verified)
	s := &loaded{record: rec}
	if rec.kind == kindObject && rec.status == http.StatusOK {
		s.ready = &readyParts{rec: rec}
	}
	return s, nil
}

func (p *readyParts) prepare(hot *store.Hot) {
	p.sum = hexSum(hot.SHA256())
	p.header = make(http.Header, len(p.rec.header)+2)
	setHeader(p.header, p.rec.header)
	delete(p.header, "Age")
	p.header["Content-Length"] = []string{strconv.Itoa(len(hot.Body()))}
	// In the order of net/http's server, which sorts.
	var parts [3]http.Header
	for i := range parts {
		parts[i] = http.Header{}
	}
	for name, values := range p.header {
		switch {
		case name < "Age":
			parts[0][name] = values
		case name <= "Cache-Status":
			parts[1][name] = values
		default:
			parts[2][name] = values
		}
	}
	p.head[0] = headerLines("HTTP/1.1 200 OK\r\n", parts[0], "Age: ")
	p.head[1] = headerLines("\r\n", parts[1], "Cache-Status: ")
	p.head[2] = headerLines("\r\n", parts[2], "\r\n")
}

func headerLines(before string, h http.Header, after string) []byte {
	b := bytes.NewBufferString(before)
	_ = h.Write(b) // a buffer takes everything
	b.WriteString(after)
	return slices.Clip(b.Bytes())
}

// member is larder's member of Cache-Status.
func (r Ready) member() string {
	cs := cacheStatus{hit: true, detail: r.detail}
	if r.ttl != forever {
		cs.ttl = &r.ttl
	}
	return cs.String()
}

// Append appends the answer as HTTP/1.1 to b, byte for byte as net/http's server
// sends it for Serve.
func (r Ready) Append(b []byte) []byte {
	head := &r.parts.head
	b = slices.Grow(b, len(head[0])+len(head[1])+len(head[2])+len(r.body)+64)
	b = append(b, head[0]...)
	b = strconv.AppendInt(b, int64(r.age/time.Second), 10)
	b = append(b, head[1]...)
	b = append(b, r.member()...)
	b = append(b, head[2]...)
	return append(b, r.body...)
}

// WriteTo writes the answer to w and returns how much of the body went.
func (r Ready) WriteTo(w http.ResponseWriter) (int64, error) {
	h := w.Header()
	for name, values := range r.parts.header {
		h[name] = values
	}
	h["Age"] = []string{ageField(r.age)}
	h["Cache-Status"] = appended(r.parts.header["Cache-Status"], r.member())
	w.WriteHeader(http.StatusOK)
	n, err := w.Write(r.body)
	return int64(n), clientGone(err)
}

// Served counts the answer, of whose body n bytes went to the client, and returns
// what became of the request.
func (c *Cache) Served(r Ready, n int64, err error) Outcome {
	out := Outcome{
		Status: http.StatusOK, CacheStatus: r.member(), Hit: true,
		Bytes: n, CacheBytes: n, SHA256: r.parts.sum, Verified: r.parts.rec.proof,
	}
	c.metrics.observe(&out, err)
	return out
}

// Proved reports whether the body has a digest by which registries name it, so that it
// does not matter what a client expects.
func (r Ready) Proved() bool { return vouchedFor(r.parts.rec.verified) }

// Size is the length of the body.
func (r Ready) Size() int64 { return int64(len(r.body)) }
