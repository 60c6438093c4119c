package mitm

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"larder/policy"
)

func TestCredentialFiles(t *testing.T) {
	for _, c := range []struct{ text, field, err string }{
		{"basic user:hunter2\n", "Basic dXNlcjpodW50ZXIy", ""},
		{"Basic user:hunter2\r\n", "Basic dXNlcjpodW50ZXIy", ""},
		{"BASIC user:hun:ter 2", "Basic dXNlcjpodW46dGVyIDI=", ""},
		{"basic user:", "Basic dXNlcjo=", ""},
		{"bearer hunter2.A-_~+/x==", "Bearer hunter2.A-_~+/x==", ""},

		{"", "", "must hold one line"},
		{"user:hunter2", "", "must hold one line"},
		{"digest user:hunter2", "", "must hold one line"},
		{"basic hunter2", "", "USER:PASSWORD"},
		{"basic :hunter2", "", "USER:PASSWORD"},
		{"basic user:hunter2\nbasic other:hunter2", "", "second line"},
		{"basic user:hunter2\x00", "", "control character"},
		{"bearer ", "", "token"},
		{"bearer hunter2 hunter2", "", "token"},
		{"bearer hunter2,", "", "token"},
		{"bearer hunter2\r\nX-Evil: 1", "", "second line"},
	} {
		got, err := readCredential(secretFile(t, c.text))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q: %v, want %s", c.text, err, c.err)
			}
			continue
		}
		if err != nil || got.field != c.field {
			t.Errorf("%q: %q, %v", c.text, got, err)
			continue
		}
		var log strings.Builder
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "credential", got)
		if s := fmt.Sprintf("%v %+v %#v %s", got, got, got, log.String()); strings.Contains(s, "hunter2") || strings.Contains(s, c.field) {
			t.Errorf("printed as %s", s)
		}
	}
}

func FuzzCredential(f *testing.F) {
	f.Add("basic user:password\n")
	f.Add("bearer abc==")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCredential(text)
		if err == nil && strings.ContainsAny(c.field, "\r\n\x00") {
			t.Errorf("%q makes the field %q", text, c.field)
		}
	})
}

func TestSecretsThatOthersMayRead(t *testing.T) {
	file := secretFile(t, "basic user:hunter2")
	for mode, ok := range map[os.FileMode]bool{
		0o400: true, 0o600: true, 0o440: true, 0o640: true, // Kubernetes and systemd let the group read
		0o644: false, 0o604: false, 0o660: false, 0o602: false, 0o777: false,
	} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		_, err := readCredential(file)
		if (err == nil) != ok {
			t.Errorf("mode %04o: %v", mode, err)
		}
		if err != nil && !strings.Contains(err.Error(), "chmod 600 "+file) {
			t.Errorf("mode %04o: no remedy in %v", mode, err)
		}
	}
	if _, err := readCredential(filepath.Dir(file)); err == nil {
		t.Error("a folder is read")
	}
	if _, err := readCredential(secretFile(t, "bearer "+strings.Repeat("x", maxSecretFile))); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("a long file: %v", err)
	}
}

// forHost is an entry for a host.
func forHost(t testing.TB, pattern string, change func(*policy.Origin)) policy.Origin {
	t.Helper()
	p, err := policy.ParseHostPattern(pattern)
	if err != nil {
		t.Fatal(err)
	}
	o := policy.Origin{Hosts: []*policy.HostPattern{p}}
	change(&o)
	return o
}

