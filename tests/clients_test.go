package tests

import (
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"larder/tests/origin"
)

// client is one package client, the registry it is pointed at, and what it is
// told to fetch. Every run starts with nothing in the client's own caches, so
// that each would ask upstream for all of it again.
type client struct {
	name  string
	needs []string // programs
	rules string   // for the configuration, when no preset covers the host

	// registry adds the client's registries and returns variables the client
	// needs to use them, such as the key of a checksum database.
	registry func(t *testing.T, s *origin.Server) []string
	// fetch is the command, to be run in dir.
	fetch func(t *testing.T, dir string) command
	// verify looks at what the client made of it in dir.
	verify func(t *testing.T, dir string, res result)
	// artifact tells the requests that must never reach upstream a second time.
	artifact func(e origin.Exchange) bool
	// artifacts is how many of them a run fetches at least.
	artifacts int
	// online says that the client's protocol is passed through, not cached: a
	// second run reaches upstream, and without upstream there is none.
	online bool
}

// clients is every client that the tests drive.
func clients() []client {
	return []client{
		curlClient(),
		wgetClient(),
		pipClient(),
		npmClient(),
		goClient(),
		cargoClient(),
		mvnClient(),
		aptClient("http"),
		aptClient("https"),
		gitClient(),
	}
}

// TestClientsAreServedFromTheCache is the promise of the project: with real
// clients and the presets as they are shipped, what was fetched once is not
// fetched again, and goes on being served when upstream is gone.
func TestClientsAreServedFromTheCache(t *testing.T) {
	t.Parallel()
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			requireClient(t, c.needs...)
			origins := startOrigins(t)
			vars := c.registry(t, origins)
			in := newInstance(t, origins, c.rules)
			in.endDaemon(t)

			cold := c.through(t, in, vars)
			c.checkCold(t, origins, cold)

			origins.Forget()
			hot := c.through(t, in, vars)
			c.checkHot(t, origins, cold, hot)

			origins.Down()
			c.checkDown(t, in, vars)
		})
	}
}

// through runs the client once through larder in a fresh folder.
func (c client) through(t *testing.T, in *instance, vars []string) runResult {
	t.Helper()
	dir := privateDir(t)
	cmd := c.fetch(t, dir)
	cmd.env = append(cmd.env, vars...)
	res := in.run(t, cmd)
	if res.code != 0 {
		t.Fatalf("%s failed: %v", c.name, res)
	}
	c.verify(t, dir, res.result)
	if res.summary() == "" {
		t.Errorf("larder run printed no summary: %v", res)
	}
	return res
}

func (c client) checkCold(t *testing.T, origins *origin.Server, res runResult) {
	t.Helper()
	if n, _ := origin.Sum(origins.Exchanges(c.artifact)); n < c.artifacts {
		t.Fatalf("cold run fetched %d artifacts, want at least %d; origin saw:\n%s", n, c.artifacts, exchangeList(origins))
	}
	for _, e := range origins.Exchanges(nil) {
		for _, name := range []string{"Proxy-Connection", "Proxy-Authorization", "Via", "X-Forwarded-For"} {
			if e.Header.Get(name) != "" {
				t.Errorf("origin saw %s: %s in %v", name, e.Header.Get(name), e)
			}
		}
	}
	if n := len(origins.Exchanges(nil)); len(res.fetched) < n && !c.online {
		t.Errorf("list of the run has %d entries, origin saw %d requests", len(res.fetched), n)
	}
}

// checkHot wants no artifact at the origin and no index body either, and the
// same bytes as before.
func (c client) checkHot(t *testing.T, origins *origin.Server, cold, hot runResult) {
	t.Helper()
	if c.online {
		if n := len(origins.Exchanges(nil)); n == 0 {
			t.Errorf("second run did not reach upstream though it is to be passed through")
		}
		return
	}
	if n, bytes := origin.Sum(origins.Exchanges(c.artifact)); n != 0 {
		t.Errorf("second run fetched %d artifacts (%d bytes) from upstream:\n%s", n, bytes, exchangeList(origins))
	}
	for _, e := range origins.Exchanges(func(e origin.Exchange) bool { return !c.artifact(e) }) {
		if e.Status != http.StatusNotModified && e.Status != http.StatusNotFound {
			t.Errorf("second run made upstream send an unchanged index again: %v", e)
		}
	}
	before := make(map[string]fetch)
	for _, f := range cold.fetched {
		before[f.URL] = f
	}
	hits := 0
	for _, f := range hot.fetched {
		if f.hit() {
			hits++
		}
		b, again := before[f.URL]
		if again && c.isArtifact(t, f) && (f.SHA256 == "" || b.SHA256 != f.SHA256) {
			t.Errorf("%s had SHA-256 %q in the first run and %q in the second", f.URL, b.SHA256, f.SHA256)
		}
	}
	if hits < c.artifacts {
		t.Errorf("second run had %d hits, want at least %d:\n%+v", hits, c.artifacts, hot.fetched)
	}
}

// isArtifact asks of an entry of the list what artifact asks of an exchange.
func (c client) isArtifact(t *testing.T, f fetch) bool {
	t.Helper()
	u, err := url.Parse(f.URL)
	must(t, err)
	return f.Status == http.StatusOK && c.artifact(origin.Exchange{Host: u.Host, Path: u.EscapedPath(), Status: f.Status})
}

// checkDown runs the client with upstream gone.
func (c client) checkDown(t *testing.T, in *instance, vars []string) {
	t.Helper()
	if !c.online {
		c.through(t, in, vars)
		return
	}
	cmd := c.fetch(t, privateDir(t))
	cmd.env = append(cmd.env, vars...)
	if res := in.run(t, cmd); res.code == 0 {
		t.Errorf("%s succeeded without upstream though nothing of it is cached: %v", c.name, res)
	}
}

// TestOriginsServeClients shows that the loopback registries satisfy the real
// clients without larder in between: when a client fails through larder and
// passes here, the fault is larder's. It is for those who work on the origins
// and runs on demand.
func TestOriginsServeClients(t *testing.T) {
	if os.Getenv("LARDER_TEST_ORIGINS") == "" {
		t.Skip("set LARDER_TEST_ORIGINS=1 to test the origins of the tests alone")
	}
	t.Parallel()
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			requireClient(t, c.needs...)
			origins := startOrigins(t)
			vars := c.registry(t, origins)
			dir := privateDir(t)
			cmd := c.fetch(t, dir)
			cmd.env = append(cmd.env, vars...)
			cmd.env = append(cmd.env, directEnvironment(t, origins)...)
			res := cmd.run(t)
			t.Logf("%v\norigin saw:\n%s", res, exchangeList(origins))
			if res.code != 0 {
				t.Fatalf("%s failed", c.name)
			}
			c.verify(t, dir, res)
			c.checkCold(t, origins, runResult{fetched: make([]fetch, len(origins.Exchanges(nil)))})
		})
	}
}

func exchangeList(s *origin.Server) string {
	var b strings.Builder
	for _, e := range s.Exchanges(nil) {
		b.WriteString("  " + e.String() + "\n")
	}
	return b.String()
}

// wantFile fails the test when a client left no such file.
func wantFile(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("client did not install it: %v", err)
	}
}
