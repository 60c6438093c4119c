package mitm

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"larder/cache"
	"larder/cache/store"
	"larder/curation"
	"larder/policy"
	"larder/registry/npm"
	"larder/registry/pypi"
)

const registryRules = `
presets: none
rules:
  - {name: files, hosts: [files.test], paths: ["/packages/**"], action: immutable, registry: pypi}
  - {name: index, hosts: [pypi.test], paths: ["/simple/**", "/pypi/**"], action: revalidate, ttl: 1h, vary: [Accept], registry: pypi, index: pypi, vouches_for: [files.test]}
  - {name: site, hosts: [pypi.test, files.test], action: pass, registry: pypi}
  - {name: tarballs, hosts: [npm.test], paths: ["^/(@[^/]+/)?[^/]+/-/"], action: immutable, registry: npm}
  - {name: packuments, hosts: [npm.test], paths: ["/*", "/*/*", "/@*/*/*"], action: revalidate, ttl: 1h, vary: [Accept], registry: npm}
  - {name: npm-site, hosts: [npm.test], action: pass, registry: npm}
  - {name: passed, hosts: [passed.test], action: pass, registry: npm}
`

// registries are a PyPI and an npm that count what they are asked.
type registries struct {
	asked atomic.Int64
	mu    sync.Mutex
	seen  []string
}

func (r *registries) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.asked.Add(1)
	r.mu.Lock()
	r.seen = append(r.seen, q.Host+q.URL.Path+" "+q.Header.Get("Accept"))
	r.mu.Unlock()
	old, young := "2020-01-01T00:00:00.000000Z", time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
	send := func(media, body string) {
		w.Header().Set("Content-Type", media)
		w.Header().Set("ETag", `"upstream"`)
		w.Header().Set("Cache-Control", "max-age=600")
		if q.Header.Get("Accept-Encoding") == "gzip" {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			defer z.Close()
			_, _ = io.WriteString(z, body)
			return
		}
		_, _ = io.WriteString(w, body)
	}
	file := func(name, at string) string {
		return fmt.Sprintf(`{"filename":%q,"url":"https://files.test/packages/aa/%s","hashes":{"sha256":"00"},"upload-time":%q}`, name, name, at)
	}
	switch {
	case strings.HasPrefix(q.URL.Path, "/packages/") || strings.Contains(q.URL.Path, "/-/"):
		_, _ = io.WriteString(w, "the file "+q.URL.Path)
	case q.URL.Path == "/simple/foo/":
		send(pypi.MediaJSON, `{"meta":{"api-version":"1.1"},"name":"foo","files":[`+file("foo-1.0.tar.gz", old)+","+file("foo-2.0.tar.gz", young)+`],"versions":["1.0","2.0"]}`)
	case q.URL.Path == "/simple/odd/":
		send("text/html", `<html>`)
	case q.URL.Path == "/simple/broken/":
		send(pypi.MediaJSON, `{"files":[],"files":[]}`)
	case q.URL.Path == "/simple/":
		send(pypi.MediaJSON, `{"meta":{"api-version":"1.1"},"projects":[{"name":"foo"},{"name":"Bad"}]}`)
	case q.URL.Path == "/pypi/foo/json":
		send("application/json", `{"info":{"name":"foo","version":"2.0"},"releases":{"1.0":[{"filename":"foo-1.0.tar.gz","url":"https://files.test/packages/aa/foo-1.0.tar.gz","upload_time_iso_8601":"`+old+`"}],`+
			`"2.0":[{"filename":"foo-2.0.tar.gz","upload_time_iso_8601":"`+young+`"}]},"urls":[{"filename":"foo-2.0.tar.gz","upload_time_iso_8601":"`+young+`"}]}`)
	case q.URL.Path == "/pypi/foo/1.0/json":
		send("application/json", `{"info":{"name":"foo","version":"1.0"},"urls":[{"filename":"foo-1.0.tar.gz","upload_time_iso_8601":"`+old+`"}]}`)
	case q.URL.Path == "/foo" || q.URL.Path == "/@s/foo":
		name := q.URL.Path[1:]
		times := `,"time":{"1.0.0":"` + old + `","2.0.0":"` + young + `"}`
		media := npm.MediaFull
		if strings.Contains(q.Header.Get("Accept"), npm.MediaAbbreviated) {
			times, media = "", npm.MediaAbbreviated
		}
		version := func(v string) string {
			return fmt.Sprintf(`%q:{"name":%q,"version":%q,"description":"long","dist":{"tarball":"https://npm.test/%s/-/foo-%s.tgz"}}`, v, name, v, name, v)
		}
		send(media, `{"name":"`+name+`","dist-tags":{"latest":"2.0.0"},"versions":{`+version("1.0.0")+","+version("2.0.0")+`}`+times+`}`)
	default:
		http.NotFound(w, q)
	}
}

