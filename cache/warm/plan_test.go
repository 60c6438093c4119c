package warm

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func encode64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// sha is a digest of 64 times the same digit.
func sha(digit string) string { return strings.Repeat(digit, 64) }

// world is a planner over files and indexes in memory.
type world struct {
	files map[string]string
	pages map[string]Response // by URL
	asked []string            // URLs, in order
	with  http.Header         // of the last request
}

func (w *world) planner(s Sources) *Planner {
	return &Planner{
		Sources: s,
		Get: func(_ context.Context, it Item) (Response, error) {
			w.asked = append(w.asked, it.URL)
			w.with = it.Header
			res, ok := w.pages[it.URL]
			if !ok {
				return Response{Status: http.StatusNotFound, URL: it.URL}, nil
			}
			if res.URL == "" {
				res.URL = it.URL
			}
			if res.Status == 0 {
				res.Status = http.StatusOK
			}
			return res, nil
		},
		Open: func(name string) (io.ReadCloser, error) {
			text, ok := w.files[name]
			if !ok {
				return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
			}
			return io.NopCloser(strings.NewReader(text)), nil
		},
	}
}

// lines shows a plan as "URL digest" and its notes.
func lines(p Plan) []string {
	var out []string
	for _, it := range p.Items {
		out = append(out, strings.TrimSpace(it.URL+" "+string(it.Digest)))
	}
	for _, n := range p.Notes {
		mark := "note: "
		if n.Failed {
			mark = "failed: "
		}
		out = append(out, mark+n.String())
	}
	return out
}

func plan(t *testing.T, w *world, s Sources, name string, format Format) []string {
	t.Helper()
	p, err := w.planner(s).File(t.Context(), name, format)
	if err != nil {
		return []string{"error: " + err.Error()}
	}
	return lines(p)
}

func compare(t *testing.T, want, got []string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("another plan (-want +got):\n%s", d)
	}
}

func TestListOfURLs(t *testing.T) {
	w := &world{files: map[string]string{"list": "\ufeff# a comment\n\nhttps://a.test/x\r\n" +
		"https://a.test/x\n" +
		"  http://b.test/y?q=1#frag  sha256:" + sha("A") + "  # with a comment\n" +
		"ftp://c.test/\nhttps://d.test/ md5:1\nhttps://e.test/ sha256:" + sha("b") + " more\n" +
		"https://user:secret@f.test/\nhttps://user:secret@%zz/\n"}}
	compare(t, []string{
		"https://a.test/x",
		"http://b.test/y?q=1 sha256:" + sha("a"),
		"https://f.test/",
		`failed: list:6: "ftp://c.test/" is no absolute http or https URL`,
		`failed: list:7: "md5:1": a md5 digest has 32 hexadecimal digits`,
		`failed: list:8: "more" after the digest: a line is URL, or URL and digest`,
		`failed: list:10: "https://%zz/" is no URL`,
	}, plan(t, w, Sources{}, "list", URLs))
	p, err := w.planner(Sources{}).File(t.Context(), "list", URLs)
	if err != nil || p.Items[2].Header.Get("Authorization") != "Basic dXNlcjpzZWNyZXQ=" {
		t.Errorf("user information became %v, %v", p.Items[2].Header, err)
	}
}

func TestGoSum(t *testing.T) {
	h := "h1:" + emptySHA256
	w := &world{files: map[string]string{"go.sum": "example.test/Mixed v1.2.3 " + h + "\n" +
		"example.test/Mixed v1.2.3/go.mod " + h + "\n" +
		"example.test/old v0.0.0-20200101000000-abcdefabcdef/go.mod " + h + "\n" +
		"corp.test/secret v1.0.0 " + h + "\ncorp.test/secret v1.0.0/go.mod " + h + "\n" +
		"future.test/x v1.0.0 h2:whatever\n\n" +
		"two words\n" + "bad!path v1.0.0 " + h + "\n" + "a.test/b v1.0.0 h1:short\n"}}
	compare(t, []string{
		"https://go.test/base/example.test/!mixed/@v/v1.2.3.info",
		"https://go.test/base/example.test/!mixed/@v/v1.2.3.zip h1-zip:" + emptySHA256,
		"https://go.test/base/example.test/!mixed/@v/v1.2.3.mod h1-mod:" + emptySHA256,
		"https://go.test/base/example.test/old/@v/v0.0.0-20200101000000-abcdefabcdef.mod h1-mod:" + emptySHA256,
		"note: go.sum:4: corp.test/secret is private (GOPRIVATE, GONOPROXY): it does not come from the proxy",
		"failed: go.sum:8: not a line of go.sum: it has 2 words, not 3",
		`failed: go.sum:9: malformed module path "bad!path": invalid char '!'`,
		`failed: go.sum:10: "h1-zip:short" is no h1 digest of go.sum`,
	}, plan(t, w, Sources{GoProxy: "https://go.test/base", GoPrivate: "corp.test"}, "go.sum", GoSum))
	compare(t, []string{"error: read go.sum: no module proxy is named: GOPROXY holds none"}, plan(t, w, Sources{}, "go.sum", GoSum))
}

