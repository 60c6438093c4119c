package cache

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"larder/cache/store"
)

// guarded is an origin whose paths /REPOSITORY/NAME are for the bearers of that
// repository's token, and those of public for everybody.
type guarded struct {
	heads, gets, probes atomic.Int64
	down                atomic.Int32 // a status to answer everything with
	noHead              atomic.Bool
	revoked             sync.Map // tokens
	gate                chan struct{}
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/access":
		g.probes.Add(1)
	case r.Method == http.MethodHead:
		g.heads.Add(1)
	default:
		g.gets.Add(1)
	}
	if status := g.down.Load(); status != 0 {
		w.Header().Set("Retry-After", "7")
		http.Error(w, "down", int(status))
		return
	}
	if g.noHead.Load() && r.Method == http.MethodHead {
		http.Error(w, "no HEAD here", http.StatusMethodNotAllowed)
		return
	}
	repository := strings.Split(r.URL.Path, "/")[1]
	if repository == "access" {
		repository = r.URL.Query().Get("of")
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if token == "" {
		token = r.Header.Get("Private-Token")
	}
	name, _, _ := strings.Cut(token, ".")
	if _, gone := g.revoked.Load(token); repository != "public" && (gone || name != repository) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+repository+`"`)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"errors":["`+repository+`"]}`)
		return
	}
	w.Header().Set("Etag", `"1"`)
	w.Header().Set("Cache-Control", "private")
	if r.Header.Get("If-None-Match") == `"1"` {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if g.gate != nil && r.Method == http.MethodGet {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-g.gate
	}
	_, _ = io.WriteString(w, "of "+r.URL.Path)
}

func rechecking() *Rule {
	return &Rule{Name: "r", Mode: Immutable, Access: AccessRecheck, Partition: "checked", RecheckScope: regexp.MustCompile("^/([^/]+)/")}
}

const bearer = "Authorization"

func TestRecheckServesWhomUpstreamLetsHaveIt(t *testing.T) {
	g := &guarded{}
	w := newWorld(t, rechecking(), g.ServeHTTP)
	body := []byte("of /a/1")
	w.get("/a/1", bearer, "Bearer a.1").want(t, 200, body, "larder; fwd=uri-miss; stored")
	// Who has just fetched it may have it.
	w.get("/a/1", bearer, "Bearer a.1").want(t, 200, body, "larder; hit")
	if n := g.heads.Load(); n != 0 {
		t.Errorf("%d HEADs for who has fetched it", n)
	}
	w.get("/a/1", bearer, "Bearer a.2").want(t, 200, body, "larder; hit; detail=recheck")
	w.get("/a/1", bearer, "Bearer a.2").want(t, 200, body, "larder; hit")
	w.do("HEAD", "/a/1", bearer, "Bearer a.2").want(t, 200, nil, "larder; hit")
	if g.heads.Load() != 1 || g.gets.Load() != 1 {
		t.Errorf("%d HEADs and %d GETs, want one of each", g.heads.Load(), g.gets.Load())
	}
	// Fields that may hold a credential under another name count as well.
	w.get("/a/1", "Private-Token", "a.3").want(t, 200, body, "larder; hit; detail=recheck")
}

func TestRecheckRefusesAsUpstreamDoes(t *testing.T) {
	g := &guarded{}
	w := newWorld(t, rechecking(), g.ServeHTTP)
	w.get("/a/1", bearer, "Bearer a.1")
	for name, fields := range map[string][]string{
		"another's token": {bearer, "Bearer b.1"}, "no token": nil,
		"a token in the wrong field": {"X-Unknown", "a.1"}, "two tokens": {bearer, "Bearer b.1", bearer, "Bearer a.1"},
	} {
		a := w.get("/a/1", fields...)
		a.want(t, 401, []byte(`{"errors":["a"]}`), "larder; fwd=request; detail=recheck")
		if a.Header.Get("WWW-Authenticate") != `Bearer realm="a"` || a.Header.Get("Etag") != "" {
			t.Errorf("%s: header %v", name, a.Header)
		}
		a = w.do("HEAD", "/a/1", fields...)
		a.want(t, 401, nil, "larder; fwd=request; detail=recheck")
		if a.Header.Get("WWW-Authenticate") != `Bearer realm="a"` {
			t.Errorf("%s: HEAD: header %v", name, a.Header)
		}
	}
	// None of it has cost the others anything.
	w.get("/a/1", bearer, "Bearer a.1").want(t, 200, []byte("of /a/1"), "larder; hit")
}

func TestRecheckAsksForWhoHasNoCredentialToo(t *testing.T) {
	g := &guarded{}
	w := newWorld(t, rechecking(), g.ServeHTTP)
	body := []byte("of /public/1")
	w.get("/public/1", bearer, "Bearer x").want(t, 200, body, "larder; fwd=uri-miss; stored")
	w.get("/public/1").want(t, 200, body, "larder; hit; detail=recheck")
	w.get("/public/1").want(t, 200, body, "larder; hit")
	// What Homebrew sends is no credential.
	w.get("/public/1", bearer, "Bearer QQ==").want(t, 200, body, "larder; hit")
}

func TestRecheckHoldsForItsScopeAndTime(t *testing.T) {
	g := &guarded{}
	w := newWorld(t, rechecking(), g.ServeHTTP)
	for _, path := range []string{"/a/1", "/a/2", "/b/1"} {
		w.get(path, bearer, "Bearer "+path[1:2])
	}
	w.get("/a/1", bearer, "Bearer a.2").want(t, 200, []byte("of /a/1"), "larder; hit; detail=recheck")
	w.get("/a/2", bearer, "Bearer a.2").want(t, 200, []byte("of /a/2"), "larder; hit")
	w.get("/b/1", bearer, "Bearer a.2").want(t, 401, []byte(`{"errors":["b"]}`), "larder; fwd=request; detail=recheck")
	g.revoked.Store("a.2", true)
	w.clock.advance(defaultRecheckTTL - time.Second)
	w.get("/a/1", bearer, "Bearer a.2").want(t, 200, []byte("of /a/1"), "larder; hit")
	w.clock.advance(time.Second)
	w.get("/a/1", bearer, "Bearer a.2").want(t, 401, []byte(`{"errors":["a"]}`), "larder; fwd=request; detail=recheck")
}

func TestRecheckDoesNotOutliveTheToken(t *testing.T) {
	g := &guarded{}
	rule := rechecking()
	rule.StaleIfError = time.Hour
	w := newWorld(t, rule, g.ServeHTTP)
	token := func(d time.Duration) string {
		claims := fmt.Sprintf(`{"sub":"x","exp":%d}`, w.clock.now().Add(d).Unix())
		return "Bearer a." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".sig"
	}
	short, long := token(30*time.Second), token(time.Hour)
	w.get("/a/1", bearer, short)
	w.get("/a/1", bearer, long)
	w.clock.advance(time.Minute)
	heads := g.heads.Load()
	w.get("/a/1", bearer, long).want(t, 200, []byte("of /a/1"), "larder; hit")
	w.get("/a/1", bearer, short).want(t, 200, []byte("of /a/1"), "larder; hit; detail=recheck")
	if n := g.heads.Load() - heads; n != 1 {
		t.Errorf("%d HEADs, want 1", n)
	}
	g.down.Store(503)
	w.get("/a/1", bearer, short).want(t, 503, nil, "larder; fwd=request; detail=recheck")
}

func TestRecheckWhileUpstreamFails(t *testing.T) {
	for _, status := range []int{429, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			g := &guarded{}
			rule := rechecking()
			rule.StaleIfError = time.Hour
			w := newWorld(t, rule, g.ServeHTTP)
			body := []byte("of /a/1")
			w.get("/a/1", bearer, "Bearer a.1").want(t, 200, body, "larder; fwd=uri-miss; stored")
			g.down.Store(int32(status))
			w.clock.advance(defaultRecheckTTL + 30*time.Minute)
			// Whom upstream has let have it no longer ago than two minutes and an hour.
			w.get("/a/1", bearer, "Bearer a.1").want(t, 200, body, "larder; hit; detail=stale-if-error")
			// Nobody else.
			a := w.get("/a/1", bearer, "Bearer a.2")
			a.want(t, status, nil, "larder; fwd=request; detail=recheck")
			if a.Header.Get("Retry-After") != "7" {
				t.Errorf("header %v", a.Header)
			}
			w.get("/a/1").want(t, status, nil, "larder; fwd=request; detail=recheck")
			w.clock.advance(30 * time.Minute)
			w.get("/a/1", bearer, "Bearer a.1").want(t, status, nil, "larder; fwd=request; detail=recheck")
		})
	}
}

// TestRecheckIsSparedWhenUpstreamAsksToBeLeftAlone, and does not wait long for one that
// is slow, where the client is known.
func TestRecheckOfAThrottlingOrSlowUpstream(t *testing.T) {
	g := &guarded{}
	rule := rechecking()
	rule.StaleIfError = time.Hour
	slow := make(chan struct{})
	var stuck atomic.Bool
	w := newWorldWith(t, rule, func(rw http.ResponseWriter, r *http.Request) {
		if stuck.Load() {
			<-slow
		}
		g.ServeHTTP(rw, r)
	}, Options{StaleBudget: 50 * time.Millisecond}, store.Options{})
	t.Cleanup(func() { close(slow) })
	body := []byte("of /a/1")
	w.get("/a/1", bearer, "Bearer a.1")
	w.clock.advance(defaultRecheckTTL)
	g.down.Store(429) // Retry-After: 7
	w.get("/a/1", bearer, "Bearer a.1").want(t, 200, body, "larder; hit; detail=stale-if-error")
	asked := w.all.Load()
	w.get("/a/1", bearer, "Bearer a.1").want(t, 200, body, "larder; hit; detail=throttled")
	if n := w.all.Load() - asked; n != 0 {
		t.Errorf("it was asked %d times all the same", n)
	}
	w.clock.advance(8 * time.Second)
	g.down.Store(0)
	stuck.Store(true)
	w.get("/a/1", bearer, "Bearer a.1").want(t, 200, body, "larder; hit; detail=upstream-slow")
}

func TestRecheckWhileUpstreamCannotBeReached(t *testing.T) {
	g := &guarded{}
	rule := rechecking()
	rule.StaleIfError = time.Hour
	w := newWorld(t, rule, g.ServeHTTP)
	w.get("/a/1", bearer, "Bearer a.1")
	w.origin.Close()
	w.clock.advance(defaultRecheckTTL)
	w.get("/a/1", bearer, "Bearer a.1").want(t, 200, []byte("of /a/1"), "larder; hit; detail=stale-if-error")
	if a := w.get("/a/1", bearer, "Bearer a.2"); a.StatusCode != http.StatusBadGateway {
		t.Errorf("status %d for who was never verified", a.StatusCode)
	}
}

// TestRecheckOfStaleResponses: a stale index goes to nobody by upstream's failure but to
// those it was let have.
func TestRecheckOfStaleResponses(t *testing.T) {
	g := &guarded{}
	rule := rechecking()
	rule.Mode, rule.TTL, rule.StaleIfError, rule.StaleWhileRevalidate = Revalidate, time.Minute, time.Hour, time.Minute
	w := newWorld(t, rule, func(rw http.ResponseWriter, r *http.Request) {
		g.ServeHTTP(removingPrivate{rw}, r)
	})
	body := []byte("of /a/1")
	w.get("/a/1", bearer, "Bearer a.1").want(t, 200, body, "larder; fwd=uri-miss; stored")
	w.get("/a/1", bearer, "Bearer b.1").want(t, 401, []byte(`{"errors":["a"]}`), "larder; fwd=request; detail=recheck")
	w.clock.advance(90 * time.Second)
	w.get("/a/1", bearer, "Bearer b.1").want(t, 401, []byte(`{"errors":["a"]}`), "larder; fwd=request; detail=recheck")
	w.clock.advance(time.Hour)
	w.get("/a/1", bearer, "Bearer b.1").want(t, 401, []byte(`{"errors":["a"]}`), "larder; fwd=stale; detail=status")
	w.get("/a/1", bearer, "Bearer a.1").want(t, 200, body, "larder; fwd=stale; fwd-status=304; ttl=60")
	g.down.Store(503)
	w.clock.advance(3 * time.Minute)
	w.get("/a/1", bearer, "Bearer a.1").want(t, 200, body, "larder; fwd=stale; fwd-status=503; ttl=-120; detail=stale-if-error")
	for _, method := range []string{"GET", "HEAD"} {
		if a := w.do(method, "/a/1", bearer, "Bearer a.9"); a.StatusCode != 503 {
			t.Errorf("%s: %d for who was never verified", method, a.StatusCode)
		}
	}
}

// removingPrivate lets an index be stored.
type removingPrivate struct{ http.ResponseWriter }

func (w removingPrivate) WriteHeader(status int) {
	w.Header().Del("Cache-Control")
	w.ResponseWriter.WriteHeader(status)
}

func (w removingPrivate) Write(p []byte) (int, error) {
	w.Header().Del("Cache-Control")
	return w.ResponseWriter.Write(p)
}

func TestRecheckOffline(t *testing.T) {
	g := &guarded{}
	rule := rechecking()
	rule.StaleIfError = time.Hour
	w := newWorld(t, rule, g.ServeHTTP)
	w.get("/a/1", bearer, "Bearer a.1")
	w.cache.SetOffline(true)
	w.clock.advance(defaultRecheckTTL)
	w.get("/a/1", bearer, "Bearer a.1").want(t, 200, []byte("of /a/1"), "larder; hit; detail=offline")
	if a := w.get("/a/1"); a.StatusCode != 504 || a.Header.Get("Cache-Status") != "larder; detail=offline" {
		t.Errorf("%d, %s for who was never verified", a.StatusCode, a.Header.Get("Cache-Status"))
	}
	if n := w.all.Load(); n != 1 {
		t.Errorf("upstream saw %d requests, want 1", n)
	}
}

// TestRecheckWithoutHEAD: the client's own GET decides, which costs no body.
func TestRecheckWithoutHEAD(t *testing.T) {
	g := &guarded{}
	g.noHead.Store(true)
	w := newWorld(t, rechecking(), g.ServeHTTP)
	w.get("/a/1", bearer, "Bearer a.1")
	w.get("/a/1", bearer, "Bearer a.2").want(t, 200, []byte("of /a/1"), "larder; hit; detail=recheck")
	if out, err := w.last(); err != nil || out.UpstreamBytes != 0 {
		t.Errorf("%+v, %v", out, err)
	}
	w.get("/a/1", bearer, "Bearer b.2").want(t, 401, []byte(`{"errors":["a"]}`), "larder; fwd=request; detail=recheck")
}

func TestRecheckElsewhere(t *testing.T) {
	g := &guarded{}
	rule := rechecking()
	rule.RecheckAt = "/access?of=$1"
	w := newWorld(t, rule, g.ServeHTTP)
	w.get("/a/1", bearer, "Bearer a.1")
	w.get("/a/1", bearer, "Bearer a.2").want(t, 200, []byte("of /a/1"), "larder; hit; detail=recheck")
	w.get("/a/1", bearer, "Bearer b.1").want(t, 401, []byte(`{"errors":["a"]}`), "larder; fwd=request; detail=recheck")
	w.do("HEAD", "/a/1", bearer, "Bearer b.1").want(t, 401, nil, "larder; fwd=request; detail=recheck")
	if g.probes.Load() != 3 || g.heads.Load() != 1 {
		t.Errorf("%d probes and %d HEADs, want 3 and that of the client", g.probes.Load(), g.heads.Load())
	}
}

// TestFillsAreSharedAmongWhoMayHaveThem: whoever waits for another's fetch is asked for
// like who finds it stored, and a leader who is refused keeps nobody from it.
func TestFillsAreSharedAmongWhoMayHaveThem(t *testing.T) {
	g := &guarded{gate: make(chan struct{})}
	w := newWorld(t, rechecking(), g.ServeHTTP)
	var wg sync.WaitGroup
	answers := make([]answer, 40)
	for i := range answers {
		wg.Go(func() {
			token := fmt.Sprintf("Bearer a.%d", i)
			if i%4 == 0 {
				token = "Bearer b.1"
			}
			answers[i] = w.get("/a/1", bearer, token)
		})
	}
	eventually(t, "all have asked", func() bool { return g.heads.Load() >= 29 && g.gets.Load() >= 1 })
	close(g.gate)
	wg.Wait()
	for i, a := range answers {
		if i%4 == 0 && (a.StatusCode != 401 || strings.Contains(string(a.body), "of /a/1")) {
			t.Errorf("%d: %d %q for another's token", i, a.StatusCode, a.body)
		}
		if i%4 != 0 && string(a.body) != "of /a/1" {
			t.Errorf("%d: %d %q, %v", i, a.StatusCode, a.body, a.err)
		}
	}
	if n := g.gets.Load(); n > 11 {
		t.Errorf("%d GETs: one that fetches, and those of the ten who are refused", n)
	}
}

// TestRechecksCollapse: requests with the same credential wait for one answer.
func TestRechecksCollapse(t *testing.T) {
	release := make(chan struct{})
	g := &guarded{}
	w := newWorld(t, rechecking(), func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			<-release
		}
		g.ServeHTTP(rw, r)
	})
	w.get("/a/1", bearer, "Bearer a.1")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			w.get("/a/1", bearer, "Bearer a.2").want(t, 200, []byte("of /a/1"), "larder; hit; detail=recheck")
		})
	}
	eventually(t, "they wait", func() bool { return w.all.Load() == 2 })
	close(release)
	wg.Wait()
	if n := g.heads.Load(); n > 2 { // a straggler finds the verdict, or asks once more
		t.Errorf("%d HEADs, want 1", n)
	}
}

// TestVerdictsAreBounded, and the table holds neither credentials nor URLs.
func TestVerdictsAreBounded(t *testing.T) {
	var v verdicts
	v.init()
	v.allowed.limit = 100
	rule := rechecking()
	claims := make([]claim, 150)
	for i := range claims {
		r, _ := http.NewRequest(http.MethodGet, "https://a.test/a/1", nil)
		r.Header.Set("Authorization", fmt.Sprintf("Bearer %d", i))
		claims[i] = v.claimOf(r, rule)
		v.allow(claims[i], time.Unix(1, 0))
		v.allows(claims[0], rule, 0, time.Unix(1, 0)) // is kept, being used
	}
	if len(v.allowed.byKey) != 100 || v.allowed.order.Len() != 100 {
		t.Errorf("%d verdicts, %d in order", len(v.allowed.byKey), v.allowed.order.Len())
	}
	for i, want := range map[int]bool{0: true, 1: false, 50: false, 52: true, 149: true} {
		if got := v.allows(claims[i], rule, 0, time.Unix(1, 0)); got != want {
			t.Errorf("%d is remembered: %v", i, got)
		}
	}
}

func TestClaims(t *testing.T) {
	var v, other verdicts
	v.init()
	other.init()
	claim := func(v *verdicts, target string, fields ...string) claim {
		r, err := http.NewRequest(http.MethodGet, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(fields); i += 2 {
			r.Header.Add(fields[i], fields[i+1])
		}
		return v.claimOf(r, rechecking())
	}
	base := claim(&v, "https://a.test/r/1", bearer, "Bearer x")
	for name, same := range map[string]bool{
		"https://a.test/r/2|Authorization|Bearer x":                      true,
		"https://a.test/r/2?page=2|Authorization|Bearer x":               true,
		"https://a.test/r/1|Authorization|Bearer x|User-Agent|y":         true,
		"https://a.test/s/1|Authorization|Bearer x":                      false,
		"https://b.test/r/1|Authorization|Bearer x":                      false,
		"https://a.test/r/1":                                             false,
		"https://a.test/r/1|Authorization|Bearer y":                      false,
		"https://a.test/r/1|Private-Token|Bearer x":                      false,
		"https://a.test/r/1|Authorization|Bearer x|Cookie|a=b":           false,
		"https://a.test/r/1|Authorization|Bearer x|Authorization|Bearer": false,
		"https://a.test/r/1?private_token=1|Authorization|Bearer x":      false,
		"https://u:p@a.test/r/1|Authorization|Bearer x":                  false,
	} {
		parts := strings.Split(name, "|")
		if got := claim(&v, parts[0], parts[1:]...).scope == base.scope; got != same {
			t.Errorf("%s is the same claim: %v", name, got)
		}
	}
	if claim(&other, "https://a.test/r/1", bearer, "Bearer x").scope == base.scope {
		t.Error("another process makes the same of it")
	}
}

// FuzzJWTExpiry: whatever a token holds, its time is one that can be compared with, or
// none.
func FuzzJWTExpiry(f *testing.F) {
	for _, claims := range []string{`{"exp":1700000000}`, `{"exp":1.7e9}`, `{"exp":"x"}`, `{"exp":-1}`, `{"exp":1e400}`, `{`, ``} {
		f.Add("h." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".s")
	}
	f.Add("a.b")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		at := jwtExpiry(token)
		if !at.IsZero() && (at.Unix() < 0 || at.Unix() > 1<<40) {
			t.Errorf("jwtExpiry(%q) = %v", token, at)
		}
	})
}
