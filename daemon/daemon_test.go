package daemon

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRunIsAccountedForAndReusesTheDaemon(t *testing.T) {
	r := newRole(t)
	c := connect(t, r)
	run := startRun(t, c)
	if run.Files.CA != r.paths().Trust()+"/ca.pem" {
		t.Errorf("Files.CA = %q", run.Files.CA)
	}
	fetch(t, run, "hit", 10)
	fetch(t, run, "miss", 20)
	fetch(t, run, "error", 0)
	fetch(t, run, "tunnel", 30)
	want := Summary{Requests: 4, Hits: 1, Misses: 1, Tunnels: 1, Errors: 1, CacheBytes: 10, UpstreamBytes: 20, TunnelBytes: 30}
	for range 2 {
		got, err := run.Finish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Finish (-want +got):\n%s", diff)
		}
	}
	var urls []string
	for x, err := range run.Fetched(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		urls = append(urls, x.URL)
	}
	if diff := cmp.Diff([]string{"/hit/10", "/miss/20", "/error/0", "/tunnel/30"}, urls); diff != "" {
		t.Errorf("Fetched (-want +got):\n%s", diff)
	}
	if again := connect(t, r); pidOf(t, again) != pidOf(t, c) {
		t.Errorf("a second Connect found pid %d, want %d", pidOf(t, again), pidOf(t, c))
	}
}

func TestTrustIsReleasedAtTheEndOfTheRun(t *testing.T) {
	r := newRole(t)
	run := startRun(t, connect(t, r))
	released := "trust of " + t.Name() + " released"
	fetch(t, run, "hit", 1)
	if strings.Contains(logOf(t, r), released) {
		t.Fatal("released while the run is under way")
	}
	run.Close()
	eventually(t, released, func() bool { return strings.Contains(logOf(t, r), released) })
}