// curatedWorld is a proxy with a real cache before registries.
func curatedWorld(t *testing.T, curations string, change ...func(*Options, *UpstreamOptions)) (*world, *registries) {
	t.Helper()
	roots := newAuthorityKey(t, "origins")
	r := &registries{}
	addr := tlsOrigin(t, roots, false, r.ServeHTTP, "pypi.test", "files.test", "npm.test", "passed.test")
	to := map[string]string{}
	for _, name := range []string{"pypi.test:443", "files.test:443", "npm.test:443", "passed.test:443"} {
		to[name] = addr
	}
	change = append(change, func(o *Options, uo *UpstreamOptions) {
		s, err := store.Open(store.Options{Dir: t.TempDir(), MaxSize: 1 << 28})
		if err != nil {
			t.Fatal(err)
		}
		u, err := NewUpstream(*uo)
		if err != nil {
			t.Fatal(err)
		}
		c, err := cache.New(cache.Options{Store: s, Upstream: u})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = c.Close()
			_ = s.Close()
			u.CloseIdleConnections()
		})
		o.Cache = c
	})
	return newWorld(t, registryRules+curations, to, roots, change...), r
}

// fetch gets a URL through the proxy.
func fetch(t *testing.T, c *http.Client, method, target string, header ...string) (*http.Response, string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

const quarantine = "curation: [{name: bad, packages: [bad], action: deny}, {name: young, younger_than: 3d, action: deny}]\n"

const (
	pipAccept  = pypi.MediaJSON + ", " + pypi.MediaHTML + "; q=0.1, text/html; q=0.01"
	npmAccept  = npm.MediaAbbreviated + "; q=1.0, application/json; q=0.8, */*"
	youngFile  = "https://files.test/packages/aa/foo-2.0.tar.gz"
	oldFile    = "https://files.test/packages/aa/foo-1.0.tar.gz"
	youngBall  = "https://npm.test/foo/-/foo-2.0.0.tgz"
	oldBall    = "https://npm.test/foo/-/foo-1.0.0.tgz"
	fooIndex   = "https://pypi.test/simple/foo/"
	fooDocs    = "https://npm.test/foo"
	scopedDocs = "https://npm.test/@s%2ffoo"
)

func TestIndexesGoOutWithoutWhatIsInQuarantine(t *testing.T) {
	w, r := curatedWorld(t, quarantine)
	for _, h2 := range []bool{false, true} {
		c := w.client(h2)
		for _, row := range []struct{ target, accept, media string }{
			{fooIndex, pipAccept, pypi.MediaJSON},
			{fooIndex, "text/html", "text/html"},
			{fooIndex, "*/*", "text/html"},
			{"https://pypi.test/pypi/foo/json", "", "application/json"},
			{fooDocs, npmAccept, npm.MediaAbbreviated},
			{fooDocs, "application/json", "application/json"},
			{scopedDocs, npmAccept, npm.MediaAbbreviated},
			{fooDocs + "/latest", "application/json", "application/json"},
			{"https://npm.test/-/package/foo/dist-tags", "application/json", "application/json"},
		} {
			res, body := fetch(t, c, "GET", row.target, "Accept", row.accept)
			if res.StatusCode != 200 || res.Header.Get("Content-Type") != row.media {
				t.Errorf("%s as %q: %s %s %s", row.target, row.accept, res.Status, res.Header.Get("Content-Type"), body)
			}
			if strings.Contains(body, "2.0") || !strings.Contains(body, "1.0") {
				t.Errorf("%s as %q:\n%s", row.target, row.accept, body)
			}
			if res.Header.Get("ETag") == `"upstream"` || res.Header.Get("Cache-Control") != "max-age=600" {
				t.Errorf("%s: header %v", row.target, res.Header)
			}
		}
	}
	// Every form of the index was made of one that upstream sent once: that of PyPI with
	// upload times, that of npm with publication times.
	r.mu.Lock()
	defer r.mu.Unlock()
	want := []string{
		"pypi.test/simple/foo/ " + pipAccept, "pypi.test/pypi/foo/json application/json", "pypi.test/pypi/foo/1.0/json application/json",
		"npm.test/foo application/json", "npm.test/@s/foo application/json",
	}
	if diff := cmp.Diff(want, r.seen); diff != "" {
		t.Errorf("upstream was asked (-want +got):\n%s", diff)
	}
}

func TestFilesInQuarantineAreRefusedByTheirURLs(t *testing.T) {
	for name, target := range map[string]string{"a file of PyPI": youngFile, "its metadata": youngFile + ".metadata", "a tarball": youngBall} {
		t.Run(name, func(t *testing.T) {
			// Nobody has asked for an index before.
			w, _ := curatedWorld(t, quarantine)
			c := w.client(false)
			for _, method := range []string{"GET", "HEAD", "POST"} {
				res, body := fetch(t, c, method, target)
				if res.StatusCode != 403 || method == "GET" && !strings.Contains(body, `it is in quarantine until`) {
					t.Errorf("%s: %s %s", method, res.Status, body)
				}
				if x := <-w.exchanges; x.Class != ClassDeny || x.Rule != "curation/young" {
					t.Errorf("exchange %+v", x)
				}
			}
		})
	}
	w, _ := curatedWorld(t, quarantine)
	c := w.client(false)
	for _, target := range []string{oldFile, oldBall} {
		for range 2 {
			if res, body := fetch(t, c, "GET", target); res.StatusCode != 200 || !strings.HasPrefix(body, "the file") {
				t.Errorf("%s: %s %s", target, res.Status, body)
			}
		}
	}
	// What no index lists has no age.
	if res, body := fetch(t, c, "GET", "https://files.test/packages/bb/foo-0.9.tar.gz"); res.StatusCode != 403 || !strings.Contains(body, "no index says when it was published") {
		t.Errorf("%s %s", res.Status, body)
	}
}

func TestNpmShowsTheReason(t *testing.T) {
	w, _ := curatedWorld(t, quarantine)
	c := w.client(false)
	res, body := fetch(t, c, "GET", youngBall)
	var said struct{ Error string }
	if err := json.Unmarshal([]byte(body), &said); err != nil || !strings.Contains(said.Error, `by curation "young"`) || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %s", res.Header.Get("Content-Type"), body)
	}
	if res, _ := fetch(t, c, "HEAD", youngBall); res.StatusCode != 403 {
		t.Errorf("HEAD: %s", res.Status)
	}
}

