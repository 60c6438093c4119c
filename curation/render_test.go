package curation

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"larder/policy"
	"larder/registry/npm"
	"larder/registry/pypi"
	"larder/wheels"
)

var now = time.Date(2026, 5, 10, 0, 0, 0, 0, time.UTC)

// overlay is an Overlay of fixed wheels.
type overlay []wheels.Wheel

func (o overlay) Of(string) []wheels.Wheel { return o }

func parse(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("larder.yaml", []byte("presets: none\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func curator(t testing.TB, text string, o Overlay) *Curator {
	t.Helper()
	c := New(parse(t, text), o, NewPublished())
	if c == nil {
		t.Fatal("there is nothing to curate")
	}
	c.now = func() time.Time { return now }
	return c
}

func ask(t testing.TB, r policy.Registry, target, accept string) *Ask {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	if accept != "" {
		h.Set("Accept", accept)
	}
	a := Look(r, u, h)
	a.Vouches = func(host string) bool { return host == "files.test" }
	return &a
}

func source(a *Ask, media, body string) *Source {
	return &Source{URL: a.target, Header: http.Header{"Content-Type": {media}}, Body: []byte(body), SHA256: sha256.Sum256([]byte(body))}
}

const sum1, sum2 = "1111111111111111111111111111111111111111111111111111111111111111", "2222222222222222222222222222222222222222222222222222222222222222"

const page = `{"meta":{"api-version":"1.1"},"name":"foo","files":[` +
	`{"filename":"foo-1.0.tar.gz","url":"https://files.test/foo-1.0.tar.gz","hashes":{"sha256":"` + sum1 + `"},"requires-python":">=3.7","upload-time":"2020-01-01T00:00:00Z","provenance":"https://index.test/integrity/foo/1.0/foo-1.0.tar.gz/provenance"},` +
	`{"filename":"foo-2.0.tar.gz","url":"https://files.test/foo-2.0.tar.gz","hashes":{"sha256":"` + sum2 + `"},"yanked":"broken","upload-time":"2026-05-09T00:00:00Z"},` +
	`{"filename":"foo-1.0-py2-none-any.whl","url":"https://files.test/foo-1.0-py2-none-any.whl","hashes":{}}],"versions":["1.0","2.0"]}`

func wheel(file, version string, of *wheels.Source) wheels.Wheel {
	return wheels.Wheel{File: file, Project: "foo", Version: version, SHA256: strings.Repeat("a", 64), MetadataSHA256: strings.Repeat("b", 64), Size: 7, Source: of}
}

func render(t *testing.T, c *Curator, a *Ask, src *Source) *Rendering {
	t.Helper()
	r, err := c.Render(a, src, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestOverlayAddsWheelsOfWhatThePageLists(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		wheel  wheels.Wheel
		want   bool
		yanked bool
	}{
		{"built of a file of the page", wheel("foo-1.0-py3-none-any.whl", "1.0", &wheels.Source{SHA256: sum1}), true, false},
		{"built of a yanked one", wheel("foo-2.0-py3-none-any.whl", "2.0", &wheels.Source{SHA256: sum2}), true, true},
		{"built of a file that is not there", wheel("foo-1.0-py3-none-any.whl", "1.0", &wheels.Source{SHA256: strings.Repeat("3", 64)}), false, false},
		{"given, of a version of the page", wheel("foo-1.0-py3-none-any.whl", "1.0", nil), true, false},
		{"given, of a yanked version", wheel("foo-2.0-py3-none-any.whl", "2.0", nil), true, true},
		{"given, of another version", wheel("foo-3.0-py3-none-any.whl", "3.0", nil), false, false},
		{"of a name that the page has", wheel("foo-1.0-py2-none-any.whl", "1.0", nil), false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := curator(t, "", overlay{row.wheel})
			for _, accept := range []string{pypi.MediaJSON, "text/html"} {
				a := ask(t, policy.PyPI, "https://index.test/simple/foo/", accept)
				if !c.Renders(a) || c.Must(a) {
					t.Fatal("the page is not for the overlay, or must be rendered")
				}
				r := render(t, c, a, source(a, pypi.MediaJSON, page))
				parse := pypi.ParseJSON
				if accept == "text/html" {
					parse = pypi.ParseHTML
				}
				p, err := parse(r.Body)
				if err != nil {
					t.Fatal(err)
				}
				if (r.Added == 1) != row.want || len(p.Files) != 3+r.Added {
					t.Fatalf("%d wheels were added to\n%s", r.Added, r.Body)
				}
				if !row.want {
					continue
				}
				f := p.Files[3]
				if f.URL != "https://index.test/larder/wheels/"+row.wheel.SHA256+"/"+row.wheel.File || f.Hashes["sha256"] != row.wheel.SHA256 ||
					!f.Metadata.Available || f.Metadata.Hashes["sha256"] != row.wheel.MetadataSHA256 || f.Yanked != row.yanked || f.Yanked && f.YankedReason != "broken" {
					t.Errorf("added was %+v", f)
				}
				if row.wheel.Version == "1.0" && f.RequiresPython != ">=3.7" {
					t.Errorf("it is for Python %q", f.RequiresPython)
				}
			}
		})
	}
}

func TestWheelOfWhatIsInQuarantineIsNotAdded(t *testing.T) {
	t.Parallel()
	c := curator(t, "curation: [{name: q, younger_than: 3d, unknown_age: allow, action: deny}]", overlay{
		wheel("foo-2.0-py3-none-any.whl", "2.0", &wheels.Source{SHA256: sum2}),
	})
	a := ask(t, policy.PyPI, "https://index.test/simple/foo/", pypi.MediaJSON)
	r := render(t, c, a, source(a, pypi.MediaJSON, page))
	if r.Added != 0 || r.Hidden != 1 || bytes.Contains(r.Body, []byte("2.0")) {
		t.Errorf("%d added, %d hidden:\n%s", r.Added, r.Hidden, r.Body)
	}
}

func TestRenderingHoldsUntilSomethingIsOldEnough(t *testing.T) {
	t.Parallel()
	c := curator(t, "curation: [{name: q, younger_than: 3d, unknown_age: allow, action: deny}]", nil)
	at := now
	c.now = func() time.Time { return at }
	a := ask(t, policy.PyPI, "https://index.test/simple/foo/", pypi.MediaJSON)
	src := source(a, pypi.MediaJSON, page)
	if c.Known(a, src.SHA256) != nil {
		t.Error("it is known before it was rendered")
	}
	first := render(t, c, a, src)
	if c.Known(a, src.SHA256) != first {
		t.Error("it is not known once it was")
	}
	if c.Known(ask(t, policy.PyPI, "https://index.test/simple/foo/", "text/html"), src.SHA256) != nil {
		t.Error("the other form is taken for this one")
	}
	at = now.AddDate(0, 0, 2) // when foo 2.0 is three days old
	if c.Known(a, src.SHA256) != nil {
		t.Error("it is known beyond its time")
	}
	if second := render(t, c, a, src); second.Hidden != 0 || second.ETag == first.ETag {
		t.Errorf("%d are hidden, the ETag is %s and was %s", second.Hidden, second.ETag, first.ETag)
	}
}

func TestNewWheelIsNotHiddenBehindAnOldRendering(t *testing.T) {
	t.Parallel()
	c := curator(t, "", overlay{wheel("foo-1.0-py3-none-any.whl", "1.0", nil)})
	a := ask(t, policy.PyPI, "https://index.test/simple/foo/", pypi.MediaJSON)
	src := source(a, pypi.MediaJSON, page)
	render(t, c, a, src)
	other := wheel("foo-1.0-1-py3-none-any.whl", "1.0", nil)
	other.SHA256 = strings.Repeat("c", 64)
	c.overlay = overlay{wheel("foo-1.0-py3-none-any.whl", "1.0", nil), other}
	if c.Known(a, src.SHA256) != nil {
		t.Error("a page without the new wheel is taken for known")
	}
}

func TestIndexTellsAges(t *testing.T) {
	t.Parallel()
	const rule = "curation: [{name: q, younger_than: 3d, action: deny}]"
	c := curator(t, rule, nil)
	young := ask(t, policy.PyPI, "https://files.test/foo-2.0.tar.gz", "")
	if j := c.Judge(young); !j.NeedsAge || j.Refused == nil {
		t.Errorf("before: %+v", j)
	}
	a := ask(t, policy.PyPI, "https://index.test/simple/foo/", pypi.MediaJSON)
	render(t, c, a, source(a, pypi.MediaJSON, page))
	for target, want := range map[string]string{
		"https://files.test/foo-1.0.tar.gz":                              "",
		"https://files.test/foo-1.0.tar.gz.asc":                          "",
		"https://index.test/integrity/foo/1.0/foo-1.0.tar.gz/provenance": "",
		"https://files.test/foo-2.0.tar.gz":                              "it is in quarantine until 2026-05-12T00:00:00Z",
		"https://files.test/foo-2.0.tar.gz.metadata":                     "it is in quarantine until 2026-05-12T00:00:00Z",
		"https://files.test/elsewhere/foo-1.0.tar.gz":                    "no index says when it was published",
	} {
		j := c.Judge(ask(t, policy.PyPI, target, ""))
		if got := fmt.Sprint(j.Refused); want == "" && j.Refused != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v", target, j.Refused)
		}
	}
	// An index does not speak for the files of hosts that it has nothing to do with.
	c = curator(t, rule, nil)
	a.Vouches = nil
	render(t, c, a, source(a, pypi.MediaJSON, page))
	if j := c.Judge(ask(t, policy.PyPI, "https://files.test/foo-1.0.tar.gz", "")); !j.NeedsAge {
		t.Errorf("it is believed all the same: %+v", j)
	}
}

func TestAgeIsAskedForAlsoWhereUnknownMayPass(t *testing.T) {
	t.Parallel()
	c := curator(t, "curation: [{name: q, younger_than: 3d, unknown_age: allow, action: deny}]", nil)
	if j := c.Judge(ask(t, policy.NPM, "https://r.test/foo/-/foo-1.0.0.tgz", "")); !j.NeedsAge || j.Refused != nil {
		t.Errorf("%+v", j)
	}
}

func TestTarballThatDoesNotSayItsVersion(t *testing.T) {
	t.Parallel()
	c := curator(t, "curation: [{name: old, registry: [npm], packages: [foo], versions: '<2', action: deny}, {name: bad, packages: [bad], action: deny}]", nil)
	for path, want := range map[string]string{
		"/foo/-/FOO-1.0.0.tgz": "does not say its version", "/foo/-/foo-3.0.0.tgz": "", "/bad/-/x": `denied by curation "bad"`, "/ok/-/x.tgz": "",
	} {
		j := c.Judge(ask(t, policy.NPM, "https://r.test"+path, ""))
		if got := fmt.Sprint(j.Refused); want == "" && j.Refused != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v, want %q", path, j.Refused, want)
		}
	}
}

