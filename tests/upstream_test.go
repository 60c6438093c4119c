package tests

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestRegistryPasswordStaysWithLarder: a client without any reads what larder has a
// credential for, and the file is read again at SIGHUP, unless it will not do.
func TestRegistryPasswordStaysWithLarder(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	origins.Handle("registry.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, user, " ", password != "")
	}))
	in := newInstance(t, origins, `  hosts:
    - { hosts: [registry.test], credentials_file: registry.secret, shared: true }
rules:
  - { name: registry, hosts: [registry.test], action: immutable }
`)
	secret := filepath.Join(in.dir, "registry.secret")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		err := os.WriteFile(secret, []byte(text), 0o600)
		if err == nil {
			err = os.Chmod(secret, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("basic one:hunter2\n", 0o600)
	s := in.serve(t)
	client := s.client(t)
	want := func(path, user, status string) {
		t.Helper()
		res, body := get(t, client, "https://registry.test/"+path)
		if string(body) != user+" true" || !strings.Contains(res.Header.Get("Cache-Status"), status) {
			t.Errorf("%s: got %s %q, Cache-Status %q, want %s, %s", path, res.Status, body, res.Header.Get("Cache-Status"), user, status)
		}
	}
	reload := func(message string) {
		t.Helper()
		s.signal(t, syscall.SIGHUP)
		s.waitLog(t, func(l logLine) bool { return strings.Contains(l.Msg, message) })
	}
	want("a", "one", "stored")
	want("a", "one", "hit")
	write("basic two:hunter2\n", 0o644)
	reload("reload failed")
	want("b", "one", "stored")
	write("basic two:hunter2\n", 0o600)
	reload("policy reloaded")
	want("c", "two", "stored")
	if strings.Contains(s.log(), "hunter2") {
		t.Errorf("the password is in the log:\n%s", s.log())
	}
}
