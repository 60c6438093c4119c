package mitm

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/semaphore"

	"larder/cache"
	"larder/curation"
	"larder/policy"
)

// maxIndexBytes bounds what is held in memory of indexes that are being received, those
// of all requests together.
const maxIndexBytes = 4 * curation.MaxSource

// indexes are those that are being fetched to be rendered: one fetch for all who want
// the same and may have it.
type indexes struct {
	published *curation.Published
	memory    *semaphore.Weighted // of bytes received
	rendering *semaphore.Weighted // of renderings under way, which take several times as much

	mu      sync.Mutex // guards the rest
	flights map[indexKey]*indexFlight
}

func newIndexes() *indexes {
	return &indexes{
		published: curation.NewPublished(),
		memory:    semaphore.NewWeighted(maxIndexBytes),
		rendering: semaphore.NewWeighted(int64(max(2, runtime.GOMAXPROCS(0)))),
		flights:   make(map[indexKey]*indexFlight),
	}
}

// indexKey is what must be equal for two requests to be given the same index.
type indexKey struct {
	target, form, credentials, freshness string
	rule                                 *rule
	offline                              bool
}

func indexKeyOf(r *http.Request, ask *curation.Ask, rule *rule, x *exchange) indexKey {
	credentials := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if !cache.MayAdmit(name) {
			continue
		}
		for _, v := range r.Header[name] {
			fmt.Fprintf(credentials, "%s %d %s", name, len(v), v)
		}
	}
	return indexKey{
		target: r.URL.String(), form: ask.Form(), credentials: string(credentials.Sum(nil)),
		freshness: strings.Join(append(r.Header["Cache-Control"], r.Header["Pragma"]...), ","),
		rule:      rule, offline: x.offline,
	}
}

// indexed is an index that was fetched.
type indexed struct {
	// rendering is nil where there is none; then err says why, or passed that the
	// answer was no index and went to whoever fetched it.
	rendering *curation.Rendering
	passed    bool
	err       error
	header    http.Header // of what it was rendered from
	exchange  Exchange    // how it was had
	stored    bool        // by a rule that stores
}

// indexFlight is a fetch that others may wait for.
type indexFlight struct {
	done chan struct{}
	got  indexed // once done is closed
	ok   bool    // got is for others too
}

// get returns what fetch does, or what another fetch that is under way did.
func (i *indexes) get(ctx context.Context, key indexKey, fetch func() indexed) indexed {
	i.mu.Lock()
	f, others := i.flights[key]
	if !others {
		f = &indexFlight{done: make(chan struct{})}
		i.flights[key] = f
		i.mu.Unlock()
		defer func() { // also when fetch panics, because its client has gone
			i.mu.Lock()
			delete(i.flights, key)
			i.mu.Unlock()
			close(f.done)
		}()
		f.got = fetch()
		f.ok = f.got.rendering != nil
		return f.got
	}
	i.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return indexed{err: ctx.Err()}
	}
	if !f.ok {
		return fetch() // what became of the other is its own
	}
	return f.got
}

// indexRequest is a request for an index, with what was decided about it.
type indexRequest struct {
	r        *http.Request
	rules    *ruleset
	rule     *rule
	decision policy.Decision
	ask      *curation.Ask
	x        *exchange
}

// indexError is an index that cannot be rendered, and must not go out otherwise.
type indexError struct{ err error }

func (e *indexError) Error() string {
	return "the curation of this registry cannot be applied: " + e.err.Error()
}
func (e *indexError) Unwrap() error { return e.err }

