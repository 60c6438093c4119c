package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"larder/cache/integrity"
	"larder/cache/store"
)

// suite is a Debian archive of one suite with two indexes, on any host.
type suite struct {
	mu    sync.Mutex
	files map[string]string
	asked []string
	fail  int                      // status of every answer; 0: none fails
	slow  map[string]chan struct{} // answers to these paths wait
}

// publish puts a generation up, each index of which says what it is of.
func (a *suite) publish(generation string, indexes ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.files == nil {
		a.files = make(map[string]string)
	}
	release := "Suite: stable\nSHA256:\n"
	for _, name := range indexes {
		body := name + " of generation " + generation + "\n"
		sum := sha256.Sum256([]byte(body))
		a.files["/dists/stable/"+name] = body
		a.files["/dists/stable/by-hash/SHA256/"+hex.EncodeToString(sum[:])] = body
		release += fmt.Sprintf(" %x %d %s\n", sum, len(body), name)
	}
	a.files["/dists/stable/InRelease"] = release
}

func (a *suite) set(path, body string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.files[path] = body
}

func (a *suite) down(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail = status
}

// forget returns what was asked since the last time.
func (a *suite) forget() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	asked := a.asked
	a.asked = nil
	return asked
}

func (a *suite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	body, ok := a.files[r.URL.Path]
	a.asked = append(a.asked, r.URL.Path)
	fail, wait := a.fail, a.slow[r.URL.Path]
	a.mu.Unlock()
	if wait != nil {
		<-wait
	}
	switch {
	case fail != 0:
		http.Error(w, "down", fail)
	case !ok:
		http.NotFound(w, r)
	default:
		sum := sha256.Sum256([]byte(body))
		w.Header().Set("Etag", fmt.Sprintf(`"%x"`, sum[:8]))
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
	}
}

// got asks and waits until the request is over.
func got(w *world, path string, fields ...string) answer {
	w.t.Helper()
	a := w.get(path, fields...)
	w.last()
	return a
}

func distsRule() *Rule {
	return &Rule{Name: "dists", Mode: Revalidate, StaleIfError: 24 * time.Hour, Index: &Index{Kind: "debian"}, Share: "debian"}
}

// take asks for files as apt does and wants the bodies of a generation, or a failure
// where that is "".
func take(t *testing.T, w *world, generation string, names ...string) {
	t.Helper()
	for _, name := range names {
		got := w.get("/dists/stable/"+name, "Cache-Control", "max-age=0") // without Accept
		w.last()
		switch {
		case got.err != nil:
			t.Errorf("%s: %v", name, got.err)
		case generation == "" && got.StatusCode < 500:
			t.Errorf("%s: %d %q, want a failure", name, got.StatusCode, got.body)
		case generation != "" && string(got.body) != name+" of generation "+generation+"\n":
			t.Errorf("%s: %d %q (%s), want generation %s", name, got.StatusCode, got.body, got.Header.Get("Cache-Status"), generation)
		}
	}
}

// release asks for InRelease and wants it to name the indexes of a generation.
func release(t *testing.T, w *world, generation string) {
	t.Helper()
	got := w.get("/dists/stable/InRelease", "Accept", "text/*", "Cache-Control", "max-age=0")
	w.last()
	sum := sha256.Sum256([]byte("a of generation " + generation + "\n"))
	if got.err != nil || !strings.Contains(string(got.body), hex.EncodeToString(sum[:])) {
		t.Errorf("InRelease is not of generation %s: %d %q (%s)", generation, got.StatusCode, got.body, got.Header.Get("Cache-Status"))
	}
}

func newArchiveWorld(t *testing.T) (*suite, *world) {
	t.Helper()
	a := &suite{slow: make(map[string]chan struct{})}
	a.publish("1", "a", "b")
	return a, newWorld(t, distsRule(), a.ServeHTTP)
}

