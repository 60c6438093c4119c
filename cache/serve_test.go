package cache

import (
	"net/http"
	"strconv"
	"testing"
	"time"
)

var immutable = &Rule{Name: "artifacts", Mode: Immutable}

func TestImmutableIsServedFromTheStore(t *testing.T) {
	body := noise(3 << 20)
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		h := rw.Header()
		h["X-Two"] = []string{"a", "b"}
		h["Content-Type"] = nil
		h.Set("Etag", `"v1"`)
		h.Set("Set-Cookie", "id=1")
		h.Set("Alt-Svc", `h3=":443"`)
		h.Set("Cache-Control", "max-age=0, must-revalidate")
		h.Set("Content-Length", strconv.Itoa(len(body)))
		rw.Write(body)
	})
	first := w.get("/a.whl")
	first.want(t, 200, body, "larder; fwd=uri-miss; stored")
	if first.Header.Get("Set-Cookie") == "" {
		t.Error("the one who asked first does not get what was set for it")
	}
	out, err := w.last()
	if err != nil || !out.Stored || out.Hit || out.UpstreamBytes != int64(len(body)) || out.SHA256 != digest(body) {
		t.Errorf("first outcome %+v, %v", out, err)
	}
	// Clients' freshness directives mean nothing here.
	for _, fields := range [][]string{
		nil,
		{"Cache-Control", "no-cache", "Pragma", "no-cache"},
		{"Cache-Control", "max-age=0", "User-Agent", "other", "X-Forwarded-Host", "evil"},
	} {
		hit := w.get("/a.whl", fields...)
		hit.want(t, 200, body, "larder; hit; detail=immutable")
		for _, name := range []string{"Set-Cookie", "Alt-Svc", "Content-Type"} {
			if v, ok := hit.Header[name]; ok {
				t.Errorf("hit has %s: %q", name, v)
			}
		}
		if got := hit.Header["X-Two"]; len(got) != 2 {
			t.Errorf("X-Two: %q, want both lines", got)
		}
		if hit.Header.Get("Age") == "" || hit.Header.Get("Etag") != `"v1"` || hit.ContentLength != int64(len(body)) {
			t.Errorf("header of the hit: %v", hit.Header)
		}
		out, err := w.last()
		if err != nil || !out.Hit || out.UpstreamBytes != 0 || out.CacheBytes != int64(len(body)) || out.SHA256 != digest(body) {
			t.Errorf("outcome of the hit %+v, %v", out, err)
		}
	}
	w.wantGets(1)
}

// TestRuleThatPrevailsIsShown in Cache-Status: where a response is served as fresh that
// says of itself that it is not, and nowhere else.
func TestRuleThatPrevailsIsShown(t *testing.T) {
	for _, test := range []struct {
		name   string
		rule   *Rule
		status int
		header []string
		after  time.Duration
		want   string
	}{
		{"no-cache", immutable, 200, []string{"Cache-Control: no-cache"}, 0, "larder; hit; detail=immutable"},
		{"no-cache of a field", immutable, 200, []string{`Cache-Control: max-age=60, no-cache="x-a"`}, 0, "larder; hit; detail=immutable"},
		{"Pragma", immutable, 200, []string{"Pragma: no-cache"}, 0, "larder; hit; detail=immutable"},
		{"max-age that lasts", immutable, 200, []string{"Cache-Control: max-age=60, must-revalidate"}, 59 * time.Second, "larder; hit"},
		{"max-age that has passed", immutable, 200, []string{"Cache-Control: max-age=60, must-revalidate"}, time.Minute, "larder; hit; detail=immutable"},
		{"s-maxage before it", immutable, 200, []string{"Cache-Control: max-age=60, s-maxage=0"}, 0, "larder; hit; detail=immutable"},
		{"Age counts", immutable, 200, []string{"Cache-Control: max-age=60", "Age: 60"}, 0, "larder; hit; detail=immutable"},
		{"Expires", immutable, 200, []string{"Expires: 0"}, 0, "larder; hit; detail=immutable"},
		{"4.2.2: nothing is said", immutable, 200, nil, 1000 * time.Hour, "larder; hit"},
		{"with an end", &Rule{Mode: Immutable, TTL: time.Hour}, 200, []string{"Cache-Control: no-cache"}, time.Minute, "larder; hit; ttl=3540; detail=immutable"},
		{"an index", &Rule{Mode: Revalidate, TTL: time.Hour}, 200, []string{"Cache-Control: max-age=60"}, time.Minute, "larder; hit; ttl=3540; detail=revalidate"},
		{"an index that is fresh", &Rule{Mode: Revalidate, TTL: time.Hour}, 200, []string{"Cache-Control: max-age=61"}, time.Minute, "larder; hit; ttl=3540"},
		{"an absence", &Rule{Mode: Immutable, NegativeTTL: time.Hour}, 404, []string{"Cache-Control: max-age=10"}, time.Minute, "larder; hit; ttl=3540; detail=negative-ttl"},
		{"an absence under HTTP", &Rule{Mode: HTTP, NegativeTTL: time.Hour}, 404, []string{"Cache-Control: max-age=10"}, time.Minute, "larder; hit; ttl=3540; detail=negative-ttl"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &script{steps: []step{{status: test.status, header: test.header}}}
			w := newWorld(t, test.rule, s.ServeHTTP)
			s.now = w.clock.now
			w.get("/x")
			w.clock.advance(test.after)
			w.get("/x").want(t, max(test.status, 200), nil, test.want)
			w.wantGets(1)
		})
	}
}

