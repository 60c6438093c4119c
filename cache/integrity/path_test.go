package integrity

import (
	"strings"
	"testing"
)

func TestDigestIsFoundInThePath(t *testing.T) {
	sha := strings.Repeat("0123456789abcdef", 4)
	for _, c := range []struct {
		name, algorithm, expression, path, want string
	}{
		{
			"groups are joined", "blake2b-256", `^/packages/([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{60})/[^/]+$`,
			"/packages/" + sha[:2] + "/" + sha[2:4] + "/" + sha[4:] + "/x-1.whl", "blake2b-256:" + sha,
		},
		{
			"upper case becomes lower case", "sha256", `^/by-hash/SHA256/([0-9A-Fa-f]+)$`,
			"/by-hash/SHA256/" + strings.ToUpper(sha), "sha256:" + sha,
		},
		{"a group that took no part is empty", "md5", `^/(?:a/(\w+)|b/(\w+))$`, "/b/" + sha[:32], "md5:" + sha[:32]},
		{"another length is none", "sha256", `^/([0-9a-f]+)$`, "/" + sha[:62], ""},
		{"far too long is none", "sha256", `^/([0-9a-f]+)$`, "/" + strings.Repeat(sha, 9), ""},
		{"another alphabet is none", "sha1", `^/(\w+)$`, "/" + strings.Repeat("g", 40), ""},
		{"no match is none", "sha1", `^/x/(\w+)$`, "/" + sha[:40], ""},
		// The empty string's SHA-256, as `nix hash` writes it.
		{
			"Nix writes base 32", "sha256-nix32", `^/nar/([0-9a-z]{52})\.nar`, "/nar/0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73.nar.xz",
			"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		},
		{"Nix digits that overflow are none", "sha256-nix32", `^/(\w+)$`, "/" + strings.Repeat("z", 52), ""},
		{"Nix knows no e", "sha256-nix32", `^/(\w+)$`, "/" + strings.Repeat("e", 52), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := NewPathPattern(c.algorithm, c.expression)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := p.Find(c.path)
			if got.String() != c.want || ok != (c.want != "") {
				t.Errorf("Find = %q, %v, want %q", got, ok, c.want)
			}
		})
	}
}

func TestPathPatternNeedsAlgorithmAndGroup(t *testing.T) {
	for _, c := range [][2]string{{"sha3", "(x)"}, {"h1-zip", "(x)"}, {"sha256", "x"}, {"sha256", "("}} {
		if _, err := NewPathPattern(c[0], c[1]); err == nil {
			t.Errorf("NewPathPattern(%q, %q) succeeded", c[0], c[1])
		}
	}
}

func FuzzPathDigest(f *testing.F) {
	f.Add("/0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73")
	f.Add("/" + strings.Repeat("Ab", 32))
	plain, err1 := NewPathPattern("sha256", `^/(.*)$`)
	nix, err2 := NewPathPattern("sha256-nix32", `^/(.*)$`)
	if err1 != nil || err2 != nil {
		f.Fatal(err1, err2)
	}
	f.Fuzz(func(t *testing.T, path string) {
		for _, p := range []PathPattern{plain, nix} {
			d, ok := p.Find(path)
			if !ok {
				continue
			}
			back, err := ParseDigest(d.String())
			if err != nil || back != d {
				t.Errorf("ParseDigest(%q) = %v, %v", d, back, err)
			}
		}
		if d, ok := plain.Find(path); ok && !strings.EqualFold(d.Hex(), path[1:]) {
			t.Errorf("Find(%q) = %s", path, d)
		}
	})
}
