package cache

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

const blobPattern = `^/(?:.+/)?(?:blobs/sha256:|sha256/[0-9a-f]{2}/)([0-9a-f]{64})(?:/data)?$`

func blobs(t *testing.T) *Rule {
	return &Rule{
		Name: "blobs", Mode: Immutable, Access: AccessRecheck, Partition: "checked", KeyByDigest: true, Digests: byDigest(t, blobPattern),
		RecheckScope: regexp.MustCompile("^/v2/(.+)/blobs/"),
	}
}

func TestKeysByDigest(t *testing.T) {
	rule := blobs(t)
	hex := digest([]byte("x"))
	key := func(u string) [32]byte { return primaryKey(mustURL(t, u), rule) }
	base := key("https://a.test/v2/r/blobs/sha256:" + hex)
	for _, same := range []string{
		"https://b.test/v2/other/blobs/sha256:" + hex, "https://cdn.test/x/sha256/" + hex[:2] + "/" + hex + "/data?verify=1-a",
		"https://a.test/v2/r/blobs/sha256:" + strings.ToUpper(hex)[:0] + hex,
	} {
		if key(same) != base {
			t.Errorf("%s has another key", same)
		}
	}
	for _, other := range []string{
		"https://a.test/v2/r/blobs/sha256:" + digest([]byte("y")), "https://a.test/v2/r/manifests/sha256:" + hex,
		"https://a.test/v2/r/blobs/sha512:" + hex + hex, "https://a.test/v2/r/blobs/sha256:" + hex + "0",
	} {
		if key(other) == base {
			t.Errorf("%s has the same key", other)
		}
	}
	plain := *rule
	plain.Partition = ""
	if primaryKey(mustURL(t, "https://a.test/v2/r/blobs/sha256:"+hex), &plain) == base {
		t.Error("partitions share a key")
	}
	off := *rule
	off.Verify = VerifyOff
	if primaryKey(mustURL(t, "https://b.test/v2/other/blobs/sha256:"+hex), &off) == primaryKey(mustURL(t, "https://a.test/v2/r/blobs/sha256:"+hex), &off) {
		t.Error("what is not verified has the digest for a key")
	}
}

// TestContentIsSharedAmongRepositories by who may read each, and only where each has it.
func TestContentIsSharedAmongRepositories(t *testing.T) {
	shared, secret := []byte("shared layer"), []byte("layer of b")
	var heads, gets int
	w := newWorld(t, blobs(t), func(rw http.ResponseWriter, r *http.Request) {
		repository := strings.Split(r.URL.Path, "/")[2]
		if r.Header.Get("Authorization") != "Bearer "+repository {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		var body []byte
		switch {
		case strings.HasSuffix(r.URL.Path, digest(shared)):
			body = shared
		case strings.HasSuffix(r.URL.Path, digest(secret)) && repository == "b":
			body = secret
		default:
			http.Error(rw, "BLOB_UNKNOWN", http.StatusNotFound)
			return
		}
		if r.Method == http.MethodHead {
			heads++
			return
		}
		gets++
		rw.Header().Set("Etag", `"`+repository+`"`)
		rw.Header().Set("Content-Type", "application/octet-stream")
		rw.Header().Set("X-Repository", repository)
		rw.Header().Set("Vary", "Authorization, Accept")
		_, _ = rw.Write(body)
	})
	of := func(repository string, b []byte) string { return "/v2/" + repository + "/blobs/sha256:" + digest(b) }
	w.get(of("a", shared), bearer, "Bearer a").want(t, 200, shared, "larder; fwd=uri-miss; stored")
	a := w.get(of("b", shared), bearer, "Bearer b")
	a.want(t, 200, shared, "larder; hit; detail=recheck")
	if a.Header.Get("X-Repository") != "" || a.Header.Get("Etag") != `"sha256:`+digest(shared)+`"` || a.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("another repository's header: %v", a.Header)
	}
	w.get(of("b", shared), bearer, "Bearer b", "Range", "bytes=0-3").want(t, 206, shared[:4], "larder; hit")
	w.get(of("b", secret), bearer, "Bearer b").want(t, 200, secret, "larder; fwd=uri-miss; stored")
	// Who may read a may, for that, not read by digest what only b has.
	for range 2 {
		w.get(of("a", secret), bearer, "Bearer a").want(t, 404, []byte("BLOB_UNKNOWN\n"), "larder; fwd=request; detail=recheck")
	}
	w.get(of("a", shared), bearer, "Bearer a").want(t, 200, shared, "larder; hit; detail=recheck")
	w.get(of("a", shared), bearer, "Bearer a").want(t, 200, shared, "larder; hit")
	w.clock.advance(placeTTL)
	gets, heads = 0, 0
	w.get(of("a", shared), bearer, "Bearer a").want(t, 200, shared, "larder; hit; detail=recheck")
	if gets != 0 || heads != 1 {
		t.Errorf("%d GETs and %d HEADs", gets, heads)
	}
	// A push or a deletion there has the next one ask, and drops nobody's content.
	w.cache.InvalidateUnder(mustURL(t, w.origin.URL+of("a", shared)), w.rule)
	w.get(of("a", shared), bearer, "Bearer a").want(t, 200, shared, "larder; hit; detail=recheck")
}

