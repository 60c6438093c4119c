package tests

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"larder/tests/origin"
)

const overlayOn = "wheels: { overlay: true }\n"

// sdistPackages publish no wheels.
func sdistPackages() []origin.Package {
	return []origin.Package{
		{Name: "larder-sdist", Version: "1.0", Sdist: true, Uploaded: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)},
		{Name: "larder-sdist", Version: "2.0", Sdist: true, Yanked: "broken"},
		{Name: "larder-wheel", Version: "1.0", Payload: 10},
	}
}

// pip is pip with settings of its own only.
func pip(dir string, args ...string) command {
	return command{dir: dir, argv: append([]string{"pip"}, args...), env: []string{
		"PIP_NO_CACHE_DIR=1", "PIP_CONFIG_FILE=/dev/null", "PIP_DISABLE_PIP_VERSION_CHECK=1",
	}}
}

// wheels is "larder wheels" of this instance.
func (in *instance) wheels(t testing.TB, args ...string) result {
	t.Helper()
	argv := append([]string{in.larder, "wheels", "--state", in.state, "--config", in.config}, args...)
	return command{dir: privateDir(t), argv: argv}.run(t)
}

// TestPackagesWithoutWheelsBecomeWheels is the wheel mirror without a client setting:
// what is fetched as a source distribution is noticed, built, and from then on plain
// pip installs the wheel.
func TestPackagesWithoutWheelsBecomeWheels(t *testing.T) {
	t.Parallel()
	requireClient(t, "pip", "python3")
	origins := startOrigins(t)
	must(t, origin.PyPI(origins, pypiIndexHost, pypiFilesHost, sdistPackages()...))
	in := newInstance(t, origins, overlayOn)
	in.endDaemon(t)

	// Every job builds it for itself.
	for range 2 {
		dir := privateDir(t)
		res := in.run(t, pip(dir, "install", "--target", filepath.Join(dir, "site"), "larder-sdist", "larder-wheel"))
		if res.code != 0 || !strings.Contains(res.stdout, "larder_sdist-1.0.tar.gz") {
			t.Fatalf("before: %v", res)
		}
	}
	wanted := in.wheels(t, "wanted", "--json")
	var line struct {
		Project, Version, File, Wheels string
		Count, Bytes                   int64
	}
	must(t, json.Unmarshal([]byte(wanted.stdout), &line)) // one line
	if line.Project != "larder-sdist" || line.Version != "1.0" || line.Count != 2 || line.Wheels != "none" || line.Bytes == 0 {
		t.Errorf("wanted: %v", wanted)
	}

	built := in.wheels(t, "build", "--wanted", "5", "--python", "python3")
	if built.code != 0 || !strings.Contains(built.stdout, "built larder_sdist-1.0-py3-none-any.whl") {
		t.Fatalf("build: %v", built)
	}
	if again := in.wheels(t, "build", "larder-sdist==1.0"); again.code != 0 || !strings.Contains(again.stdout, "there is a wheel") {
		t.Errorf("build again: %v", again)
	}
	if res := in.wheels(t, "build", "larder-sdist==2.0"); res.code != 0 {
		t.Errorf("build a yanked one: %v", res)
	}
	if res := in.wheels(t, "build", "larder-wheel==1.0"); res.code == 0 || !strings.Contains(res.stderr, "lists no source distribution") {
		t.Errorf("build what has no source distribution: %v", res)
	}
	ls := in.wheels(t, "ls")
	if strings.Count(ls.stdout, "\n") != 2 || !strings.Contains(ls.stdout, "of larder_sdist-1.0.tar.gz with cp3") {
		t.Errorf("ls: %v", ls)
	}

	t.Run("plain pip installs the wheel", func(t *testing.T) {
		dir := privateDir(t)
		res := in.run(t, pip(dir, "install", "--target", filepath.Join(dir, "site"), "larder-sdist"))
		if res.code != 0 || strings.Contains(res.stdout, ".tar.gz") || !strings.Contains(res.stdout, "larder_sdist-1.0-py3-none-any.whl") {
			t.Errorf("%v", res)
		}
		wantFile(t, filepath.Join(dir, "site/larder_sdist/__init__.py"))
		for _, f := range res.fetched {
			if strings.Contains(f.URL, ".whl") && (f.Class != "hit" || f.UpstreamBytes != 0) {
				t.Errorf("fetched %+v", f)
			}
		}
	})
	t.Run("from the HTML index", func(t *testing.T) {
		dir := privateDir(t)
		// pip of before 22.2 asks for HTML alone.
		page := in.run(t, command{dir: dir, argv: []string{"curl", "-sS", "https://" + pypiIndexHost + "/simple/larder-sdist/"}})
		for _, want := range []string{"/larder/wheels/", "#sha256=", `data-core-metadata="sha256=`, `data-yanked="broken"`} {
			if !strings.Contains(page.stdout, want) {
				t.Errorf("%s is not in\n%s", want, page.stdout)
			}
		}
		if strings.Count(page.stdout, `data-yanked="broken"`) != 2 {
			t.Errorf("the wheel of a yanked source distribution is not yanked:\n%s", page.stdout)
		}
	})
	t.Run("with hashes required", func(t *testing.T) {
		dir := privateDir(t)
		sum := in.wheels(t, "ls", "--json")
		digest := ""
		for text := range strings.Lines(sum.stdout) {
			var w struct{ Version, SHA256 string }
			must(t, json.Unmarshal([]byte(text), &w))
			if w.Version == "1.0" {
				digest = w.SHA256
			}
		}
		writeFile(t, dir, "requirements.txt", "larder-sdist==1.0 --hash=sha256:"+digest+"\n")
		res := in.run(t, pip(dir, "install", "--require-hashes", "--target", filepath.Join(dir, "site"), "-r", "requirements.txt"))
		if res.code != 0 || strings.Contains(res.stdout, ".tar.gz") {
			t.Errorf("%v", res)
		}
		writeFile(t, dir, "requirements.txt", "larder-sdist==1.0 --hash=sha256:"+strings.Repeat("0", 64)+"\n")
		if res := in.run(t, pip(dir, "install", "--require-hashes", "--target", filepath.Join(dir, "other"), "-r", "requirements.txt")); res.code == 0 {
			t.Errorf("another hash is taken: %v", res)
		}
	})
	t.Run("a lazy wheel is read in ranges", func(t *testing.T) {
		dir := privateDir(t)
		writeFile(t, dir, "part.sh", `set -e
u=$(curl -sS https://`+pypiIndexHost+`/simple/larder-sdist/ | grep -o 'https[^"#]*larder_sdist-1.0-py3-none-any.whl' | head -1)
curl -sS -D head -r -22 "$u" | od -An -c | head -1
curl -sS "$u.metadata"
curl -sS -o /dev/null -w '%{http_code}\n' "${u%/*}/other-1.0-py3-none-any.whl"
cat head
`)
		res := in.run(t, command{dir: dir, argv: []string{"sh", "part.sh"}})
		if !strings.Contains(res.stdout, "P   K") || !strings.Contains(res.stdout, " 206") ||
			!strings.Contains(res.stdout, "Name: larder-sdist") || !strings.Contains(res.stdout, "\n404\n") {
			t.Errorf("%v", res)
		}
	})
	t.Run("uv installs the wheel", func(t *testing.T) {
		if _, err := exec.LookPath("uv"); err != nil {
			t.Skip("uv is not installed")
		}
		dir := privateDir(t)
		res := in.run(t, command{dir: dir, argv: []string{"uv", "pip", "install", "--no-cache", "--target", filepath.Join(dir, "site"), "larder-sdist"}})
		if res.code != 0 {
			t.Errorf("%v", res)
		}
		wantFile(t, filepath.Join(dir, "site/larder_sdist/__init__.py"))
		for _, f := range res.fetched {
			if strings.HasSuffix(f.URL, ".tar.gz") {
				t.Errorf("uv fetched %+v", f)
			}
		}
	})
	t.Run("a removed wheel is gone", func(t *testing.T) {
		if res := in.wheels(t, "rm", "larder_sdist-1.0-*"); res.code != 0 {
			t.Fatalf("rm: %v", res)
		}
		dir := privateDir(t)
		res := in.run(t, pip(dir, "install", "--target", filepath.Join(dir, "site"), "larder-sdist"))
		if res.code != 0 || !strings.Contains(res.stdout, "larder_sdist-1.0.tar.gz") {
			t.Errorf("%v", res)
		}
	})
}