func TestDeniedNamesAreNowhere(t *testing.T) {
	w, r := curatedWorld(t, quarantine)
	c := w.client(false)
	for _, target := range []string{
		"https://pypi.test/simple/bad/", "https://pypi.test/simple/BAD/", "https://pypi.test/pypi/bad/json", "https://pypi.test/pypi/bad/1.0/json",
		"https://files.test/packages/aa/bad-1.0.tar.gz", "https://files.test/packages/aa/bad-1.0-py3-none-any.whl", "https://files.test/other/bad-1.0.tar.gz",
		"https://npm.test/bad", "https://npm.test/bad/1.0.0", "https://npm.test/bad/-/bad-1.0.0.tgz", "https://npm.test/b%61d", "https://npm.test/-/package/bad/dist-tags",
	} {
		if res, body := fetch(t, c, "GET", target); res.StatusCode != 403 || !strings.Contains(strings.ReplaceAll(body, `\"`, `"`), `denied by curation "bad"`) {
			t.Errorf("%s: %s %s", target, res.Status, body)
		}
	}
	if n := r.asked.Load(); n != 0 {
		t.Errorf("upstream was asked %d times for what is denied", n)
	}
	_, body := fetch(t, c, "GET", "https://pypi.test/simple/", "Accept", pipAccept)
	if strings.Contains(body, "Bad") || !strings.Contains(body, "foo") {
		t.Errorf("the list of projects is %s", body)
	}
}

