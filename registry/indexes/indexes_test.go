package indexes

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"larder/cache/integrity"
)

const (
	sha256a = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	sha256b = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	sha1c   = "cccccccccccccccccccccccccccccccccccccccc"
	md5d    = "dddddddddddddddddddddddddddddddd"
	// 64 zero bytes.
	sri = "sha512-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="
	// 32 zero bytes.
	h1 = "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)

var (
	sha512zero = "sha512:" + strings.Repeat("0", 128)
	h1zero     = strings.Repeat("0", 64)
)

func gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

func xzipped(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

// sample is an index and what it says.
type sample struct {
	name, kind, url, contentType, body string
	want                               []string // URL and digest
}

func samples(t testing.TB) []sample {
	packages := "Package: a\nVersion: 1\nFilename: pool/main/a/a/a_1+b_amd64.deb\nSize: 5\nMD5sum: " + md5d + "\nSHA256: " + sha256a + "\n\n" +
		"Package: b\nDescription: two\n lines\nFilename: ./pool/b_1.deb\nSHA256: " + sha256b + "\n"
	return []sample{
		{
			"npm, abbreviated", "npm", "https://npm.test/a", "application/vnd.npm.install-v1+json",
			`{"name":"a","versions":{"1.0.0":{"dist":{"integrity":"` + sri + `","shasum":"` + sha1c + `","tarball":"https://npm.test/a/-/a-1.0.0.tgz"}},` +
				`"0.1.0":{"dist":{"shasum":"` + sha1c + `","tarball":"https://other.test/a/-/a-0.1.0.tgz"}}},"readme":"{\"dist\":1}"}`,
			[]string{"https://npm.test/a/-/a-1.0.0.tgz " + sha512zero, "https://other.test/a/-/a-0.1.0.tgz sha1:" + sha1c},
		},
		{
			"npm, one version", "npm", "https://npm.test/a/1.0.0", "application/json",
			`{"name":"a","dist":{"tarball":"https://npm.test/a.tgz","integrity":"` + sri + `"}}`,
			[]string{"https://npm.test/a.tgz " + sha512zero},
		},
		{
			"PyPI in JSON", "pypi", "https://pypi.test/simple/a/", "application/vnd.pypi.simple.v1+json",
			`{"meta":{},"name":"a","files":[{"filename":"a-1.whl","url":"https://files.test/p/a-1.whl","hashes":{"sha256":"` + sha256a + `","x":"y"},"core-metadata":{"sha256":"` + sha256b + `"}},` +
				`{"filename":"a-1.tar.gz","url":"../../a-1.tar.gz","hashes":{"blake2b_256":"` + sha256b + `"},"core-metadata":false}]}`,
			[]string{"https://files.test/p/a-1.whl sha256:" + sha256a, "https://files.test/p/a-1.whl.metadata sha256:" + sha256b, "https://pypi.test/a-1.tar.gz blake2b-256:" + sha256b},
		},
		{
			"PyPI's JSON API", "pypi", "https://pypi.test/pypi/a/json", "application/json",
			`{"info":{"x":[]},"releases":{"1":[{"url":"https://files.test/a-1.whl","digests":{"sha256":"` + sha256a + `","md5":"` + md5d + `"}}]},"urls":[]}`,
			[]string{"https://files.test/a-1.whl sha256:" + sha256a, "https://files.test/a-1.whl md5:" + md5d},
		},
		{
			"PyPI in HTML", "pypi", "https://pypi.test/simple/a/", "text/html; charset=UTF-8",
			`<!DOCTYPE html><html><body><a href="https://files.test/a-1.whl#sha256=` + sha256a + `" data-core-metadata="sha256=` + sha256b + `">a-1.whl</a>` +
				"\n<a class=x href='/a&amp;b.tar.gz#md5=" + md5d + "'>x</a><a name=y>none</a></body></html>",
			[]string{"https://files.test/a-1.whl sha256:" + sha256a, "https://files.test/a-1.whl.metadata sha256:" + sha256b, "https://pypi.test/a&b.tar.gz md5:" + md5d},
		},
		{
			"HTML with a base", "pypi", "https://pypi.test/simple/a/", "text/html",
			`<head><base href="https://files.test/x/"></head><a href="a-1.whl#sha256=` + sha256a + `">`,
			[]string{"https://files.test/x/a-1.whl sha256:" + sha256a},
		},
		{
			"InRelease", "debian", "http://deb.test/debian/dists/stable/InRelease", "",
			"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nOrigin: x\nMD5Sum:\n " + md5d + " 5 main/Packages\nSHA256:\n " + sha256a + "  5 main/binary-amd64/Packages.xz\n " + sha256b + " 5 ../evil\n" +
				"-----BEGIN PGP SIGNATURE-----\n " + sha256b + " 5 main/no\n",
			[]string{"http://deb.test/debian/dists/stable/main/binary-amd64/Packages.xz sha256:" + sha256a},
		},
		{"Packages", "debian", "http://deb.test/debian/dists/stable/main/binary-amd64/Packages", "", packages, []string{
			"http://deb.test/debian/pool/main/a/a/a_1+b_amd64.deb sha256:" + sha256a, "http://deb.test/debian/pool/main/a/a/a_1%2Bb_amd64.deb sha256:" + sha256a, "http://deb.test/debian/pool/b_1.deb sha256:" + sha256b,
		}},
		{"Packages in xz, by hash", "debian", "http://deb.test/dists/stable/main/by-hash/SHA256/" + sha256b, "", xzipped(t, packages[strings.Index(packages, "Package: b"):]), []string{
			"http://deb.test/pool/b_1.deb sha256:" + sha256b,
		}},
		{"Packages of a flat repository", "debian", "http://deb.test/flat/Packages.gz", "", gzipped("Package: b\nFilename: ./b_1.deb\nSHA256: " + sha256b + "\n"), []string{"http://deb.test/flat/b_1.deb sha256:" + sha256b}},
		{
			"Sources", "debian", "http://deb.test/debian/dists/stable/main/source/Sources", "",
			"Package: a\nFiles:\n " + md5d + " 5 a_1.dsc\nChecksums-Sha256:\n " + sha256a + " 5 a_1.dsc\n " + sha256b + " 6 a_1.tar.xz\nDirectory: pool/main/a/a\n",
			[]string{"http://deb.test/debian/pool/main/a/a/a_1.dsc sha256:" + sha256a, "http://deb.test/debian/pool/main/a/a/a_1.tar.xz sha256:" + sha256b},
		},
		{"a Translation is none", "debian", "http://deb.test/debian/dists/stable/main/i18n/by-hash/SHA256/" + sha256a, "", "Package: a\nDescription-md5: x\n\nPackage: b\nFilename: pool/b.deb\nSHA256: " + sha256b + "\n", nil},
		{"a name that leaves the repository", "debian", "http://deb.test/debian/dists/stable/Packages", "", "Package: a\nFilename: ../../x.deb\nSHA256: " + sha256a + "\n", nil},
		{
			"a sum through a proxy", "go", "https://proxy.test/sumdb/sum.test/lookup/github.com/!azure/x@v1.0.0", "",
			"12\ngithub.com/Azure/x v1.0.0 " + h1 + "\ngithub.com/Azure/x v1.0.0/go.mod " + h1 + "\n\ngo.sum database tree\n5\n",
			[]string{
				"https://proxy.test/github.com/%21azure/x/@v/v1.0.0.zip h1-zip:" + h1zero, "https://proxy.test/github.com/!azure/x/@v/v1.0.0.zip h1-zip:" + h1zero,
				"https://proxy.test/github.com/%21azure/x/@v/v1.0.0.mod h1-mod:" + h1zero, "https://proxy.test/github.com/!azure/x/@v/v1.0.0.mod h1-mod:" + h1zero,
			},
		},
		{
			"a sum from its own host", "go", "https://sum.test/lookup/a.test/m@v2.0.0+incompatible", "", "1\na.test/m v2.0.0+incompatible " + h1 + "\n\n",
			[]string{
				"https://sum.test/a.test/m/@v/v2.0.0+incompatible.zip h1-zip:" + h1zero, "https://sum.test/a.test/m/@v/v2.0.0%2Bincompatible.zip h1-zip:" + h1zero,
				"https://vouched.test/a.test/m/@v/v2.0.0+incompatible.zip h1-zip:" + h1zero, "https://vouched.test/a.test/m/@v/v2.0.0%2Bincompatible.zip h1-zip:" + h1zero,
			},
		},
		{"a sidecar", "sidecar", "https://m.test/a/a-1.jar.sha1", "", sha1c, []string{"https://m.test/a/a-1.jar sha1:" + sha1c}},
		{"a sidecar with a name", "sidecar", "https://m.test/a-1.zip.sha256", "", strings.ToUpper(sha256a) + "  dist/a-1.zip\n", []string{"https://m.test/a-1.zip sha256:" + sha256a}},
		{"a sidecar of another file", "sidecar", "https://m.test/a-1.zip.sha256", "", sha256a + "  b.zip\n", nil},
		{"a sidecar with another algorithm", "sidecar", "https://m.test/a-1.zip.sha256", "", md5d, nil},
		{
			"SHASUMS256.txt", "checksums", "https://n.test/v1/SHASUMS256.txt", "", sha256a + "  n-1.tar.gz\n" + sha256b + " *win/n.exe\n" + sha256b + "  ../x\nnot one\n",
			[]string{"https://n.test/v1/n-1.tar.gz sha256:" + sha256a, "https://n.test/v1/win/n.exe sha256:" + sha256b},
		},
		{"checksums with tags", "checksums", "https://n.test/checksums.txt", "", "SHA256 (a b.iso) = " + sha256a + "\nMD5 (c.iso) = " + md5d + "\n", []string{"https://n.test/a%20b.iso sha256:" + sha256a, "https://n.test/c.iso md5:" + md5d}},
		{"HashiCorp's", "checksums", "https://r.test/terraform/1.0/terraform_1.0_SHA256SUMS", "", sha256a + "  terraform_1.0_linux.zip\n", []string{"https://r.test/terraform/1.0/terraform_1.0_linux.zip sha256:" + sha256a}},
		{
			"gems", "rubygems", "https://gems.test/info/rack", "", "---\n1.0.0 a:>= 1|checksum:" + sha256a + ",ruby:>= 2\n1.0.0-java |checksum:" + sha256b + "\n2.0 |ruby:>= 2\n",
			[]string{"https://gems.test/gems/rack-1.0.0.gem sha256:" + sha256a, "https://gems.test/gems/rack-1.0.0-java.gem sha256:" + sha256b},
		},
		{
			"charts", "helm", "https://charts.test/x/index.yaml", "",
			"apiVersion: v1\nentries:\n  a:\n  - apiVersion: v2\n    annotations:\n      digest: no\n    digest: " + sha256a + "\n    maintainers:\n    - name: x\n    urls:\n    - a-1.tgz\n    - \"https://files.test/a-1.tgz\"\n    version: 1\n  - digest: sha256:" + sha256b + "\n    urls:\n      - a-2.tgz\n  b:\n    - urls:\n        - b-1.tgz\n      digest: '" + sha256a + "'\ngenerated: x\n",
			[]string{"https://charts.test/x/a-1.tgz sha256:" + sha256a, "https://files.test/a-1.tgz sha256:" + sha256a, "https://charts.test/x/a-2.tgz sha256:" + sha256b, "https://charts.test/x/b-1.tgz sha256:" + sha256a},
		},
		{
			"conda", "conda", "https://c.test/main/linux-64/repodata.json", "", `{"info":{"subdir":"linux-64"},"packages":{"a-1-0.tar.bz2":{"md5":"` + md5d + `","sha256":"` + sha256a + `"}},"packages.conda":{"b-1-0.conda":{"md5":"` + md5d + `"},"../x":{"sha256":"` + sha256b + `"}}}`,
			[]string{"https://c.test/main/linux-64/a-1-0.tar.bz2 sha256:" + sha256a, "https://c.test/main/linux-64/b-1-0.conda md5:" + md5d},
		},
		{
			"repomd.xml", "rpm", "https://r.test/os/repodata/repomd.xml", "",
			`<?xml version="1.0"?><repomd xmlns="http://linux.duke.edu/metadata/repo"><!-- <location href="no"/> --><data type="primary"><checksum type="sha256">` + sha256a + `</checksum><open-checksum type="sha256">` + sha256b + `</open-checksum><location href="repodata/x-primary.xml.gz"/></data></repomd>`,
			[]string{"https://r.test/os/repodata/x-primary.xml.gz sha256:" + sha256a},
		},
		{
			"primary.xml", "rpm", "https://r.test/os/repodata/x-primary.xml.gz", "",
			gzipped(`<metadata><package type="rpm"><name>a</name><checksum type="sha256" pkgid="YES">` + sha256a + `</checksum><description>a &lt;b&gt;</description><location href="Packages/a++-1.rpm"/></package>` +
				`<package type="rpm"><checksum type="sha">` + sha1c + `</checksum><location xml:base="https://elsewhere.test/y/" href="b.rpm"/></package></metadata>`),
			[]string{"https://r.test/os/Packages/a++-1.rpm sha256:" + sha256a, "https://r.test/os/Packages/a%2B%2B-1.rpm sha256:" + sha256a, "https://elsewhere.test/y/b.rpm sha1:" + sha1c},
		},
		{
			"narinfo", "nix", "https://n.test/abc.narinfo", "", "StorePath: /nix/store/x\nURL: nar/x.nar.xz\nFileHash: sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73\nNarHash: sha256:" + sha256b + "\n",
			[]string{"https://n.test/nar/x.nar.xz sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		},
	}
}

func collect(t testing.TB, r *Reader, kind string, in *Index) []string {
	t.Helper()
	var got []string
	err := r.Read(kind, in, func(u *url.URL, d integrity.Digest) error {
		got = append(got, u.String()+" "+d.String())
		return nil
	})
	if err != nil {
		t.Errorf("Read: %v", err)
	}
	return got
}

func mustURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestDigestsAreFoundInIndexes(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			r, u := NewReader(), mustURL(t, s.url)
			if !r.Wants(s.kind, u) {
				t.Error("it is not wanted")
			}
			got := collect(t, r, s.kind, &Index{URL: u, ContentType: s.contentType, Body: strings.NewReader(s.body), Hosts: []string{"vouched.test"}})
			if !slices.Equal(got, s.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(s.want, "\n"))
			}
		})
	}
}

