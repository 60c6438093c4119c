package tests

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"larder/tests/origin"
)

// tampered is a client whose registry's file was changed where it is kept.
type tampered struct {
	client   client
	artifact func(e origin.Exchange) bool
	// verified is what vouches for the right file, as larder run --json tells; source is
	// the label of the metric.
	verified, source string
}

func tamperedClients() []tampered {
	ending := func(s string) func(origin.Exchange) bool {
		return func(e origin.Exchange) bool { return strings.HasSuffix(e.Path, s) }
	}
	return []tampered{
		{client: pipClient(), artifact: ending("/larder_demo-1.0-py3-none-any.whl"), verified: "blake2b-256 (url), sha256 (index)", source: "url"},
		{client: npmClient(), artifact: ending("/demo-1.0.0.tgz"), verified: "sha512 (index)", source: "index"},
		{client: cargoClient(), artifact: ending("/larder-demo/1.0.0/download"), verified: "sha256 (index)", source: "index"},
		{client: mvnClient(), artifact: ending("/extension-1.0.jar"), verified: "sha1 (header)", source: "header"},
		{client: goClient(), artifact: ending("demo/@v/v1.2.0.zip"), verified: "h1-zip (index)", source: "index"},
		{client: aptClient("http"), artifact: ending("/larder-demo_1.0%2bb1_amd64.deb"), verified: "sha256 (index)", source: "index"},
		{client: aptClient("https"), artifact: ending("/larder-demo_1.0%2bb1_amd64.deb"), verified: "sha256 (index)", source: "index"},
	}
}

// TestTamperedFilesReachNobody: with the presets as they are, a file that is not what its
// registry says it is breaks the client's transfer, is not stored, is counted and logged
// with both digests, and the right one is fetched and verified after that.
func TestTamperedFilesReachNobody(t *testing.T) {
	t.Parallel()
	for _, c := range tamperedClients() {
		t.Run(c.client.name, func(t *testing.T) {
			t.Parallel()
			requireClient(t, c.client.needs...)
			origins := startOrigins(t)
			vars := c.client.registry(t, origins)
			in := newInstance(t, origins, c.client.rules)
			s := in.serve(t)
			vars = append(vars, in.printedEnvironment(t, s.proxy)...)

			origins.Tamper(c.artifact)
			c.fetch(t, vars, false)
			if n := s.metric(t, `larder_cache_digests_total{result="mismatch",source="`+c.source+`"}`); n == 0 {
				t.Error("no mismatch was counted")
			}
			mismatch := regexp.MustCompile(`digest mismatch: not stored.*"want":"[a-z0-9-]+:[0-9a-f]+","got":"[a-z0-9-]+:[0-9a-f]+"`)
			s.waitLog(t, func(l logLine) bool { return mismatch.MatchString(l.raw) })
			for _, e := range origins.Exchanges(c.artifact) {
				if found := in.stat(t, e.URL()); found != "" {
					t.Errorf("the tampered file is stored:\n%s", found)
				}
			}

			origins.Tamper(nil)
			c.fetch(t, vars, true)
			url := origins.Exchanges(c.artifact)[0].URL()
			found := in.stat(t, url)
			for _, proof := range strings.Split(c.verified, ", ") {
				algorithm, source, _ := strings.Cut(proof, " ")
				if !regexp.MustCompile(`(?m)^verified: +` + algorithm + `:[0-9a-f]+ ` + regexp.QuoteMeta(source) + `$`).MatchString(found) {
					t.Errorf("store stat does not say that it was verified by %s:\n%s", proof, found)
				}
			}
		})
	}
}

// fetch runs the client in a fresh folder, to success or not.
func (c tampered) fetch(t *testing.T, vars []string, want bool) {
	t.Helper()
	dir := privateDir(t)
	cmd := c.client.fetch(t, dir)
	cmd.env = append(cmd.env, vars...)
	res := cmd.run(t)
	if ok := res.code == 0; ok != want {
		t.Fatalf("%s: %v", c.client.name, res)
	}
	if want {
		c.client.verify(t, dir, res)
	}
}

// stat is what "larder store stat" prints of a URL, "" for nothing stored.
func (in *instance) stat(t *testing.T, url string) string {
	t.Helper()
	res := command{dir: in.dir, argv: []string{in.larder, "store", "stat", "--state", in.state, url}}.run(t)
	if res.code != 0 && !strings.Contains(res.stderr, "nothing is stored") {
		t.Fatalf("larder store stat %s: %v", url, res)
	}
	return res.stdout
}

// metric is the value of one series, 0 where there is none.
func (s *service) metric(t *testing.T, series string) int64 {
	t.Helper()
	res, err := http.Get("http://" + s.admin + "/metrics")
	must(t, err)
	defer res.Body.Close()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\d+)`).FindSubmatch(readAll(t, res.Body))
	if m == nil {
		return 0
	}
	return parseInt(t, string(m[1]))
}

// TestRunListsWhatWasVerified: larder run --json says by whose word a file is right.
func TestRunListsWhatWasVerified(t *testing.T) {
	t.Parallel()
	c := pipClient()
	requireClient(t, c.needs...)
	origins := startOrigins(t)
	vars := c.registry(t, origins)
	in := newInstance(t, origins, c.rules)
	in.endDaemon(t)
	for _, class := range []string{"miss", "hit"} {
		verified := make(map[string]string)
		for _, f := range c.through(t, in, vars).fetched {
			if f.Class == class {
				verified[f.URL[strings.LastIndexByte(f.URL, '/')+1:]] = f.Verified
			}
		}
		for name, want := range map[string]string{
			"larder_demo-1.0-py3-none-any.whl":          "blake2b-256 (url), sha256 (index)",
			"larder_demo-1.0-py3-none-any.whl.metadata": "sha256 (index)",
		} {
			if verified[name] != want && (class == "hit" || verified[name] != "") {
				t.Errorf("%s, a %s, was verified by %q, want %q", name, class, verified[name], want)
			}
		}
		if class == "miss" && verified["larder_demo-1.0-py3-none-any.whl"] == "" {
			t.Errorf("the wheel was not verified: %q", verified)
		}
	}
}