func TestPathsThatCanBeReadInTwoWaysAreRefused(t *testing.T) {
	w, _ := curatedWorld(t, quarantine)
	c := w.client(false)
	for _, target := range []string{
		"https://npm.test/x/../bad", "https://npm.test/x/%2e%2e/bad/-/bad-1.0.0.tgz", "https://npm.test/%2562ad", "https://npm.test//bad",
		"https://pypi.test/x/../simple/bad/", "https://files.test/packages/aa/good-1.0.tar.gz/..%2fbad-1.0.tar.gz", "https://files.test/packages/aa/bad%252d1.0.tar.gz",
	} {
		if res, body := fetch(t, c, "GET", target); res.StatusCode != 403 {
			t.Errorf("%s: %s %s", target, res.Status, body)
		}
	}
}

func TestIndexThatCannotBeCuratedIsRefused(t *testing.T) {
	w, _ := curatedWorld(t, "curation: [{name: x, packages: [broken, foo], registry: [pypi], versions: '>1', action: deny}]\n")
	c := w.client(false)
	if res, body := fetch(t, c, "GET", "https://pypi.test/simple/broken/", "Accept", pipAccept); res.StatusCode != 502 || !strings.Contains(body, `the name "files" is there twice`) {
		t.Errorf("%s %s", res.Status, body)
	}
	// What nothing is denied of is not looked into.
	if res, body := fetch(t, c, "GET", "https://pypi.test/simple/odd/", "Accept", pipAccept); res.StatusCode != 200 || body != "<html>" {
		t.Errorf("%s %s", res.Status, body)
	}
	if res, _ := fetch(t, c, "GET", "https://pypi.test/simple/none/", "Accept", pipAccept); res.StatusCode != 404 {
		t.Errorf("an index that is not there: %s", res.Status)
	}
}

func TestRenderedIndexIsAResponseOfItsOwn(t *testing.T) {
	w, r := curatedWorld(t, quarantine)
	c := w.client(false)
	plain, body := fetch(t, c, "GET", fooIndex, "Accept", pipAccept)
	if plain.ContentLength != int64(len(body)) || plain.Header.Get("Vary") != "Accept, Accept-Encoding" || plain.Header.Get("Content-Encoding") != "" {
		t.Errorf("header %v", plain.Header)
	}
	again, _ := fetch(t, c, "GET", fooIndex, "Accept", pipAccept, "If-None-Match", plain.Header.Get("ETag"))
	if again.StatusCode != 304 || again.Header.Get("ETag") != plain.Header.Get("ETag") {
		t.Errorf("a client that has it is answered %s %v", again.Status, again.Header)
	}
	other, _ := fetch(t, c, "GET", fooIndex, "Accept", "text/html", "If-None-Match", plain.Header.Get("ETag"))
	if other.StatusCode != 200 {
		t.Errorf("the other form is answered %s", other.Status)
	}
	// A range is of no use, and what upstream's validator says of none.
	ranged, part := fetch(t, c, "GET", fooIndex, "Accept", pipAccept, "Range", "bytes=0-9", "If-None-Match", `"upstream"`)
	if ranged.StatusCode != 200 || part != body {
		t.Errorf("a range is answered %s", ranged.Status)
	}
	head, nothing := fetch(t, c, "HEAD", fooIndex, "Accept", pipAccept)
	if head.StatusCode != 200 || nothing != "" || head.ContentLength != int64(len(body)) {
		t.Errorf("HEAD: %s %d", head.Status, head.ContentLength)
	}
	if n := r.asked.Load(); n != 1 {
		t.Errorf("upstream was asked %d times", n)
	}
	var last Exchange
	for range 5 {
		last = <-w.exchanges
	}
	if last.Class != ClassHit || !strings.Contains(last.CacheStatus, "larder; hit") {
		t.Errorf("the last exchange is %+v", last)
	}
}

