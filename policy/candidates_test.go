package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCandidates(t *testing.T) {
	t.Parallel()
	p := mustParse(t, `
presets: none
default: deny
rules:
  - { name: reported, hosts: [a.test], mode: report, action: deny }
  - { name: not-bob, hosts: [a.test], users: [bob], action: deny }
  - { name: office, hosts: [a.test], clients: [10.0.0.0/8], paths: ["/x/**"], action: immutable }
  - { name: no-x, hosts: [a.test], paths: ["/x/**"], action: deny }
  - { name: rest, hosts: [a.test], paths: ["/y"], action: pass }
  - { name: never, hosts: [b.test], action: deny }
  - { name: some, hosts: [c.test], users: ["*"], action: immutable }
  - { name: half, hosts: [d.test], users: ["*"], action: deny }
`)
	for url, want := range map[string]struct {
		names     []string
		byDefault bool
		refused   bool
	}{
		"https://a.test/x/1": {[]string{"not-bob", "office", "no-x"}, false, false},
		"https://a.test/y":   {[]string{"not-bob", "rest"}, false, false},
		"https://a.test/z":   {[]string{"not-bob"}, true, true},
		"https://b.test/":    {[]string{"never"}, false, true},
		"https://c.test/":    {[]string{"some"}, true, false},
		"https://d.test/":    {[]string{"half"}, true, true},
		"https://e.test/":    {nil, true, true},
	} {
		all, byDefault := p.Candidates("GET", mustURL(t, url))
		var names []string
		for _, r := range all {
			names = append(names, r.Name)
		}
		if diff := cmp.Diff(want.names, names); diff != "" || byDefault != want.byDefault {
			t.Errorf("%s: by default %t, want %t; rules (-want +got):\n%s", url, byDefault, want.byDefault, diff)
		}
		if got := p.RefusesAll("GET", mustURL(t, url)); got != want.refused {
			t.Errorf("%s is refused to all: %t, want %t", url, got, want.refused)
		}
	}
	if mustParse(t, "presets: none\ndefault: deny\ndefault_mode: report\n").RefusesAll("GET", mustURL(t, "https://e.test/")) {
		t.Error("a default that only reports refuses")
	}
}

func TestConcerning(t *testing.T) {
	t.Parallel()
	p := mustParse(t, curated)
	for name, want := range map[string][]string{
		"bad": {"malware"}, "tried": {"tried", "off", "quarantine"}, "corp-x": {"own"}, "bar": {"old-bar", "quarantine"}, "@some/x": {"quarantine", "some-quarantine"},
	} {
		var names []string
		for _, c := range p.Concerning(NPM, name) {
			names = append(names, c.Name)
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for name, want := range map[string]bool{"bad": true, "tried": true, "corp-x": false} {
		if got := p.Concerns(NPM, name); got != want {
			t.Errorf("%s is concerned: %t, want %t", name, got, want)
		}
	}
}

func TestReadings(t *testing.T) {
	t.Parallel()
	for path, want := range map[string][]string{
		"/simple/foo/":     {"/simple/foo/"},
		"/@s%2ffoo":        {"/@s%2ffoo", "/@s/foo"},
		"/x/../foo":        {"/x/../foo", "/foo"},
		"/a%252fb":         {"/a%252fb", "/a/b", "/a%2fb"},
		"/packages//a.zip": {"/packages//a.zip", "/packages/a.zip"},
	} {
		got, hidden := Readings(mustURL(t, "https://a.test"+path))
		if diff := cmp.Diff(want, got); diff != "" || hidden {
			t.Errorf("%s: hidden %t (-want +got):\n%s", path, hidden, diff)
		}
	}
	if _, hidden := Readings(mustURL(t, "https://a.test/x/..%2ffoo")); !hidden {
		t.Error("what an origin makes of an encoded slash behind dots is taken for plain")
	}
}

func TestIndexHosts(t *testing.T) {
	t.Parallel()
	p := mustParse(t, `
presets: none
rules:
  - { name: i, hosts: ["{test.,}index.test", "*.other.test"], action: revalidate, registry: pypi, index: pypi, vouches_for: ["*.files.test"] }
  - { name: j, hosts: [elsewhere.test], action: revalidate, registry: pypi, index: pypi }
`)
	if diff := cmp.Diff([]string{"index.test", "test.index.test"}, p.IndexHosts(PyPI, "a.files.test")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := p.IndexHosts(NPM, "a.files.test"); got != nil {
		t.Errorf("of npm there are %v", got)
	}
}
