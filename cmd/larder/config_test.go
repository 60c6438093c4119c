package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"larder/policy"
)

func TestConfigurationReferenceIsTheAnnotatedDefault(t *testing.T) {
	doc, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), "```yaml\n"+policy.Annotated()+"```\n") {
		t.Error("docs/configuration.md differs from 'larder config print': run make docs")
	}
}

func TestEcosystemsAreThePresets(t *testing.T) {
	doc, err := os.ReadFile("../../docs/ecosystems.md")
	if err != nil {
		t.Fatal(err)
	}
	presets, err := policy.Presets()
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := policy.Markdown(&table, presets); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), "-->\n"+table.String()+"<!-- end -->\n") {
		t.Error("docs/ecosystems.md differs from 'larder policy presets --markdown': run make docs")
	}
}

func TestDefaultConfigIsTheUsersWhereThereIsOne(t *testing.T) {
	home := t.TempDir()
	env := map[string]string{"HOME": home}
	getenv := func(name string) string { return env[name] }
	system := ""
	if _, err := os.Stat(systemConfig); err == nil {
		system = systemConfig
	}
	check := func(want string) {
		t.Helper()
		got, err := defaultConfig(getenv, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("default configuration %q, want %q", got, want)
		}
	}
	check(system)
	write := func(dir string) string {
		t.Helper()
		path := filepath.Join(dir, "larder", "larder.yaml")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("presets: all\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	usual := write(filepath.Join(home, ".config"))
	check(usual)
	env["XDG_CONFIG_HOME"] = filepath.Join(home, "elsewhere")
	check(system)
	check(write(env["XDG_CONFIG_HOME"]))
}

func TestDefaultConfigThatCannotBeReadIsNoAbsentOne(t *testing.T) {
	home := t.TempDir()
	// A file where the folder should be: stat fails with something else than
	// "does not exist", for root too.
	if err := os.WriteFile(filepath.Join(home, ".config"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := defaultConfig(func(name string) string { return map[string]string{"HOME": home}[name] }, 1000)
	if err == nil {
		t.Errorf("got %q and no error", got)
	}
}

func TestTargetsAreAbsoluteURLs(t *testing.T) {
	for _, raw := range []string{"https://h.test/a%2Fb", "http://h.test"} {
		if _, err := parseTarget(raw); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for _, raw := range []string{"", "/path", "h.test/x", "ftp://h.test/", "https:///x", "https://h.test:port/", "https://h\x00/"} {
		if u, err := parseTarget(raw); err == nil {
			t.Errorf("%q is taken as %v", raw, u)
		}
	}
}

func TestLocalProxyIsReachableFromThisMachine(t *testing.T) {
	for addr, want := range map[string]string{
		":3128":          "http://127.0.0.1:3128",
		"0.0.0.0:3128":   "http://127.0.0.1:3128",
		"[::]:3128":      "http://127.0.0.1:3128",
		"10.1.2.3:8080":  "http://10.1.2.3:8080",
		"[fd00::1]:3128": "http://[fd00::1]:3128",
		"cache.test:1":   "http://cache.test:1",
	} {
		got, err := localProxy(addr)
		if err != nil || got != want {
			t.Errorf("localProxy(%q) = %q, %v; want %q", addr, got, err, want)
		}
	}
}

func TestProxiesAreSpelledAsEveryClientUnderstands(t *testing.T) {
	for _, raw := range []string{"http://cache.test:3128", "http://cache.test:3128/", "http://[fd00::1]:3128", "http://user:pass@cache.test:1"} {
		if err := checkProxy(raw); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for _, raw := range []string{"cache:3128", "https://cache.test:3128", "http://cache.test", "http://:3128", "http://cache.test:3128/x", "cache.test", "http://a b:1"} {
		if err := checkProxy(raw); err == nil {
			t.Errorf("%q is accepted", raw)
		}
	}
}
