package tests

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"larder/tests/origin"
)

const quarantined = "curation: [{ name: malware, packages_file: denied.txt, action: deny }, { name: quarantine, younger_than: 3d, action: deny }]\n"

// agedRegistries publish an old and a young version of everything.
func agedRegistries(t *testing.T, s *origin.Server) {
	t.Helper()
	old, young := time.Now().AddDate(-1, 0, 0), time.Now().Add(-time.Hour)
	must(t, origin.PyPI(s, pypiIndexHost, pypiFilesHost,
		origin.Package{Name: "larder-aged", Version: "1.0", Payload: 10, Uploaded: old},
		origin.Package{Name: "larder-aged", Version: "2.0", Payload: 10, Uploaded: young},
		origin.Package{Name: "larder-evil", Version: "1.0", Payload: 10, Uploaded: old},
	))
	must(t, origin.NPM(s, npmHost,
		origin.Package{Name: "@larder/aged", Version: "1.0.0", Payload: 10, Uploaded: old},
		origin.Package{Name: "@larder/aged", Version: "2.0.0", Payload: 10, Uploaded: young},
		origin.Package{Name: "larder-evil", Version: "1.0.0", Payload: 10, Uploaded: old},
	))
}

// TestQuarantineHidesTheYoungest from real clients, and a URL does not get around it.
func TestQuarantineHidesTheYoungest(t *testing.T) {
	t.Parallel()
	requireClient(t, "pip", "npm", "curl")
	origins := startOrigins(t)
	agedRegistries(t, origins)
	in := newInstance(t, origins, quarantined)
	writeFile(t, in.dir, "denied.txt", "larder-evil # made for a test\n")
	in.endDaemon(t)

	t.Run("pip takes what is old enough", func(t *testing.T) {
		dir := privateDir(t)
		res := in.run(t, pip(dir, "install", "--target", filepath.Join(dir, "site"), "larder-aged"))
		if res.code != 0 {
			t.Fatalf("%v", res)
		}
		wantFile(t, filepath.Join(dir, "site/larder_aged-1.0.dist-info"))
		for _, want := range []string{"larder-aged==2.0", "larder-evil"} {
			if res := in.run(t, pip(dir, "download", "--no-deps", want)); res.code == 0 {
				t.Errorf("pip gets %s: %v", want, res)
			}
		}
	})
	t.Run("uv takes what is old enough", func(t *testing.T) {
		if _, err := exec.LookPath("uv"); err != nil {
			t.Skip("uv is not installed")
		}
		dir := privateDir(t)
		res := in.run(t, command{dir: dir, argv: []string{"uv", "pip", "install", "--no-cache", "--target", filepath.Join(dir, "site"), "larder-aged"}})
		if res.code != 0 {
			t.Fatalf("%v", res)
		}
		wantFile(t, filepath.Join(dir, "site/larder_aged-1.0.dist-info"))
	})
	npm := func(dir string, args ...string) runResult {
		return in.run(t, command{
			dir: dir, argv: append([]string{"npm"}, args...),
			env: []string{"npm_config_cache=" + filepath.Join(dir, "npm-cache"), "npm_config_update_notifier=false", "npm_config_fetch_retries=0"},
		})
	}
	t.Run("npm takes what is old enough", func(t *testing.T) {
		dir := privateDir(t)
		writeFile(t, dir, "package.json", `{"name": "consumer", "version": "1.0.0"}`)
		if res := npm(dir, "install", "--no-fund", "--no-audit", "@larder/aged"); res.code != 0 {
			t.Fatalf("%v", res)
		}
		if got := readFile(t, filepath.Join(dir, "node_modules/@larder/aged/package.json")); !strings.Contains(got, `"1.0.0"`) {
			t.Errorf("npm has installed %s", got)
		}
		if res := npm(dir, "install", "--no-fund", "--no-audit", "@larder/aged@2.0.0"); res.code == 0 {
			t.Errorf("npm gets what is in quarantine: %v", res)
		}
		if res := npm(dir, "view", "@larder/aged", "versions", "dist-tags.latest"); res.code != 0 || strings.Contains(res.stdout, "2.0.0") {
			t.Errorf("npm view: %v", res)
		}
	})
	t.Run("npm says why", func(t *testing.T) {
		dir := privateDir(t)
		if res := npm(dir, "view", "larder-evil"); res.code == 0 || !strings.Contains(res.stderr, `denied by curation "malware"`) {
			t.Errorf("%v", res)
		}
		// As a lock file has it.
		url := "https://" + npmHost + "/@larder/aged/-/aged-2.0.0.tgz"
		if res := npm(dir, "pack", url); res.code == 0 || !strings.Contains(res.stderr, "in quarantine until") {
			t.Errorf("%v", res)
		}
	})
	t.Run("a URL does not get around it", func(t *testing.T) {
		young := ""
		for _, e := range origins.Exchanges(nil) {
			if strings.HasSuffix(e.Path, "larder_aged-2.0-py3-none-any.whl") {
				t.Errorf("upstream was asked for %s", e.Path)
			}
		}
		page := command{dir: privateDir(t), argv: []string{
			"curl", "-sS", "--cacert", writeFile(t, privateDir(t), "ca.pem", string(origins.Authority.PEM())),
			"--connect-to", "::" + origins.TLSAddr(), "https://" + pypiIndexHost + "/simple/larder-aged/",
		}}.run(t)
		for part := range strings.SplitSeq(page.stdout, `"`) {
			if before, _, ok := strings.Cut(part, "#"); ok && strings.Contains(before, "larder_aged-2.0") {
				young = before
			}
		}
		res := in.run(t, command{dir: privateDir(t), argv: []string{"curl", "-sS", "-w", "%{http_code}", young}})
		if !strings.HasSuffix(res.stdout, "403") || !strings.Contains(res.stdout, `by curation "quarantine"`) {
			t.Errorf("%s: %v", young, res)
		}
	})
}