// TestOtherContentThanTheDigestIsNotStored, whole or in parts, and the client's transfer
// does not end well.
func TestOtherContentThanTheDigestIsNotStored(t *testing.T) {
	rule := blobs(t)
	rule.Access = AccessPublic
	right, body := noise(64<<10), noise(64<<10)
	body[5] ^= 1
	w := newWorld(t, rule, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Etag", `"x"`)
		http.ServeContent(rw, r, "x", time.Time{}, strings.NewReader(string(body)))
	})
	path := "/v2/a/blobs/sha256:" + digest(right)
	w.get(path)
	if out, _ := w.last(); out.Stored {
		t.Errorf("%+v", out)
	}
	w.get(path, "Range", "bytes=0-32767")
	w.get(path, "Range", "bytes=32768-65535")
	eventually(t, "nothing is stored", func() bool { return w.stored() == 0 })
	copy(body, right)
	w.get(path, "Range", "bytes=0-32767")
	w.get(path, "Range", "bytes=32768-65535")
	eventually(t, "the parts are joined", func() bool { return testutil.ToFloat64(w.cache.metrics.joined) == 1 })
	w.get(path).want(t, 200, right, "larder; hit")
}

// TestContentIsItsOwnKeyOnlyAsItIs: neither in a coding, nor what is said of one URL alone.
func TestContentIsItsOwnKeyOnlyAsItIs(t *testing.T) {
	rule := blobs(t)
	rule.Access, rule.NegativeTTL = AccessPublic, time.Minute
	body := []byte("layer")
	w := newWorld(t, rule, func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/v2/coded/"):
			rw.Header().Set("Content-Encoding", "gzip")
		case strings.HasPrefix(r.URL.Path, "/v2/none/"):
			rw.WriteHeader(http.StatusNotFound)
			return
		}
		if got := r.Header.Get("Accept-Encoding"); got != "identity" {
			t.Errorf("Accept-Encoding: %s", got)
		}
		_, _ = rw.Write(body)
	})
	of := func(repository string) string { return "/v2/" + repository + "/blobs/sha256:" + digest(body) }
	w.get(of("coded"), "Accept-Encoding", "gzip").want(t, 200, body, "larder; fwd=uri-miss; detail=recoded")
	w.get(of("none")).want(t, 404, nil, "larder; fwd=uri-miss; detail=status")
	w.get(of("a"), "Accept-Encoding", "gzip").want(t, 200, body, "larder; fwd=uri-miss; stored")
	w.get(of("none")).want(t, 200, body, "larder; hit")
}

