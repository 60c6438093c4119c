package manifest

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const inRelease = `-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Origin: Debian
Acquire-By-Hash: yes
MD5Sum:
 d41d8cd98f00b204e9800998ecf8427e 0 main/binary-amd64/Packages
SHA256:
 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 main/binary-amd64/Packages
 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 3 main/binary-amd64/Packages.xz
 00 1 short
 zz7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 3 no-digest
 0000000000000000000000000000000000000000000000000000000000000000 3 main/binary-amd64/Packages.xz
SHA512:
 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 3 elsewhere
-----BEGIN PGP SIGNATURE-----

iQIzBAEB
-----END PGP SIGNATURE-----
`

const repomd = `<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">
  <revision>1718000000</revision>
  <data type="primary">
    <checksum type="sha256">ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad</checksum>
    <open-checksum type="sha256">e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</open-checksum>
    <location href="repodata/primary.xml.gz"/>
    <size>3</size>
  </data>
  <data type="other">
    <checksum type="sha">a9993e364706816aba3e25717850c26c9cd0d89d</checksum>
    <location href="repodata/other.xml.gz"/>
  </data>
</repomd>
`

func TestRead(t *testing.T) {
	const abc, empty = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, test := range []struct {
		name string
		kind Kind
		text string
		want map[string]string
	}{
		{"a signed Release", Debian, inRelease, map[string]string{"main/binary-amd64/Packages": empty, "main/binary-amd64/Packages.xz": abc}},
		{"a Release without SHA256", Debian, "MD5Sum:\n d41d8cd98f00b204e9800998ecf8427e 0 x\n", map[string]string{}},
		{"repomd.xml", RPM, repomd, map[string]string{"repodata/primary.xml.gz": abc}},
		{"nothing", Debian, "", map[string]string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			files, err := test.kind.Read(strings.NewReader(test.text))
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]string)
			for name, sum := range files {
				got[name] = hex.EncodeToString(sum[:])
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("files differ (-want +got):\n%s", diff)
			}
		})
	}
	if files, err := RPM.Read(strings.NewReader("<repomd><data>")); len(files) > 0 {
		t.Errorf("a broken repomd.xml names %v, %v", files, err)
	}
}

func TestPlaces(t *testing.T) {
	for _, test := range []struct {
		kind Kind
		path string
		want []Place
	}{
		{Debian, "/debian/dists/stable/main/Packages.xz", []Place{
			{"/debian/dists/stable/main/InRelease", "Packages.xz"},
			{"/debian/dists/stable/main/Release", "Packages.xz"},
			{"/debian/dists/stable/InRelease", "main/Packages.xz"},
			{"/debian/dists/stable/Release", "main/Packages.xz"},
			{"/debian/dists/InRelease", "stable/main/Packages.xz"},
			{"/debian/dists/Release", "stable/main/Packages.xz"},
		}},
		{Debian, "/Packages.gz", []Place{{"/InRelease", "Packages.gz"}, {"/Release", "Packages.gz"}}},
		{Debian, "/debian/dists/stable/InRelease", nil},
		{Debian, "/debian/dists/stable/Release.gpg", nil},
		{Debian, "/debian/dists/stable/", nil},
		{RPM, "/r/repodata/primary.xml.gz", []Place{{"/r/repodata/repomd.xml", "repodata/primary.xml.gz"}}},
		{RPM, "/repodata/primary.xml.gz", []Place{{"/repodata/repomd.xml", "repodata/primary.xml.gz"}}},
		{RPM, "/r/repodata/repomd.xml.asc", nil},
		{RPM, "/r/Packages/x.rpm", nil},
	} {
		if diff := cmp.Diff(test.want, test.kind.Places(test.path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.path, diff)
		}
	}
	if n := len(Debian.Places("/" + strings.Repeat("a/", 100) + "b")); n != 2*maxDepth {
		t.Errorf("%d places of a deep path", n)
	}
}

func TestReadIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("SHA256:\n")
	for i := range maxFiles + 1 {
		b.WriteString(" e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 ")
		for n := i; n > 0 || i == 0; n /= 26 {
			b.WriteByte(byte('a' + n%26))
			if i == 0 {
				break
			}
		}
		b.WriteByte('\n')
	}
	if files, err := Debian.Read(strings.NewReader(b.String())); err == nil && len(files) > maxFiles {
		t.Errorf("%d files were read", len(files))
	}
}

func FuzzRead(f *testing.F) {
	f.Add(inRelease)
	f.Add(repomd)
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range []Kind{Debian, RPM} {
			files, err := kind.Read(strings.NewReader(text))
			if err == nil && len(files) > len(text)/60 {
				t.Errorf("%d files from %d bytes", len(files), len(text))
			}
		}
	})
}
