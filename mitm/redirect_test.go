package mitm

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"larder/policy"
)

// TestRedirectsAreFollowedWhereTheClientMayGo: at each hop policy, credentials files and
// the guard of addresses have their say as if the client had gone there itself.
func TestRedirectsAreFollowedWhereTheClientMayGo(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	registry := tlsOrigin(t, roots, true, func(w http.ResponseWriter, r *http.Request) {
		to := map[string]string{
			"/to/cdn": "https://cdn.test/x", "/to/denied": "https://denied.test/x", "/to/path": "https://cdn.test/denied/x",
			"/to/private": "https://10.1.2.3/x", "/to/metadata": "https://169.254.169.254/latest", "/to/with": "https://with.test/x",
		}[r.URL.Path]
		http.Redirect(w, r, to, http.StatusTemporaryRedirect)
	}, "registry.test")
	var mu sync.Mutex
	var asked []string
	note := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Host+r.URL.Path+" "+r.Header.Get("Authorization"))
		_, _ = io.WriteString(w, "content")
	}
	cdn := tlsOrigin(t, roots, true, note, "cdn.test")
	with := tlsOrigin(t, roots, true, note, "with.test")
	w := newWorld(t, `
presets: none
default: tunnel
rules:
  - {name: no-denied, hosts: [denied.test], action: deny}
  - {name: no-path, hosts: [cdn.test], paths: ["/denied/**"], action: deny}
  - {name: registry, hosts: [registry.test], action: immutable, redirects: follow}
`, map[string]string{"registry.test:443": registry, "cdn.test:443": cdn, "denied.test:443": cdn, "with.test:443": with}, roots,
		func(o *Options, uo *UpstreamOptions) {
			uo.Hosts = []policy.Origin{forHost(t, "with.test", func(o *policy.Origin) { o.CredentialsFile = secretFile(t, "bearer s3cret") })}
			withRealCache(t, nil)(o, uo)
		})
	get := func(path string) (int, string, string) {
		req, _ := http.NewRequest(http.MethodGet, "https://registry.test"+path, nil)
		res, err := w.client(false).Transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(body), res.Header.Get("Cache-Status")
	}
	for range 2 {
		if status, body, _ := get("/to/cdn"); status != 200 || body != "content" {
			t.Errorf("%d %q", status, body)
		}
		for _, path := range []string{"/to/denied", "/to/path"} {
			if status, _, _ := get(path); status != http.StatusTemporaryRedirect {
				t.Errorf("%s: %d, want the redirect itself", path, status)
			}
		}
		for _, path := range []string{"/to/private", "/to/metadata"} {
			if status, _, _ := get(path); status != http.StatusForbidden && status != http.StatusBadGateway {
				t.Errorf("%s: %d", path, status)
			}
		}
		// What larder's own credential opens is not stored for who was led there.
		if _, _, how := get("/to/with"); how != "larder; fwd=uri-miss; detail=injected" {
			t.Errorf("with a credential of larder's: %s", how)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(asked, ", "); got != "cdn.test/x , with.test/x Bearer s3cret, with.test/x Bearer s3cret" {
		t.Errorf("asked were %s", got)
	}
}

// TestSignedURLsOfPassedRedirects: what a registry, of which larder stores nothing, sends
// clients to is known.
func TestSignedURLsOfPassedRedirects(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	body := "content"
	path := fmt.Sprintf("/%x", sha256.Sum256([]byte(body)))
	var n atomic.Int64
	location := func() string { return fmt.Sprintf("https://cdn.test%s?sig=%d&se=2100-01-01", path, n.Add(1)) }
	registry := tlsOrigin(t, roots, true, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, location(), http.StatusFound)
	}, "registry.test", "other.test")
	var asked atomic.Int64
	cdn := tlsOrigin(t, roots, true, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, body)
	}, "cdn.test")
	w := newWorld(t, `
presets: none
default: tunnel
rules:
  - {name: registry, hosts: [registry.test, other.test], action: pass}
  - {name: cdn, hosts: [cdn.test], action: immutable, key: digest, digest: {sha256: "^/([0-9a-f]{64})$"}, authorized: signed, signed_by: [registry.test]}
`, map[string]string{"registry.test:443": registry, "other.test:443": registry, "cdn.test:443": cdn}, roots, withRealCache(t, nil))
	client := w.client(true)
	client.CheckRedirect = nil
	for i, want := range []string{"larder; fwd=uri-miss; stored", "larder; hit", "larder; hit"} {
		res, err := client.Get("https://registry.test/asset")
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if string(got) != body || res.Header.Get("Cache-Status") != want || asked.Load() != 1 {
			t.Errorf("%d: %q, %s, %d requests", i, got, res.Header.Get("Cache-Status"), asked.Load())
		}
	}
	res, err := client.Get("https://other.test/asset")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if got := res.Header.Get("Cache-Status"); got != "larder; hit; detail=recheck" || asked.Load() != 2 {
		t.Errorf("by a host that rules do not name: %s, %d requests", got, asked.Load())
	}
}
