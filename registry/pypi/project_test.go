package pypi

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const pageJSON = `{"meta":{"_last-serial":1,"api-version":"1.3","tracks":["https://other.test/"]},"name":"foo","project-status":{"status":"archived"},
"files":[
 {"filename":"foo-1.0.tar.gz","url":"https://files.test/aa/foo-1.0.tar.gz","hashes":{"sha256":"abc"},"requires-python":">=3.8","size":10,"upload-time":"2024-01-02T03:04:05.678901Z","yanked":"broken \u003cb\u003e","x-new":[1, 2],"gpg-sig":true},
 {"filename":"foo-2.0-py3-none-any.whl","url":"../foo-2.0-py3-none-any.whl","hashes":{"sha256":"def","blake2b":"0"},"core-metadata":{"sha256":"fed"},"provenance":"https://index.test/p","yanked":false,"upload-time":"2024-05-01T00:00:00+00:00"}
],"versions":["1.0","2.0"]}`

const pageHTML = `<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.1"><meta name="x" content="y"><title>Links for foo <a href="no"></title></head>
<body><!-- <a href="foo-9.tar.gz">foo-9.tar.gz</a> --><h1>Links</h1>
<a href="https://files.test/aa/foo-1.0.tar.gz#sha256=abc" data-requires-python="&gt;=3.8" data-yanked="broken &lt;b&gt;" data-gpg-sig="true" data-new="1">foo-1.0.tar.gz</a><br>
<A class=x HREF=' ../foo-2.0-py3-none-any.whl#egg=foo&sha256=def ' data-dist-info-metadata="true" data-core-metadata="sha256=fed">foo-2.0-py3-none-any.whl</A>
<a name="top">no file</a></body></html>`

var fileFields = cmpopts.IgnoreUnexported(File{})

func TestBothFormsSayTheSame(t *testing.T) {
	t.Parallel()
	fromJSON, err := ParseJSON([]byte(pageJSON))
	if err != nil {
		t.Fatal(err)
	}
	fromHTML, err := ParseHTML([]byte(pageHTML))
	if err != nil {
		t.Fatal(err)
	}
	want := []File{
		{
			Name: "foo-1.0.tar.gz", URL: "https://files.test/aa/foo-1.0.tar.gz", Hashes: Hashes{"sha256": "abc"}, RequiresPython: ">=3.8",
			Yanked: true, YankedReason: "broken <b>", GPGSig: new(true), Size: 10, UploadTime: time.Date(2024, 1, 2, 3, 4, 5, 678901000, time.UTC),
		},
		{
			Name: "foo-2.0-py3-none-any.whl", URL: "../foo-2.0-py3-none-any.whl", Hashes: Hashes{"sha256": "def", "blake2b": "0"},
			Metadata: Sidecar{true, Hashes{"sha256": "fed"}}, Provenance: "https://index.test/p", Size: -1, UploadTime: time.Date(2024, 5, 1, 0, 0, 0, 0, time.UTC),
		},
	}
	if diff := cmp.Diff(want, fromJSON.Files, fileFields); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
	want[0].Size, want[0].UploadTime = -1, time.Time{}
	want[1].Size, want[1].UploadTime, want[1].Provenance = -1, time.Time{}, ""
	want[1].Hashes, want[1].URL = Hashes{"sha256": "def"}, "../foo-2.0-py3-none-any.whl#egg=foo"
	if diff := cmp.Diff(want, fromHTML.Files, fileFields); diff != "" {
		t.Errorf("HTML (-want +got):\n%s", diff)
	}
}