func TestRenderedIndexIsSentCompressed(t *testing.T) {
	big := strings.Repeat(`{"filename":"foo-1.0.tar.gz","url":"u","hashes":{}},`, 100)
	w, _ := curatedWorld(t, "curation: [{name: x, packages: [foo], registry: [pypi], versions: '>1', action: deny}]\n", func(o *Options, _ *UpstreamOptions) {})
	w.server.options.Cache = &fakeCache{serve: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", pypi.MediaJSON)
		fmt.Fprintf(w, `{"name":"foo","files":[%s]}`, strings.TrimSuffix(big, ","))
	}), outcome: cache.Outcome{Status: 200}}
	res, body := fetch(t, w.client(false), "GET", fooIndex, "Accept", pipAccept, "Accept-Encoding", "gzip, deflate")
	if res.Header.Get("Content-Encoding") != "gzip" || !strings.HasSuffix(res.Header.Get("ETag"), `-gzip"`) {
		t.Errorf("header %v", res.Header)
	}
	z, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pypi.ParseJSON(must(io.ReadAll(z))); err != nil {
		t.Error(err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestPassedRegistryIsCuratedToo(t *testing.T) {
	w, _ := curatedWorld(t, quarantine)
	c := w.client(false)
	if _, body := fetch(t, c, "GET", "https://passed.test/foo", "Accept", npmAccept); strings.Contains(body, "2.0.0") || !strings.Contains(body, "1.0.0") {
		t.Errorf("packument %s", body)
	}
	if res, _ := fetch(t, c, "GET", "https://passed.test/foo/-/foo-2.0.0.tgz"); res.StatusCode != 403 {
		t.Errorf("tarball: %s", res.Status)
	}
	if res, _ := fetch(t, c, "GET", "https://passed.test/foo/-/foo-1.0.0.tgz"); res.StatusCode != 200 {
		t.Errorf("old tarball: %s", res.Status)
	}
}

func TestReportedCurationLetsPassAndSays(t *testing.T) {
	w, _ := curatedWorld(t, "curation: [{name: young, younger_than: 3d, mode: report, action: deny}]\n")
	c := w.client(false)
	if _, body := fetch(t, c, "GET", fooIndex, "Accept", pipAccept); !strings.Contains(body, "foo-2.0") {
		t.Errorf("index %s", body)
	}
	<-w.exchanges
	if res, _ := fetch(t, c, "GET", youngFile); res.StatusCode != 200 {
		t.Errorf("file: %s", res.Status)
	}
	if x := <-w.exchanges; x.Reported != "curation/young" {
		t.Errorf("exchange %+v", x)
	}
}

func TestReloadedCurationHoldsForWhatIsStored(t *testing.T) {
	w, _ := curatedWorld(t, "")
	c := w.client(false)
	for _, target := range []string{oldFile, oldBall} {
		if res, _ := fetch(t, c, "GET", target); res.StatusCode != 200 {
			t.Fatalf("%s: %s", target, res.Status)
		}
	}
	if _, body := fetch(t, c, "GET", fooIndex, "Accept", pipAccept); !strings.Contains(body, "foo-2.0") {
		t.Errorf("index %s", body)
	}
	w.server.SetPolicy(parsePolicy(t, registryRules+"curation: [{name: no-foo, packages: [foo], action: deny}]\n"))
	for _, target := range []string{oldFile, oldBall, fooIndex, fooDocs} {
		if res, _ := fetch(t, c, "GET", target); res.StatusCode != 403 {
			t.Errorf("%s: %s", target, res.Status)
		}
	}
	w.server.SetPolicy(parsePolicy(t, registryRules+"curation: [{name: two, registry: [pypi], packages: [foo], versions: '>=2', action: deny}]\n"))
	if _, body := fetch(t, c, "GET", fooIndex, "Accept", pipAccept); strings.Contains(body, "foo-2.0") || !strings.Contains(body, "foo-1.0") {
		t.Errorf("index %s", body)
	}
}

// TestCrowdSharesOneRendering: many clients at once cost one fetch.
func TestCrowdSharesOneRendering(t *testing.T) {
	w, r := curatedWorld(t, quarantine)
	c := w.client(true)
	var crowd sync.WaitGroup
	for range 40 {
		crowd.Go(func() {
			q, _ := http.NewRequestWithContext(t.Context(), "GET", fooIndex, nil)
			q.Header.Set("Accept", pipAccept)
			res, err := c.Do(q)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			if err != nil || bytes.Contains(b, []byte("foo-2.0")) || !bytes.Contains(b, []byte("foo-1.0")) {
				t.Errorf("%v %s", err, b)
			}
		})
	}
	crowd.Wait()
	if n := r.asked.Load(); n != 1 {
		t.Errorf("upstream was asked %d times", n)
	}
}

func TestIndexTooLargeToBeCuratedIsRefused(t *testing.T) {
	w, _ := curatedWorld(t, quarantine)
	w.server.options.Cache = &fakeCache{serve: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", pypi.MediaJSON)
		chunk := make([]byte, 1<<20)
		for range curation.MaxSource>>20 + 1 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}), outcome: cache.Outcome{Status: 200}}
	if res, body := fetch(t, w.client(false), "GET", fooIndex, "Accept", pipAccept); res.StatusCode != 502 || !strings.Contains(body, "more than 64 MiB") {
		t.Errorf("%s %s", res.Status, body)
	}
}

