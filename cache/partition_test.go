package cache

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestPartitionsHaveKeysOfTheirOwn(t *testing.T) {
	u := mustURL(t, "https://example.org/a")
	none, one, two := primaryKey(u, &Rule{}), primaryKey(u, &Rule{Partition: "1"}), primaryKey(u, &Rule{Partition: "2"})
	if none == one || none == two || one == two {
		t.Error("partitions share a key")
	}
	const was = "281c05b2b65f3492c210bb5e53873c5c6069447a9e665e6b1430f4623c7c8a80"
	if got := hexSum(none); got != was {
		t.Errorf("the key without a partition is %s, and what is stored has %s", got, was)
	}
}

// TestPartitionsShareNothing: neither what is stored, nor what is in memory, nor a
// running fill.
func TestPartitionsShareNothing(t *testing.T) {
	plain, own := &Rule{Mode: Immutable}, &Rule{Mode: Immutable, Partition: "p"}
	w := newWorld(t, own, func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, "for whom it was fetched") })
	w.get("/a").want(t, 200, []byte("for whom it was fetched"), "larder; fwd=uri-miss; stored")
	w.get("/a").want(t, 200, []byte("for whom it was fetched"), "larder; hit")
	target := mustURL(t, w.origin.URL+"/a")
	ask := func(rule *Rule) string {
		r := httptest.NewRequest(http.MethodGet, target.String(), nil)
		out, err := w.cache.Serve(httptest.NewRecorder(), r, rule)
		if err != nil {
			t.Fatal(err)
		}
		return out.CacheStatus
	}
	eventually(t, "it is ready under its own rule", func() bool {
		ask(own)
		_, ok := w.cache.Ready(target, own)
		return ok
	})
	if _, ok := w.cache.Ready(target, plain); ok {
		t.Error("it is ready under another rule")
	}
	if got := ask(plain); got != "larder; fwd=uri-miss; stored" {
		t.Errorf("under another rule: %s", got)
	}
	w.wantGets(2)
	w.cache.InvalidateUnder(target, own)
	if got := ask(plain); got != "larder; hit" {
		t.Errorf("after the other was invalidated: %s", got)
	}
	if got := ask(own); got != "larder; fwd=uri-miss; stored" {
		t.Errorf("invalidated: %s", got)
	}
}

// TestArchivesKeepPartitionsApart, whichever rule the other site has for the URL.
func TestArchivesKeepPartitionsApart(t *testing.T) {
	own := &Rule{Name: "own", Mode: Immutable, Partition: "p"}
	w := newWorld(t, own, func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, "x") })
	w.get("/a").want(t, 200, []byte("x"), "larder; fwd=uri-miss; stored")
	w.cache.wg.Wait()
	var exported bytes.Buffer
	if _, err := w.catalogue().Export(t.Context(), everything, &exported); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		rule    *Rule
		refused int64
	}{{own, 0}, {&Rule{Name: "plain", Mode: Immutable}, 1}, {&Rule{Name: "other", Mode: Immutable, Partition: "q"}, 1}} {
		site := newWorld(t, test.rule, nil)
		var why error
		done, err := site.cache.Catalogue(func(*url.URL) *Rule { return test.rule }).Import(t.Context(), bytes.NewReader(exported.Bytes()), nil,
			func(_ string, w error) { why = w })
		if err != nil || done.Refused != test.refused || done.Responses != 1-test.refused {
			t.Errorf("under %s: %+v, %v", test.rule.Name, done, err)
		}
		if test.refused > 0 && (why == nil || !strings.Contains(why.Error(), "rule "+test.rule.Name)) {
			t.Errorf("under %s: refused because %v", test.rule.Name, why)
		}
	}
}

// TestCredentialsUnderOtherNamesStayOutOfTheStore, and out of what is said of it.
func TestCredentialsUnderOtherNamesStayOutOfTheStore(t *testing.T) {
	w := newWorld(t, web, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Vary", strings.Trim(r.URL.Path, "/"))
		rw.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(rw, "x")
	})
	for _, name := range []string{"X-Api-Key", "Private-Token", "X-Amz-Security-Token", "X-Secret"} {
		for range 2 {
			w.get("/"+name, name, "s3cret")
			if out, err := w.last(); err != nil || out.Stored || out.Hit || strings.Contains(out.CacheStatus, "s3cret") {
				t.Errorf("%s: %+v, %v", name, out, err)
			}
		}
	}
	if n := w.stored(); n != 0 {
		t.Errorf("%d objects are stored", n)
	}
	// A name that says nothing is stored under, and its value is not shown.
	w.get("/X-Class", "X-Class", "s3cret").want(t, 200, []byte("x"), `larder; fwd=uri-miss; stored; key="x-class"`)
	w.get("/X-Class", "X-Class", "s3cret").want(t, 200, []byte("x"), `larder; hit; ttl=60; key="x-class"`)
	w.get("/Accept-Language", "Accept-Language", "de").want(t, 200, []byte("x"), `larder; fwd=uri-miss; stored; key="accept-language: de"`)
}