func TestNameAndURLThatDisagreeAreBothJudged(t *testing.T) {
	t.Parallel()
	c := curator(t, "curation: [{name: old, registry: [pypi], packages: [foo], versions: '<2', action: deny}]", nil)
	a := ask(t, policy.PyPI, "https://index.test/simple/foo/", pypi.MediaJSON)
	r := render(t, c, a, source(a, pypi.MediaJSON, `{"name":"foo","files":[{"filename":"foo-3.0.zip","url":"https://files.test/foo-1.0.zip"}]}`))
	if r.Hidden != 1 {
		t.Errorf("the page is %s", r.Body)
	}
}

func TestPackumentOfAnotherPackageIsRefused(t *testing.T) {
	t.Parallel()
	c := curator(t, "curation: [{name: x, packages: [foo], registry: [npm], versions: '1', action: deny}]", nil)
	a := ask(t, policy.NPM, "https://r.test/foo", npm.MediaFull)
	if _, err := c.Render(a, source(a, npm.MediaFull, `{"name":"bar","versions":{}}`), nil); err == nil || !strings.Contains(err.Error(), "sent that of bar") {
		t.Errorf("Render = %v", err)
	}
}

func TestManifests(t *testing.T) {
	t.Parallel()
	const doc = `{"name":"foo","dist-tags":{"latest":"2.0.0","old":"1.0.0"},"versions":{"1.0.0":{"version":"1.0.0"},"2.0.0":{"version":"2.0.0"}}}`
	c := curator(t, "curation: [{name: two, packages: [foo], registry: [npm], versions: '2.x', action: deny}]", nil)
	for version, want := range map[string]string{
		"1.0.0": `200 {"version":"1.0.0"}`, "old": `200 {"version":"1.0.0"}`, "latest": `200 {"version":"1.0.0"}`,
		"3.0.0": `404 "version not found: 3.0.0"`, "next": `404 "version not found: next"`,
		"2.0.0": `npm package foo 2.0.0: denied by curation "two"`,
	} {
		a := ask(t, policy.NPM, "https://r.test/foo/"+version, npm.MediaFull)
		if u, accept := c.Fetch(a); u.String() != "https://r.test/foo" || accept != npm.MediaFull {
			t.Errorf("for %s, %s is asked for as %s", version, u, accept)
		}
		r, err := c.Render(a, source(a, npm.MediaFull, doc), nil)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(r.Status, " ", string(r.Body))
		}
		if got != want {
			t.Errorf("%s: %s, want %s", version, got, want)
		}
	}
}