// TestServedOverlay is the same with "larder serve", and a wheel built elsewhere.
func TestServedOverlay(t *testing.T) {
	t.Parallel()
	requireClient(t, "pip", "python3", "curl")
	origins := startOrigins(t)
	must(t, origin.PyPI(origins, pypiIndexHost, pypiFilesHost, sdistPackages()...))
	in := newInstance(t, origins, "")
	s := in.serve(t)
	proxied := []string{"HTTPS_PROXY=http://" + s.proxy, "PIP_CERT=" + filepath.Join(in.state, "trust", "bundle.pem")}
	download := func() result {
		cmd := pip(privateDir(t), "download", "--no-deps", "larder-sdist")
		cmd.env = append(cmd.env, proxied...)
		return cmd.run(t)
	}
	built := in.wheels(t, "build", "--proxy", "http://"+s.proxy, "--quiet", "larder-sdist")
	if built.code != 0 || !strings.Contains(built.stdout, "built larder_sdist-1.0-py3-none-any.whl") || !strings.Contains(built.stderr, "no wheels: { overlay: true }") {
		t.Fatalf("build: %v", built)
	}
	if res := download(); res.code != 0 || !strings.Contains(res.stdout, ".tar.gz") {
		t.Errorf("without the overlay: %v", res)
	}
	writeFile(t, in.dir, "larder.yaml", configFor(t, in.dir, origins)+overlayOn)
	s.reloaded(t, "policy reloaded")
	if res := download(); res.code != 0 || !strings.Contains(res.stdout, "larder_sdist-1.0-py3-none-any.whl") {
		t.Errorf("with it: %v", res)
	}
	// A wheel that is given is never put over the one that the index has.
	dir := privateDir(t)
	fetched := pip(dir, "download", "--no-deps", "larder-wheel")
	fetched.env = append(fetched.env, proxied...)
	if res := fetched.run(t); res.code != 0 {
		t.Fatalf("%v", res)
	}
	if res := in.wheels(t, "add", filepath.Join(dir, "larder_wheel-1.0-py3-none-any.whl")); res.code != 0 || !strings.Contains(res.stdout, "added larder_wheel-1.0-py3-none-any.whl") {
		t.Errorf("add: %v", res)
	}
	if _, body := get(t, s.client(t), "https://"+pypiIndexHost+"/simple/larder-wheel/"); strings.Contains(string(body), "/larder/wheels/") {
		t.Errorf("it is over the index's own: %s", body)
	}
	if res := in.wheels(t, "add", filepath.Join(dir, "nothing-1.0.txt")); res.code != 2 {
		t.Errorf("add what is no wheel: %v", res)
	}
}

// TestBuildIsBounded: one that does not end is ended, with what it has started.
func TestBuildIsBounded(t *testing.T) {
	t.Parallel()
	requireClient(t, "pip", "python3")
	origins := startOrigins(t)
	must(t, origin.PyPI(origins, pypiIndexHost, pypiFilesHost,
		origin.Package{Name: "larder-slow", Version: "1.0", Sdist: true, Hangs: true},
		origin.Package{Name: "larder-sdist", Version: "1.0", Sdist: true},
	))
	in := newInstance(t, origins, overlayOn)
	in.endDaemon(t)
	begin := time.Now()
	res := in.wheels(t, "build", "--timeout", "15s", "--max-file", "64MiB", "larder-slow", "larder-sdist")
	if res.code != 1 || !strings.Contains(res.stderr, "larder-slow: with python3: pip took longer than 15s") || !strings.Contains(res.stdout, "built larder_sdist-1.0") {
		t.Errorf("%v", res)
	}
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}
