package mitm

import (
	"net/url"
	"strings"
	"testing"

	"larder/policy"
)

// Hosts are put together from a name and a domain, so that no registry is spelled out.
func TestPresetsFindDigestsInPaths(t *testing.T) {
	p, err := policy.Parse("larder.yaml", []byte("presets: all\n"))
	if err != nil {
		t.Fatal(err)
	}
	const pypi, debian = "https://files." + "pythonhosted.org", "http://deb." + "debian.org"
	hex := strings.Repeat("0123456789abcdef", 8)
	for path, want := range map[string]string{
		pypi + "/packages/01/23/" + hex[4:64] + "/six-1.16.0-py2.py3-none-any.whl":                             "blake2b-256:" + hex[:64],
		pypi + "/packages/01/23/" + hex[4:64] + "/six-1.16.0.tar.gz":                                           "blake2b-256:" + hex[:64],
		pypi + "/packages/01/23/" + hex[4:64] + "/six-1.16.0-py2.py3-none-any.whl.metadata":                    "",
		pypi + "/packages/01/23/" + hex[4:64] + "/six-1.16.0.tar.gz.asc":                                       "",
		debian + "/debian/dists/stable/main/binary-amd64/by-hash/SHA256/" + hex[:64]:                           "sha256:" + hex[:64],
		debian + "/debian/dists/stable/main/binary-amd64/by-hash/SHA512/" + hex[:128]:                          "sha512:" + hex[:128],
		debian + "/debian/dists/stable/main/by-hash/MD5Sum/" + hex[:32]:                                        "md5:" + hex[:32],
		"https://snapshot." + "debian.org/file/" + hex[:40]:                                                    "sha1:" + hex[:40],
		"https://snapshot." + "debian.org/archive/debian/20240101T000000Z/pool/main/a/apt/apt_2.6.1_amd64.deb": "",
		"http://archive." + "ubuntu.com/ubuntu/dists/noble/main/binary-amd64/by-hash/SHA256/" + hex[:64]:       "sha256:" + hex[:64],
	} {
		u, err := url.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		d := p.Classify(policy.Client{}, "GET", u)
		if d.Rule == nil || !d.Action.Stores() {
			t.Errorf("%s is not stored", path)
			continue
		}
		if got, _ := newCacheRule(d.Rule).URLDigest(u); got.String() != want {
			t.Errorf("%s\n names %q, want %q", path, got, want)
		}
	}
}