// TestDeniedAtReloadIsRemovedFromTheStore, and not served in the meantime.
func TestDeniedAtReloadIsRemovedFromTheStore(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	agedRegistries(t, origins)
	origin.ServeArtifacts(origins, artifactsHost)
	in := newInstance(t, origins, artifactRules)
	s := in.serve(t)
	c := s.client(t)
	big, small := artifactURL("/releases/3000000/big.tar"), artifactURL("/releases/1000/small.tar")
	ball := "https://" + npmHost + "/larder-evil/-/larder-evil-1.0.0.tgz"
	other := "https://" + npmHost + "/@larder/aged/-/aged-1.0.0.tgz"
	for _, target := range []string{big, small, ball, other, "https://" + npmHost + "/larder-evil"} {
		if res, _ := get(t, c, target); res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", target, res.Status)
		}
	}
	stored := func() string {
		return command{dir: privateDir(t), argv: []string{in.larder, "store", "ls", "-q", "--state", in.state}}.run(t).stdout
	}
	if before := stored(); strings.Count(before, "\n") != 5 {
		t.Fatalf("stored are\n%s", before)
	}
	writeFile(t, in.dir, "larder.yaml", configFor(t, in.dir, origins)+strings.Replace(artifactRules, "action: immutable", "action: immutable\n    max_object: 1MiB", 1)+
		"curation: [{ name: malware, packages: [larder-evil], action: deny }]\n")
	s.reloaded(t, "policy reloaded")
	if res, _ := get(t, c, ball); res.StatusCode != http.StatusForbidden {
		t.Errorf("what is denied is answered %s", res.Status)
	}
	if !eventually(func() bool {
		return strings.Contains(s.log(), "what the policy refuses now was removed from the store")
	}, s.done) {
		t.Errorf("nothing was removed:\n%s", s.log())
	}
	after := stored()
	for target, want := range map[string]bool{big: false, small: true, ball: false, other: true, "https://" + npmHost + "/larder-evil": false} {
		if got := strings.Contains(after, target+"\n"); got != want {
			t.Errorf("%s is stored: %t, want %t", target, got, want)
		}
	}
	res, _ := get(t, c, big)
	if res.StatusCode != http.StatusOK || strings.Contains(res.Header.Get("Cache-Status"), "; hit") {
		t.Errorf("what is too large now is answered %s %s", res.Status, res.Header.Get("Cache-Status"))
	}
}

// TestExplainShowsTheCuration of a URL.
func TestExplainShowsTheCuration(t *testing.T) {
	t.Parallel()
	dir := privateDir(t)
	config := writeFile(t, dir, "larder.yaml", quarantined)
	writeFile(t, dir, "denied.txt", "larder-evil\n")
	for target, want := range map[string]string{
		"https://" + npmHost + "/larder-evil":                                    `denied by curation "malware"`,
		"https://" + npmHost + "/six/-/six-1.0.0.tgz":                            "it depends on its age",
		"https://" + pypiIndexHost + "/simple/six/":                              "denies all versions that are younger than 3d, or of unknown age",
		"https://" + pypiFilesHost + "/packages/source/l/le/larder-evil-1.0.zip": `denied by curation "malware"`,
	} {
		res := command{dir: dir, argv: []string{larderPath(t), "policy", "explain", "--config", config, "GET", target}}.run(t)
		if res.code != 0 || !strings.Contains(res.stdout, want) {
			t.Errorf("%s: %v", target, res)
		}
	}
}
