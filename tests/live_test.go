package tests

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"larder/policy"
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

// TestLiveGit clones a small repository of each forge twice. What may change between the
// two is asked for again: the refs.
func TestLiveGit(t *testing.T) {
	if os.Getenv("LARDER_LIVE") == "" {
		t.Skip("set LARDER_LIVE=1 (make live) to use the real forges")
	}
	requireClient(t, "git")
	for _, repository := range []string{
		"https://github.com/octocat/Hello-World.git", "https://gitlab.com/gitlab-org/gitlab-test.git", "https://codeberg.org/forgejo/website.git",
	} {
		t.Run(repository, func(t *testing.T) {
			dir := privateDir(t)
			in := &instance{dir: dir, state: filepath.Join(dir, "state"), larder: larderPath(t)}
			in.endDaemon(t)
			c := liveClient{name: "git", prepare: func(*testing.T, string) command {
				return command{argv: []string{"git", "clone", "--quiet", "--depth=1", repository, "c"}, env: gitAlone()}
			}}
			if direct := c.live(t, nil); direct.code != 0 {
				t.Skipf("the forge cannot be reached without larder either: %s", tail(direct.stderr))
			}
			cold, hot := c.through(t, in), c.through(t, in)
			if cold.code != 0 || hot.code != 0 {
				t.Fatalf("git fails through larder and not without: %v\n%v", cold, hot)
			}
			packs := 0
			for _, f := range hot.fetched {
				if f.Method == http.MethodPost && strings.HasSuffix(f.URL, "/git-upload-pack") && f.hit() {
					packs++
				}
			}
			if packs != 1 {
				t.Errorf("second clone had %d packs from the cache, want 1:\n%+v", packs, hot.fetched)
			}
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

// liveURLs are a few real URLs of each preset that has no client above: an artifact
// first, then an index. They name versions that have been there for years.
var liveURLs = map[string][]string{
	"alpine":      {"https://dl-cdn.alpinelinux.org/alpine/v3.20/releases/x86_64/alpine-minirootfs-3.20.0-x86_64.tar.gz", "https://dl-cdn.alpinelinux.org/alpine/v3.20/main/x86_64/APKINDEX.tar.gz"},
	"android":     {"https://dl.google.com/dl/android/maven2/androidx/annotation/annotation/1.7.0/annotation-1.7.0.pom"},
	"ansible":     {"https://galaxy.ansible.com/api/v3/plugin/ansible/content/published/collections/artifacts/ansible-posix-1.5.4.tar.gz", "https://galaxy.ansible.com/api/"},
	"arch":        {"https://archive.archlinux.org/repos/2024/06/01/core/os/x86_64/core.db", "https://geo.mirror.pkgbuild.com/core/os/x86_64/core.db"},
	"bazel":       {"https://bcr.bazel.build/modules/rules_go/0.48.0/MODULE.bazel", "https://bcr.bazel.build/bazel_registry.json"},
	"browsers":    {"https://chromedriver.storage.googleapis.com/114.0.5735.90/chromedriver_linux64.zip", "https://chromedriver.storage.googleapis.com/LATEST_RELEASE_114"},
	"cdn":         {"https://cdn.jsdelivr.net/npm/left-pad@1.3.0/package.json"},
	"cocoapods":   {"https://cdn.cocoapods.org/CocoaPods-version.yml"},
	"conan":       {"https://center2.conan.io/v2/conans/zlib/1.3.1/_/_/latest"},
	"conda":       {"https://repo.anaconda.com/pkgs/main/noarch/six-1.16.0-pyhd3eb1b0_1.conda", "https://repo.anaconda.com/pkgs/main/noarch/current_repodata.json"},
	"cpan":        {"https://www.cpan.org/authors/id/H/HA/HAARG/Moo-2.005005.tar.gz", "https://www.cpan.org/authors/01mailrc.txt.gz"},
	"cran":        {"https://cloud.r-project.org/src/contrib/Archive/jsonlite/jsonlite_1.8.0.tar.gz", "https://cloud.r-project.org/src/contrib/PACKAGES.gz"},
	"deno":        {"https://deno.land/std@0.200.0/version.ts", "https://jsr.io/@std/path/meta.json"},
	"github":      {"https://codeload.github.com/octocat/Hello-World/tar.gz/7fd1a60b01f91b314f59955a4e4d4e80d8edf11d", "https://raw.githubusercontent.com/octocat/Hello-World/master/README"},
	"gitlab":      {"https://gitlab.com/gitlab-org/cli/-/raw/v1.40.0/LICENSE"},
	"gradle":      {"https://services.gradle.org/distributions/gradle-8.5-bin.zip.sha256", "https://services.gradle.org/versions/current"},
	"hackage":     {"https://hackage.haskell.org/package/text-2.0.2/text-2.0.2.tar.gz", "https://hackage.haskell.org/timestamp.json"},
	"helm":        {"https://get.helm.sh/helm-v3.15.0-linux-amd64.tar.gz.sha256sum", "https://charts.jetstack.io/index.yaml"},
	"hex":         {"https://repo.hex.pm/tarballs/jason-1.4.1.tar", "https://repo.hex.pm/packages/jason"},
	"homebrew":    {"https://formulae.brew.sh/api/formula/jq.json"},
	"huggingface": {"https://huggingface.co/openai-community/gpt2/resolve/607a30d783dfa663caf39e06633721c8d4cfcd7e/config.json", "https://huggingface.co/openai-community/gpt2/resolve/main/config.json"},
	"jdk":         {"https://archive.apache.org/dist/maven/maven-3/3.9.0/binaries/apache-maven-3.9.0-bin.tar.gz.sha512"},
	"julia":       {"https://pkg.julialang.org/registries", "https://julialang-s3.julialang.org/bin/versions.json"},
	"nix":         {"https://cache.nixos.org/nix-cache-info", "https://channels.nixos.org/flake-registry.json"},
	"nuget":       {"https://api.nuget.org/v3-flatcontainer/newtonsoft.json/13.0.1/newtonsoft.json.nuspec", "https://api.nuget.org/v3/index.json"},
	"opensuse":    {"https://cdn.opensuse.org/distribution/leap/15.6/repo/oss/repodata/repomd.xml"},
	"packagist":   {"https://getcomposer.org/download/2.7.7/composer.phar.sha256sum", "https://repo.packagist.org/p2/psr/log.json"},
	"pub":         {"https://pub.dev/api/archives/path-1.9.0.tar.gz", "https://pub.dev/api/packages/path"},
	"pytorch":     {"https://download.pytorch.org/whl/cpu/torch/"},
	"rpm":         {"https://dl.fedoraproject.org/pub/epel/9/Everything/x86_64/repodata/repomd.xml"},
	"rubygems":    {"https://rubygems.org/gems/rake-13.2.1.gem", "https://index.rubygems.org/info/rake"},
	"terraform":   {"https://releases.hashicorp.com/terraform/1.8.5/terraform_1.8.5_SHA256SUMS", "https://releases.hashicorp.com/terraform/1.8.5/index.json"},
	"toolchains":  {"https://static.rust-lang.org/rustup/archive/1.27.1/x86_64-unknown-linux-gnu/rustup-init.sha256", "https://nodejs.org/dist/index.json"},
	"ubuntu":      {"http://archive.ubuntu.com/ubuntu/dists/noble/Release"},
	"vendors":     {"https://download.docker.com/linux/debian/dists/bookworm/InRelease"},
}

// liveByClient are the presets that the clients above use, and TestLiveGit.
var liveByClient = map[string]string{
	"git": "git",
	"npm": "npm", "pypi": "pip", "go": "go", "crates": "cargo", "maven": "mvn", "debian": "apt-get",
}

// TestLivePresets asks for a few URLs of every other preset, twice, with curl.
func TestLivePresets(t *testing.T) {
	if os.Getenv("LARDER_LIVE") == "" {
		t.Skip("set LARDER_LIVE=1 (make live) to use the real registries")
	}
	requireClient(t, "curl")
	for preset, urls := range liveURLs {
		t.Run(preset, func(t *testing.T) {
			t.Parallel()
			dir := privateDir(t)
			in := &instance{dir: dir, state: filepath.Join(dir, "state"), larder: larderPath(t)}
			in.endDaemon(t)
			c := liveClient{name: "curl", prepare: func(*testing.T, string) command {
				return command{argv: append([]string{"curl", "--silent", "--show-error", "--fail", "--location", "--max-time", "60", "--remote-name-all"}, urls...)}
			}}
			cold := c.through(t, in)
			if cold.code != 0 {
				if direct := c.live(t, nil); direct.code != 0 {
					t.Skipf("cannot be reached without larder either: %s", tail(direct.stderr))
				}
				t.Fatalf("curl fails through larder and not without: %v", cold)
			}
			hot := c.through(t, in)
			checkLive(t, cold, hot)
			t.Logf("first:  %s\nsecond: %s", cold.summary(), hot.summary())
		})
	}
}

// checkLive wants what the presets call immutable to come from the store the second
// time, and everything to be what it was.
func checkLive(t *testing.T, cold, hot runResult) {
	t.Helper()
	p, err := policy.Load("")
	must(t, err)
	before := make(map[string]fetch)
	for _, f := range cold.fetched {
		before[f.URL] = f
	}
	for _, f := range hot.fetched {
		u, err := url.Parse(f.URL)
		must(t, err)
		d := p.Classify(policy.Client{}, f.Method, u)
		if b := before[f.URL]; d.Action == policy.Immutable && b.Status == 200 && (!f.hit() || f.UpstreamBytes != 0 || f.SHA256 != b.SHA256) {
			t.Errorf("%s was fetched again: %+v", f.URL, f)
		}
		if d.Action.Stores() && f.Status == 200 && f.CacheStatus == "" {
			t.Errorf("%s did not go through the cache: %+v", f.URL, f)
		}
	}
}

// TestEveryPresetIsExercisedLive keeps the lists above complete.
func TestEveryPresetIsExercisedLive(t *testing.T) {
	t.Parallel()
	presets, err := policy.Presets()
	must(t, err)
	p, err := policy.Load("")
	must(t, err)
	for _, preset := range presets {
		if liveURLs[preset.Name] == nil && liveByClient[preset.Name] == "" && !strings.HasPrefix(preset.Name, "oci") {
			t.Errorf("preset %s is exercised by neither a client nor a URL", preset.Name)
		}
		for _, raw := range liveURLs[preset.Name] {
			u, err := url.Parse(raw)
			must(t, err)
			if d := p.Classify(policy.Client{}, "GET", u); d.Rule == nil || d.Rule.Preset != preset.Name || !d.Action.Stores() {
				t.Errorf("%s is not what preset %s stores: %v", raw, preset.Name, d.Rule)
			}
		}
	}
}