func TestFirstProxy(t *testing.T) {
	for list, want := range map[string]string{
		"https://a.test,direct":            "https://a.test",
		"off":                              "",
		"direct":                           "",
		"file:///x|https://b.test|direct":  "https://b.test",
		"direct,http://c.test/,https://d/": "http://c.test/",
	} {
		if got := FirstProxy(list); got != want {
			t.Errorf("FirstProxy(%q) = %q, want %q", list, got, want)
		}
	}
}

func TestNPMLock(t *testing.T) {
	const integrity = "sha256-" + emptySHA256
	const sum = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	packages := `{"name":"x","lockfileVersion":3,"packages":{
		"":{"name":"x","dependencies":{"a":"^1"}},
		"packages/workspace":{"version":"1.0.0"},
		"node_modules/workspace":{"resolved":"packages/workspace","link":true},
		"node_modules/a":{"version":"1.0.0","resolved":"https://registry.test/a/-/a-1.0.0.tgz","integrity":"` + integrity + `","dependencies":{"b":"*"}},
		"node_modules/a/node_modules/@s/b":{"version":"2.0.0","integrity":"` + integrity + `"},
		"node_modules/alias":{"name":"real","version":"3.0.0","resolved":false},
		"node_modules/a/node_modules/inside":{"version":"1.0.0","inBundle":true},
		"node_modules/git":{"version":"1.0.0","resolved":"git+ssh://git@code.test/x.git#abc"},
		"node_modules/file":{"version":"1.0.0","resolved":"file:../file.tgz"},
		"node_modules/evil":{"name":"../../etc","version":"1.0.0"},
		"node_modules/moved":{"version":"1.0.0","resolved":"https://default.test/@s%2fmoved/-/moved-1.0.0.tgz","integrity":"sha1-bad"}}}`
	want := []string{
		"https://registry.test/a/-/a-1.0.0.tgz " + sum,
		"https://npm.test/npm/@s/b/-/b-2.0.0.tgz " + sum,
		"https://npm.test/npm/real/-/real-3.0.0.tgz",
		"https://npm.test/npm/@s%2fmoved/-/moved-1.0.0.tgz",
		`failed: package-lock.json: ../../etc: "../../etc" in version "1.0.0" is no package of a registry`,
		"note: package-lock.json: file comes from file:../file.tgz, not from a registry",
		"note: package-lock.json: git comes from git+ssh://code.test/x.git#abc, not from a registry",
	}
	sources := Sources{NPM: "https://npm.test/npm/", DefaultNPM: "default.test"}
	w := &world{files: map[string]string{"package-lock.json": packages}}
	compare(t, want, plan(t, w, sources, "package-lock.json", NPM))
}