// serveRendered answers with the index as the curation wants it. It returns false where
// the request may go on as any other.
func (s *Server) serveRendered(w http.ResponseWriter, r *http.Request, target *url.URL, rules *ruleset, rule *rule, d policy.Decision, ask *curation.Ask, x *exchange) bool {
	q := &indexRequest{r: forwarded(r, target, forwardHeader(r, "")), rules: rules, rule: rule, decision: d, ask: ask, x: x}
	got := s.indexes.get(r.Context(), indexKeyOf(q.r, ask, rule, x), func() indexed { return s.fetchIndex(w, q) })
	switch {
	case got.passed:
		return true
	case got.rendering != nil:
		s.writeIndex(w, r, &got, rule, x)
		return true
	}
	if refusal, ok := errors.AsType[*curation.Refusal](got.err); ok {
		x.rejectCurated(w, r, rule.registry, refusal)
		return true
	}
	unrendered, ok := errors.AsType[*indexError](got.err)
	switch {
	case !ok:
		x.reject(w, r, got.err)
		return true
	case rules.curator.Must(ask):
		x.reject(w, r, unrendered)
		return true
	}
	s.options.Logger.Warn("wheels are not added to an index", "url", x.uri(), "err", unrendered.err)
	return false
}

// fetchIndex fetches and renders. w gets an answer that is no index; nil: nobody does.
func (s *Server) fetchIndex(w http.ResponseWriter, q *indexRequest) indexed {
	target, accept := q.rules.curator.Fetch(q.ask)
	sw, err := s.source(w, q, target, accept)
	defer sw.release()
	got := indexed{passed: sw.passing, err: err, header: sw.header, rendering: sw.rendering, exchange: q.x.Exchange, stored: q.decision.Action.Stores()}
	if err != nil || got.passed || got.rendering != nil {
		return got
	}
	src := sw.source(target)
	if got.rendering = q.rules.curator.Known(q.ask, src.SHA256); got.rendering != nil {
		return got
	}
	if got.err = s.indexes.rendering.Acquire(q.r.Context(), 1); got.err != nil {
		return got
	}
	defer s.indexes.rendering.Release(1)
	got.rendering, got.err = s.render(q, src)
	s.metrics.rendered(got.err)
	return got
}

// render renders, and fetches what else that takes.
func (s *Server) render(q *indexRequest, src *curation.Source) (*curation.Rendering, error) {
	r, err := q.rules.curator.Render(q.ask, src, nil)
	if more, ok := errors.AsType[*curation.MoreError](err); ok {
		sw, err := s.source(nil, q, more.URL, more.Accept)
		defer sw.release()
		if err != nil {
			return nil, err
		}
		if sw.passing {
			return nil, &indexError{fmt.Errorf("%s was answered %d", loggable(more.URL, ""), sw.status)}
		}
		r, err = q.rules.curator.Render(q.ask, src, sw.source(more.URL))
		return r, renderError(err)
	}
	return r, renderError(err)
}

func renderError(err error) error {
	if _, refused := errors.AsType[*curation.Refusal](err); err == nil || refused {
		return err
	}
	return &indexError{err}
}

// source asks for target as the client of q would, from the cache or upstream. An error
// means that nothing was written to w.
func (s *Server) source(w http.ResponseWriter, q *indexRequest, target *url.URL, accept string) (*sourceWriter, error) {
	rule, d := q.rule, q.decision
	if target != q.r.URL {
		if other := q.rules.policy.Classify(q.x.who, http.MethodGet, target); other.Action.Stores() || other.Action == policy.Pass {
			d, rule = other, q.rules.of(other)
		}
	}
	sw := &sourceWriter{
		to: w, ask: q.ask, header: http.Header{}, memory: s.indexes.memory, ctx: q.r.Context(),
		known: func(sum [32]byte) *curation.Rendering { return q.rules.curator.Known(q.ask, sum) },
	}
	out, err := sourceRequest(q.r, target, accept, rule)
	if err != nil {
		return sw, err
	}
	switch {
	case d.Action.Stores() && rule.cache != nil:
		use := rule.cache
		if q.x.offline {
			use = rule.offline
		}
		q.x.Class = ClassMiss
		o, err := s.options.Cache.Serve(sw, out, use)
		q.x.told(o)
		if err != nil && sw.passing && o.Status != 0 {
			q.x.fail(err)
			abort(q.r)
		}
		return sw, cmp.Or(sw.err, err)
	case q.x.offline:
		return sw, ErrOffline
	}
	s.pass(sw, out, out, rule, q.x)
	q.x.digest = nil // of what goes out it would be another
	return sw, sw.err
}

