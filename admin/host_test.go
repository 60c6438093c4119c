package admin

import (
	"os"
	"strings"
	"testing"
)

func TestHostMustBeOurs(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	h := New(Options{Hosts: []string{"Cache.Corp.Example."}})
	for host, want := range map[string]int{
		"127.0.0.1:3129":          200,
		"127.0.0.1":               200,
		"10.1.2.3:3129":           200,
		"[::1]:3129":              200,
		"[fe80::1%25eth0]:3129":   200,
		"[::1]":                   200,
		"localhost:3129":          200,
		"LOCALHOST":               200,
		"localhost.:3129":         200,
		name + ":3129":            200,
		"cache.corp.example:3129": 200,
		"":                        200,
		"evil.test":               421,
		"evil.test:3129":          421,
		"127.0.0.1.evil.test":     421,
		"localhost.evil.test":     421,
		"corp.example":            421,
		"2130706433":              421, // a browser makes 127.0.0.1 of it before it asks
	} {
		if got := ask(t, h, "GET", "/-/healthy", "Host", host); got.Code != want {
			t.Errorf("Host %q: %d, want %d", host, got.Code, want)
		}
	}
}

func FuzzHostAllowed(f *testing.F) {
	for _, s := range []string{"", "localhost:1", "[::1]:80", "[::1", "evil.test", "1.2.3.4.", ":80", "[]", "a:b:c"} {
		f.Add(s)
	}
	ours := map[string]bool{"localhost": true}
	f.Fuzz(func(t *testing.T, field string) {
		if !hostAllowed(field, ours) || field == "" {
			return
		}
		// Whatever is let in has no letters beyond an address's and localhost's,
		// unless it is the zone of an IPv6 address.
		host, _, _ := strings.Cut(field, "%")
		if strings.Contains(strings.ToLower(host), "localhost") {
			return
		}
		if i := strings.IndexFunc(host, func(r rune) bool {
			return !strings.ContainsRune("0123456789abcdefABCDEF:.[]", r)
		}); i >= 0 && !strings.Contains(host[:i], ":") {
			t.Errorf("let in %q", field)
		}
	})
}