func TestWhatAValidatedListNamesIsServedUnasked(t *testing.T) {
	a, w := newArchiveWorld(t)
	release(t, w, "1")
	take(t, w, "1", "a", "b")
	a.forget()
	release(t, w, "1")
	take(t, w, "1", "a", "b")
	if asked := a.forget(); len(asked) != 1 || asked[0] != "/dists/stable/InRelease" {
		t.Errorf("upstream was asked for %v", asked)
	}
	// A client that wants validation gets it, and so does everybody after a while.
	got(w, "/dists/stable/a", "Accept", "text/*", "Cache-Control", "no-cache")
	w.clock.advance(boundFor + time.Second)
	take(t, w, "1", "a")
	if asked := a.forget(); len(asked) != 2 {
		t.Errorf("upstream was asked for %v", asked)
	}
}

func TestNewListIsNeverFollowedByOldFiles(t *testing.T) {
	a, w := newArchiveWorld(t)
	release(t, w, "1")
	take(t, w, "1", "a", "b")
	a.publish("2", "a", "b")
	release(t, w, "2")
	take(t, w, "2", "a")
	a.down(503)
	w.clock.advance(time.Hour)
	// Of b there is generation 1 alone, so that is what everybody gets.
	release(t, w, "1")
	take(t, w, "1", "a", "b")
	if v := testutil.ToFloat64(w.cache.metrics.bound.WithLabelValues("generation-before")); v != 1 {
		t.Errorf("the generation before was served %v times", v)
	}
	a.down(0)
	release(t, w, "2")
	take(t, w, "2", "a", "b")
	a.down(503)
	release(t, w, "2")
	take(t, w, "2", "a", "b")
}

func TestWithoutTheGenerationBeforeOldFilesAreNoAnswer(t *testing.T) {
	a, w := newArchiveWorld(t)
	w.rule.Share = ""
	release(t, w, "1")
	take(t, w, "1", "a", "b")
	a.publish("2", "a", "b")
	release(t, w, "2")
	a.down(503)
	release(t, w, "2")
	take(t, w, "", "a", "b")
}

func TestGenerationBeforeIsKeptWhileTheNextIsNotComplete(t *testing.T) {
	a, w := newArchiveWorld(t)
	release(t, w, "1")
	take(t, w, "1", "a", "b")
	for _, generation := range []string{"2", "3", "4"} {
		a.publish(generation, "a", "b")
		release(t, w, generation)
		take(t, w, generation, "a")
	}
	a.down(503)
	release(t, w, "1")
	take(t, w, "1", "a", "b")

	// Too old to be served, it is not gone back to.
	w.clock.advance(25 * time.Hour)
	if a := got(w, "/dists/stable/InRelease", "Accept", "text/*"); a.StatusCode != 503 {
		t.Errorf("InRelease: %d %q", a.StatusCode, a.body)
	}
}

func TestSlowListBindsWhatItNames(t *testing.T) {
	a := &suite{slow: make(map[string]chan struct{})}
	a.publish("1", "a", "b")
	w := newWorldWith(t, distsRule(), a.ServeHTTP, Options{StaleBudget: 50 * time.Millisecond}, store.Options{})
	release(t, w, "1")
	take(t, w, "1", "a", "b")
	a.publish("2", "a", "b")
	let := make(chan struct{})
	a.mu.Lock()
	a.slow["/dists/stable/InRelease"] = let
	a.mu.Unlock()
	w.clock.advance(time.Hour)
	release(t, w, "1") // stale, since upstream does not say a word
	take(t, w, "1", "a", "b")
	a.mu.Lock()
	delete(a.slow, "/dists/stable/InRelease")
	a.mu.Unlock()
	close(let)
	w.cache.wg.Wait()
	w.clock.advance(time.Second)
	release(t, w, "2")
	take(t, w, "2", "a", "b")
}

func TestHalfUpdatedMirrorIsNotMadeWorse(t *testing.T) {
	a, w := newArchiveWorld(t)
	release(t, w, "1")
	take(t, w, "1", "a", "b")
	a.publish("2", "a", "b")
	a.set("/dists/stable/a", "a of generation 1\n")
	release(t, w, "2")
	take(t, w, "1", "a") // what upstream has
	take(t, w, "2", "b")
	a.set("/dists/stable/a", "a of generation 2\n")
	take(t, w, "2", "a")
}

