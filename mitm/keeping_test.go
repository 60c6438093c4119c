package mitm

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"larder/cache"
	"larder/cache/store"
)

// keepingWorld is a proxy by rules over a store that a few dozen MiB fill, with an
// origin that answers /N with N MiB and everything else with its path.
func keepingWorld(t *testing.T, rules string, hosts ...string) (get func(target string) string) {
	roots := newAuthorityKey(t, "origins")
	addr := tlsOrigin(t, roots, true, func(w http.ResponseWriter, r *http.Request) {
		mib := 0
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &mib)
		w.Header().Set("Content-Length", strconv.Itoa(len(r.Host+r.URL.Path)+mib<<20))
		_, _ = io.WriteString(w, r.Host+r.URL.Path)
		_, _ = w.Write(make([]byte, mib<<20))
	}, hosts...)
	to := make(map[string]string)
	for _, h := range hosts {
		to[h+":443"] = addr
	}
	small, err := store.Open(store.Options{Dir: t.TempDir(), MaxSize: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = small.Close() })
	w := newWorld(t, rules, to, roots, withRealCache(t, func(o *cache.Options) { o.Store = small }))
	client := w.client(true)
	return func(target string) string {
		t.Helper()
		res, err := client.Get(target)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v", target, res.StatusCode, err)
		}
		return res.Header.Get("Cache-Status")
	}
}

// TestPinnedRulesOfThePolicy: what a rule with "pin: true" stores is there when three
// times as much as the store holds has gone through it.
func TestPinnedRulesOfThePolicy(t *testing.T) {
	get := keepingWorld(t, `
presets: none
rules:
  - {name: pinned, hosts: [pinned.test], action: immutable, pin: true}
  - {name: plain, hosts: [plain.test], action: immutable}
`, "pinned.test", "plain.test")
	get("https://pinned.test/a")
	get("https://plain.test/a")
	for n := range 48 {
		get(fmt.Sprintf("https://plain.test/1/%d", n))
	}
	if got := get("https://pinned.test/a"); !strings.Contains(got, "; hit") {
		t.Errorf("pinned: %s", got)
	}
	if got := get("https://plain.test/a"); strings.Contains(got, "; hit") {
		t.Errorf("not pinned: %s", got)
	}
}

// TestMaxStoreOfARuleOfThePolicy: what a rule stores beyond "max_store" pushes out what it
// stored before, and nothing of other rules.
func TestMaxStoreOfARuleOfThePolicy(t *testing.T) {
	get := keepingWorld(t, `
presets: none
rules:
  - {name: bounded, hosts: [bounded.test], action: immutable, max_store: 3MiB}
  - {name: plain, hosts: [plain.test], action: immutable}
`, "bounded.test", "plain.test")
	const count = 8
	for n := range count {
		get(fmt.Sprintf("https://plain.test/0/%d", n))
		get(fmt.Sprintf("https://bounded.test/1/%d", n))
	}
	for target, hit := range map[string]bool{
		"https://plain.test/0/0":                          true,
		fmt.Sprintf("https://bounded.test/1/%d", count-1): true,
		fmt.Sprintf("https://bounded.test/1/%d", count-2): true,
		"https://plain.test/0/1":                          true,
	} {
		if got := get(target); strings.Contains(got, "; hit") != hit {
			t.Errorf("%s: %s, want a hit: %v", target, got, hit)
		}
	}
	if got := get("https://bounded.test/1/0"); strings.Contains(got, "; hit") {
		t.Errorf("the oldest of eight in the room of three: %s", got)
	}
	if got := get("https://bounded.test/3/0"); !strings.Contains(got, "detail=too-large") {
		t.Errorf("larger than the bound: %s", got)
	}
}