func TestNPMLockOfVersionOne(t *testing.T) {
	w := &world{files: map[string]string{"l": `{"lockfileVersion":1,"dependencies":{
		"a":{"version":"1.0.0","resolved":"https://registry.test/a/-/a-1.0.0.tgz","integrity":"sha1-Agg/RXngimEkJcDBoX7ket14O5Q=","requires":{"b":"*"},
			"dependencies":{"b":{"version":"2.0.0","dependencies":{"c":{"version":"npm:@x/real@3.0.0"}}}}},
		"bundled":{"version":"1.0.0","bundled":true},
		"g":{"version":"github:u/r#abc"},
		"t":{"version":"https://files.test/t.tgz"},
		"n":null}}`}}
	compare(t, []string{
		"https://registry.test/a/-/a-1.0.0.tgz sha1:02083f4579e08a612425c0c1a17ee47add783b94",
		"https://npm.test/b/-/b-2.0.0.tgz",
		"https://npm.test/@x/real/-/real-3.0.0.tgz",
		"https://files.test/t.tgz",
		"note: l: g comes from github:u/r#abc, not from a registry",
		"failed: l: n: nothing is said of it",
	}, plan(t, w, Sources{NPM: "https://npm.test"}, "l", NPM))
}

func TestWhatIsNoNPMLockIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":   "it is no package-lock.json",
		"{}": "it has no lockfileVersion",
		"[]": "it is no package-lock.json",
		`{"lockfileVersion":1,"dependencies":` + strings.Repeat(`{"a":{"dependencies":`, 1100) + "{}" + strings.Repeat("}}", 1100) + "}": "nested too deeply",
	} {
		w := &world{files: map[string]string{"l": text}}
		if got := plan(t, w, Sources{}, "l", NPM); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%.40q: %q, want an error with %q", text, got, want)
		}
	}
}

func TestCargoLock(t *testing.T) {
	lock := `version = 4

[[package]]
name = "mine"
version = "0.1.0"
dependencies = ["serde", "a"]

[[package]]
name = "Serde"
version = "1.0.0+build"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "` + sha("a") + `"

[[package]]
name = "a"
version = "1.0.0"
source = "sparse+https://crates.test/index/"
checksum = "` + sha("b") + `"

[[package]]
name = "abc"
version = "1.0.0"
source = "sparse+https://crates.test/index/"

[[package]]
name = "evil/../../x"
version = "1.0.0"
source = "sparse+https://crates.test/index/"

[[package]]
name = "fork"
version = "1.0.0"
source = "git+https://code.test/fork#0123"

[[package]]
name = "corp"
version = "1.0.0"
source = "registry+https://code.test/index"

[[package]]
name = "gone"
version = "1.0.0"
source = "sparse+https://gone.test/"
`
	w := &world{
		files: map[string]string{"Cargo.lock": lock},
		pages: map[string]Response{
			"https://index.test/config.json":        {Body: []byte(`{"dl":"https://dl.test/crates"}`)},
			"https://crates.test/index/config.json": {Body: []byte(`{"dl":"https://dl.test/{lowerprefix}/{crate}-{version}.crate?sum={sha256-checksum}"}`)},
		},
	}
	compare(t, []string{
		"https://index.test/config.json",
		"https://index.test/se/rd/serde",
		"https://dl.test/crates/Serde/1.0.0+build/download sha256:" + sha("a"),
		"https://crates.test/index/config.json",
		"https://crates.test/index/1/a",
		"https://dl.test/1/a-1.0.0.crate?sum=" + sha("b") + " sha256:" + sha("b"),
		"https://crates.test/index/3/a/abc",
		"https://dl.test/3/a/abc-1.0.0.crate?sum=",
		`failed: Cargo.lock: evil/../../x: "evil/../../x" in version "1.0.0" is no crate`,
		"note: Cargo.lock: fork comes from git+https://code.test/fork#0123, not from a registry",
		"failed: Cargo.lock: corp: the registry's index is a Git repository, which is not read; name its sparse index as sparse+https://…",
		"failed: Cargo.lock: get https://gone.test/config.json of the crates index: status 404",
	}, plan(t, w, Sources{Crates: "https://index.test"}, "Cargo.lock", CargoLock))
	if got := w.with.Get("Cargo-Protocol"); got != "version=1" {
		t.Errorf("the index was asked with Cargo-Protocol %q", got)
	}
}

