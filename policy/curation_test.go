package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestCurationDecodesCompletely(t *testing.T) {
	p, err := Load("testdata/valid.yaml")
	if err != nil {
		t.Fatal(err)
	}
	at := func(line int) Position { return Position{File: "testdata/valid.yaml", Line: line, Column: 5} }
	want := []*Curation{
		{Name: "malware", Packages: []string{"left-*", "@evil/*"}, PackagesFile: "testdata/packages.txt", Action: CurationDeny, Mode: Open, Position: at(22)},
		{Name: "old", Registry: []Registry{PyPI}, Packages: []string{"Foo_Bar"}, Versions: ">=1,<2", Action: CurationAllow, Position: at(27)},
		{
			Name: "quarantine", Registry: []Registry{PyPI, NPM}, YoungerThan: 72 * time.Hour, UnknownAge: UnknownAgeAllow,
			Action: CurationDeny, Mode: Report, Position: at(28),
		},
	}
	if diff := cmp.Diff(want, p.Settings().Curation, cmpopts.IgnoreUnexported(Curation{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if want := (Wheels{Overlay: true, MaxSize: 1 << 30}); p.Settings().Wheels != want {
		t.Errorf("Wheels = %+v, want %+v", p.Settings().Wheels, want)
	}
}

const curated = `
curation:
  - { name: malware, packages: [bad, "@evil/*", "Evil.*"], action: deny }
  - { name: tried, packages: [tried], mode: report, action: deny }
  - { name: off, packages: [tried], mode: open, action: deny }
  - { name: old-foo, registry: [pypi], packages: [foo], versions: "<2", action: deny }
  - { name: own, packages: ["corp-*"], action: allow }
  - { name: old-bar, registry: [npm], packages: [bar], versions: "<4.17.21", action: deny }
  - { name: quarantine, younger_than: 3d, action: deny }
  - { name: some-quarantine, registry: [npm], packages: ["@some/*"], younger_than: 30d, unknown_age: allow, action: deny }
`

func TestCurate(t *testing.T) {
	t.Parallel()
	p := mustParse(t, curated)
	now := time.Date(2026, 5, 10, 0, 0, 0, 0, time.UTC)
	old := now.AddDate(-1, 0, 0)
	for _, row := range []struct {
		name   string
		pkg    Package
		by     string
		reason string
		waived string
	}{
		{"what is old and unnamed may be had", Package{PyPI, "six", "1.0", old}, "", "", ""},
		{"a name is denied whatever its version", Package{PyPI, "bad", "", time.Time{}}, "malware", `denied by curation "malware"`, ""},
		{"a name of PyPI is denied in any spelling", Package{PyPI, "evil__Thing", "1.0", old}, "malware", `denied by curation "malware"`, ""},
		{"a name of npm is denied in any case", Package{NPM, "BAD", "1.0.0", old}, "malware", `denied by curation "malware"`, ""},
		{"a scope is denied", Package{NPM, "@evil/x", "1.0.0", old}, "malware", `denied by curation "malware"`, ""},
		{"a name that only begins so is another", Package{NPM, "badly", "1.0.0", old}, "", "", ""},
		{"what is reported goes on to the next entry", Package{NPM, "tried", "1.0.0", old}, "", "", "tried"},
		{"a version in the range is denied", Package{PyPI, "foo", "1.9", old}, "old-foo", `denied by curation "old-foo"`, ""},
		{"one in another spelling too", Package{PyPI, "foo", "v1.9.0", old}, "old-foo", `denied by curation "old-foo"`, ""},
		{"one outside is not", Package{PyPI, "foo", "2.0", old}, "", "", ""},
		{"a pre-release before the end is in the range", Package{NPM, "bar", "4.17.21-rc.1", old}, "old-bar", `denied by curation "old-bar"`, ""},
		{"an entry is for its registry alone", Package{NPM, "foo", "1.0.0", old}, "", "", ""},
		{"what is allowed first is not in quarantine", Package{PyPI, "corp-x", "1.0", now}, "", "", ""},
		{
			"what is young is in quarantine",
			Package{PyPI, "six", "1.0", now.Add(-71 * time.Hour)},
			"quarantine", `it is in quarantine until 2026-05-10T01:00:00Z by curation "quarantine"`, "",
		},
		{"and no longer than that", Package{PyPI, "six", "1.0", now.Add(-72 * time.Hour)}, "", "", ""},
		{
			"what has no age is taken for young",
			Package{PyPI, "six", "1.0", time.Time{}},
			"quarantine", `no index says when it was published, and by curation "quarantine" it must be 3d old`, "",
		},
		{
			"a longer quarantine holds besides",
			Package{NPM, "@some/x", "1.0.0", now.Add(-100 * time.Hour)},
			"some-quarantine", `it is in quarantine until 2026-06-04T20:00:00Z by curation "some-quarantine"`, "",
		},
		{"what comes from the future is young", Package{NPM, "six", "1.0.0", now.Add(time.Hour)}, "quarantine", `it is in quarantine until 2026-05-13T01:00:00Z by curation "quarantine"`, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			v := p.Curate(row.pkg, now)
			by, waived := "", ""
			if v.By != nil {
				by = v.By.Name
			}
			if v.Waived != nil {
				waived = v.Waived.Name
			}
			if by != row.by || waived != row.waived || v.Reason() != row.reason {
				t.Errorf("%s is denied by %q, waived by %q: %s; want %q, %q: %s", row.pkg, by, waived, v.Reason(), row.by, row.waived, row.reason)
			}
		})
	}
}

func TestUnknownAgeMayBeAllowed(t *testing.T) {
	t.Parallel()
	p := mustParse(t, "curation: [{ name: q, younger_than: 3d, unknown_age: allow, action: deny }]")
	if v := p.Curate(Package{Registry: NPM, Name: "a", Version: "1.0.0"}, time.Now()); v.Denied() {
		t.Errorf("denied: %s", v.Reason())
	}
}

func TestCurateName(t *testing.T) {
	t.Parallel()
	p := mustParse(t, curated)
	for name, want := range map[string]string{"bad": "malware", "@evil/x": "malware", "tried": "", "bar": "", "corp-x": "", "six": ""} {
		got := ""
		if c := p.CurateName(NPM, name); c != nil {
			got = c.Name
		}
		if got != want {
			t.Errorf("%s is denied whole by %q, want %q", name, got, want)
		}
	}
	allowed := mustParse(t, `curation: [{ name: some, registry: [npm], packages: [a], versions: "1.x", action: allow }, { name: rest, action: deny }]`)
	if c := allowed.CurateName(NPM, "a"); c != nil {
		t.Errorf("a package of which some versions may be had is denied whole by %q", c.Name)
	}
	if c := allowed.CurateName(NPM, "b"); c == nil || c.Name != "rest" {
		t.Errorf("a package that is not on the list is denied by %v", c)
	}
	if v := allowed.Curate(Package{Registry: NPM, Name: "a", Version: "2.0.0"}, time.Now()); !v.Denied() {
		t.Error("a version that is not on the list may be had")
	}
}

func TestAgeMatters(t *testing.T) {
	t.Parallel()
	p := mustParse(t, curated)
	for name, want := range map[string]bool{"six": true, "bad": false, "corp-x": false, "tried": true, "bar": true} {
		if got := p.AgeMatters(NPM, name); got != want {
			t.Errorf("the age of %s matters: %t, want %t", name, got, want)
		}
	}
	if mustParse(t, "presets: none").AgeMatters(NPM, "six") {
		t.Error("age matters where nothing is curated")
	}
	if !p.CuratesRegistry(PyPI) || mustParse(t, "presets: none").CuratesRegistry(PyPI) {
		t.Error("whether a registry is curated is not told right")
	}
}

func TestPackagesFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("list.txt", "# a list\n\nFoo_Bar\nsix <1.5, !=1.2  # two\nsix ==9\nevil-* >=2\r\n")
	config := write("larder.yaml", "curation: [{ name: m, registry: [pypi], packages_file: list.txt, action: deny }]\n")
	p, err := Load(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, version string
		denied        bool
	}{
		{"foo.bar", "1", true},
		{"six", "1.1", true},
		{"six", "1.2", false},
		{"six", "9.0", true},
		{"evil-x", "2.1", true},
		{"evil-x", "1", false},
	} {
		if got := p.Curate(Package{Registry: PyPI, Name: row.name, Version: row.version}, time.Now()).Denied(); got != row.denied {
			t.Errorf("%s %s denied: %t, want %t", row.name, row.version, got, row.denied)
		}
	}
	for file, want := range map[string]string{
		"none.txt":                        "no such file",
		write("bad.txt", "ok\nno name\n"): `bad.txt:2: "name" are no version specifiers`,
		write("bad2.txt", "ok\n@a/b/c\n"): `bad2.txt:2: "@a/b/c" is no name of a package`,
	} {
		config := write("bad.yaml", "curation: [{ name: m, registry: [pypi], packages_file: "+file+", action: deny }]\n")
		if _, err := Load(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load = %v, want %q", err, want)
		}
	}
	// Both registries write ranges, each in its way.
	config = write("both.yaml", "curation: [{ name: m, packages_file: list.txt, action: deny }]\n")
	if _, err := Load(config); err == nil || !strings.Contains(err.Error(), "list.txt:4: six has versions, which are written in another way for each registry") {
		t.Errorf("Load = %v", err)
	}
}