func TestHeadIsAnsweredFromTheStoreAndNeverFetchesTheBody(t *testing.T) {
	body := noise(1000)
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Length", "1000")
		if r.Method == http.MethodGet {
			rw.Write(body)
		}
	})
	w.do("HEAD", "/x").want(t, 200, nil, "larder; fwd=uri-miss")
	w.wantGets(0)
	w.get("/x")
	head := w.do("HEAD", "/x")
	head.want(t, 200, nil, "larder; hit")
	if head.ContentLength != 1000 {
		t.Errorf("Content-Length %d", head.ContentLength)
	}
	if n := w.all.Load(); n != 2 {
		t.Errorf("origin saw %d requests, want 2", n)
	}
}

func TestRevalidateValidatesWhenStale(t *testing.T) {
	version := "1"
	var conditional int
	w := newWorld(t, &Rule{Mode: Revalidate, TTL: time.Minute}, func(rw http.ResponseWriter, r *http.Request) {
		etag := `"` + version + `"`
		rw.Header().Set("Etag", etag)
		rw.Header().Set("Vary", "Accept-Encoding, Accept")
		rw.Header().Set("Content-Type", "text/html")
		if r.Header.Get("If-None-Match") == etag {
			conditional++
			// npm's 304 has a narrower Vary than its 200.
			rw.Header().Set("Vary", "Accept-Encoding")
			rw.Header().Set("X-Serial", "new")
			rw.WriteHeader(304)
			return
		}
		rw.Write([]byte("index " + version))
	})
	w.get("/simple/").want(t, 200, []byte("index 1"), "larder; fwd=uri-miss; stored")
	w.clock.advance(30 * time.Second)
	w.get("/simple/").want(t, 200, []byte("index 1"), "larder; hit; ttl=30")
	w.wantGets(1)
	// pip's max-age=0 validates at once; so does staleness.
	got := w.get("/simple/", "Cache-Control", "max-age=0")
	got.want(t, 200, []byte("index 1"), "larder; fwd=request; fwd-status=304; ttl=60")
	if v := got.Header["Vary"]; len(v) != 1 || v[0] != "Accept-Encoding, Accept" || got.Header.Get("X-Serial") != "new" {
		t.Errorf("after validation Vary %q, X-Serial %q", v, got.Header.Get("X-Serial"))
	}
	w.clock.advance(61 * time.Second)
	w.get("/simple/").want(t, 200, []byte("index 1"), "larder; fwd=stale; fwd-status=304; ttl=60")
	w.clock.advance(61 * time.Second)
	version = "2"
	w.get("/simple/").want(t, 200, []byte("index 2"), "larder; fwd=stale; stored")
	w.get("/simple/", "If-None-Match", `"2"`).want(t, 304, nil, "larder; hit; ttl=60")
	w.wantGets(4)
	if conditional != 2 {
		t.Errorf("%d validations, want 2", conditional)
	}
}

func TestStaleIsServedWhenUpstreamFails(t *testing.T) {
	status, retryAfter := 200, ""
	rule := &Rule{Mode: Revalidate, StaleIfError: time.Hour}
	w := newWorld(t, rule, func(rw http.ResponseWriter, r *http.Request) {
		switch status {
		case 0:
			panic(http.ErrAbortHandler)
		default:
			rw.Header().Set("Etag", `"x"`)
			if retryAfter != "" {
				rw.Header().Set("Retry-After", retryAfter)
			}
			rw.WriteHeader(status)
			rw.Write([]byte(http.StatusText(status)))
		}
	})
	w.get("/i").want(t, 200, []byte("OK"), "larder; fwd=uri-miss; stored")
	w.clock.advance(10 * time.Minute)
	for _, status = range []int{500, 502, 503, 504, 429} {
		w.get("/i").want(t, 200, []byte("OK"), "larder; fwd=stale; fwd-status="+strconv.Itoa(status)+"; ttl=-600; detail=stale-if-error")
	}
	status = 0
	w.get("/i").want(t, 200, []byte("OK"), "larder; fwd=stale; ttl=-600; detail=stale-if-error")
	w.do("HEAD", "/i").want(t, 200, nil, "larder; fwd=stale; ttl=-600; detail=stale-if-error")
	w.clock.advance(time.Hour)
	if got := w.get("/i"); got.StatusCode != 502 {
		t.Errorf("status %d, want 502", got.StatusCode)
	}
	status, retryAfter = 503, "7"
	got := w.get("/i")
	got.want(t, 503, []byte("Service Unavailable"), "larder; fwd=stale")
	if got.Header.Get("Retry-After") != "7" {
		t.Error("Retry-After is lost")
	}
	// 404 and 403 are answers.
	w.clock.advance(-time.Hour + someThrottle) // nor is upstream throttling any more
	status, retryAfter = 200, ""
	w.get("/other") // upstream serves again: the 503 is forgotten
	status = 403
	w.get("/i").want(t, 403, []byte("Forbidden"), "larder; fwd=stale; detail=status")
	status = 404
	w.get("/i").want(t, 404, []byte("Not Found"), "larder; fwd=stale; detail=status")
	// What upstream says is gone does not come back.
	status = 500
	w.get("/i").want(t, 500, []byte("Internal Server Error"), "larder; fwd=vary-miss; detail=status")
}