// TestCargoLockOfVersionOne has the checksums in a table of their own.
func TestCargoLockOfVersionOne(t *testing.T) {
	const source = "registry+https://github.com/rust-lang/crates.io-index"
	w := &world{
		files: map[string]string{"Cargo.lock": "[[package]]\nname = \"ab\"\nversion = \"1.0.0\"\nsource = \"" + source + "\"\n" +
			"[metadata]\n\"checksum ab 1.0.0 (" + source + ")\" = \"" + sha("c") + "\"\n"},
		pages: map[string]Response{"https://index.test/config.json": {Body: []byte(`{"dl":"https://dl.test/crates"}`)}},
	}
	compare(t, []string{
		"https://index.test/config.json",
		"https://index.test/2/ab",
		"https://dl.test/crates/ab/1.0.0/download sha256:" + sha("c"),
	}, plan(t, w, Sources{Crates: "https://index.test/"}, "Cargo.lock", CargoLock))
}

func TestRequirements(t *testing.T) {
	w := &world{
		files: map[string]string{
			"dir/requirements.txt": `# made by pip-compile
--index-url https://${LARDER_TEST_USER}:pw@index.test/simple
-r base.txt
Demo.Pkg[extra1,extra2]==1.0 ; python_version >= "3.8" \
    --hash=sha256:` + sha("a") + ` \
    --hash=sha256:` + sha("b") + `  # both files
    # via something \
unpinned>=1
zope_interface==5.0 --hash=sha256:` + sha("d") + `
gone==1 --hash=sha256:` + sha("e") + `
direct @ https://files.test/direct-1.0.tar.gz#sha256=` + sha("1") + ` ; python_version > "3"
https://files.test/other-1.0.zip --hash sha256:` + sha("2") + `
./local/path
-e ../editable
-c constraints.txt
bad==1 --hash=md9:00
"unclosed
--no-binary :all:
`,
			"dir/base.txt": "-r requirements.txt\nbase==2 --hash=sha512:" + sha("f") + sha("f") + "\n",
		},
		pages: map[string]Response{
			"https://index.test/simple/demo-pkg/": {ContentType: "application/vnd.pypi.simple.v1+json", Body: []byte(`{"files":[
				{"url":"../../files/demo_pkg-1.0-py3-none-any.whl","hashes":{"sha256":"` + sha("A") + `"},"core-metadata":{"sha256":"` + sha("3") + `"}},
				{"url":"https://files.test/demo-pkg-1.0.tar.gz?x=1","hashes":{"sha256":"` + sha("b") + `","md5":"x"},"core-metadata":false},
				{"url":"https://files.test/demo-pkg-0.9.tar.gz","hashes":{"sha256":"` + sha("c") + `"}},
				{"url":"%zz","hashes":{"sha256":"` + sha("b") + `"}}]}`)},
			"https://index.test/simple/zope-interface/": {ContentType: "text/html; charset=utf-8", Body: []byte(`<html><head>
				<base href="/elsewhere/"></head><body><a href="z-5.0.whl#sha256=` + sha("d") + `" data-dist-info-metadata="true">z</a>
				<a href="old.whl">old</a><a>none</a></body>`)},
			"https://index.test/simple/base/": {ContentType: "application/vnd.pypi.simple.v1+html", Body: []byte(
				`<a href="https://files.test/base?name=b-2.whl&amp;x=1#sha512=` + sha("f") + sha("f") + `" data-core-metadata="sha256=` + sha("4") + `">b</a>`)},
		},
	}
	t.Setenv("LARDER_TEST_USER", "me")
	compare(t, []string{
		"https://index.test/simple/base/",
		"https://files.test/base.metadata?name=b-2.whl&x=1 sha256:" + sha("4"),
		"https://files.test/base?name=b-2.whl&x=1 sha512:" + sha("f") + sha("f"),
		"https://index.test/simple/demo-pkg/",
		"https://index.test/files/demo_pkg-1.0-py3-none-any.whl.metadata sha256:" + sha("3"),
		"https://index.test/files/demo_pkg-1.0-py3-none-any.whl sha256:" + sha("a"),
		"https://files.test/demo-pkg-1.0.tar.gz?x=1 sha256:" + sha("b"),
		"https://index.test/simple/zope-interface/",
		"https://index.test/elsewhere/z-5.0.whl.metadata",
		"https://index.test/elsewhere/z-5.0.whl sha256:" + sha("d"),
		"https://files.test/direct-1.0.tar.gz sha256:" + sha("1"),
		"https://files.test/other-1.0.zip sha256:" + sha("2"),
		"note: dir/requirements.txt:13: ./local/path is a local path",
		"note: dir/requirements.txt:14: ../editable is editable: it does not come from an index",
		"note: dir/requirements.txt:15: constraints (constraints.txt) are not read: they name nothing that is installed",
		`failed: dir/requirements.txt:16: --hash=md9:00: "md9:00": the algorithm is none of sha256, sha512, sha384, sha224, sha1, md5`,
		`failed: dir/requirements.txt:17: a quotation mark " is not closed`,
		"failed: dir/requirements.txt:8: unpinned has no --hash, so it is not known which files are meant; make them with pip-compile --generate-hashes",
		"failed: dir/requirements.txt:10: gone: https://index.test/simple/gone/: not in this index",
	}, plan(t, w, Sources{Indexes: []string{"https://unused.test/"}}, "dir/requirements.txt", Requirements))
	if got := w.with.Get("Authorization"); got != "Basic bWU6cHc=" {
		t.Errorf("the index was asked with Authorization %q", got)
	}
	if !strings.Contains(w.with.Get("Accept"), "simple.v1+json") {
		t.Errorf("the index was asked with Accept %q", w.with.Get("Accept"))
	}
	p, err := w.planner(Sources{}).File(t.Context(), "dir/requirements.txt", Requirements)
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range p.Items {
		ours := strings.HasPrefix(it.URL, "https://index.test/")
		if (it.Header.Get("Authorization") != "") != ours {
			t.Errorf("%s is asked with Authorization %q", it.URL, it.Header.Get("Authorization"))
		}
	}
}