func TestWhatIsNoIndexIsNotRead(t *testing.T) {
	for kind, urls := range map[string][]string{
		"debian":    {"http://d.test/debian/pool/main/a/a_1.deb", "http://d.test/debian/dists/stable/Contents-amd64.gz"},
		"go":        {"https://p.test/a.test/m/@v/v1.0.0.zip", "https://p.test/a.test/lookup/x"},
		"sidecar":   {"https://m.test/a-1.jar", "https://m.test/.sha1"},
		"checksums": {"https://n.test/n-1.tar.gz"},
		"crates":    {"https://c.test/crates/a/1/download"},
		"rubygems":  {"https://g.test/gems/a-1.gem", "https://g.test/versions"},
		"helm":      {"https://h.test/a-1.tgz"},
		"conda":     {"https://c.test/main/linux-64/a-1-0.conda"},
		"rpm":       {"https://r.test/os/Packages/a.rpm", "https://r.test/os/repodata/x-filelists.xml.gz"},
		"nix":       {"https://n.test/nar/x.nar.xz"},
		"unknown":   {"https://n.test/"},
	} {
		for _, u := range urls {
			if NewReader().Wants(kind, mustURL(t, u)) {
				t.Errorf("%s is wanted as %s", u, kind)
			}
		}
	}
}

