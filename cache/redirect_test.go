package cache

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"larder/cache/integrity"
)

// bystander is a TLS server of another origin than the world's, which notes what it is
// asked.
type bystander struct {
	*httptest.Server
	mu   sync.Mutex
	seen []*http.Request
}

func newBystander(t *testing.T, handler http.HandlerFunc) *bystander {
	t.Helper()
	b := &bystander{}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.seen = append(b.seen, r)
		b.mu.Unlock()
		handler(w, r)
	}))
	b.StartTLS()
	t.Cleanup(b.Close)
	return b
}

func (b *bystander) requests() []*http.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen
}

// at sends a request for any URL through the world's cache.
func (w *world) at(rule *Rule, method, target string, fields ...string) answer {
	w.t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	rec := httptest.NewRecorder()
	out, err := w.cache.Serve(rec, r, rule)
	if err != nil && out.Status == 0 {
		return answer{Response: &http.Response{StatusCode: http.StatusBadGateway, Header: http.Header{}}, err: err}
	}
	resp := rec.Result()
	body, _ := io.ReadAll(resp.Body)
	return answer{resp, body, err}
}

func byDigest(t *testing.T, pattern string) []integrity.PathPattern {
	t.Helper()
	p, err := integrity.NewPathPattern("sha256", pattern)
	if err != nil {
		t.Fatal(err)
	}
	return []integrity.PathPattern{p}
}

func TestRedirectsAreFollowedToOtherOriginsWithoutCredentials(t *testing.T) {
	b := newBystander(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"x"`)
		w.Header().Set("Docker-Distribution-Api-Version", "storage/1")
		_, _ = io.WriteString(w, "the layer")
	})
	rule := &Rule{Mode: Immutable, FollowRedirects: true, Access: AccessPublic, OwnFields: []string{"X-Team"}}
	w := newWorld(t, rule, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Docker-Content-Digest", "sha256:"+digest([]byte("the layer")))
		rw.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		rw.Header().Set("X-Other", "of the redirect")
		http.Redirect(rw, r, b.URL+"/blob?sig=a&se=2030-01-01#part", http.StatusTemporaryRedirect)
	})
	secret := []string{"Authorization", "Bearer t", "Cookie", "a=b", "Private-Token", "p", "Referer", "https://a.test/", "X-Team", "k"}
	rule.Vary = []string{"X-Team"}
	w.get("/v2/a", secret...).want(t, 200, []byte("the layer"), "larder; fwd=uri-miss; stored")
	hit := w.get("/v2/a", secret...)
	hit.want(t, 200, []byte("the layer"), "larder; hit")
	// What only the registry says of the content is kept with it.
	if h := hit.Header; h.Get("Docker-Content-Digest") != "sha256:"+digest([]byte("the layer")) || h.Get("Docker-Distribution-Api-Version") != "storage/1" || h.Get("X-Other") != "" {
		t.Errorf("header %v", h)
	}
	seen := b.requests()
	if len(seen) != 1 || seen[0].Host != strings.TrimPrefix(b.URL, "https://") || seen[0].URL.RawQuery != "sig=a&se=2030-01-01" {
		t.Fatalf("the bystander saw %v", seen)
	}
	for i := 0; i < len(secret); i += 2 {
		if v := seen[0].Header.Get(secret[i]); v != "" {
			t.Errorf("it saw %s: %s", secret[i], v)
		}
	}
	for e, err := range w.store.All() {
		if u, _ := recordURL(e.Meta); err != nil || u != "" && u != w.origin.URL+"/v2/a" || strings.Contains(string(e.Meta), "sig=") {
			t.Errorf("stored under %s: %q, %v", u, e.Meta, err)
		}
	}
}

func TestCredentialsStayAwayOnceARedirectHasLedElsewhere(t *testing.T) {
	var home string
	b := newBystander(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, home+"/end", http.StatusFound) })
	var seen []string
	w := newWorld(t, &Rule{Mode: Immutable, FollowRedirects: true, Access: AccessPublic}, func(rw http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.URL.Path+" "+r.Header.Get("Authorization"))
		switch r.URL.Path {
		case "/start":
			http.Redirect(rw, r, "/near", http.StatusFound)
		case "/near":
			http.Redirect(rw, r, b.URL+"/far", http.StatusFound)
		default:
			_, _ = io.WriteString(rw, "end")
		}
	})
	home = w.origin.URL
	w.get("/start", "Authorization", "Bearer t").want(t, 200, []byte("end"), "larder; fwd=uri-miss; stored")
	if got := strings.Join(seen, ", "); got != "/start Bearer t, /near Bearer t, /end " {
		t.Errorf("upstream saw %s", got)
	}
}

func TestRedirectsThatAreNotFollowed(t *testing.T) {
	b := newBystander(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "far") })
	rule := &Rule{Mode: Immutable, FollowRedirects: true}
	w := newWorld(t, rule, func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/plain":
			rw.Header().Set("Location", "http"+strings.TrimPrefix(b.URL, "https"))
		case "/user":
			rw.Header().Set("Location", strings.Replace(b.URL, "https://", "https://u:p@", 1))
		case "/loop":
			rw.Header().Set("Location", "/loop")
		case "/two":
			rw.Header()["Location"] = []string{b.URL, b.URL + "/2"}
		case "/bad":
			rw.Header().Set("Location", "https://[/")
		case "/signed":
			rw.Header().Set("Location", b.URL+"/x?sig=a&se=2030-01-01")
		case "/forbidden":
			rw.Header().Set("Location", b.URL+"/forbidden")
		}
		rw.WriteHeader(http.StatusFound)
		_, _ = io.WriteString(rw, "moved")
	})
	moved := []byte("moved")
	for _, path := range []string{"/plain", "/user", "/loop", "/two", "/bad", "/none"} {
		w.get(path).want(t, 302, moved, "larder; fwd=uri-miss; detail=status")
	}
	w.do("HEAD", "/signed").want(t, 302, nil, "larder; fwd=uri-miss")
	// Egress policy has a word at each hop.
	r := httptest.NewRequest(http.MethodGet, w.origin.URL+"/forbidden", nil)
	var asked []string
	r = r.WithContext(WithHops(r.Context(), func(u *url.URL) error {
		asked = append(asked, u.String())
		return fmt.Errorf("denied")
	}))
	rec := httptest.NewRecorder()
	if _, err := w.cache.Serve(rec, r, rule); err != nil || rec.Code != 302 {
		t.Errorf("%d, %v", rec.Code, err)
	}
	if len(asked) != 1 || asked[0] != b.URL+"/forbidden" {
		t.Errorf("policy was asked for %v", asked)
	}
	if seen := b.requests(); len(seen) != 0 {
		t.Errorf("the bystander was asked: %v", seen)
	}
	if n := w.stored(); n != 0 {
		t.Errorf("%d objects are stored", n)
	}
}

// TestRangesFollowRedirects, and a fill that breaks off at the second origin is resumed
// from the first.
func TestRangesFollowRedirects(t *testing.T) {
	body := noise(3 << 20)
	broken := false
	b := newBystander(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"x"`)
		if !broken && r.Header.Get("Range") == "" {
			broken = true
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = w.Write(body[:1<<20])
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(w, r, "x", time.Time{}, strings.NewReader(string(body)))
	})
	w := newWorld(t, &Rule{Mode: Immutable, FollowRedirects: true}, func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, b.URL+"/blob", http.StatusTemporaryRedirect)
	})
	w.get("/a", "Range", "bytes=100-199").want(t, 206, body[100:200], "larder; fwd=uri-miss; detail=range")
	w.get("/b").want(t, 200, body, "larder; fwd=uri-miss; stored")
	w.get("/b", "Range", "bytes=100-199").want(t, 206, body[100:200], "larder; hit")
	if n := w.all.Load(); n != 3 {
		t.Errorf("the first origin was asked %d times, want 3", n)
	}
}