func TestByHashAndByNameAreOneContent(t *testing.T) {
	a, w := newArchiveWorld(t)
	release(t, w, "1")
	take(t, w, "1", "a")
	sum := sha256.Sum256([]byte("a of generation 1\n"))
	w.rule = byHashRule(t)
	a.forget()
	got(w, "/dists/stable/by-hash/SHA256/"+hex.EncodeToString(sum[:])).want(t, 200, []byte("a of generation 1\n"), "larder; hit")
	got(w, "/dists/stable/by-hash/SHA256/"+hex.EncodeToString(sum[:])).want(t, 200, []byte("a of generation 1\n"), "larder; hit")
	if asked := a.forget(); len(asked) != 0 {
		t.Errorf("upstream was asked for %v", asked)
	}
}

func byHashRule(t *testing.T) *Rule {
	t.Helper()
	p, err := integrity.NewPathPattern("sha256", `^/.*/by-hash/SHA256/([0-9a-f]{64})$`)
	if err != nil {
		t.Fatal(err)
	}
	return &Rule{Name: "by-hash", Mode: Immutable, Digests: []integrity.PathPattern{p}, Share: "debian"}
}

func TestMirrorsShareWhatTheirPathsName(t *testing.T) {
	a, w := newArchiveWorld(t)
	w.rule = byHashRule(t)
	body := []byte("b of generation 1\n")
	sum := sha256.Sum256(body)
	path := "/by-hash/SHA256/" + hex.EncodeToString(sum[:])
	got(w, "/dists/stable"+path).want(t, 200, body, "larder; fwd=uri-miss; stored")
	// The other mirror has other bytes there, and is not asked for them.
	a.set("/mirror/dists/stable"+path, "poison")
	got(w, "/mirror/dists/stable"+path).want(t, 200, body, "larder; hit")
	got(w, "/mirror/dists/stable"+path).want(t, 200, body, "larder; hit")

	// Other rules do not find it by its digest.
	a.set("/x"+path, "other")
	w.rule = byHashRule(t)
	w.rule.Share = "private"
	if a := got(w, "/x"+path); string(a.body) == string(body) {
		t.Errorf("content of another share was served")
	}
	w.rule.Share = ""
	got(w, "/y"+path).want(t, 404, []byte("404 page not found\n"), "larder; fwd=uri-miss; detail=status")
}

func TestRemovedContentIsNotFoundByItsDigest(t *testing.T) {
	a, w := newArchiveWorld(t)
	w.rule = byHashRule(t)
	body := []byte("b of generation 1\n")
	sum := sha256.Sum256(body)
	path := "/by-hash/SHA256/" + hex.EncodeToString(sum[:])
	got(w, "/dists/stable"+path).want(t, 200, body, "larder; fwd=uri-miss; stored")
	catalogue := w.cache.Catalogue(func(*url.URL) *Rule { return w.rule })
	listed := 0
	for _, err := range catalogue.List(t.Context(), func(string) bool { return true }) {
		if err != nil {
			t.Fatal(err)
		}
		listed++
	}
	done, err := catalogue.Remove(t.Context(), func(u string) bool { return strings.Contains(u, "/dists/stable/") }, nil)
	if err != nil || done.Removed != 1 || listed != 1 {
		t.Fatalf("%d listed, removed %+v, %v", listed, done, err)
	}
	if n := w.stored(); n != 0 {
		t.Errorf("%d objects are left", n)
	}
	a.forget()
	a.set("/mirror"+path, string(body))
	got(w, "/mirror"+path).want(t, 200, body, "larder; fwd=uri-miss; stored")
}

func TestOfflineServesOneGeneration(t *testing.T) {
	a, w := newArchiveWorld(t)
	release(t, w, "1")
	take(t, w, "1", "a", "b")
	a.publish("2", "a", "b")
	release(t, w, "2")
	take(t, w, "2", "a")
	w.cache.SetOffline(true)
	release(t, w, "1")
	take(t, w, "1", "a", "b")
	if asked := a.forget(); len(asked) != 5 {
		t.Errorf("upstream was asked for %v", asked)
	}
}
