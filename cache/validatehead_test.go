package cache

import (
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// tagged is a registry of one tag, with a manifest for each of two kinds of client.
type tagged struct {
	heads, gets atomic.Int64
	image       atomic.Pointer[string]
	status      atomic.Int32
	silent      atomic.Bool // says no digest
}

const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
)

func (g *tagged) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		g.heads.Add(1)
	} else {
		g.gets.Add(1)
	}
	if s := g.status.Load(); s != 0 {
		http.Error(w, "MANIFEST_UNKNOWN", int(s))
		return
	}
	if r.Header.Get("Authorization") == "Bearer bad" {
		http.Error(w, "DENIED", http.StatusForbidden)
		return
	}
	kind := manifestType
	for _, v := range r.Header["Accept"] {
		if v == indexType || v == manifestType+", "+indexType {
			kind = indexType
		}
	}
	body := kind + " of " + *g.image.Load()
	w.Header().Set("Content-Type", kind)
	if !g.silent.Load() {
		w.Header().Set("Docker-Content-Digest", "sha256:"+digest([]byte(body)))
	}
	http.ServeContent(w, r, "", time.Time{}, readerOf(body))
}

func TestTagsAreValidatedByHEAD(t *testing.T) {
	g := &tagged{}
	g.image.Store(new("one"))
	rule := &Rule{
		Mode: Revalidate, ValidateHead: true, Access: AccessRecheck, Partition: "checked", StaleIfError: time.Hour,
		RecheckScope: regexp.MustCompile("^/v2/(.+)/manifests/"),
	}
	w := newWorld(t, rule, g.ServeHTTP)
	const path = "/v2/a/manifests/latest"
	get := func(token, accept string) answer { return w.get(path, bearer, "Bearer "+token, "Accept", accept) }
	one := []byte(manifestType + " of one")
	get("1", manifestType).want(t, 200, one, "larder; fwd=uri-miss; stored")
	get("2", manifestType).want(t, 200, one, "larder; fwd=stale; ttl=0; detail=unchanged")
	w.do("HEAD", path, bearer, "Bearer 3", "Accept", manifestType).want(t, 200, nil, "larder; fwd=stale")
	if g.gets.Load() != 1 || g.heads.Load() != 2 {
		t.Errorf("%d GETs and %d HEADs", g.gets.Load(), g.heads.Load())
	}
	// Another kind of client gets its own, whether it lists types in one line or in two.
	index := []byte(indexType + " of one")
	get("1", manifestType+", "+indexType).want(t, 200, index, "larder; fwd=vary-miss; stored")
	w.get(path, bearer, "Bearer 1", "Accept", manifestType, "Accept", indexType).want(t, 200, index, "larder; fwd=stale; ttl=0; detail=unchanged")

	// Who may not pull gets upstream's word.
	get("bad", manifestType).want(t, 403, []byte("DENIED\n"), "larder; fwd=stale")

	// A tag that has moved is seen at once.
	g.image.Store(new("two"))
	two := []byte(manifestType + " of two")
	get("2", manifestType).want(t, 200, two, "larder; fwd=stale; stored")
	get("2", manifestType).want(t, 200, two, "larder; fwd=stale; ttl=0; detail=unchanged")

	// A registry that says no digest is asked with GET.
	g.silent.Store(true)
	gets := g.gets.Load()
	get("2", manifestType).want(t, 200, two, "larder; fwd=stale; fwd-status=200; ttl=0; detail=unchanged")
	if n := g.gets.Load() - gets; n != 1 {
		t.Errorf("%d GETs without a digest", n)
	}
	g.silent.Store(false)

	// While it fails, whom it let pull lately gets what there is.
	g.status.Store(429)
	get("2", manifestType).want(t, 200, two, "larder; fwd=stale; fwd-status=429; ttl=0; detail=stale-if-error")
	get("9", manifestType).want(t, 429, nil, "larder; fwd=request; detail=recheck")
	// And a tag that is gone is gone.
	g.status.Store(404)
	w.clock.advance(time.Minute)
	get("2", manifestType).want(t, 404, []byte("MANIFEST_UNKNOWN\n"), "larder; fwd=stale")
	g.status.Store(429)
	if a := get("2", manifestType); a.StatusCode != 429 {
		t.Errorf("what is gone is served: %d", a.StatusCode)
	}
}

// readerOf is what http.ServeContent wants.
func readerOf(s string) *strings.Reader { return strings.NewReader(s) }
