package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"larder/tests/origin"
)

// instance is one larder: its configuration, its state, its binary.
type instance struct {
	dir, config, state string
	larder             string // path of the program
}

// newInstance writes a configuration that dials the origins of this test for
// every name there is, so that nothing can leave the machine, and trusts their
// authority. rules is YAML that continues the file, or "".
func newInstance(t testing.TB, origins *origin.Server, rules string) *instance {
	t.Helper()
	dir := privateDir(t)
	in := &instance{
		dir:    dir,
		state:  filepath.Join(dir, "state"),
		larder: larderPath(t),
	}
	in.config = writeFile(t, dir, "larder.yaml", configFor(t, dir, origins)+rules)
	return in
}

// configFor is the part of the configuration that every test shares.
func configFor(t testing.TB, dir string, origins *origin.Server) string {
	t.Helper()
	ca := writeFile(t, dir, "origins.pem", string(origins.Authority.PEM()))
	return fmt.Sprintf(`listen: "127.0.0.1:0"
admin: { listen: "127.0.0.1:0" }
store: { max_size: 1GiB }
upstream:
  ca_file: %q
  allow_addresses: [127.0.0.0/8]
  connect_to:
    "*:443": %q
    "*:80": %q
`, ca, origins.TLSAddr(), origins.PlainAddr())
}

// fetch is an entry of the list that "larder run --json" writes.
type fetch struct {
	Method        string `json:"method"`
	URL           string `json:"url"`
	Status        int    `json:"status"`
	Class         string `json:"class"`
	Bytes         int64  `json:"bytes"`
	UpstreamBytes int64  `json:"upstream_bytes"`
	SHA256        string `json:"sha256"`
	Verified      string `json:"verified"`
	Error         string `json:"error"`
	CacheStatus   string `json:"cache_status"`
}

// runResult is how a "larder run" ended and what it listed.
type runResult struct {
	result
	fetched []fetch
}

// run runs the command through this larder.
func (in *instance) run(t testing.TB, c command) runResult {
	t.Helper()
	list := filepath.Join(privateDir(t), "fetched.json")
	wrapped := c
	wrapped.argv = append(in.runArgs("--json", list), c.argv...)
	res := runResult{result: wrapped.run(t)}
	if _, err := os.Stat(list); err != nil {
		t.Fatalf("larder run wrote no list: %v\n%v", err, res)
	}
	res.fetched = readFetched(t, list)
	return res
}

// readFetched reads the list that "larder run --json" wrote.
func readFetched(t testing.TB, path string) []fetch {
	t.Helper()
	data := readFile(t, path)
	var list []fetch
	if err := json.Unmarshal([]byte(data), &list); err != nil {
		t.Fatalf("read the list of larder run: %v\n%s", err, data)
	}
	return list
}

// runArgs is "larder run" of this instance up to the command.
func (in *instance) runArgs(flags ...string) []string {
	argv := append([]string{in.larder, "run", "--state", in.state, "--config", in.config, "--idle", "30s"}, flags...)
	return append(argv, "--")
}

// summary is what "larder run" ends with. A client that leaves its last line
// open, as mvn does, has it on that line.
func (r runResult) summary() string {
	return regexp.MustCompile(`larder: [0-9]+ requests?, .*`).FindString(r.stderr)
}

// hit reports whether larder answered from its store without asking upstream.
func (f fetch) hit() bool {
	return strings.Contains(f.CacheStatus, "; hit")
}

// startOrigins starts loopback registries that end with the test and fail it if
// a client asked for a host that none of them is.
func startOrigins(t testing.TB) *origin.Server {
	t.Helper()
	s, err := origin.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the origins: %v", err)
		}
		for _, e := range s.Stray() {
			t.Errorf("stray request: %v", e)
		}
	})
	return s
}