// sourceRequest is the request for what an index is rendered from: always the whole, in
// the form that tells most.
func sourceRequest(r *http.Request, target *url.URL, accept string, rule *rule) (*http.Request, error) {
	h := r.Header.Clone()
	for _, name := range []string{"Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		delete(h, name)
	}
	h["Accept"], h["Accept-Encoding"] = []string{accept}, []string{curation.AcceptEncoding}
	out := r.WithContext(r.Context())
	out.Method, out.URL, out.Host, out.Header = http.MethodGet, target, target.Host, h
	out.Body, out.ContentLength = http.NoBody, 0
	if rule.request != nil {
		if err := rule.request.ModifyRequest(out); err != nil {
			return nil, fmt.Errorf("change request header by rule %q: %w", rule.name, err)
		}
	}
	return out, nil
}

// writeIndex sends a rendering, or says that the client has it.
func (s *Server) writeIndex(w http.ResponseWriter, r *http.Request, got *indexed, rule *rule, x *exchange) {
	x.Class, x.CacheStatus, x.UpstreamBytes = got.exchange.Class, got.exchange.CacheStatus, got.exchange.UpstreamBytes
	h := w.Header()
	clear(h)
	for name, values := range got.header {
		if !ofSource(name) {
			h[name] = values
		}
	}
	body, etag := got.rendering.Body, got.rendering.ETag
	if got.rendering.Gzip != nil && acceptsGzip(r.Header) {
		body, etag = got.rendering.Gzip, got.rendering.GzipETag
		h["Content-Encoding"] = []string{"gzip"}
	}
	h["Content-Type"] = []string{got.rendering.Media}
	h["Etag"] = []string{etag}
	h["Vary"] = []string{"Accept, Accept-Encoding"}
	x.hidden, x.added = got.rendering.Hidden, got.rendering.Added
	x.Status, x.SHA256, x.Bytes, x.CacheBytes = got.rendering.Status, got.rendering.SHA256, 0, 0
	if rule.response != nil && got.stored {
		w = &modifyingWriter{ResponseWriter: w, request: r, modifier: rule.response}
	}
	if x.Status == http.StatusOK && hasETag(r.Header["If-None-Match"], got.rendering) {
		x.Status, x.SHA256 = http.StatusNotModified, ""
		delete(h, "Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(x.Status)
	if r.Method == http.MethodHead {
		return
	}
	n, err := w.Write(body)
	x.Bytes = int64(n)
	if x.Class == ClassHit {
		x.CacheBytes = x.Bytes
	}
	if err != nil {
		x.fail(fmt.Errorf("write to the client: %w: %w", context.Canceled, err))
		abort(r)
	}
}

// ofSource reports whether a field speaks of the bytes that upstream sent, and not of
// those that are rendered from them.
func ofSource(name string) bool {
	switch name {
	case "Content-Length", "Content-Encoding", "Content-Type", "Content-Range", "Content-Md5", "Content-Digest", "Repr-Digest", "Digest",
		"Etag", "Last-Modified", "Accept-Ranges", "Vary", "Trailer", "Transfer-Encoding", "X-Goog-Hash":
		return true
	}
	return strings.HasPrefix(name, "X-Checksum") || strings.HasPrefix(name, "X-Amz-Checksum")
}

// hasETag compares weakly (RFC 9110, Section 13.1.2). Both codings of one rendering are
// the same to who has one of them.
func hasETag(fields []string, r *curation.Rendering) bool {
	for _, f := range fields {
		for tag := range strings.SplitSeq(f, ",") {
			switch tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag {
			case r.ETag, r.GzipETag, "*":
				return true
			}
		}
	}
	return false
}

// acceptsGzip reports whether a client takes the coding (RFC 9110, Section 12.5.3).
func acceptsGzip(h http.Header) bool {
	for _, f := range h["Accept-Encoding"] {
		for part := range strings.SplitSeq(f, ",") {
			coding, params, _ := strings.Cut(part, ";")
			if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
				continue
			}
			_, q, weighted := strings.Cut(params, "=")
			v, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
			return !weighted || err == nil && v > 0
		}
	}
	return false
}