func TestCuratedRegistryNames(t *testing.T) {
	if got := curatedName(&policy.Curation{Name: "x"}); got != "curation/x" {
		t.Error(got)
	}
}

func TestRefuses(t *testing.T) {
	w := newWorld(t, registryRules+`
  - {name: gone, hosts: [gone.test], action: deny}
  - {name: some, hosts: [some.test], users: [bob], action: deny}
  - {name: rest, hosts: [some.test], action: immutable, max_object: 1KiB}
  - {name: no-get, hosts: [posted.test], methods: [GET], action: deny}
curation: [{name: bad, packages: [bad], action: deny}, {name: young, younger_than: 3d, action: deny}]
`, nil, nil)
	for _, row := range []struct {
		target string
		size   int64
		want   bool
	}{
		{"https://gone.test/x", 1, true},
		{"https://some.test/x", 1024, false},
		{"https://some.test/x", 1025, true},
		{"https://some.test/x", -1, false},
		{"https://npm.test/bad/-/bad-1.0.0.tgz", 1, true},
		{"https://npm.test/bad", 1, true},
		{"https://npm.test/good/-/good-1.0.0.tgz", 1, false}, // only too young, perhaps
		{"https://files.test/packages/aa/bad-1.0.zip", -1, true},
		{"https://elsewhere.test/x", 1, false},
		{"https://posted.test/x", 1, false}, // it may be the answer to a POST
	} {
		if got := w.server.Refuses(mustTarget(t, row.target), row.size); got != row.want {
			t.Errorf("%s of %d bytes is refused: %t, want %t", row.target, row.size, got, row.want)
		}
	}
}

func mustTarget(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestIndexIsNoAnswerToASwitch: a 200 to an extended CONNECT would say that the origin
// speaks the protocol now. What is refused stays so.
func TestIndexIsNoAnswerToASwitch(t *testing.T) {
	w, _ := curatedWorld(t, quarantine)
	for target, want := range map[string]int{fooIndex: http.StatusBadGateway, youngFile: http.StatusForbidden} {
		if s := w.bootstrap(target, "websocket"); s.StatusCode != want {
			t.Errorf("%s: got %s, want %d", target, s.Status, want)
		}
	}
}
