package cache

import (
	"io"
	"net/http"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// poison are request fields of a first client that must not reach the second.
var poison = []string{
	"X-Forwarded-Host", "evil", "X-Forwarded-Proto", "http", "Forwarded", "host=evil", "X-Original-Url", "/admin",
	"X-Http-Method-Override", "DELETE", "X-Anything", "1", "User-Agent", "mine/1.0", "Accept-Language", "de", "Origin", "https://evil",
	"Referer", "https://evil", "Accept", "image/webp", "Cache-Control", "max-age=0", "Range", "bytes=0-", "If-Range", `"q"`,
	"If-Modified-Since", "Mon, 01 Jan 2024 00:00:00 GMT", "Te", "trailers, deflate", "Connection", "x-hop", "X-Hop", "1",
	"Proxy-Authorization", "Basic x", "Proxy-Connection", "keep-alive",
}

func TestFillIsAFunctionOfItsKey(t *testing.T) {
	// An origin that shows everything it was told and never says Vary.
	echo := func(rw http.ResponseWriter, r *http.Request) {
		var lines []string
		for name, values := range r.Header {
			lines = append(lines, name+": "+strings.Join(values, "|"))
		}
		sort.Strings(lines)
		io.WriteString(rw, r.Method+" "+r.RequestURI+"\n"+strings.Join(lines, "\n"))
	}
	w := newWorld(t, immutable, echo)
	want := "GET /@s%2fn?a=%7e\nAccept-Encoding: br, gzip\nAccept: */*\nUser-Agent: larder"
	w.get("/@s%2fn?a=%7e", append(poison, "Accept-Encoding", "gzip, deflate;q=0.5, br")...).want(t, 200, []byte(want), "larder; fwd=uri-miss; stored")
	w.get("/@s%2Fn?a=~").want(t, 200, []byte(want), "larder; hit")
	w.wantGets(1)
}

func TestWithheldFieldsThatTheOriginVariesByAreLearned(t *testing.T) {
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Vary", "X-Class, User-Agent")
		io.WriteString(rw, r.Header.Get("X-Class")+" for "+r.Header.Get("User-Agent"))
	})
	a, b := []string{"X-Class", "a", "User-Agent", "R/4"}, []string{"X-Class", "b", "User-Agent", "R/4"}
	w.get("/p", a...).want(t, 200, []byte("a for R/4"), "larder; fwd=uri-miss; stored")
	w.get("/p", b...).want(t, 200, []byte("b for R/4"), "larder; fwd=vary-miss; stored")
	w.get("/p", a...).want(t, 200, []byte("a for R/4"), "larder; hit")
	w.get("/p", b...).want(t, 200, []byte("b for R/4"), "larder; hit")
	w.wantGets(3) // one to learn, one for each
}

func TestCredentialsGoUpstreamAndAreNotShared(t *testing.T) {
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/public" {
			rw.Header().Set("Cache-Control", "public")
		}
		if r.Header.Get("Authorization") == "" {
			rw.WriteHeader(401)
		}
		io.WriteString(rw, r.Header.Get("Authorization"))
	})
	w.get("/x", "Authorization", "Basic a").want(t, 200, []byte("Basic a"), "larder; fwd=uri-miss; detail=authorization")
	w.get("/x", "Authorization", "Basic b").want(t, 200, []byte("Basic b"), "larder; fwd=uri-miss; detail=authorization")
	w.get("/x").want(t, 401, nil, "larder; fwd=uri-miss; detail=status")
	if n := w.stored(); n != 0 {
		t.Errorf("%d objects stored", n)
	}
	w.get("/public", "Authorization", "Basic a")
	w.get("/public").want(t, 200, []byte("Basic a"), "larder; hit")
}

func TestTokensUnderNamesOfTheirOwn(t *testing.T) {
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Private-Token") == "" {
			rw.WriteHeader(404)
			return
		}
		io.WriteString(rw, "secret")
	})
	w.get("/x", "Private-Token", "t").want(t, 200, []byte("secret"), "larder; fwd=uri-miss; detail=own-request")
	if got := w.get("/x"); got.StatusCode != 404 {
		t.Errorf("status %d without the token", got.StatusCode)
	}
	if n := w.stored(); n != 0 {
		t.Errorf("%d objects stored", n)
	}
}

func TestVariantsByCoding(t *testing.T) {
	w := newWorld(t, &Rule{Mode: Revalidate, TTL: 1 << 40}, func(rw http.ResponseWriter, r *http.Request) {
		coding := "identity"
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			coding = "gzip"
			rw.Header().Set("Content-Encoding", coding)
		}
		rw.Header().Set("Vary", "Accept-Encoding")
		io.WriteString(rw, coding)
	})
	for _, test := range []struct{ accept, coding, status string }{
		{"gzip;q=1.0,deflate;q=0.6,identity;q=0.3", "gzip", "larder; fwd=uri-miss; stored"},
		{"gzip, deflate", "gzip", "larder; hit; ttl=1099"},
		{"identity", "identity", "larder; fwd=vary-miss; stored"},
		{"gzip;q=0", "identity", "larder; hit; ttl=1099"},
	} {
		got := w.get("/simple/", "Accept-Encoding", test.accept)
		got.want(t, 200, []byte(test.coding), test.status)
		if ce := got.Header.Get("Content-Encoding"); (ce == "gzip") != (test.coding == "gzip") {
			t.Errorf("%s: Content-Encoding %q", test.accept, ce)
		}
	}
}

