package tests

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// liveClient fetches a few packages from the registry that this machine's own
// settings name.
type liveClient struct {
	name     string
	artifact *regexp.Regexp // of URLs that may not be fetched twice
	// prepare lays a project in dir and returns the command.
	prepare func(t *testing.T, dir string) command
}

func liveClients() []liveClient {
	return []liveClient{
		{
			name:     "npm",
			artifact: regexp.MustCompile(`\.tgz$`),
			prepare: func(_ *testing.T, dir string) command {
				return command{
					argv: []string{"npm", "pack", "is-number@7.0.0", "left-pad@1.3.0"},
					env:  []string{"npm_config_cache=" + filepath.Join(dir, "npm-cache")},
				}
			},
		},
		{
			name:     "pip",
			artifact: regexp.MustCompile(`/packages/.*\.(whl|tar\.gz)(\.metadata)?$`),
			prepare: func(_ *testing.T, _ string) command {
				return command{
					argv: []string{"pip", "download", "--no-deps", "six==1.16.0", "idna==3.10"},
					env:  []string{"PIP_NO_CACHE_DIR=1", "PIP_FIND_LINKS="},
				}
			},
		},
		{
			name:     "go",
			artifact: regexp.MustCompile(`/@v/v[^/]+\.(zip|mod|info)$`),
			prepare: func(t *testing.T, dir string) command {
				writeFile(t, dir, "go.mod", "module consumer\n\ngo 1.21\n\nrequire github.com/google/uuid v1.6.0\n")
				return command{
					argv: []string{"go", "mod", "download", "-x"},
					env: []string{
						"GOFLAGS=-modcacherw",
						"GOPATH=" + filepath.Join(dir, "gopath"),
						"GOMODCACHE=" + filepath.Join(dir, "modcache"),
					},
				}
			},
		},
		{
			name:     "cargo",
			artifact: regexp.MustCompile(`/download$|\.crate$`),
			prepare: func(t *testing.T, dir string) command {
				writeFile(t, dir, "src/lib.rs", "")
				writeFile(t, dir, "Cargo.toml", lines(
					"[package]", `name = "consumer"`, `version = "0.1.0"`, `edition = "2021"`,
					"[dependencies]", `itoa = "=1.0.14"`,
				))
				return command{
					argv: []string{"cargo", "fetch"},
					env:  []string{"CARGO_HOME=" + filepath.Join(dir, "cargo-home")},
				}
			},
		},
		{
			name:     "mvn",
			artifact: regexp.MustCompile(`\.(jar|pom)(\.sha1)?$`),
			prepare: func(_ *testing.T, dir string) command {
				return command{argv: []string{
					"mvn", "--batch-mode", "--quiet", "-Dmaven.repo.local=" + filepath.Join(dir, "repository"),
					"dependency:get", "-Dartifact=junit:junit:4.13.2",
				}}
			},
		},
		{
			name:     "apt-get",
			artifact: regexp.MustCompile(`/pool/.*\.deb$|/by-hash/`),
			prepare: func(t *testing.T, dir string) command {
				mkdir(t, dir, "state/lists/partial")
				mkdir(t, dir, "cache/archives/partial")
				config := writeFile(t, dir, "apt.conf", lines(
					fmt.Sprintf(`Dir::State "%s/state";`, dir),
					fmt.Sprintf(`Dir::State::status "%s";`, writeFile(t, dir, "status", "")),
					fmt.Sprintf(`Dir::Cache "%s/cache";`, dir),
					`Acquire::Languages "none";`,
				))
				return command{argv: []string{
					"sh", "-ec", `apt-get -qq -c "$1" update; apt-get -qq -c "$1" download hostname`, "apt", config,
				}}
			},
		},
	}
}

// TestLive downloads from the real registries, twice, through "larder run" as it
// comes: no configuration, every preset. Of what is immutable the second time
// fetches nothing.
func TestLive(t *testing.T) {
	if os.Getenv("LARDER_LIVE") == "" {
		t.Skip("set LARDER_LIVE=1 (make live) to use the real registries")
	}
	for _, c := range liveClients() {
		t.Run(c.name, func(t *testing.T) {
			requireClient(t, c.name)
			dir := privateDir(t)
			in := &instance{dir: dir, state: filepath.Join(dir, "state"), larder: larderPath(t)}
			in.endDaemon(t)
			cold := c.through(t, in)
			if cold.code != 0 {
				if direct := c.live(t, nil); direct.code != 0 {
					t.Skipf("registry of %s cannot be reached without larder either: %s", c.name, tail(direct.stderr))
				}
				t.Fatalf("%s fails through larder and not without: %v", c.name, cold)
			}
			hot := c.through(t, in)
			if hot.code != 0 {
				t.Fatalf("second run failed: %v", hot)
			}
			c.check(t, cold, hot)
			t.Logf("first:  %s\nsecond: %s", cold.summary(), hot.summary())
		})
	}
}

func (c liveClient) through(t *testing.T, in *instance) runResult {
	t.Helper()
	list := filepath.Join(privateDir(t), "fetched.json")
	res := runResult{result: c.live(t, []string{in.larder, "run", "--state", in.state, "--idle", "1m", "--json", list, "--"})}
	if res.code == 0 {
		res.fetched = readFetched(t, list)
	}
	return res
}

// live runs the client in the caller's own environment, save for its caches.
func (c liveClient) live(t *testing.T, wrapper []string) result {
	t.Helper()
	dir := privateDir(t)
	cmd := c.prepare(t, dir)
	cmd.argv = append(wrapper, cmd.argv...)
	cmd.dir = dir
	cmd.inherit = true
	return cmd.run(t)
}

func (c liveClient) check(t *testing.T, cold, hot runResult) {
	t.Helper()
	sums := make(map[string]string)
	for _, f := range cold.fetched {
		if f.Status == 200 && c.artifact.MatchString(f.URL) {
			sums[f.URL] = f.SHA256
		}
	}
	if len(sums) == 0 {
		t.Fatalf("first run fetched no artifact that the test knows:\n%+v", cold.fetched)
	}
	left := maps.Clone(sums)
	for _, f := range hot.fetched {
		sum, ok := sums[f.URL]
		if !ok {
			continue
		}
		delete(left, f.URL)
		if !f.hit() || f.UpstreamBytes != 0 {
			t.Errorf("second run took %d bytes of %s from upstream: %s", f.UpstreamBytes, f.URL, f.CacheStatus)
		}
		if f.SHA256 == "" || f.SHA256 != sum {
			t.Errorf("%s has SHA-256 %q, the first time it was %q", f.URL, f.SHA256, sum)
		}
	}
	if len(left) > 0 {
		t.Errorf("second run did not ask for what the first did: %v", left)
	}
}

// tail is the end of what a client complained of.
func tail(text string) string {
	const most = 300
	text = strings.TrimSpace(text)
	return text[max(0, len(text)-most):]
}
