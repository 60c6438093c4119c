package mitm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/martian/v3/har"

	"larder/cache"
)

// harOf reads what a Recorder writes.
func harOf(t *testing.T, r *Recorder) *har.HAR {
	t.Helper()
	var b bytes.Buffer
	n, err := r.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("WriteTo = %d, %v", n, err)
	}
	var h har.HAR
	if err := json.Unmarshal(b.Bytes(), &h); err != nil {
		t.Fatalf("%v in %s", err, b.String())
	}
	return &h
}

// TestCaptureRecordsWithoutSecrets, and changes nothing of what goes over the wire.
func TestCaptureRecordsWithoutSecrets(t *testing.T) {
	roots := newAuthorityKey(t, "public")
	var mu sync.Mutex
	seen := http.Header{}
	var query string
	addr := tlsOrigin(t, roots, true, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen, query = r.Header.Clone(), r.URL.RawQuery
		mu.Unlock()
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Set-Cookie", "s=hunter2")
		w.Header().Set("Location", "https://u:hunter2@store.test/x?X-Amz-Signature=hunter2&part=7")
		w.Header().Set("Content-Type", "not a type; hunter")
		w.WriteHeader(http.StatusFound)
		_, _ = io.WriteString(w, "hunter2 hunter2")
	}, "a.test")
	w := newWorld(t, passEverything+`  - {name: no, hosts: ["b.example"], action: deny}
`, map[string]string{"a.test:443": addr}, roots)
	r, other := NewRecorder(), NewRecorder()
	stop, err := w.server.Capture(netip.MustParsePrefix("127.0.0.0/8"), r)
	if err != nil {
		t.Fatal(err)
	}
	stopOther, err := w.server.Capture(netip.MustParsePrefix("192.0.2.0/24"), other)
	if err != nil {
		t.Fatal(err)
	}
	defer stopOther()
	const sentQuery = "token=hunter2&page=2&sig=hunter2;x"
	for _, h2 := range []bool{false, true} {
		req, err := http.NewRequest("POST", "https://a.test/upload?"+sentQuery, strings.NewReader("hunter2"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer hunter2")
		req.Header.Set("Cookie", "a=hunter2; b=hunter2")
		req.Header.Set("X-Api-Key", "hunter2")
		req.Header.Set("Referer", "https://a.test/?access_token=hunter2")
		req.Header.Set("X-Plain", "plain")
		req.Header.Set("Content-Type", "application/json")
		res, err := w.client(h2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if string(body) != "hunter2 hunter2" || res.Header.Get("Set-Cookie") != "s=hunter2" || !strings.Contains(res.Header.Get("Location"), "u:hunter2@") {
			t.Errorf("the client got %v %s", res.Header, body)
		}
		mu.Lock()
		if seen.Get("Authorization") != "Bearer hunter2" || seen.Get("X-Api-Key") != "hunter2" || query != sentQuery {
			t.Errorf("the origin got %v ?%s", seen, query)
		}
		mu.Unlock()
		<-w.exchanges
	}
	w.connect(w.dial(), "b.example:443", 403)
	<-w.exchanges
	stop()
	if w.server.captures.Load() == nil {
		t.Error("the other capture is gone")
	}
	log := harOf(t, r).Log
	text, err := json.Marshal(log)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "hunter2") {
		t.Errorf("a secret is in %s", text)
	}
	if len(log.Entries) != 3 || log.Version != "1.2" || log.Creator.Name != "larder" {
		t.Fatalf("recorded: %s", text)
	}
	for _, e := range log.Entries[:2] {
		if e.Request.Method != "POST" || !strings.HasPrefix(e.Request.URL, "https://a.test/upload?") || !strings.Contains(e.Request.URL, "page=2") ||
			e.Request.BodySize != 7 || e.Response.Status != 302 || e.Response.BodySize != 15 || e.Response.Content.Size != 15 ||
			!strings.Contains(e.Response.RedirectURL, "part=7") {
			t.Errorf("recorded: %+v %+v", e.Request, e.Response)
		}
	}
	if e := log.Entries[2]; e.Request.Method != "CONNECT" || !strings.Contains(e.Request.URL, "b.example:443") || e.Response.Status != 403 {
		t.Errorf("recorded: %+v %+v", e.Request, e.Response)
	}
	if n := len(harOf(t, other).Log.Entries); n != 0 {
		t.Errorf("%d requests of other clients", n)
	}
	// What comes after the end is nobody's.
	if r.begin(&http.Request{Method: "GET", Header: http.Header{}}, &url.URL{Path: "/"}) != nil {
		t.Error("recorded after the end")
	}
}

// readyForTest is a cache whose every answer is ready.
type readyForTest struct {
	*fakeCache
	mu    sync.Mutex
	asked int
}

func (c *readyForTest) Ready(*url.URL, *cache.Rule) (cache.Ready, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	return cache.Ready{}, false
}

func (c *readyForTest) Served(cache.Ready, int64, error) cache.Outcome { return cache.Outcome{} }

// TestHitsAreRecordedToo: as long as there is a capture, no connection answers by
// itself.
func TestHitsAreRecordedToo(t *testing.T) {
	roots := newAuthorityKey(t, "public")
	ready := &readyForTest{}
	w := newWorld(t, "presets: none\nrules: [{name: all, hosts: [a.test], action: immutable}]\n", nil, roots, func(o *Options, _ *UpstreamOptions) {
		ready.fakeCache = o.Cache.(*fakeCache)
		o.Cache = ready
	})
	ready.serve = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "stored") })
	ready.outcome = cache.Outcome{Status: 200, Bytes: 6, Hit: true}
	r := NewRecorder()
	stop, err := w.server.Capture(netip.MustParsePrefix("::/0"), NewRecorder())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	stop2, err := w.server.Capture(netip.MustParsePrefix("127.0.0.1/32"), r)
	if err != nil {
		t.Fatal(err)
	}
	defer stop2()
	res, err := w.client(false).Get("https://a.test/x")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	<-w.exchanges
	log := harOf(t, r).Log
	if len(log.Entries) != 1 || log.Entries[0].Response.Status != 200 || log.Entries[0].Response.BodySize != 6 {
		t.Errorf("recorded: %+v", log.Entries)
	}
}

