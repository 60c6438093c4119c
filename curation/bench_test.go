package curation

import (
	"fmt"
	"strings"
	"testing"

	"larder/policy"
	"larder/registry/npm"
	"larder/registry/pypi"
)

// BenchmarkRender renders a page as large as those of the largest projects.
func BenchmarkRender(b *testing.B) {
	var files, versions, times strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&files, `,{"filename":"foo-1.%d-py3-none-any.whl","url":"https://files.test/packages/aa/bb/%060d/foo-1.%d-py3-none-any.whl","hashes":{"sha256":"%064d"},`+
			`"requires-python":">=3.8","size":123456,"upload-time":"2020-01-01T00:00:00.000000Z","yanked":false,"core-metadata":{"sha256":"%064d"}}`, i, i, i, i, i)
		fmt.Fprintf(&versions, `,"1.%d.0":{"name":"foo","version":"1.%d.0","description":"%s","dist":{"tarball":"https://r.test/foo/-/foo-1.%d.0.tgz","shasum":"%040d"}}`, i, i, strings.Repeat("long ", 100), i, i)
		fmt.Fprintf(&times, `,"1.%d.0":"2020-01-01T00:00:00.000Z"`, i)
	}
	c := curator(b, "curation: [{name: q, younger_than: 3d, action: deny}]", nil)
	for _, row := range []struct {
		name, media, body string
		a                 *Ask
	}{
		{"pypi JSON", pypi.MediaJSON, `{"name":"foo","files":[` + files.String()[1:] + `]}`, ask(b, policy.PyPI, "https://index.test/simple/foo/", pypi.MediaJSON)},
		{"pypi HTML", pypi.MediaJSON, `{"name":"foo","files":[` + files.String()[1:] + `]}`, ask(b, policy.PyPI, "https://index.test/simple/foo/", "text/html")},
		{"npm", npm.MediaFull, `{"name":"foo","versions":{` + versions.String()[1:] + `},"time":{` + times.String()[1:] + `}}`, ask(b, policy.NPM, "https://r.test/foo", npm.MediaAbbreviated)},
	} {
		src := source(row.a, row.media, row.body)
		b.Run(row.name, func(b *testing.B) {
			b.SetBytes(int64(len(row.body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Render(row.a, src, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(row.name+", known", func(b *testing.B) {
			for b.Loop() {
				if c.Known(row.a, src.SHA256) == nil {
					b.Fatal("it is not known")
				}
			}
		})
	}
}

// BenchmarkJudge is what each request for a file costs.
func BenchmarkJudge(b *testing.B) {
	c := curator(b, "curation: [{name: some, packages: [bad, \"@evil/*\"], action: deny}, {name: q, younger_than: 3d, action: deny}]", nil)
	for name, target := range map[string]string{"npm": "https://r.test/foo/-/foo-1.0.0.tgz", "pypi": "https://files.test/packages/aa/bb/cc/foo-1.0-py3-none-any.whl"} {
		r := policy.NPM
		if name == "pypi" {
			r = policy.PyPI
		}
		a := ask(b, r, target, "")
		c.published.put([]publishedFile{c.published.entry(FileKey(r, a.target), now.AddDate(-1, 0, 0))})
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				look := Look(r, a.target, nil)
				if j := c.Judge(&look); j.Refused != nil || j.NeedsAge {
					b.Fatalf("%+v", j)
				}
			}
		})
	}
}