func TestCratesAreWhereTheConfigSays(t *testing.T) {
	const line = `{"name":"Abc","vers":"1.0.0","cksum":"` + sha256a + `","deps":[]}` + "\nnot JSON\n" + `{"name":"../x","vers":"1","cksum":"` + sha256a + `"}` + "\n"
	index := "https://index.test/a/3/a/abc"
	for name, c := range map[string]struct {
		dl   string
		want []string
	}{
		"the API's place": {"https://dl.test/api/v1/crates", []string{"https://dl.test/api/v1/crates/Abc/1.0.0/download", "https://dl.test/api/v1/crates/Abc/Abc-1.0.0.crate"}},
		"another":         {"https://dl.test/x/", []string{"https://dl.test/x/Abc/1.0.0/download"}},
		"markers":         {"https://dl.test/{lowerprefix}/{crate}-{version}.crate", []string{"https://dl.test/3/a/Abc-1.0.0.crate"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader()
			config := `{"dl":"` + c.dl + `","api":"x"}`
			var want []string
			for _, u := range c.want {
				want = append(want, u+" sha256:"+sha256a)
			}
			if got := collect(t, r, "crates", &Index{URL: mustURL(t, index), Body: strings.NewReader(line)}); len(got) > 0 {
				t.Errorf("before the config was seen: %q", got)
			}
			stored := func(u *url.URL) ([]byte, bool) {
				return []byte(config), u.String() == "https://index.test/a/config.json"
			}
			if got := collect(t, r, "crates", &Index{URL: mustURL(t, index), Body: strings.NewReader(line), Stored: stored}); !slices.Equal(got, want) {
				t.Errorf("with a stored config: %q, want %q", got, want)
			}
			r = NewReader()
			collect(t, r, "crates", &Index{URL: mustURL(t, "https://index.test/a/config.json"), Body: strings.NewReader(config)})
			if got := collect(t, r, "crates", &Index{URL: mustURL(t, index), Body: strings.NewReader(line)}); !slices.Equal(got, want) {
				t.Errorf("after the config was seen: %q, want %q", got, want)
			}
		})
	}
}