func TestCapturesAreFew(t *testing.T) {
	s := &Server{}
	var stops []func()
	for range maxCaptures {
		stop, err := s.Capture(netip.MustParsePrefix("10.0.0.0/8"), NewRecorder())
		if err != nil {
			t.Fatal(err)
		}
		stops = append(stops, stop)
	}
	if _, err := s.Capture(netip.MustParsePrefix("10.0.0.0/8"), NewRecorder()); !errors.Is(err, ErrCaptures) {
		t.Errorf("one more: %v", err)
	}
	for _, stop := range stops {
		stop()
	}
	if s.captures.Load() != nil {
		t.Error("captures are left")
	}
}

func TestWhatARecorderKeepsIsBounded(t *testing.T) {
	r := NewRecorder()
	big := strings.Repeat("x", 512<<10)
	for i := range 200 {
		g := r.begin(&http.Request{Method: "GET", Header: http.Header{"A": {big}}}, &url.URL{Scheme: "http", Host: "a.test", Path: fmt.Sprint("/", i)})
		if g != nil {
			g.end(200, http.Header{"A": {big}}, 1)
		}
	}
	if r.bytes > maxRecordedBytes || r.over == 0 || r.count+r.over != 200 {
		t.Errorf("%d bytes, %d kept, %d over", r.bytes, r.count, r.over)
	}
	var b bytes.Buffer
	if _, err := r.WriteTo(&b); err != nil || !strings.Contains(b.String(), "more messages came when there was no more room") {
		t.Errorf("%v: no word of what is left out", err)
	}
}

func TestSecretsAreLeftOut(t *testing.T) {
	s := newRedaction()
	for value, want := range map[string]string{
		"plain":         "plain",
		"what? is this": "what? is this",
		"a@b.test":      "a@b.test",
		"https://u:p@a.test/x?page=2&X-Amz-Signature=s#f": "https://a.test/x?page=2&X-Amz-Signature=%28left+out%29#f",
		"/x?sig=s":                             "/x?sig=%28left+out%29",
		"/x?a=1&&b=2;c":                        "/x?a=1&&b=2;c",
		"/x?X-Goog-Credential=c&X-Goog-Date=d": "/x?X-Goog-Credential=%28left+out%29&X-Goog-Date=d",
		"/x?%74oken=s":                         "/x?%74oken=%28left+out%29",
		"/x?a%zz=s":                            "/x?a%zz=%28left+out%29",
		"/x?a%zz":                              "/x?a%zz=%28left+out%29",
		"<https://a.test/?token=s>; rel=\"next\"": "<https://a.test/?token=%28left+out%29>; rel=\"next\"",
		"//u@a.test/x": "//a.test/x",
		"/x?Key-Pair-Id=k&Policy=p&Signature=s&e=": "/x?Key-Pair-Id=%28left+out%29&Policy=%28left+out%29&Signature=%28left+out%29&e=",
	} {
		if got := s.cleanURLs(value); got != want {
			t.Errorf("%s: %s, want %s", value, got, want)
		}
	}
	for _, name := range []string{
		"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Auth-Token", "Private-Token", "Job-Token", "X-Api-Key",
		"X-Amz-Security-Token", "X-Jfrog-Art-Api", "Npm-Otp", "X-Vault-Token",
	} {
		h := http.Header{name: {"a", "b"}}
		if s.cleanHeader(h); h[name][0] != leftOut || h[name][1] != leftOut {
			t.Errorf("%s: %v", name, h)
		}
	}
}

func FuzzSecrets(f *testing.F) {
	for _, s := range []string{"https://u:p@a.test/x?a=1&sig=2", "?", "?&;=", "//@?token=", "%"} {
		f.Add(s)
	}
	s := newRedaction()
	f.Fuzz(func(t *testing.T, value string) {
		once := s.cleanURLs(value)
		if again := s.cleanURLs(once); again != once {
			t.Errorf("%q becomes %q and then %q", value, once, again)
		}
		if withoutSecrets(value) != value && !strings.Contains(withoutSecrets(value), url.QueryEscape(leftOut)) {
			t.Errorf("%q becomes %q", value, withoutSecrets(value))
		}
	})
}
