package npm

import (
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const full = `{"_id":"foo","_rev":"9-abc","name":"foo","dist-tags":{"latest":"2.0.0","next":"3.0.0-rc.1","old":"1.0.0","alone":"4.0.0-x"},` +
	`"versions":{"1.0.0":{"name":"foo","version":"1.0.0","description":"long","dist":{"tarball":"https://r.test/foo/-/foo-1.0.0.tgz","integrity":"sha512-AA==","shasum":"aa","signatures":[{"x": 1}]}},` +
	`"2.0.0":{"name":"foo","version":"2.0.0","scripts":{"postinstall":"x"},"dependencies":{"a":"1"},"dist":{"tarball":"https://r.test/foo/-/foo-2.0.0.tgz","shasum":"bb"}},` +
	`"3.0.0-beta.1":{"name":"foo","version":"3.0.0-beta.1","dist":{}},"3.0.0-rc.1":{"name":"foo","version":"3.0.0-rc.1","dist":{}},"4.0.0-x":{"dist":{}}},` +
	`"time":{"created":"2020-01-01T00:00:00.000Z","modified":"2026-01-01T00:00:00.000Z","0.1.0":"2019-01-01T00:00:00.000Z","1.0.0":"2020-01-01T00:00:00.000Z",` +
	`"2.0.0":"2021-01-01T00:00:00.5+00:00","3.0.0-rc.1":"2022-01-01T00:00:00.000Z"},"readme":"of 2.0.0","x-new":[1, 2]}`

func parsed(t *testing.T, doc string) *Packument {
	t.Helper()
	p, err := Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPackument(t *testing.T) {
	t.Parallel()
	p := parsed(t, full)
	m, err := p.Manifest("1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	if want := (Dist{"https://r.test/foo/-/foo-1.0.0.tgz", "sha512-AA==", "aa"}); m.Dist != want || m.Name != "foo" || m.Version != "1.0.0" {
		t.Errorf("manifest is %+v", m)
	}
	if got, want := p.Time("2.0.0"), time.Date(2021, 1, 1, 0, 0, 0, 5e8, time.UTC); !got.Equal(want) {
		t.Errorf("time is %s, want %s", got, want)
	}
	if !p.Time("3.0.0-beta.1").IsZero() {
		t.Error("a version without time has one")
	}
	if got := string(p.JSON()); got != full {
		t.Errorf("what nobody changed changed:\n%s", cmp.Diff(full, got))
	}
}

func TestKeepMovesTagsBack(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		gone string
		want map[string]string
	}{
		{"the latest goes", "2.0.0", map[string]string{"latest": "1.0.0", "next": "3.0.0-rc.1", "old": "1.0.0", "alone": "4.0.0-x"}},
		{"a pre-release goes to the one before", "3.0.0-rc.1", map[string]string{"latest": "2.0.0", "next": "3.0.0-beta.1", "old": "1.0.0", "alone": "4.0.0-x"}},
		{"the oldest goes, and the tag has nothing before", "1.0.0", map[string]string{"latest": "2.0.0", "next": "3.0.0-rc.1", "alone": "4.0.0-x"}},
		{"no release is left", "1.0.0 2.0.0", map[string]string{"latest": "4.0.0-x", "next": "3.0.0-rc.1", "alone": "4.0.0-x"}},
		{"nothing is left", "1.0.0 2.0.0 3.0.0-beta.1 3.0.0-rc.1 4.0.0-x", map[string]string{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := parsed(t, full)
			n := p.Keep(func(version string) bool { return !strings.Contains(" "+row.gone+" ", " "+version+" ") })
			if want := len(strings.Fields(row.gone)); n != want {
				t.Errorf("%d versions went, want %d", n, want)
			}
			again := parsed(t, string(p.JSON()))
			if diff := cmp.Diff(row.want, maps.Collect(again.Tags())); diff != "" {
				t.Errorf("tags (-want +got):\n%s", diff)
			}
			for gone := range strings.FieldsSeq(row.gone) {
				if again.Has(gone) || !again.Time(gone).IsZero() {
					t.Errorf("%s is still there", gone)
				}
			}
			if strings.Contains(string(p.JSON()), "readme") || strings.Contains(string(p.JSON()), "_rev") {
				t.Error("the readme of the latest, or the revision, is still there")
			}
		})
	}
}

func TestKeepTellsOfNoTimeThatWent(t *testing.T) {
	t.Parallel()
	p := parsed(t, full)
	p.Keep(func(version string) bool { return version == "1.0.0" })
	want := `"time":{"created":"2020-01-01T00:00:00.000Z","modified":"2020-01-01T00:00:00.000Z","0.1.0":"2019-01-01T00:00:00.000Z","1.0.0":"2020-01-01T00:00:00.000Z"}`
	if got := string(p.JSON()); !strings.Contains(got, want) {
		t.Errorf("%s is not in\n%s", want, got)
	}
}

func TestAbbreviated(t *testing.T) {
	t.Parallel()
	p := parsed(t, full)
	p.Keep(func(version string) bool { return version == "1.0.0" || version == "2.0.0" })
	got, err := p.Abbreviated()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"foo","dist-tags":{"latest":"2.0.0","old":"1.0.0"},"versions":{` +
		`"1.0.0":{"name":"foo","version":"1.0.0","dist":{"tarball":"https://r.test/foo/-/foo-1.0.0.tgz","integrity":"sha512-AA==","shasum":"aa","signatures":[{"x": 1}]}},` +
		`"2.0.0":{"name":"foo","version":"2.0.0","dependencies":{"a":"1"},"dist":{"tarball":"https://r.test/foo/-/foo-2.0.0.tgz","shasum":"bb"},"hasInstallScript":true}},` +
		`"modified":"2021-01-01T00:00:00.500Z"}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRanges(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		of, version string
		want        bool
	}{
		{"^1.2.3", "1.9.0", true},
		{"^1.2.3", "2.0.0", false},
		{"<4.17.21", "4.17.21-rc.1", true}, // a curator means pre-releases too
		{"<4.17.21", "4.17.20", true},
		{">=1.2 <2 || 3.x", "3.4.5", true},
		{"1.0.0 - 2.0.0", "1.5.0", true},
		{"*", "0.0.1-alpha", true},
		{"=1.2.3", "1.2.3+build", true},
	} {
		r, err := ParseRange(row.of)
		if err != nil {
			t.Fatal(err)
		}
		v, err := ParseVersion(row.version)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Has(v); got != row.want {
			t.Errorf("%s has %s: %t, want %t", row.of, row.version, got, row.want)
		}
	}
	if _, err := ParseRange("youngest"); err == nil {
		t.Error("nonsense is taken for a range")
	}
}