func TestSourcesThatAreRefused(t *testing.T) {
	t.Parallel()
	c := curator(t, "curation: [{name: x, packages: [foo], registry: [pypi], versions: '>1', action: deny}]", nil)
	a := ask(t, policy.PyPI, "https://index.test/simple/foo/", pypi.MediaJSON)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range MaxSource>>20 + 1 {
		if _, err := z.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, coding, body, want string }{
		{"a bomb", "gzip", bomb.String(), "more than 64 MiB"},
		{"no gzip", "gzip", "hello, this is none", "gzip: invalid header"},
		{"another coding", "br", "x", `content coding "br"`},
		{"no JSON", "", "<html>", "invalid character"},
	} {
		src := source(a, pypi.MediaJSON, row.body)
		src.Header.Set("Content-Encoding", row.coding)
		if _, err := c.Render(a, src, nil); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
	}
}

func TestReleasesTakeTheNewestThatIsLeft(t *testing.T) {
	t.Parallel()
	c := curator(t, "curation: [{name: three, packages: [foo], registry: [pypi], versions: '>=3', action: deny}]", nil)
	a := ask(t, policy.PyPI, "https://index.test/pypi/foo/json", "")
	file := func(v string) string { return `[{"filename":"foo-` + v + `.zip","url":"u"}]` }
	src := source(a, "application/json", `{"info":{"name":"foo","version":"3.0"},"releases":{"1.0":`+file("1.0")+`,"2.0rc1":`+file("2.0rc1")+`,"1.10":`+file("1.10")+`,"3.0":`+file("3.0")+`},"urls":`+file("3.0")+`}`)
	_, err := c.Render(a, src, nil)
	more, ok := errors.AsType[*MoreError](err)
	if !ok || more.URL.String() != "https://index.test/pypi/foo/1.10/json" {
		t.Fatalf("Render = %v", err)
	}
	r, err := c.Render(a, src, source(a, "application/json", `{"info":{"name":"foo","version":"1.10"},"urls":`+file("1.10")+`}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(r.Body); strings.Contains(got, "3.0") || !strings.HasPrefix(got, `{"info":{"name":"foo","version":"1.10"}`) {
		t.Errorf("it is %s", got)
	}
	if _, err := c.Render(a, src, source(a, "application/json", `{"info":{"name":"foo","version":"9"},"urls":[]}`)); err == nil {
		t.Error("another version than was asked for is taken")
	}
	only := ask(t, policy.PyPI, "https://index.test/pypi/foo/3.0/json", "")
	if _, err := c.Render(only, source(only, "application/json", `{"info":{"name":"foo","version":"3.0"},"urls":`+file("3.0")+`}`), nil); err == nil || !strings.Contains(err.Error(), `denied by curation "three"`) {
		t.Errorf("Render of what is denied = %v", err)
	}
}

func TestRenderingsAreBounded(t *testing.T) {
	t.Parallel()
	s := newRenderings()
	for i := range maxRenderings + 100 {
		s.put(renderingKey{byte(i), byte(i >> 8)}, &Rendering{Body: make([]byte, 1<<10)})
	}
	if n := s.order.Len(); n != maxRenderings || len(s.by) != n {
		t.Errorf("%d are kept", n)
	}
	for i := range 8 {
		s.put(renderingKey{0, 0, byte(i)}, &Rendering{Body: make([]byte, maxRenderingBytes/5)})
	}
	if s.bytes > maxRenderingBytes {
		t.Errorf("%d bytes are kept", s.bytes)
	}
	before := s.order.Len()
	s.put(renderingKey{1, 2, 3}, &Rendering{Body: make([]byte, maxRenderingBytes/2)})
	if s.order.Len() != before {
		t.Error("one that is too large pushes others out")
	}
}

func TestPublishedIsBounded(t *testing.T) {
	t.Parallel()
	p := NewPublished()
	for i := range maxPublished {
		p.put([]publishedFile{p.entry(fmt.Sprint(i), now)})
	}
	if n := len(p.now) + len(p.past); n > maxPublished {
		t.Errorf("%d are remembered", n)
	}
	if p.Of(fmt.Sprint(maxPublished-1)) != p.Of(fmt.Sprint(maxPublished/2+1)) || p.Of("none") != (time.Time{}) {
		t.Error("what came last is not remembered")
	}
}

func TestLook(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		registry policy.Registry
		path     string
		kind     Kind
		name     string
	}{
		{policy.PyPI, "/simple/foo/", Index, "foo"},
		{policy.PyPI, "/simple/f%6Fo/", Index, "foo"},
		{policy.PyPI, "/simple/", List, ""},
		{policy.PyPI, "/pypi/foo/json", Release, "foo"},
		{policy.PyPI, "/packages/a/foo-1.0.zip", File, "foo"},
		{policy.PyPI, "/packages/a/foo-1.0.zip/x", Other, ""},
		{policy.PyPI, "/packages/a/x/../foo-1.0.zip", File, "foo"},
		{policy.PyPI, "/packages/a/foo-1.0.zip/../bar-1.0.zip", File, "bar"},
		{policy.PyPI, "/x/..%2fsimple/foo/", Odd, ""},
		{policy.PyPI, "/simple/%2566oo/", Odd, "%66oo"},
		{policy.NPM, "/foo", Index, "foo"},
		{policy.NPM, "/@s%2ffoo", Index, "@s/foo"},
		{policy.NPM, "/@s/foo/1.0.0", Release, "@s/foo"},
		{policy.NPM, "/foo/-/foo-1.0.0.tgz", File, "foo"},
		{policy.NPM, "/x/../foo", Odd, ""},
		{policy.NPM, "//foo", Odd, ""},
		{policy.NPM, "/-/whoami", Other, ""},
	} {
		a := ask(t, row.registry, "https://r.test"+row.path, "")
		if a.Kind != row.kind || row.name != "" && a.Name != row.name {
			t.Errorf("%s: kind %d, %q; want %d, %q", row.path, a.Kind, a.Name, row.kind, row.name)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	p := parse(t, "curation: [{name: bad, packages: [bad], action: deny}, {name: q, registry: [npm], younger_than: 3d, action: deny}]")
	for target, want := range map[string][]string{
		"https://r.test/bad": {"It is the index of the npm package bad:", `curation "bad" at larder.yaml:2:12 denies all versions`, `So it is refused with 403: denied by curation "bad".`},
		"https://r.test/ok/-/ok-1.0.0.tgz": {
			"It is a file of the npm package ok 1.0.0:", `curation "q" at larder.yaml:2:56 denies all versions that are younger than 3d, or of unknown age`,
			"So it depends on its age, which the index tells: 403 while it is too young.",
		},
		"https://r.test/-/whoami": nil,
	} {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, Explain(p, policy.NPM, u)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", target, diff)
		}
	}
	if got := Explain(parse(t, ""), policy.NPM, &url.URL{Scheme: "https", Host: "r.test", Path: "/bad"}); got != nil {
		t.Errorf("without curation: %v", got)
	}
}

func FuzzRender(f *testing.F) {
	f.Add([]byte(page), uint8(0))
	f.Add([]byte(`<a href="foo-1.0.zip#sha256=`+sum1+`">foo-1.0.zip</a>`), uint8(1))
	f.Add([]byte(`{"name":"foo","versions":{"1.0.0":{},"2.0.0":{"dist":{"tarball":"x"}}},"dist-tags":{"latest":"2.0.0"},"time":{"2.0.0":"2026-05-09T00:00:00Z"}}`), uint8(2))
	f.Add([]byte(`{"info":{"name":"foo","version":"2.0"},"releases":{"2.0":[{"filename":"foo-2.0.zip"}]}}`), uint8(3))
	c := curator(f, "curation: [{name: two, registry: [pypi], packages: [foo], versions: '>=2', action: deny}, {name: q, younger_than: 3d, unknown_age: allow, action: deny}]",
		overlay{wheel("foo-1.0-py3-none-any.whl", "1.0", nil)})
	f.Fuzz(func(t *testing.T, body []byte, kind uint8) {
		var a *Ask
		media := pypi.MediaJSON
		switch kind % 4 {
		case 0:
			a = ask(t, policy.PyPI, "https://index.test/simple/foo/", "text/html")
		case 1:
			a, media = ask(t, policy.PyPI, "https://index.test/simple/foo/", pypi.MediaJSON), "text/html"
		case 2:
			a, media = ask(t, policy.NPM, "https://r.test/foo", npm.MediaAbbreviated), npm.MediaFull
		case 3:
			a, media = ask(t, policy.PyPI, "https://index.test/pypi/foo/json", ""), "application/json"
		}
		src := source(a, media, string(body))
		r, err := c.Render(a, src, nil)
		if err != nil {
			return
		}
		// What was rendered once has nothing left to hide.
		again := source(a, r.Media, string(r.Body))
		if twice, err := c.Render(a, again, nil); err != nil || twice.Hidden != 0 {
			t.Errorf("%q became\n%s\nand that hides more, %v", body, r.Body, err)
		}
	})
}
