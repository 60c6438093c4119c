package mitm

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"larder/cache"
	"larder/cache/store"
	"larder/policy"
	"larder/policy/shapes"
)

// TestPresetsStoreWhatRegistriesSend takes every recorded exchange through the cache
// under the rule that its preset gives it: what is immutable is asked for once, what
// is validated is so by the validator that the registry sends and the client's word,
// and what nobody else may have is not stored.
func TestPresetsStoreWhatRegistriesSend(t *testing.T) {
	p, err := policy.Load("")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../policy/testdata/shapes/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no shapes: %v", err)
	}
	registry := &recordedRegistry{}
	c := cacheOver(t, registry)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			all, err := shapes.Read(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range all {
				u, err := url.Parse(s.URL)
				if err != nil {
					t.Fatal(err)
				}
				d := p.Classify(policy.Client{}, s.Method, u)
				if s.Method == http.MethodGet && d.Action.Stores() {
					rule := *newRule(d.Rule).cache
					// The bodies are made up here, their digests and signatures are not.
					rule.Verify = cache.VerifyOff
					if rule.Access == cache.AccessSigned {
						rule.Access = cache.AccessByResponse
					}
					registry.shape = s
					checkStored(t, c, registry, s, &rule)
				}
			}
		})
	}
}

// TestPresetsFindDigestsInURLs wants every pattern for a digest to find one in the
// recorded shapes of its rule.
func TestPresetsFindDigestsInURLs(t *testing.T) {
	presets, err := policy.Presets()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range presets {
		all, err := shapes.Read("../policy/testdata/shapes/" + p.Name + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range p.Rules() {
			rule := newRule(r).cache
			if rule == nil || len(rule.Digests) == 0 {
				continue
			}
			found := 0
			for _, s := range all {
				u, err := url.Parse(s.URL)
				if err != nil {
					t.Fatal(err)
				}
				if _, ok := rule.URLDigest(u); ok && p.Name+"/"+s.Rule == r.Name {
					found++
				}
			}
			if found == 0 {
				t.Errorf("rule %s: no shape has a digest", r.Name)
			}
		}
	}
}

func cacheOver(t *testing.T, upstream http.RoundTripper) *cache.Cache {
	t.Helper()
	s, err := store.Open(store.Options{Dir: t.TempDir(), MaxSize: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	c, err := cache.New(cache.Options{Store: s, Upstream: upstream})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// checkStored asks twice and looks at what the second request cost.
func checkStored(t *testing.T, c *cache.Cache, registry *recordedRegistry, s shapes.Shape, rule *cache.Rule) {
	t.Helper()
	registry.asked = nil
	askRecorded(t, c, s, rule)
	first := len(registry.asked)
	got, out := askRecorded(t, c, s, rule)
	again := registry.asked[first:]
	demands := strings.Contains(strings.Join(slices.Concat(s.Exchange.Request["Cache-Control"], s.Exchange.Request["Pragma"]), ""), "no-cache") ||
		s.Exchange.Request.Get("Cache-Control") == "max-age=0"
	switch {
	case s.Unstored:
		if out.Hit || len(again) == 0 {
			t.Errorf("%v: stored, though upstream answers %d %v", s, s.Exchange.Status, s.Exchange.Response)
		}
		return
	case rule.ValidateHead:
		if len(again) != 1 || registry.method != http.MethodHead {
			t.Errorf("%v: not validated by HEAD: %s %v", s, registry.method, again)
		}
	case rule.FollowRedirects && s.Exchange.Status/100 == 3:
		checkFollowed(t, s, rule, again, out)
		return
	case rule.Mode == cache.Revalidate && (rule.TTL == 0 || demands):
		if len(again) != 1 || !validates(again[0], s.Exchange.Response) {
			t.Errorf("%v: not validated by what upstream sent: %v", s, again)
		}
	case len(again) != 0:
		t.Errorf("%v: fetched once more: %v", s, again)
	}
	if !out.Hit {
		t.Errorf("%v: no hit: %s", s, out.CacheStatus)
	}
	for name, values := range s.Exchange.Response {
		kept := got.Header()[name]
		if name == "Set-Cookie" && len(kept) > 0 && again == nil || name != "Set-Cookie" && !slices.Equal(kept, values) {
			t.Errorf("%v: hit has %s %q, upstream sent %q", s, name, kept, values)
		}
	}
}

func askRecorded(t *testing.T, c *cache.Cache, s shapes.Shape, rule *cache.Rule) (*httptest.ResponseRecorder, cache.Outcome) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), s.Method, s.URL, nil)
	r.Header = s.Exchange.Request.Clone()
	w := httptest.NewRecorder()
	out, err := c.Serve(w, r, rule)
	followed := rule.FollowRedirects && s.Exchange.Status/100 == 3 && w.Code == http.StatusOK
	if err != nil || w.Code != s.Exchange.Status && !followed {
		t.Errorf("%v: %d, %v", s, w.Code, err)
	}
	return w, out
}

// checkFollowed wants what a redirect leads to to be kept for who asks where it was.
func checkFollowed(t *testing.T, s shapes.Shape, rule *cache.Rule, again []http.Header, out cache.Outcome) {
	t.Helper()
	if !out.Hit {
		t.Errorf("%v: no hit: %s", s, out.CacheStatus)
	}
	switch {
	case rule.Mode == cache.Immutable && len(again) != 0:
		t.Errorf("%v: fetched once more: %v", s, again)
	case rule.Mode == cache.Revalidate && (len(again) != 2 || again[1].Get("If-None-Match") != `"target"`):
		t.Errorf("%v: not validated through the redirect: %v", s, again)
	}
}

// validates reports whether a request carries the validators of a response, or none
// if it has none.
func validates(sent, response http.Header) bool {
	return sent.Get("If-None-Match") == response.Get("ETag") && sent.Get("If-Modified-Since") == response.Get("Last-Modified")
}

// recordedRegistry answers as one shape says, one request at a time.
type recordedRegistry struct {
	shape  shapes.Shape
	asked  []http.Header
	method string // of the latest request
}

func (o *recordedRegistry) RoundTrip(r *http.Request) (*http.Response, error) {
	x := o.shape.Exchange
	o.asked, o.method = append(o.asked, r.Header.Clone()), r.Method
	res := &http.Response{
		StatusCode: x.Status, Header: x.Response.Clone(), Request: r,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	res.Header.Set("Date", "Thu, 01 Jan 2026 00:00:00 GMT")
	body := fmt.Sprintf("what %s has", r.URL)
	if to, err := url.Parse(x.Response.Get("Location")); err == nil && x.Status/100 == 3 && r.URL.String() == to.String() {
		res.StatusCode, res.Header = http.StatusOK, http.Header{"Etag": {`"target"`}, "Date": res.Header["Date"]}
	}
	conditional := r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Modified-Since") != ""
	if conditional && res.StatusCode/100 != 3 {
		res.StatusCode, body = http.StatusNotModified, ""
	}
	res.ContentLength = int64(len(body))
	res.Body = io.NopCloser(strings.NewReader(body))
	return res, nil
}