// TestSignedURLs: what is stored goes to who has a URL that its registry has given out.
func TestSignedURLs(t *testing.T) {
	body := []byte("layer")
	var probes, gets, heads int
	revoked := ""
	cdn := newBystander(t, func(w http.ResponseWriter, r *http.Request) {
		if sig := r.URL.Query().Get("sig"); sig == "" || sig == revoked || sig == "forged" || r.Method == http.MethodHead {
			if r.Method == http.MethodHead {
				heads++
			}
			http.Error(w, "AccessDenied", http.StatusForbidden)
			return
		}
		if r.Header.Get("Range") == "bytes=0-0" {
			probes++
		} else {
			gets++
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		if t := r.URL.Query().Get("rsct"); t != "" {
			w.Header().Set("Content-Type", t)
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(body)))
	})
	signed := &Rule{
		Mode: Immutable, Access: AccessSigned, Partition: "checked", KeyByDigest: true, Digests: byDigest(t, blobPattern),
		SignedBy: func(host string) bool { return host == "127.0.0.1" },
	}
	registry := blobs(t)
	var w *world
	path := "/x/sha256/" + digest(body)[:2] + "/" + digest(body) + "/data"
	target := func(sig, more string) string {
		return cdn.URL + path + "?sig=" + sig + "&se=" + url.QueryEscape(w.clock.now().Add(10*time.Minute).UTC().Format(time.RFC3339)) + more
	}
	var location string
	w = newWorld(t, registry, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Location", location)
		rw.WriteHeader(http.StatusTemporaryRedirect)
	})
	blob := "/v2/a/blobs/sha256:" + digest(body)

	// The way of a client that follows the redirect itself.
	location = target("one", "")
	if a := w.get(blob, bearer, "Bearer t"); a.StatusCode != 307 || a.Header.Get("Location") != location {
		t.Fatalf("%d %v", a.StatusCode, a.Header)
	}
	w.at(signed, "GET", location).want(t, 200, body, "larder; fwd=uri-miss; stored")
	location = target("two", "")
	w.do("HEAD", blob, bearer, "Bearer t2")
	w.at(signed, "GET", location).want(t, 200, body, "larder; hit")
	w.at(signed, "HEAD", location).want(t, 200, nil, "larder; hit")
	if gets != 1 || probes != 0 {
		t.Errorf("%d GETs and %d probes for URLs that came in a redirect", gets, probes)
	}
	// At the registry what came from elsewhere is served to who may have it there.
	w.get(blob, bearer, "Bearer t3").want(t, 200, body, "larder; hit; detail=recheck")

	// A URL that did not come through is asked for, as it is.
	w.at(signed, "GET", target("three", "")).want(t, 200, body, "larder; hit; detail=recheck")
	w.at(signed, "GET", target("three", "")).want(t, 200, body, "larder; hit")
	if gets != 1 || probes != 1 {
		t.Errorf("%d GETs and %d probes", gets, probes)
	}
	for _, bad := range []string{cdn.URL + path, target("forged", ""), target("two", "&x=1")[:len(cdn.URL+path)] + "?sig=forged"} {
		w.at(signed, "GET", bad).want(t, 403, []byte("AccessDenied\n"), "larder; fwd=request; detail=recheck")
	}
	w.at(signed, "HEAD", target("three-b", "")).want(t, 403, nil, "larder; fwd=request; detail=recheck")

	// Neither lasts longer than the signature.
	two, three := location, target("three", "")
	revoked = "two"
	w.at(signed, "GET", two).want(t, 200, body, "larder; hit")
	w.clock.advance(10 * time.Minute)
	w.at(signed, "GET", two).want(t, 403, []byte("AccessDenied\n"), "larder; fwd=request; detail=recheck")
	revoked = "three"
	w.at(signed, "GET", three).want(t, 403, []byte("AccessDenied\n"), "larder; fwd=request; detail=recheck")

	// A stranger's redirect gives nobody a right.
	location = target("forged", "")
	stranger := *signed
	stranger.SignedBy = func(host string) bool { return host == "registry.test" }
	w.get("/v2/evil/blobs/sha256:"+digest([]byte("other")), bearer, "Bearer t")
	w.at(&stranger, "GET", location).want(t, 403, []byte("AccessDenied\n"), "larder; fwd=request; detail=recheck")

	// What the query says of the header holds for that URL.
	a := w.at(signed, "GET", target("four", "&rsct=text%2Fplain&rscd=attachment"))
	a.want(t, 200, body, "larder; hit; detail=recheck")
	if a.Header.Get("Content-Type") != "text/plain" || a.Header.Get("Content-Disposition") != "attachment" {
		t.Errorf("header %v", a.Header)
	}
	if a := w.at(signed, "GET", target("four", "")); a.Header.Get("Content-Type") != "application/octet-stream" || a.Header.Get("Content-Disposition") != "" {
		t.Errorf("header %v", a.Header)
	}
	for e, err := range w.store.All() {
		if err != nil || strings.Contains(string(e.Meta), "sig=") || strings.Contains(string(e.Meta), "se=") {
			t.Errorf("stored: %q, %v", e.Meta, err)
		}
	}
}

