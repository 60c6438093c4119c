package tests

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// reloaded sends SIGHUP and waits for what larder says of it, after what it has said
// before.
func (s *service) reloaded(t testing.TB, message string) {
	t.Helper()
	count := func() int { return strings.Count(s.log(), message) }
	before := count()
	s.signal(t, syscall.SIGHUP)
	if !eventually(func() bool { return count() > before }, s.done) {
		t.Fatalf("after SIGHUP larder did not log %q:\n%s", message, s.log())
	}
}

// clientAs is client with a token of a user.
func (s *service) clientAs(t testing.TB, user, token string) *http.Client {
	t.Helper()
	transport := &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: s.proxy, User: url.UserPassword(user, token)}),
		TLSClientConfig: &tls.Config{RootCAs: s.roots(t)},
		// Each request makes its CONNECT: what one has let in stays.
		DisableKeepAlives: true,
	}
	return &http.Client{Transport: transport, Timeout: commandLimit}
}

// TestReloadIsAllOrNothing: whichever part of a new configuration will not do, policy,
// credentials of clients and credentials for upstream are those of before.
func TestReloadIsAllOrNothing(t *testing.T) {
	t.Parallel()
	const bob, alice = "FVJ7OWEX32UFMIEQEFTSL5FNAR", "ALICEALICEALICEALICEALICE1"
	origins := startOrigins(t)
	origins.Handle("registry.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		fmt.Fprint(w, user)
	}))
	const upstream = "  hosts: [{ hosts: [registry.test], credentials_file: registry.secret }]\nauth: { tokens_file: tokens, required: true }\n"
	in := newInstance(t, origins, upstream+"rules: [{ name: registry, hosts: [registry.test], action: pass }]\npresets: none\n")
	base := configFor(t, in.dir, origins) + upstream
	writeSecretFile(t, in.dir, "registry.secret", "basic one:hunter2\n")
	writeSecretFile(t, in.dir, "tokens", "bob:"+bob+"\n")
	s := in.serve(t)
	// want makes a request as a user; the status is that of CONNECT where it fails.
	want := func(user, token, result string) {
		t.Helper()
		res, err := s.clientAs(t, user, token).Get("https://registry.test/")
		if err != nil {
			if !strings.Contains(err.Error(), result) {
				t.Errorf("%s: got %v, want %s", user, err, result)
			}
			return
		}
		defer res.Body.Close()
		if got := fmt.Sprint(res.StatusCode, " ", string(readAll(t, res.Body))); !strings.HasPrefix(got, result) {
			t.Errorf("%s: got %s, want %s", user, got, result)
		}
	}
	before := func() {
		t.Helper()
		want("bob", bob, "200 one")
		want("alice", alice, "Proxy Authentication Required")
	}
	before()

	// Alice gets a token, and a rule that denies her. The other host is one for which
	// the intermediate may not sign, and there is no root key to make another.
	writeFile(t, in.dir, "larder.yaml", base+`presets: none
rules:
  - { name: not-alice, hosts: [registry.test], users: [alice], action: deny }
  - { name: registry, hosts: [registry.test, other.test], action: pass }
`)
	writeSecretFile(t, in.dir, "registry.secret", "basic two:hunter2\n")
	writeSecretFile(t, in.dir, "tokens", "bob:"+bob+"\nalice:"+alice+"\n")
	key := filepath.Join(in.state, "ca", "root.key")
	must(t, os.Rename(key, key+".away"))
	s.reloaded(t, "reload failed")
	before()
	must(t, os.Rename(key+".away", key))

	writeSecretFile(t, in.dir, "tokens", "bob:"+bob+"\nalice:short\n")
	s.reloaded(t, "reload failed")
	before()

	writeSecretFile(t, in.dir, "tokens", "bob:"+bob+"\nalice:"+alice+"\n")
	s.reloaded(t, "policy reloaded")
	want("bob", bob, "200 two")
	want("alice", alice, "Forbidden")
}

// TestReloadWithoutTheFilesOfBefore: a configuration that does not name a file any
// more can be loaded without it; one that still does cannot.
func TestReloadWithoutTheFilesOfBefore(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	origins.Handle("registry.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		fmt.Fprint(w, user)
	}))
	const open = "rules: [{ name: registry, hosts: [registry.test], action: pass }]\n"
	const hosts = "  hosts: [{ hosts: [registry.test], credentials_file: registry.secret }]\n"
	const closed = "rules:\n  - { name: closed, hosts: [registry.test], paths: [/closed], action: deny }\n  - { name: registry, hosts: [registry.test], action: pass }\n"
	in := newInstance(t, origins, hosts+open)
	base := configFor(t, in.dir, origins)
	secret := writeSecretFile(t, in.dir, "registry.secret", "basic one:hunter2\n")
	s := in.serve(t)
	client := s.client(t)
	want := func(path string, status int) {
		t.Helper()
		res, body := get(t, client, "https://registry.test"+path)
		if res.StatusCode != status || status == http.StatusOK && string(body) != "one" {
			t.Errorf("%s: got %s %q, want %d", path, res.Status, body, status)
		}
	}
	must(t, os.Remove(secret))
	writeFile(t, in.dir, "larder.yaml", base+hosts+closed)
	s.reloaded(t, "reload failed")
	want("/closed", http.StatusOK)
	writeFile(t, in.dir, "larder.yaml", base+closed)
	s.reloaded(t, "policy reloaded")
	want("/closed", http.StatusForbidden)
	want("/", http.StatusOK)
	if !strings.Contains(s.log(), "upstream files cannot be read again") {
		t.Errorf("no word of the file that is gone:\n%s", s.log())
	}
}