// TestTheBodyOfALoginPageIsNothingToStore: where content has no digest, a redirect that
// says nothing of it is not taken for the right to it.
func TestRedirectsToALoginPageAreNoPermission(t *testing.T) {
	content := []byte("secret")
	path := "/secret/" + digest(content)
	rule := &Rule{
		Mode: Immutable, FollowRedirects: true, Access: AccessRecheck, Partition: "checked",
		KeyByDigest: true, Digests: byDigest(t, "^/secret/([0-9a-f]{64})$"),
	}
	w := newWorld(t, rule, func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/login":
			_, _ = io.WriteString(rw, "who are you?")
		case r.Header.Get("Authorization") == "":
			http.Redirect(rw, r, "/login", http.StatusFound)
		default:
			_, _ = rw.Write(content)
		}
	})
	if a := w.get(path); a.err == nil && a.StatusCode == 200 && string(a.body) == string(content) {
		t.Fatalf("%d %q", a.StatusCode, a.body)
	}
	w.get(path, "Authorization", "Bearer t").want(t, 200, content, "larder; fwd=uri-miss; stored")
	for range 3 {
		w.get(path).want(t, 200, []byte("who are you?"), "larder; fwd=request; detail=recheck")
	}
	w.get(path, "Authorization", "Bearer t").want(t, 200, content, "larder; hit")
}

// TestRedirectsToWhatIsAsLongAsTheContent: Google's lead to a URL that names nothing.
func TestRedirectsToWhatIsAsLongAsTheContent(t *testing.T) {
	content := []byte("a layer of some length")
	path := "/v2/a/blobs/sha256:" + digest(content)
	rule := blobs(t)
	rule.FollowRedirects = true
	var gets int
	w := newWorld(t, rule, func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/downloads/opaque":
			if r.Method == http.MethodGet {
				gets++
			}
			_, _ = rw.Write(content)
		case r.Header.Get("Authorization") == "":
			rw.WriteHeader(http.StatusUnauthorized)
		default:
			http.Redirect(rw, r, "/downloads/opaque", http.StatusFound)
		}
	})
	w.get(path, "Authorization", "Bearer t").want(t, 200, content, "larder; fwd=uri-miss; stored")
	w.get(path, "Authorization", "Bearer u").want(t, 200, content, "larder; hit; detail=recheck")
	w.get(path, "Authorization", "Bearer u").want(t, 200, content, "larder; hit")
	w.get(path).want(t, 401, nil, "larder; fwd=request; detail=recheck")
	if gets != 1 {
		t.Errorf("%d GETs", gets)
	}
}