func TestReadingEndsWithYield(t *testing.T) {
	stop := errors.New("stop")
	for _, s := range samples(t) {
		if len(s.want) == 0 {
			continue
		}
		n := 0
		err := NewReader().Read(s.kind, &Index{URL: mustURL(t, s.url), ContentType: s.contentType, Body: strings.NewReader(s.body)}, func(*url.URL, integrity.Digest) error {
			n++
			return stop
		})
		if !errors.Is(err, stop) || n != 1 {
			t.Errorf("%s: %d calls, %v", s.name, n, err)
		}
	}
}

func FuzzIndexes(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(s.kind, s.url, s.contentType, s.body)
	}
	f.Add("crates", "https://index.test/a/3/a/abc", "", `{"name":"Abc","vers":"1.0.0","cksum":"`+sha256a+`"}`)
	f.Fuzz(func(t *testing.T, kind, at, contentType, body string) {
		u, err := url.Parse(at)
		if err != nil || u.Host == "" || !strings.HasPrefix(u.EscapedPath(), "/") {
			return
		}
		r := NewReader()
		if !r.Wants(kind, u) {
			return
		}
		in := &Index{
			URL: u, ContentType: contentType, Body: strings.NewReader(body),
			Stored: func(*url.URL) ([]byte, bool) { return []byte(`{"dl":"https://dl.test/{crate}"}`), true },
		}
		n := 0
		_ = r.Read(kind, in, func(file *url.URL, d integrity.Digest) error {
			if d.IsZero() || file == nil {
				t.Errorf("%v %v", file, d)
			}
			if n++; n > 10_000 {
				return fmt.Errorf("enough")
			}
			return nil
		})
	})
}