func TestKeptFilesOfJSONKeepTheirBytes(t *testing.T) {
	t.Parallel()
	p, err := ParseJSON([]byte(pageJSON))
	if err != nil {
		t.Fatal(err)
	}
	p.Keep(func(f *File) bool { return f.Name == "foo-1.0.tar.gz" })
	want := `{"meta":{"_last-serial":1,"api-version":"1.3","tracks":["https://other.test/"]},"name":"foo","project-status":{"status":"archived"},` +
		`"files":[{"filename":"foo-1.0.tar.gz","url":"https://files.test/aa/foo-1.0.tar.gz","hashes":{"sha256":"abc"},"requires-python":">=3.8",` +
		`"size":10,"upload-time":"2024-01-02T03:04:05.678901Z","yanked":"broken \u003cb\u003e","x-new":[1, 2],"gpg-sig":true}],"versions":["1.0"]}`
	if diff := cmp.Diff(want, string(p.JSON(""))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHTMLOfJSON(t *testing.T) {
	t.Parallel()
	p, err := ParseJSON([]byte(pageJSON))
	if err != nil {
		t.Fatal(err)
	}
	want := `<!DOCTYPE html>
<html>
  <head>
    <meta name="pypi:repository-version" content="1.3">
    <meta name="pypi:project-status" content="archived">
    <meta name="pypi:tracks" content="https://other.test/">
    <title>Links for foo</title>
  </head>
  <body>
    <h1>Links for foo</h1>
    <a href="https://files.test/aa/foo-1.0.tar.gz#sha256=abc" data-requires-python="&gt;=3.8" data-yanked="broken &lt;b&gt;" data-gpg-sig="true">foo-1.0.tar.gz</a><br />
    <a href="../foo-2.0-py3-none-any.whl#sha256=def" data-dist-info-metadata="sha256=fed" data-core-metadata="sha256=fed" data-provenance="https://index.test/p">foo-2.0-py3-none-any.whl</a><br />
  </body>
</html>
`
	if diff := cmp.Diff(want, string(p.HTML(""))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHTMLKeepsWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	p, err := ParseHTML([]byte(pageHTML))
	if err != nil {
		t.Fatal(err)
	}
	got := string(p.HTML("foo"))
	for _, want := range []string{`data-new="1"`, `<meta name="x" content="y">`, `class="x"`, `#egg=foo&amp;sha256=def`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "foo-9") {
		t.Error("an anchor in a comment became one of the page")
	}
}

func TestAddedFile(t *testing.T) {
	t.Parallel()
	added := File{
		Name: "foo-1.0-py3-none-any.whl", URL: "https://files.test/x/foo-1.0-py3-none-any.whl", Hashes: Hashes{"sha256": "123"}, RequiresPython: ">=3.8",
		Yanked: true, YankedReason: "broken", Metadata: Sidecar{true, Hashes{"sha256": "456"}}, Size: 7, UploadTime: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	for name, form := range map[string]func(*Project) (*Project, error){
		"JSON": func(p *Project) (*Project, error) { return ParseJSON(p.JSON("foo")) },
		"HTML": func(p *Project) (*Project, error) { return ParseHTML(p.HTML("foo")) },
	} {
		for _, page := range []string{pageJSON, pageHTML} {
			parse := ParseJSON
			if page == pageHTML {
				parse = ParseHTML
			}
			p, err := parse([]byte(page))
			if err != nil {
				t.Fatal(err)
			}
			p.Files = append(p.Files, added)
			again, err := form(p)
			if err != nil {
				t.Fatal(err)
			}
			want := added
			if name == "HTML" {
				want.Size, want.UploadTime = -1, time.Time{}
			}
			if diff := cmp.Diff(want, again.Files[len(again.Files)-1], fileFields); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	page, err := url.Parse("https://index.test/simple/foo/")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ base, file, want string }{
		{"", "../../f.whl", "https://index.test/f.whl"},
		{"https://files.test/x/", "f.whl", "https://files.test/x/f.whl"},
		{"", "//files.test/f.whl", "https://files.test/f.whl"},
	} {
		p := &Project{Base: row.base}
		if got := p.Resolve(page, &File{URL: row.file}); got.String() != row.want {
			t.Errorf("%q on a page of base %q is %s, want %s", row.file, row.base, got, row.want)
		}
	}
	if got := (&Project{}).Resolve(page, &File{URL: "mailto:x"}); got != nil {
		t.Errorf("a URL without a host resolves to %s", got)
	}
}

func TestPagesThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, page := range map[string]string{
		"no JSON":            `<html>`,
		"no files":           `{"meta":{"api-version":"1.0"},"name":"foo"}`,
		"a file without URL": `{"name":"foo","files":[{"filename":"foo-1.0.zip"}]}`,
		"a key twice":        `{"name":"foo","files":[{"filename":"foo-1.0.zip","url":"a","url":"b"}]}`,
		"another major":      `{"meta":{"api-version":"2.0"},"name":"foo","files":[]}`,
	} {
		if _, err := ParseJSON([]byte(page)); err == nil {
			t.Errorf("a page with %s is taken", name)
		}
	}
	if _, err := ParseHTML([]byte(`<meta name="pypi:repository-version" content="2.0">`)); err == nil {
		t.Error("a page of another major version is taken")
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	j, err := ParseListJSON([]byte(`{"meta":{"api-version":"1.0"},"projects":[{"name":"Foo","x":1},{"name":"bar"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	h, err := ParseListHTML([]byte(`<a href="/simple/foo/">Foo</a><a href="/simple/bar/">innocent</a><a href="/simple/bar/">bar</a>`))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*List{j, h} {
		l.Keep(func(name string) bool { return Normalize(name) != "bar" })
		if diff := cmp.Diff([]string{"Foo"}, l.Names()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if got, want := string(j.JSON()), `{"meta":{"api-version":"1.0"},"projects":[{"name":"Foo","x":1}]}`; got != want {
		t.Errorf("JSON is %s", got)
	}
	if got := string(h.HTML()); !strings.Contains(got, `<a href="/simple/foo/">Foo</a>`) {
		t.Errorf("HTML is %s", got)
	}
}

func TestReleases(t *testing.T) {
	t.Parallel()
	const doc = `{"info":{"name":"foo","version":"2.0","x":1},"last_serial":1,"releases":{` +
		`"1.0":[{"filename":"foo-1.0.zip","url":"u","digests":{"sha256":"a"},"upload_time_iso_8601":"2024-01-02T03:04:05.678901Z"}],"1.1":[],` +
		`"2.0":[{"filename":"foo-2.0.zip","url":"u"}]},"urls":[{"filename":"foo-2.0.zip","url":"u"}],"vulnerabilities":[]}`
	r, err := ParseReleases([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Keep(func(version string, f ReleaseFile) bool { return version == "1.0" && !f.UploadTime.IsZero() }); err != nil {
		t.Fatal(err)
	}
	one, err := ParseReleases([]byte(`{"info":{"name":"foo","version":"1.0"},"urls":[{"filename":"foo-1.0.zip","url":"u"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Take(one)
	want := `{"info":{"name":"foo","version":"1.0"},"last_serial":1,"releases":{` +
		`"1.0":[{"filename":"foo-1.0.zip","url":"u","digests":{"sha256":"a"},"upload_time_iso_8601":"2024-01-02T03:04:05.678901Z"}],"1.1":[]},` +
		`"urls":[{"filename":"foo-1.0.zip","url":"u"}],"vulnerabilities":[]}`
	if diff := cmp.Diff(want, string(r.JSON())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNegotiate(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]string{
		"application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01": MediaJSON, // pip
		"application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01":   MediaJSON, // uv
		"text/html":                         MediaText,
		"*/*":                               MediaText,
		"":                                  MediaText,
		"text/*;q=0.5, application/*;q=0.1": MediaText,
		"application/vnd.pypi.simple.latest+json":            MediaJSON,
		"application/vnd.pypi.simple.v1+json;q=0, */*;q=0.1": MediaHTML,
		"image/png": "",
	} {
		if got := Negotiate([]string{accept}); got != want {
			t.Errorf("of %q: %q, want %q", accept, got, want)
		}
	}
	for contentType, want := range map[string]Form{MediaJSON: JSON, "text/html; charset=utf-8": HTML, MediaHTML: HTML, "text/plain": NoForm, "": NoForm} {
		if got := FormOf(contentType); got != want {
			t.Errorf("form of %q is %d, want %d", contentType, got, want)
		}
	}
}

// FuzzHTML holds what is written against what was read.
func FuzzHTML(f *testing.F) {
	f.Add([]byte(pageHTML))
	f.Add([]byte(`<base href="x"><a href=a-1.zip#md5=00&x=y data-yanked>t</a><a href="b&#x22;.zip">`))
	f.Add([]byte(`<textarea><a href=a.zip></textarea><plaintext><a href=b.zip>`))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := ParseHTML(in)
		if err != nil {
			return
		}
		again, err := ParseHTML(p.HTML("foo"))
		if err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
		// What is written is read as text; NUL, CR and space at the ends are not told apart there.
		clean := cmp.Transformer("clean", func(s string) string {
			return strings.Map(func(r rune) rune {
				if r < ' ' || r == '\uFFFD' || r > '~' {
					return -1
				}
				return r
			}, strings.TrimSpace(s))
		})
		if diff := cmp.Diff(p.Files, again.Files, fileFields, clean, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(File{}, "Name")); diff != "" {
			t.Errorf("%q (-read +written):\n%s", in, diff)
		}
		if strings.Count(string(p.HTML("foo")), "<a ") != len(p.Files) {
			t.Errorf("%q: there are other anchors than files in\n%s", in, p.HTML("foo"))
		}
	})
}

// FuzzJSON does the same for the other form.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(pageJSON))
	f.Add([]byte(`{"files":[{"filename":"a","url":"b","yanked":null,"core-metadata":false,"size":-1}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := ParseJSON(in)
		if err != nil {
			return
		}
		again, err := ParseJSON(p.JSON("foo"))
		if err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
		if diff := cmp.Diff(p.Files, again.Files, fileFields); diff != "" {
			t.Errorf("%q (-read +written):\n%s", in, diff)
		}
		for i := range p.Files {
			p.Files[i].object = nil // written from the fields
		}
		again, err = ParseJSON(p.JSON("foo"))
		if err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
		if diff := cmp.Diff(p.Files, again.Files, fileFields, cmpopts.EquateEmpty(), cmpopts.EquateApproxTime(time.Microsecond),
			cmpopts.IgnoreFields(File{}, "YankedReason"), cmpopts.IgnoreFields(Sidecar{}, "Hashes")); diff != "" {
			t.Errorf("%q (-read +written):\n%s", in, diff)
		}
		_ = p.HTML("foo")
	})
}

func FuzzReleases(f *testing.F) {
	f.Add([]byte(`{"info":{"name":"a","version":"1"},"releases":{"1":[{"filename":"f"}]},"urls":[]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := ParseReleases(in)
		if err != nil {
			return
		}
		if err := r.Keep(func(string, ReleaseFile) bool { return false }); err != nil {
			return
		}
		if _, err := ParseReleases(r.JSON()); err != nil {
			t.Errorf("%q: %v", in, err)
		}
	})
}