// TestNoCodingIsOneClass: who names no coding, and who wants none, share what is stored,
// so that they must get the same.
func TestNoCodingIsOneClass(t *testing.T) {
	for _, mode := range []Mode{Immutable, Revalidate, HTTP} {
		w := newWorld(t, &Rule{Mode: mode, TTL: time.Hour}, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=600")
			rw.Header().Set("Vary", "Accept-Encoding")
			if r.Header.Get("Accept-Encoding") != "identity" {
				rw.Header().Set("Content-Encoding", "gzip")
			}
			io.WriteString(rw, "x")
		})
		w.get("/x")
		for _, accept := range []string{"identity", "deflate", "gzip;q=0"} {
			got := w.get("/x", "Accept-Encoding", accept)
			if ce := got.Header.Get("Content-Encoding"); ce != "" || string(got.body) != "x" {
				t.Errorf("%v: %s gets %q in the coding %q", mode, accept, got.body, ce)
			}
		}
		w.wantGets(1)
	}
}

func TestHTTPForwardsWhatClientsSendAndTrustsVary(t *testing.T) {
	w := newWorld(t, &Rule{Mode: HTTP}, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Cache-Control", "max-age=60")
		rw.Header().Set("Vary", "X-A")
		io.WriteString(rw, r.Header.Get("X-A")+r.Header.Get("X-B")+r.Header.Get("If-Range")+r.Header.Get("X-Hop"))
	})
	w.get("/x", "X-A", "1", "X-B", "2", "If-Range", "x", "Connection", "X-Hop", "X-Hop", "h").want(t, 200, []byte("12"), `larder; fwd=uri-miss; stored; key="x-a"`)
	w.get("/x", "X-A", "1").want(t, 200, []byte("12"), `larder; hit; ttl=60; key="x-a"`)
	w.get("/x", "X-A", "3").want(t, 200, []byte("3"), `larder; fwd=vary-miss; stored; key="x-a"`)
}

// TestHTTPWithholdsWhatRoutes: an origin that goes by such a field and does not say so in
// Vary cannot be made to answer for another target; one that does is believed.
func TestHTTPWithholdsWhatRoutes(t *testing.T) {
	fields := []string{
		"Forwarded", "X-Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Anything", "X-Host", "X-Original-URL",
		"X-Rewrite-URL", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Real-IP",
	}
	w := newWorld(t, &Rule{Mode: HTTP}, func(rw http.ResponseWriter, r *http.Request) {
		h := rw.Header()
		h.Set("Cache-Control", "max-age=60")
		if r.URL.Path == "/varies" {
			h.Set("Vary", "X-Forwarded-Host")
		}
		for _, name := range fields {
			io.WriteString(rw, r.Header.Get(name))
		}
		io.WriteString(rw, r.Header.Get("X-Other"))
	})
	for _, name := range fields {
		w.get("/"+name, name, "evil").want(t, 200, nil, "larder; fwd=uri-miss; stored")
		w.get("/"+name).want(t, 200, nil, "larder; hit; ttl=60")
	}
	w.get("/other", "X-Other", "good").want(t, 200, []byte("good"), "larder; fwd=uri-miss; stored")

	for _, host := range []string{"a", "b", "a"} {
		if got := w.get("/varies", "X-Forwarded-Host", host); string(got.body) != host {
			t.Errorf("%s got %q", host, got.body)
		}
	}
	w.get("/varies", "X-Forwarded-Host", "a").want(t, 200, []byte("a"), `larder; hit; ttl=60; key="x-forwarded-host: a"`)
}

func TestPassedThroughUntouched(t *testing.T) {
	var mu sync.Mutex
	var seen http.Header
	w := newWorld(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = r.Header.Clone()
		mu.Unlock()
		h := rw.Header()
		h["Content-Type"], h["Date"] = nil, nil
		h["X-Two"] = []string{"a", "b"}
		h.Set("Trailer", "X-Sum")
		h.Set("Retry-After", "3")
		h.Set("Set-Cookie", "a=b")
		h.Set("Cache-Status", "cdn; hit")
		rw.WriteHeader(429)
		io.WriteString(rw, "slow down")
		h.Set("X-Sum", "7")
		h.Set(http.TrailerPrefix+"X-More", "8")
	})
	got := w.get("/x", "If-Match", `"a"`, "X-Odd", "1", "Range", "bytes=0-1", "Te", "trailers")
	if got.StatusCode != 429 || string(got.body) != "slow down" {
		t.Fatalf("%d %q", got.StatusCode, got.body)
	}
	want := http.Header{
		"X-Two": {"a", "b"}, "Retry-After": {"3"}, "Set-Cookie": {"a=b"}, "Cache-Status": {"cdn; hit", "larder; fwd=request"},
	}
	if diff := cmp.Diff(want, got.Header); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(http.Header{"X-Sum": {"7"}, "X-More": {"8"}}, got.Trailer); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(http.Header{"If-Match": {`"a"`}, "X-Odd": {"1"}, "Range": {"bytes=0-1"}, "Te": {"trailers"}}, seen); diff != "" {
		t.Error(diff)
	}
	if out, _ := w.last(); out.Status != 429 || out.CacheStatus != "larder; fwd=request" || out.Bytes != 9 || out.UpstreamBytes != 9 {
		t.Errorf("outcome %+v", out)
	}
}
