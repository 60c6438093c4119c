package warm

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/dirhash"
)

func sha256Of(s string) Digest {
	sum := sha256.Sum256([]byte(s))
	return Digest("sha256:" + hex.EncodeToString(sum[:]))
}

func TestParseDigest(t *testing.T) {
	hexed := strings.Repeat("ab", 32)
	for in, want := range map[string]Digest{
		"sha256:" + hexed:                                     Digest("sha256:" + hexed),
		"SHA256:" + strings.ToUpper(hexed):                    Digest("sha256:" + hexed),
		"sha1:" + strings.Repeat("0", 40):                     Digest("sha1:" + strings.Repeat("0", 40)),
		"h1-mod:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=": "h1-mod:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
		"sha256:abc":                          "",
		"sha256:" + strings.Repeat("zz", 32):  "",
		"sha256:" + hexed + "00":              "",
		"crc32:00000000":                      "",
		hexed:                                 "",
		"h1-zip:short":                        "",
		"h1-zip:" + strings.Repeat("A", 42):   "",
		"sha256":                              "",
		"":                                    "",
		":":                                   "",
		"sha512:" + strings.Repeat("ab", 64):  Digest("sha512:" + strings.Repeat("ab", 64)),
		"md5:" + strings.Repeat("AB", 16):     Digest("md5:" + strings.Repeat("ab", 16)),
		"sha384:" + strings.Repeat("12", 48):  Digest("sha384:" + strings.Repeat("12", 48)),
		"sha224:" + strings.Repeat("12", 28):  Digest("sha224:" + strings.Repeat("12", 28)),
		"sha256:" + strings.Repeat("12", 28):  "",
		"sha256: " + hexed:                    "",
		"h1-mod:" + strings.Repeat("=", 44):   "",
		"h1-mod:47DEQpj8HBSa+/TImW+5JCeuQeRk": "",
	} {
		got, err := ParseDigest(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseDigest(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestStrongestIntegrityIsTaken(t *testing.T) {
	// Of "body": echo -n body | openssl dgst -binary -ALGORITHM | base64.
	const sha1 = "sha1-Agg/RXngimEkJcDBoX7ket14O5Q="
	for in, want := range map[string]Digest{
		"":                                   "",
		sha1:                                 "sha1:02083f4579e08a612425c0c1a17ee47add783b94",
		"sha9-xxx":                           "",
		"sha512-short":                       "",
		sha1 + " sha256-" + emptySHA256:      "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"sha256-" + emptySHA256 + " " + sha1: "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"sha256-" + emptySHA256 + "?ct=x/y":  "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"sha512-not*base64 sha256-" + emptySHA256: "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	} {
		if got := fromIntegrity(in); got != want {
			t.Errorf("fromIntegrity(%q) = %q, want %q", in, got, want)
		}
	}
}

const emptySHA256 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

// check runs body through a Check in pieces.
func check(t *testing.T, d Digest, body []byte) error {
	t.Helper()
	c, err := NewCheck(d)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Errorf("close the check: %v", err)
		}
	}()
	for len(body) > 0 {
		n := min(7, len(body))
		if _, err := c.Write(body[:n]); err != nil {
			t.Fatal(err)
		}
		body = body[n:]
	}
	return c.Result()
}

func TestCheck(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var zipped bytes.Buffer
	w := zip.NewWriter(&zipped)
	for name, text := range map[string]string{"m.test@v1.0.0/go.mod": "module m.test\n", "m.test@v1.0.0/a.go": "package m\n"} {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.Write([]byte(text))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/m.zip"
	if err := os.WriteFile(path, zipped.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	h1, err := dirhash.HashZip(path, dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	// From the checksum database, for a go.mod of one line: see the test's
	// comparison with Go's own dirhash above for the zip.
	const mod = "module m.test\n"
	modSum := sha256.Sum256([]byte(mod))
	line := sha256.Sum256([]byte(hex.EncodeToString(modSum[:]) + "  go.mod\n"))
	h1mod := Digest("h1-mod:" + encode64(line[:]))
	for _, tc := range []struct {
		name   string
		digest Digest
		good   []byte
	}{
		{"sha256", sha256Of("body"), []byte("body")},
		{"sha1", "sha1:02083f4579e08a612425c0c1a17ee47add783b94", []byte("body")},
		{"a module's zip", Digest(strings.Replace(h1, "h1:", "h1-zip:", 1)), zipped.Bytes()},
		{"a go.mod", h1mod, []byte(mod)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := check(t, tc.digest, tc.good); err != nil {
				t.Errorf("the right body: %v", err)
			}
			for what, bad := range map[string][]byte{
				"cut": tc.good[:len(tc.good)-1], "empty": nil, "changed": append([]byte("x"), tc.good[1:]...),
			} {
				err := check(t, tc.digest, bad)
				if m, ok := errors.AsType[*MismatchError](err); !ok || m.Want != tc.digest {
					t.Errorf("%s body: %v, want a *MismatchError", what, err)
				}
			}
		})
	}
	if err := check(t, "", []byte("anything")); err != nil {
		t.Errorf("a body without a known digest: %v", err)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("temporary files left: %v, %v", left, err)
	}
}

func FuzzParseDigest(f *testing.F) {
	f.Add("sha256:" + strings.Repeat("ab", 32))
	f.Add("h1-zip:" + emptySHA256)
	f.Add("sha512-AAAA sha1-x")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDigest(s)
		if err == nil {
			if again, err := ParseDigest(string(d)); err != nil || again != d {
				t.Errorf("%q is read as %q, and that as %q, %v", s, d, again, err)
			}
			c, err := NewCheck(d)
			if err != nil {
				t.Fatalf("no check for %q: %v", d, err)
			}
			c.Close()
		}
		if d := fromIntegrity(s); d != "" {
			if again, err := ParseDigest(string(d)); err != nil || again != d {
				t.Errorf("integrity %q gives %q, which is none", s, d)
			}
		}
	})
}