func TestStaleWhileRevalidate(t *testing.T) {
	version := "1"
	w := newWorld(t, &Rule{Mode: Revalidate, TTL: time.Minute, StaleWhileRevalidate: time.Minute}, func(rw http.ResponseWriter, r *http.Request) {
		rw.Write([]byte(version))
	})
	w.get("/i")
	version = "2"
	w.clock.advance(90 * time.Second)
	w.get("/i").want(t, 200, []byte("1"), "larder; hit; ttl=-30; detail=stale-while-revalidate")
	eventually(t, "the new version is stored", func() bool { return string(w.get("/i").body) == "2" })
	w.wantGets(2)
}

func TestUnchangedBodyCountsAsValidated(t *testing.T) {
	n := 0
	body := noise(9000)
	w := newWorld(t, &Rule{Mode: Revalidate}, func(rw http.ResponseWriter, r *http.Request) {
		n++
		rw.Header().Set("Etag", `"node-`+strconv.Itoa(n)+`"`)
		if n == 4 {
			body = noise(9001)
		}
		rw.Write(body)
	})
	w.get("/i").want(t, 200, body, "larder; fwd=uri-miss; stored")
	got := w.get("/i", "If-None-Match", `"node-1"`)
	got.want(t, 304, nil, "larder; fwd=stale; fwd-status=200; ttl=0; detail=unchanged")
	got = w.get("/i")
	got.want(t, 200, body, "larder; fwd=stale; fwd-status=200; ttl=0; detail=unchanged")
	if tag := got.Header.Get("Etag"); tag != `"node-1"` {
		t.Errorf("ETag %s, want the first one", tag)
	}
	w.get("/i", "If-None-Match", `"node-1"`).want(t, 200, noise(9001), "larder; fwd=stale; stored")
}

func TestNegativeCachingOnlyWhereTheRuleSaysSo(t *testing.T) {
	for _, test := range []struct {
		ttl  time.Duration
		gets int64
	}{{0, 2}, {10 * time.Second, 1}} {
		w := newWorld(t, &Rule{Mode: Immutable, NegativeTTL: test.ttl}, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=600")
			rw.Header()["Content-Type"] = nil
			rw.WriteHeader(410)
			rw.Write([]byte("gone"))
		})
		w.get("/v")
		got := w.get("/v")
		if got.StatusCode != 410 || string(got.body) != "gone" || got.Header["Content-Type"] != nil {
			t.Errorf("got %d %q %v", got.StatusCode, got.body, got.Header)
		}
		w.wantGets(test.gets)
		w.clock.advance(11 * time.Second)
		w.get("/v")
		w.wantGets(test.gets + 1)
	}
}

func TestOnlyIfCached(t *testing.T) {
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) { rw.Write([]byte("x")) })
	if got := w.get("/x", "Cache-Control", "only-if-cached"); got.StatusCode != 504 {
		t.Errorf("status %d, want 504", got.StatusCode)
	}
	w.wantGets(0)
	w.get("/x")
	w.get("/x", "Cache-Control", "only-if-cached").want(t, 200, []byte("x"), "larder; hit")
}

func TestNoStoreRequestIsNotStored(t *testing.T) {
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) { rw.Write([]byte("x")) })
	w.get("/x", "Cache-Control", "no-store").want(t, 200, []byte("x"), "larder; fwd=uri-miss; detail=no-store")
	if n := w.stored(); n != 0 {
		t.Errorf("%d objects stored", n)
	}
}

func TestInvalidateReachesAllVariants(t *testing.T) {
	w := newWorld(t, &Rule{Mode: Immutable, Vary: []string{"Accept"}}, func(rw http.ResponseWriter, r *http.Request) {
		rw.Write([]byte(r.Header.Get("Accept")))
	})
	for _, accept := range []string{"text/html", "text/plain"} {
		w.get("/m", "Accept", accept)
		w.get("/m", "Accept", accept).want(t, 200, []byte(accept), "larder; hit")
	}
	w.wantGets(2)
	r, _ := http.NewRequest("PUT", w.origin.URL+"/m", nil)
	w.cache.Invalidate(r.URL)
	w.get("/m", "Accept", "text/html").want(t, 200, []byte("text/html"), "larder; fwd=uri-miss; stored")
	w.get("/m", "Accept", "text/plain").want(t, 200, []byte("text/plain"), "larder; fwd=vary-miss; stored")
	w.wantGets(4)
}
