package warm

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// larder answers as a proxy with a cache does.
func larder(w http.ResponseWriter, r *http.Request) (stored bool) {
	h := w.Header()
	h.Set("X-Asked", r.Header.Get("Accept")+"|"+r.Header.Get("Authorization"))
	switch r.URL.String() {
	case "https://a.test/new":
		h.Set("Cache-Status", "larder; fwd=uri-miss; stored")
		stored = true
	case "https://a.test/hit":
		h.Set("Cache-Status", "larder; hit; ttl=60")
		stored = true
	case "https://a.test/validated":
		h.Set("Cache-Status", "larder; fwd=stale; fwd-status=304; ttl=0")
		stored = true
	case "https://a.test/promised": // and the store would not take all of it
		h.Set("Cache-Status", "larder; fwd=uri-miss; stored")
	case "https://a.test/stale":
		h.Set("Cache-Status", "larder; fwd=stale; ttl=-9; detail=stale-if-error")
		stored = true
	case "https://a.test/private":
		h.Set("Cache-Status", "larder; fwd=uri-miss; detail=private")
	case "https://a.test/passed":
	case "https://a.test/moved":
		h.Set("Location", "//b.test/there?x=1#y")
		h.Set("Cache-Status", "larder; fwd=uri-miss; stored")
		w.WriteHeader(http.StatusFound)
		return true
	case "https://b.test/there?x=1":
		h.Set("Cache-Status", "larder; fwd=uri-miss; stored")
		stored = true
		if r.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusTeapot)
		}
	case "https://a.test/loop":
		h.Set("Location", "/loop")
		w.WriteHeader(http.StatusMovedPermanently)
		return false
	case "https://a.test/nowhere":
		w.WriteHeader(http.StatusMovedPermanently)
		return false
	case "https://a.test/broken":
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "bo")
		panic(http.ErrAbortHandler)
	case "https://a.test/denied":
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "larder: denied\n")
		return false
	default:
		w.WriteHeader(http.StatusNotFound)
	}
	_, _ = io.WriteString(w, "bo")
	_, _ = io.WriteString(w, "dy")
	return stored
}

func TestFetch(t *testing.T) {
	for _, tc := range []struct {
		path   string
		digest Digest
		want   Result
		err    string
		drops  string
	}{
		{path: "new", digest: sha256Of("body"), want: Result{URL: "https://a.test/new", Status: 200, Bytes: 4, Stored: true}},
		{path: "hit", want: Result{URL: "https://a.test/hit", Status: 200, Bytes: 4, Hit: true, Stored: true}},
		{path: "validated", want: Result{URL: "https://a.test/validated", Status: 200, Bytes: 4, Stored: true}},
		{path: "private", want: Result{URL: "https://a.test/private", Status: 200, Bytes: 4}, err: "fetched, but not stored: larder; fwd=uri-miss; detail=private"},
		{path: "promised", want: Result{URL: "https://a.test/promised", Status: 200, Bytes: 4}, err: "fetched, but not stored"},
		{path: "stale", want: Result{URL: "https://a.test/stale", Status: 200, Bytes: 4}, err: "what is stored is stale"},
		{path: "passed", want: Result{URL: "https://a.test/passed", Status: 200, Bytes: 4}, err: "no rule"},
		{path: "moved", want: Result{URL: "https://b.test/there?x=1", Status: 200, Bytes: 4, Stored: true}},
		{path: "loop", want: Result{URL: "https://a.test/loop", Status: 301}, err: "more than 10 redirects"},
		{path: "nowhere", want: Result{URL: "https://a.test/nowhere", Status: 301}, err: "status 301"},
		{path: "broken", want: Result{URL: "https://a.test/broken", Status: 200, Bytes: 2}, err: "broke off"},
		{path: "denied", want: Result{URL: "https://a.test/denied", Status: 403, Bytes: 15}, err: "status 403: larder: denied"},
		{path: "none", want: Result{URL: "https://a.test/none", Status: 404, Bytes: 4}, err: "status 404"},
		{path: "hit", digest: sha256Of("other"), want: Result{URL: "https://a.test/hit", Status: 200, Bytes: 4, Hit: true}, err: "does not match", drops: "https://a.test/hit"},
		{path: "moved", digest: sha256Of("other"), want: Result{URL: "https://b.test/there?x=1", Status: 200, Bytes: 4}, err: "does not match", drops: "https://b.test/there?x=1"},
		// What is no answer to the question has no digest to be compared.
		{path: "none", digest: sha256Of("other"), want: Result{URL: "https://a.test/none", Status: 404, Bytes: 4}, err: "status 404"},
	} {
		t.Run(tc.path+" "+string(tc.digest), func(t *testing.T) {
			dropped := ""
			f := Fetcher{Handler: larder, Drop: func(u *url.URL) { dropped = u.String() }}
			got := f.Fetch(t.Context(), Item{
				URL: "https://a.test/" + tc.path, Digest: tc.digest,
				Header: http.Header{"Authorization": {"Basic x"}},
			})
			if (got.Err == nil) != (tc.err == "") || got.Err != nil && !strings.Contains(got.Err.Error(), tc.err) {
				t.Errorf("error %v, want %q", got.Err, tc.err)
			}
			got.Err, got.CacheStatus = nil, ""
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			if dropped != tc.drops {
				t.Errorf("dropped %q, want %q", dropped, tc.drops)
			}
		})
	}
}

func TestFetchTellsWhyItWasCut(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := Fetcher{Handler: func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }}
	if got := f.Fetch(ctx, Item{URL: "https://a.test/"}); !errors.Is(got.Err, context.Canceled) {
		t.Errorf("got %v", got.Err)
	}
}