func TestRequirementsFromSeveralIndexes(t *testing.T) {
	page := func(digest string) Response {
		return Response{ContentType: "text/html", Body: []byte(`<a href="f.whl#sha256=` + digest + `">`)}
	}
	w := &world{
		files: map[string]string{"requirements.txt": "--extra-index-url=https://extra.test/s\n" +
			"x==1 --hash=sha256:" + sha("1") + " --hash=sha256:" + sha("2") + " --hash=sha256:" + sha("3") + "\n"},
		pages: map[string]Response{
			"https://main.test/s/x/":  page(sha("1")),
			"https://extra.test/s/x/": page(sha("2")),
		},
	}
	compare(t, []string{
		"https://main.test/s/x/",
		"https://main.test/s/x/f.whl sha256:" + sha("1"),
		"https://extra.test/s/x/",
		"https://extra.test/s/x/f.whl sha256:" + sha("2"),
		"note: requirements.txt:2: x: the index lists no file with 1 of its 3 digests",
	}, plan(t, w, Sources{Indexes: []string{"https://main.test/s/"}}, "requirements.txt", Requirements))
	w.files["requirements.txt"] = "--no-index\nx==1 --hash=sha256:" + sha("1") + "\n"
	compare(t, []string{"failed: requirements.txt:2: x: no package index is named"},
		plan(t, w, Sources{Indexes: []string{"https://main.test/s/"}}, "requirements.txt", Requirements))
	w.files["requirements.txt"] = "x==1 --hash=sha256:" + sha("9") + "\n"
	compare(t, []string{"failed: requirements.txt:1: x: the index lists no file with any of its 1 digests"},
		plan(t, w, Sources{Indexes: []string{"https://main.test/s/"}}, "requirements.txt", Requirements))
}