func TestParsePath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]Path{
		"/foo":                          {Page: PackumentDoc, Name: "foo"},
		"/foo/":                         {Page: PackumentDoc, Name: "foo"},
		"/@s%2ffoo":                     {Page: PackumentDoc, Name: "@s/foo"},
		"/@s%2Ffoo":                     {Page: PackumentDoc, Name: "@s/foo"},
		"/@s/foo":                       {Page: PackumentDoc, Name: "@s/foo"},
		"/%40s%2ffoo":                   {Page: PackumentDoc, Name: "@s/foo"},
		"/foo/1.0.0":                    {Page: ManifestDoc, Name: "foo", Version: "1.0.0"},
		"/@s/foo/latest":                {Page: ManifestDoc, Name: "@s/foo", Version: "latest"},
		"/foo/-/foo-1.0.0.tgz":          {Page: Tarball, Name: "foo", Version: "1.0.0"},
		"/@s/foo/-/foo-1.0.0-rc.1.tgz":  {Page: Tarball, Name: "@s/foo", Version: "1.0.0-rc.1"},
		"/@s/foo/-/@s/foo-1.0.0.tgz":    {Page: Tarball, Name: "@s/foo", Version: "1.0.0"},
		"/f%6fo/-/foo-1.0.0.tgz":        {Page: Tarball, Name: "foo", Version: "1.0.0"},
		"/foo/-/bar-1.0.0.tgz":          {Page: Tarball, Name: "foo"},
		"/-/package/foo/dist-tags":      {Page: DistTags, Name: "foo"},
		"/-/package/@s%2ffoo/dist-tags": {Page: DistTags, Name: "@s/foo"},
		"/-/whoami":                     {},
		"/_all":                         {},
		"/@s":                           {},
		"/":                             {},
		"/artifactory/api/npm/all/foo":  {Page: PackumentDoc, Name: "foo", Prefix: "/artifactory/api/npm/all/"},
		"/artifactory/api/npm/all/@s/foo/-/foo-1.0.0.tgz": {Page: Tarball, Name: "@s/foo", Version: "1.0.0", Prefix: "/artifactory/api/npm/all/"},
		"/repository/all/@s%2ffoo":                        {Page: PackumentDoc, Name: "@s/foo", Prefix: "/repository/all/"},
		"/repository/-/repository-1.0.0.tgz":              {Page: Tarball, Name: "repository", Version: "1.0.0"},
		"/api/v4/projects/7/packages/npm/foo":             {Page: PackumentDoc, Name: "foo", Prefix: "/api/v4/projects/7/packages/npm/"},
		"/org/_packaging/feed/npm/registry/foo":           {Page: PackumentDoc, Name: "foo", Prefix: "/org/_packaging/feed/npm/registry/"},
		"/foo/1.0.0/more":                                 {},
	} {
		u, err := url.Parse("https://r.test" + path)
		if err != nil {
			t.Fatal(err)
		}
		if want.Page != Other && want.Prefix == "" {
			want.Prefix = "/"
		}
		if diff := cmp.Diff(want, ParsePath(u)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

func TestDocumentsThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"no JSON": `<html>`, "a key twice": `{"name":"a","versions":{},"versions":{}}`, "versions twice": `{"versions":{"1.0.0":{},"1.0.0":{}}}`,
		"an error": `{"error":"not found"}`, "versions of another kind": `{"versions":[]}`,
	} {
		if _, err := Parse([]byte(doc)); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(`{"versions":{"v1.0":{},"x":1},"dist-tags":{"latest":"v1.0"},"time":null}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := Parse(in)
		if err != nil {
			return
		}
		i := 0
		before := p.Len()
		gone := p.Keep(func(string) bool { i++; return i%2 == 0 })
		again, err := Parse(p.JSON())
		if err != nil {
			t.Fatalf("%q: what was written is refused: %v", in, err)
		}
		if again.Len() != before-gone {
			t.Errorf("%q: %d versions are left of %d less %d", in, again.Len(), before, gone)
		}
		for tag, version := range again.Tags() {
			if before > 0 && !again.Has(version) && p.versions.Has(version) {
				t.Errorf("%q: tag %s names %s, which is not there", in, tag, version)
			}
		}
		if short, err := again.Abbreviated(); err == nil {
			if _, err := Parse(short); err != nil {
				t.Errorf("%q: abbreviated: %v", in, err)
			}
		}
	})
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/foo", "/@s%2ffoo/-/foo-1.0.0.tgz", "/-/package/x/dist-tags", "/@a/@b/c", "/%2e%2e/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.Parse("https://r.test/" + path)
		if err != nil {
			return
		}
		if p := ParsePath(u); p.Page != Other && !ValidName(p.Name) {
			t.Errorf("%q is of the package %q", path, p.Name)
		}
	})
}
