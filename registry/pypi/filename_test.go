package pypi

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNormalize(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Foo.Bar_baz--qux": "foo-bar-baz-qux", "six": "six", "a-_.b": "a-b", "A": "a", "": "", "x--y": "x-y", "x_": "x-",
	} {
		if got := Normalize(in); got != want {
			t.Errorf("Normalize(%q) is %q, want %q", in, got, want)
		}
	}
}

func TestReadings(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]FileName{
		"six-1.17.0-py2.py3-none-any.whl": {{Wheel, "six", "1.17.0", "", "py2.py3", "none", "any"}},
		"numpy-2.1.0-1build-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl": {
			{Wheel, "numpy", "2.1.0", "1build", "cp312", "cp312", "manylinux_2_17_x86_64.manylinux2014_x86_64"},
		},
		"torch-2.3.0+cpu-cp311-cp311-linux_x86_64.whl": {{Wheel, "torch", "2.3.0+cpu", "", "cp311", "cp311", "linux_x86_64"}},
		"ruamel.yaml-0.18.6.tar.gz":                    {{Kind: Sdist, Project: "ruamel.yaml", Version: "0.18.6"}},
		"zope-interface-5.0.zip":                       {{Kind: Sdist, Project: "zope-interface", Version: "5.0"}},
		"foo-1.0-1.tar.gz": {
			{Kind: Sdist, Project: "foo-1.0", Version: "1"}, {Kind: Sdist, Project: "foo", Version: "1.0-1"},
		},
		"foo-1.0-py3.8.egg":            {{Kind: Installer, Project: "foo", Version: "1.0"}},
		"foo-1.0.win32-py2.7.exe":      {{Kind: Installer, Project: "foo", Version: "1.0"}},
		"foo-1.0-py3-none.whl":         nil, // a tag is missing
		"foo-1.0-x1-py3-none-any.whl":  nil, // a build tag begins with a digit
		"foo-nothing-py3-none-any.whl": nil,
		"foo.tar.gz":                   nil,
		"README.txt":                   nil,
		".tar.gz":                      nil,
		"-1.0.tar.gz":                  nil,
	} {
		if diff := cmp.Diff(want, Readings(name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestProjectSettlesWhereTheVersionBegins(t *testing.T) {
	t.Parallel()
	for project, want := range map[string]string{"foo": "1.0-1", "foo-1.0": "1", "Foo_1.0": "1", "bar": ""} {
		f, ok := ParseFileName("foo-1.0-1.tar.gz", project)
		if f.Version != want || ok != (want != "") {
			t.Errorf("of %s the version is %q, want %q", project, f.Version, want)
		}
	}
}

func TestVersionsCompareAsPEP440Says(t *testing.T) {
	t.Parallel()
	order := []string{
		"1.dev0", "1.0.dev456", "1.0a1", "1.0a2.dev456", "1.0a12.dev456", "1.0a12", "1.0b1.dev456", "1.0b2", "1.0b2.post345.dev456",
		"1.0b2.post345", "1.0rc1.dev456", "1.0rc1", "1.0", "1.0+abc.5", "1.0+abc.7", "1.0+5", "1.0.post456.dev34", "1.0.post456", "1.1.dev1", "1!0.1",
	}
	for i := 1; i < len(order)-1; i++ {
		a, b := mustVersion(t, order[i]), mustVersion(t, order[i+1])
		if a.Compare(b) >= 0 || b.Compare(a) <= 0 {
			t.Errorf("%s does not come before %s", order[i], order[i+1])
		}
	}
	for a, b := range map[string]string{"1.0": "1.0.0", "v1.0-1": "1.post1", "1.0alpha": "1a0", "1.0-RC.1": "1.0rc1"} {
		if mustVersion(t, a).Compare(mustVersion(t, b)) != 0 {
			t.Errorf("%s is not %s", a, b)
		}
	}
}

func TestSpecifiers(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		specifiers, version string
		want                bool
	}{
		{">=1.2,<2", "1.9.9", true},
		{">=1.2,<2", "1.9rc1", true}, // a curator means pre-releases too
		{">=1.2,<2", "2.0", false},
		{"~=2.2", "2.9", true},
		{"==1.4.*", "1.4.7", true},
		{"==1.4.2 || >=3", "3.1", true},
		{"!=1.0", "1.0.0", false},
	} {
		s, err := ParseSpecifiers(row.specifiers)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Has(mustVersion(t, row.version)); got != row.want {
			t.Errorf("%s has %s: %t, want %t", row.specifiers, row.version, got, row.want)
		}
	}
	if _, err := ParseSpecifiers("youngest"); err == nil {
		t.Error("nonsense is taken for specifiers")
	}
}

func mustVersion(t *testing.T, s string) Version {
	t.Helper()
	v, err := ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestParsePath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]Path{
		"/simple/":                                  {Page: ListPage, Prefix: "/"},
		"/simple":                                   {Page: ListPage, Prefix: "/"},
		"/simple/Foo.Bar/":                          {Page: ProjectPage, Project: "Foo.Bar", Prefix: "/"},
		"/simple/f%6fo":                             {Page: ProjectPage, Project: "foo", Prefix: "/"},
		"/api/pypi/all/simple/foo/":                 {Page: ProjectPage, Project: "foo", Prefix: "/api/pypi/all/"},
		"/pypi/foo/json":                            {Page: ReleasePage, Project: "foo", Prefix: "/"},
		"/pypi/foo/1.0/json":                        {Page: ReleasePage, Project: "foo", Version: "1.0", Prefix: "/"},
		"/x/pypi/foo/1.0/json":                      {Page: ReleasePage, Project: "foo", Version: "1.0", Prefix: "/x/"},
		"/packages/aa/bb/cc/foo-1.zip":              {Page: FilePath, File: "foo-1.zip"},
		"/simple/foo/foo-1.zip":                     {Page: FilePath, File: "foo-1.zip"},
		"/p/a-1-py3-none-any.whl.metadata":          {Page: FilePath, File: "a-1-py3-none-any.whl", Sidecar: true},
		"/p/%61-1-py3-none-any.whl":                 {Page: FilePath, File: "a-1-py3-none-any.whl"},
		"/integrity/foo/1.0/foo-1.0.zip/provenance": {Page: FilePath, Project: "foo", File: "foo-1.0.zip", Sidecar: true},
		"/simple//":                                 {},
		"/search":                                   {},
		"/":                                         {},
	} {
		u, err := url.Parse("https://index.test" + path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, ParsePath(u)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

func FuzzReadings(f *testing.F) {
	for _, s := range []string{"six-1.0-py3-none-any.whl", "foo-1.0-1.tar.gz", "foo-1.0.win32-py2.7.exe", "a-b-c-1!2.0+x.zip", "-----.tar.gz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, r := range Readings(name) {
			if !ValidName(r.Project) || r.ParsedVersion().IsZero() {
				t.Errorf("%q is read as %+v", name, r)
			}
			if v := r.ParsedVersion(); v.Compare(mustVersion(t, v.String())) != 0 {
				t.Errorf("the version %s of %q is not what it is written as", v, name)
			}
			if again, ok := ParseFileName(name, r.Project); !ok || Normalize(again.Project) != Normalize(r.Project) {
				t.Errorf("%q is not found again for project %q", name, r.Project)
			}
		}
	})
}