func TestFetchErrorsOfAnIndexAreNamed(t *testing.T) {
	w := &world{files: map[string]string{"requirements.txt": "x==1 --hash=sha256:" + sha("1") + "\n"}}
	p := w.planner(Sources{Indexes: []string{"https://main.test/"}})
	p.Get = func(context.Context, Item) (Response, error) { return Response{}, errors.New("no route") }
	got, err := p.File(t.Context(), "requirements.txt", Requirements)
	if err != nil || len(got.Notes) != 1 || !got.Notes[0].Failed || !strings.Contains(got.Notes[0].Text, "no route") {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestFormatOf(t *testing.T) {
	for name, want := range map[string]Format{
		"a/requirements.txt": Requirements, "dev-requirements.txt": Requirements, "requirements-ci.TXT": Requirements,
		"package-lock.json": NPM, "npm-shrinkwrap.json": NPM, "x/go.sum": GoSum, "Cargo.lock": CargoLock,
		"urls.txt": URLs, "-": URLs,
	} {
		if got := FormatOf(name); got != want {
			t.Errorf("FormatOf(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestFileThatIsNotThere(t *testing.T) {
	_, err := new(Planner).File(t.Context(), t.TempDir()+"/none", URLs)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// FuzzFile reads anything as anything: no panic, and every item is one that can be
// asked for.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		"https://a.test/x sha256:" + sha("1"),
		"--index-url https://i.test/\nx[a]==1;y --hash=sha256:" + sha("1") + "\\\n --hash sha256:" + sha("2") + "\n-r x\nz @ https://u.test/\n",
		"a.test/b v1.0.0 h1:" + emptySHA256 + "\na.test/b v1.0.0/go.mod h1:" + emptySHA256,
		`{"lockfileVersion":3,"packages":{"node_modules/@a/b":{"version":"1","integrity":"sha256-` + emptySHA256 + `"}}}`,
		`{"lockfileVersion":1,"dependencies":{"a":{"version":"npm:b@1","dependencies":{"c":{"version":"1"}}}}}`,
		"[[package]]\nname=\"abcd\"\nversion=\"1\"\nsource=\"sparse+https://i.test/\"\nchecksum=\"" + sha("1") + "\"\n",
	} {
		for i := range Formats() {
			f.Add(seed, byte(i), "application/json")
			f.Add(seed, byte(i), "text/html")
		}
	}
	f.Fuzz(func(t *testing.T, text string, n byte, kind string) {
		format := Formats()[int(n)%len(Formats())]
		p := &Planner{
			Sources: Sources{
				Indexes: []string{"https://i.test/s"}, NPM: "https://n.test/x", DefaultNPM: "d.test",
				GoProxy: "https://g.test", GoPrivate: "p.test", Crates: "https://c.test",
			},
			Get: func(_ context.Context, it Item) (Response, error) {
				if strings.HasSuffix(it.URL, "config.json") {
					return Response{Status: 200, URL: it.URL, Body: []byte(`{"dl":"https://dl.test/{prefix}/{crate}"}`)}, nil
				}
				return Response{Status: 200, URL: it.URL, ContentType: kind, Body: []byte(text)}, nil
			},
			Open: func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
		}
		got, err := p.File(t.Context(), "file", format)
		if err != nil {
			return
		}
		for _, it := range got.Items {
			req, err := http.NewRequest(http.MethodGet, it.URL, http.NoBody)
			if err != nil || req.URL.User != nil || req.URL.Host == "" || !slices.Contains([]string{"http", "https"}, req.URL.Scheme) {
				t.Fatalf("item %q cannot be asked for: %v", it.URL, err)
			}
			if it.Digest != "" {
				if d, err := ParseDigest(string(it.Digest)); err != nil || d != it.Digest {
					t.Fatalf("digest %q is none", it.Digest)
				}
			}
		}
	})
}

// FuzzSimple reads anything as a page of an index.
func FuzzSimple(f *testing.F) {
	f.Add([]byte(`{"files":[{"url":"x","hashes":{"sha256":"`+sha("1")+`"},"core-metadata":true}]}`), true)
	f.Add([]byte(`<base href="/a/"><a href="x#sha256=`+sha("1")+`" data-core-metadata="sha256=`+sha("2")+`">`), false)
	f.Fuzz(func(t *testing.T, body []byte, isJSON bool) {
		kind := "text/html"
		if isJSON {
			kind = "application/vnd.pypi.simple.v1+json"
		}
		files, err := parseSimple(Response{URL: "https://i.test/s/x/", ContentType: kind, Body: body})
		if err != nil {
			return
		}
		for _, file := range files {
			items, err := file.items(Item{URL: "https://i.test/s/x/"}, "")
			if err != nil {
				continue
			}
			if want := 1 + btoi(file.hasMetadata); len(items) != want {
				t.Errorf("%q: %d items, want %d", file.url, len(items), want)
			}
		}
		if bytes.Count(body, []byte("<")) < len(files) && !isJSON {
			t.Errorf("%d files from %d tags", len(files), bytes.Count(body, []byte("<")))
		}
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