// TestWhereCredentialsGo is a table of requests and the Authorization that comes
// with them at the origin.
func TestWhereCredentialsGo(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	seen := make(chan string, 1)
	handler := func(w http.ResponseWriter, r *http.Request) {
		seen <- strings.Join(r.Header["Authorization"], "|")
		if r.URL.Path == "/redirect" {
			http.Redirect(w, r, "https://other.test/landed", http.StatusFound)
		}
	}
	secure := tlsOrigin(t, roots, true, handler, "registry.test", "other.test", "token.test")
	plain := plainOrigin(t, handler)
	secret := secretFile(t, "basic robot:hunter2\n")
	var log strings.Builder
	w := newWorld(t, passEverything, map[string]string{
		"registry.test:443": secure, "registry.test:8443": secure, "other.test:443": secure, "token.test:443": secure,
		"registry.test:80": plain,
	}, roots, func(o *Options, u *UpstreamOptions) {
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		u.Hosts = []policy.Origin{
			forHost(t, "registry.test", func(o *policy.Origin) { o.Ports, o.CredentialsFile = []int{443}, secret }),
			forHost(t, "token.test", func(o *policy.Origin) {
				o.CredentialsFile, o.Methods = secretFile(t, "bearer hunter2"), []string{"POST"}
			}),
		}
	})
	const robot = "Basic cm9ib3Q6aHVudGVyMg=="
	for _, c := range []struct{ method, url, own, want string }{
		{"GET", "https://registry.test/", "", robot},
		{"HEAD", "https://registry.test/", "", robot},
		{"GET", "https://REGISTRY.test:443/", "", robot},
		{"GET", "https://registry.test/redirect", "", robot},
		{"GET", "https://other.test/landed", "", ""}, // where the redirect leads
		{"GET", "https://registry.test:8443/", "", ""},
		{"GET", "http://registry.test/", "", ""}, // no TLS
		{"PUT", "https://registry.test/", "", ""},
		{"POST", "https://registry.test/", "", ""},
		{"DELETE", "https://registry.test/", "", ""},
		{"GET", "https://registry.test/", "Bearer own", "Bearer own"},
		{"GET", "https://registry.test/", " ", ""}, // empty, and the client's
		{"POST", "https://token.test/", "", "Bearer hunter2"},
		{"GET", "https://token.test/", "", ""},
	} {
		for _, h2 := range []bool{false, true} {
			r, err := http.NewRequest(c.method, c.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.own != "" {
				r.Header.Set("Authorization", strings.TrimSpace(c.own))
			}
			if h2 && r.URL.Scheme == "http" {
				continue
			}
			res, err := w.client(h2).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if got := <-seen; got != c.want {
				t.Errorf("%s %s, h2 %v: the origin got %q, want %q", c.method, c.url, h2, got, c.want)
			}
			if s := fmt.Sprint(res.Header, string(b)); strings.Contains(s, "hunter2") || strings.Contains(s, robot) {
				t.Errorf("%s %s: the client got %s", c.method, c.url, s)
			}
			if x := fmt.Sprintf("%+v", w.exchange()); strings.Contains(x, "hunter2") || strings.Contains(x, robot) {
				t.Errorf("%s %s: the account has %s", c.method, c.url, x)
			}
		}
	}
	_ = w.server.Shutdown(t.Context())
	if strings.Contains(log.String(), "hunter2") || strings.Contains(log.String(), robot) {
		t.Errorf("logged: %s", log.String())
	}
}

// TestCredentialIsForTheAuthorityOfTheTarget, whatever Host says.
func TestCredentialIsForTheAuthorityOfTheTarget(t *testing.T) {
	o := &origin{}
	o.credential.Store(&credential{field: "Bearer x"})
	for host, want := range map[string]bool{"": true, "a.test": true, "A.test:443": true, "b.test": false, "a.test:8443": false, "a.test@b.test": false} {
		r := httptest.NewRequest("GET", "https://a.test/", nil)
		r.Host = host
		if _, injected := o.inject(r); injected != want {
			t.Errorf("Host %q: injected %v", host, injected)
		}
	}
}

// TestWhatACredentialReadsIsNotPublicByAccident: it is stored for all only where the
// origin or the operator says so; and then it is.
func TestWhatACredentialReadsIsNotPublicByAccident(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	for _, c := range []struct {
		name, control string
		shared        bool
		stored        bool
	}{
		{"the origin says nothing", "max-age=60", false, false},
		{"the origin says public", "public, max-age=60", false, true},
		{"the origin says s-maxage", "s-maxage=60", false, true},
		{"the operator says shared", "max-age=60", true, true},
		{"the origin says private", "private, max-age=60", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := 0
			secure := tlsOrigin(t, roots, true, func(w http.ResponseWriter, r *http.Request) {
				asked++ // the requests come one by one
				if r.Header.Get("Authorization") != "Bearer hunter2" {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				w.Header().Set("Cache-Control", c.control)
				fmt.Fprint(w, "the secret")
			}, "registry.test")
			const text = "presets: none\nrules:\n  - {name: r, hosts: [\"*.test\"], action: immutable}\n"
			var w *world
			fills := realCache(t, func(r *http.Request) (*http.Response, error) { return w.cache.upstream.RoundTrip(r) })
			w = newWorld(t, text, map[string]string{"registry.test:443": secure}, roots, func(o *Options, u *UpstreamOptions) {
				o.Cache = fills
				u.Hosts = []policy.Origin{forHost(t, "registry.test", func(o *policy.Origin) {
					o.CredentialsFile, o.Shared = secretFile(t, "bearer hunter2"), c.shared
				})}
			})
			for range 2 {
				if res, body := get(t, w.client(false), "https://registry.test/x"); res.StatusCode != 200 || body != "the secret" {
					t.Errorf("got %s %q", res.Status, body)
				}
			}
			if want := map[bool]int{true: 1, false: 2}[c.stored]; asked != want {
				t.Errorf("the origin was asked %d times, want %d", asked, want)
			}
		})
	}
}