// TestSignedURLsWithoutADigest are kept by their path.
func TestSignedURLsWithoutADigest(t *testing.T) {
	cdn := newBystander(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Disposition", r.URL.Query().Get("rscd"))
		_, _ = io.WriteString(w, "asset "+r.URL.Query().Get("part"))
	})
	w := newWorld(t, &Rule{Mode: Immutable}, nil)
	rule := &Rule{Mode: Immutable, Access: AccessSigned, Partition: "checked"}
	w.at(rule, "GET", cdn.URL+"/a?sig=1&se=2100-01-01&rscd=one&part=1").want(t, 200, []byte("asset 1"), "larder; fwd=uri-miss; stored")
	a := w.at(rule, "GET", cdn.URL+"/a?sig=2&se=2100-01-02&rscd=two&part=1")
	a.want(t, 200, []byte("asset 1"), "larder; hit; detail=recheck")
	if a.Header.Get("Content-Disposition") != "two" {
		t.Errorf("header %v", a.Header)
	}
	w.at(rule, "GET", cdn.URL+"/a?sig=1&se=2100-01-01&rscd=one&part=2").want(t, 200, []byte("asset 2"), "larder; fwd=uri-miss; stored")
}

// TestAcceptGoesAlongWhereTheDigestIsNamed: distribution has nothing under a digest for who
// does not accept what it is by name, and what it has can be nothing else.
func TestAcceptGoesAlongWhereTheDigestIsNamed(t *testing.T) {
	const kind = "application/vnd.oci.image.manifest.v1+json"
	manifest := []byte(`{"schemaVersion":2}`)
	rule := &Rule{Mode: Immutable, Digests: byDigest(t, "^/v2/.+/manifests/sha256:([0-9a-f]{64})$")}
	release := make(chan struct{})
	w := newWorld(t, rule, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/b/manifests/sha256:"+digest(manifest) {
			<-release
		}
		if !strings.Contains(strings.Join(r.Header["Accept"], ","), kind) {
			http.Error(rw, "MANIFEST_UNKNOWN", http.StatusNotFound)
			return
		}
		rw.Header().Set("Content-Type", kind)
		_, _ = rw.Write(manifest)
	})
	path := func(repository string) string { return "/v2/" + repository + "/manifests/sha256:" + digest(manifest) }
	w.get(path("a")).want(t, 404, []byte("MANIFEST_UNKNOWN\n"), "larder; fwd=uri-miss; detail=status")
	w.get(path("a"), "Accept", "application/json", "Accept", kind).want(t, 200, manifest, "larder; fwd=uri-miss; stored")
	w.get(path("a"), "Accept", kind).want(t, 200, manifest, "larder; hit")
	w.get(path("a")).want(t, 200, manifest, "larder; hit")
	// Who waits for the answer to another's Accept does not get a 404 that is not its own.
	var wg sync.WaitGroup
	wg.Go(func() {
		w.get(path("b")).want(t, 404, []byte("MANIFEST_UNKNOWN\n"), "larder; fwd=uri-miss; detail=status")
	})
	eventually(t, "the first has asked", func() bool { return w.all.Load() == 3 })
	wg.Go(func() { w.get(path("b"), "Accept", kind).want(t, 200, manifest, "larder; fwd=uri-miss; stored") })
	eventually(t, "the second waits", func() bool {
		w.cache.flights.mu.Lock()
		defer w.cache.flights.mu.Unlock()
		for _, f := range w.cache.flights.byKey {
			return f.readers.Load() == 2
		}
		return false
	})
	close(release)
	wg.Wait()
}
