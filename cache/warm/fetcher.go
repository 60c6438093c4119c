package warm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// maxRedirects is how many redirects are followed, as by most clients.
const maxRedirects = 10

// Fetcher fetches items through a larder's own handler, and reads them to the end.
// It is safe for concurrent use.
type Fetcher struct {
	// Handler answers requests whose URL is the absolute target URI, as a proxy
	// answers its clients, and reports whether what it sent is in the store when it
	// returns.
	Handler func(http.ResponseWriter, *http.Request) (stored bool)
	// Drop makes unusable what is stored for a URL.
	Drop func(target *url.URL)
}

// Result is what became of an item.
type Result struct {
	// URL that answered, after redirects.
	URL    string
	Status int
	Bytes  int64
	// Hit: the last answer came from the store. Stored: it is there now, fetched or
	// validated.
	Hit, Stored bool
	CacheStatus string
	// Err: the item is not there, or not what it should be. A body with another
	// digest than the item's was dropped.
	Err error
}

// Fetch fetches one item. Redirects are followed, each through the handler.
func (f *Fetcher) Fetch(ctx context.Context, it Item) Result {
	res := Result{URL: it.URL}
	header := it.Header.Clone()
	for range maxRedirects + 1 {
		u, err := url.Parse(res.URL)
		if err != nil {
			res.Err = err
			return res
		}
		s, err := f.ask(ctx, u, header, it.Digest)
		res.Status, res.Bytes, res.CacheStatus = s.status, s.bytes, s.header.Get("Cache-Status")
		if err != nil {
			res.Err = err
			return res
		}
		next, ok := redirection(u, s)
		if !ok {
			f.judge(&res, u, s)
			return res
		}
		if !sameOrigin(res.URL, next.String()) {
			header.Del("Authorization") // RFC 9110, section 15.4
		}
		res.URL = next.String()
	}
	res.Err = fmt.Errorf("more than %d redirects", maxRedirects)
	return res
}

// judge says what the last answer means.
func (f *Fetcher) judge(res *Result, u *url.URL, s *sink) {
	res.Hit = strings.Contains(res.CacheStatus, "; hit")
	res.Stored = s.stored
	switch {
	case s.status != http.StatusOK:
		res.Err = fmt.Errorf("status %d", s.status)
		if s.text.Len() > 0 {
			res.Err = fmt.Errorf("status %d: %s", s.status, strings.TrimSpace(s.text.String()))
		}
	case s.mismatch != nil:
		f.Drop(u)
		res.Err = s.mismatch
		res.Stored = false
	case strings.Contains(res.CacheStatus, "detail=stale-if-error"):
		res.Err = fmt.Errorf("upstream could not be asked, and what is stored is stale: %s", res.CacheStatus)
		res.Stored = false
	case !res.Stored && res.CacheStatus == "":
		res.Err = errors.New("no rule of the policy stores it")
	case !res.Stored:
		res.Err = fmt.Errorf("it was fetched, but not stored: %s", res.CacheStatus)
	}
}

func redirection(u *url.URL, s *sink) (*url.URL, bool) {
	switch s.status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, false
	}
	next, err := u.Parse(s.header.Get("Location"))
	if err != nil || s.header.Get("Location") == "" || next.Scheme != "http" && next.Scheme != "https" || next.Host == "" {
		return nil, false
	}
	next.Fragment, next.RawFragment, next.User = "", "", nil
	return next, true
}

// ask sends one request.
func (f *Fetcher) ask(ctx context.Context, u *url.URL, header http.Header, d Digest) (s *sink, err error) {
	s = &sink{header: make(http.Header)}
	check, err := NewCheck(d)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, check.Close()) }()
	s.check = check
	r := (&http.Request{
		Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{
			"Accept": {"*/*"}, "Accept-Encoding": {"identity"}, "User-Agent": {"larder"},
		},
		Body: http.NoBody, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "warm",
	}).WithContext(ctx)
	for name, values := range header {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	if err := f.serve(s, r); err != nil {
		return s, err
	}
	if s.status == http.StatusOK && d != "" {
		s.mismatch = check.Result()
		if _, other := errors.AsType[*MismatchError](s.mismatch); s.mismatch != nil && !other {
			return s, s.mismatch
		}
	}
	return s, nil
}

// serve calls the handler, which panics where a response breaks off.
func (f *Fetcher) serve(s *sink, r *http.Request) (err error) {
	defer func() {
		if v := recover(); v != nil {
			if v != http.ErrAbortHandler {
				panic(v)
			}
			err = errors.New("the response broke off")
			if cause := context.Cause(r.Context()); cause != nil {
				err = cause
			}
		}
	}()
	s.stored = f.Handler(s, r)
	return nil
}

// maxText is how much of an error's text is kept.
const maxText = 500

// sink is an http.ResponseWriter that keeps only what Fetch wants to know.
type sink struct {
	header   http.Header
	status   int
	stored   bool
	bytes    int64
	check    *Check
	mismatch error
	text     strings.Builder
}

// Header implements http.ResponseWriter.
func (s *sink) Header() http.Header { return s.header }

// WriteHeader implements http.ResponseWriter.
func (s *sink) WriteHeader(status int) {
	if s.status < 200 {
		s.status = status
	}
}

// Write implements http.ResponseWriter.
func (s *sink) Write(p []byte) (int, error) {
	s.WriteHeader(http.StatusOK)
	s.bytes += int64(len(p))
	switch {
	case s.status == http.StatusOK:
		_, _ = s.check.Write(p) // never fails
	case s.text.Len() < maxText && strings.HasPrefix(s.header.Get("Content-Type"), "text/plain"):
		s.text.Write(p[:min(len(p), maxText-s.text.Len())])
	}
	return len(p), nil
}

// Flush implements http.Flusher: there is nothing to wait for.
func (s *sink) Flush() {}
