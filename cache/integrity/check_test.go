package integrity

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/sha256"
	"crypto/sha512"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/dirhash"
)

func mustDigest(t testing.TB, s string) Digest {
	t.Helper()
	d, err := ParseDigest(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// finish has a body checked that arrives in small pieces.
func finish(t testing.TB, claims []Claim, coding string, content bool, body []byte) Result {
	t.Helper()
	c := NewCheck(claims, coding, content)
	defer c.Close()
	for part := range slices.Chunk(body, 3) {
		if n, err := c.Write(part); n != len(part) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	return c.Finish(sha256.Sum256(body), bytes.NewReader(body))
}

func TestCheckFindsWhichClaimsHold(t *testing.T) {
	hello := []byte("hello\n")
	claim := func(s Source, text string) Claim { return Claim{Digest: mustDigest(t, text), Source: s} }
	right, right512, rightMD5 := "sha256:"+helloSHA256, "sha512:"+helloSHA512, "md5:"+helloMD5
	wrong, wrong512, wrongMD5 := "sha256:"+strings.Repeat("0", 64), "sha512:"+strings.Repeat("0", 128), "md5:"+strings.Repeat("0", 32)
	for _, c := range []struct {
		name         string
		claims       []Claim
		verified     int
		mismatch     string
		contradicted int
	}{
		{"none", nil, 0, "", 0},
		{"SHA-256", []Claim{claim(FromURL, right)}, 1, "", 0},
		{"another SHA-256", []Claim{claim(FromURL, wrong)}, 0, wrong, 0},
		{"SHA-512 of an index", []Claim{claim(FromIndex, right512)}, 1, "", 0},
		{"MD5 of a header", []Claim{claim(FromHeader, rightMD5)}, 1, "", 0},
		{"a wrong header", []Claim{claim(FromHeader, wrongMD5)}, 0, wrongMD5, 0},
		{"an index that the URL contradicts", []Claim{claim(FromIndex, wrong512), claim(FromURL, right)}, 1, "", 1},
		{"a header that the index contradicts", []Claim{claim(FromHeader, wrong), claim(FromIndex, right512)}, 1, "", 1},
		{"an index is not outdone by a weak digest", []Claim{claim(FromURL, rightMD5), claim(FromIndex, wrong)}, 1, wrong, 0},
		{"the URL before the index", []Claim{claim(FromIndex, wrong512), claim(FromURL, wrong)}, 0, wrong, 0},
		{"a client that expects otherwise refuses nothing", []Claim{claim(FromClient, wrong512)}, 0, "", 1},
		{"a client that expects this", []Claim{claim(FromClient, right512)}, 1, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := finish(t, c.claims, "", false, hello)
			mismatch := ""
			if r.Mismatch != nil {
				mismatch = r.Mismatch.Digest.String()
				if r.Got.Algorithm() != r.Mismatch.Digest.Algorithm() || r.Got == r.Mismatch.Digest {
					t.Errorf("got is %v", r.Got)
				}
			}
			if len(r.Verified) != c.verified || mismatch != c.mismatch || len(r.Contradicted) != c.contradicted {
				t.Errorf("Finish = %+v", r)
			}
		})
	}
}

func TestCheckHashesOnlyWhatIsNeeded(t *testing.T) {
	claim := func(s Source, text string) Claim { return Claim{Digest: mustDigest(t, text), Source: s} }
	for _, c := range []struct {
		name   string
		claims []Claim
		want   []Algorithm
	}{
		{"SHA-256 comes from the store", []Claim{claim(FromIndex, "sha256:"+helloSHA256), claim(FromIndex, "sha512:"+helloSHA512)}, nil},
		{"the best of an index", []Claim{claim(FromIndex, "sha1:"+helloSHA1), claim(FromIndex, "sha512:"+helloSHA512)}, []Algorithm{SHA512}},
		{"no header where an index speaks", []Claim{claim(FromHeader, "md5:"+helloMD5), claim(FromIndex, "sha512:"+helloSHA512)}, []Algorithm{SHA512}},
		{"no client's where a header speaks", []Claim{claim(FromHeader, "md5:"+helloMD5), claim(FromClient, "sha512:"+helloSHA512)}, []Algorithm{MD5}},
		{"one of a header", []Claim{claim(FromHeader, "md5:"+helloMD5), claim(FromHeader, "crc32c:353dd8be"), claim(FromHeader, "sha1:"+helloSHA1)}, []Algorithm{SHA1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			check := NewCheck(c.claims, "", false)
			defer check.Close()
			var got []Algorithm
			for a, h := range check.sent {
				if h != nil {
					got = append(got, Algorithm(a))
				}
			}
			if !slices.Equal(got, c.want) || check.Idle() != (len(c.want) == 0) {
				t.Errorf("hashes %v, want %v", got, c.want)
			}
		})
	}
}

func encoded(t testing.TB, coding string, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "br":
		w = brotli.NewWriter(&b)
	case "zstd":
		var err error
		if w, err = zstd.NewWriter(&b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDigestsAreOfTheContentWhateverItsCoding(t *testing.T) {
	hello := []byte("hello\n")
	for _, coding := range []string{"gzip", "deflate", "br", "zstd"} {
		t.Run(coding, func(t *testing.T) {
			body := encoded(t, coding, hello)
			for _, text := range []string{"sha256:" + helloSHA256, "sha512:" + helloSHA512, "md5:" + helloMD5} {
				r := finish(t, []Claim{{Digest: mustDigest(t, text), Source: FromIndex}}, coding, false, body)
				if len(r.Verified) != 1 || r.Mismatch != nil {
					t.Errorf("%s: Finish = %+v", text, r)
				}
				if !r.ContentOK || r.Content != sha256.Sum256(hello) {
					t.Errorf("%s: content has %x, %v", text, r.Content, r.ContentOK)
				}
			}
			sum := sha256.Sum256(body)
			d, _ := NewDigest(SHA256, sum[:])
			// Of the bytes as sent: Repr-Digest, and a file whose own format the server
			// takes for a coding.
			for _, coded := range []bool{true, false} {
				r := finish(t, []Claim{{Digest: d, Source: FromHeader, Coded: coded}}, coding, false, body)
				if len(r.Verified) != 1 {
					t.Errorf("coded %v: Finish = %+v", coded, r)
				}
			}
			r := finish(t, []Claim{{Digest: mustDigest(t, "md5:"+helloMD5), Source: FromHeader, Coded: true}}, coding, false, body)
			if r.Mismatch == nil {
				t.Error("the content's digest was taken for that of the bytes as sent")
			}
		})
	}
}

func TestBodyThatIsNotOfItsCodingHasNoContent(t *testing.T) {
	gz := encoded(t, "gzip", []byte("hello\n"))
	for name, body := range map[string][]byte{
		"not gzip": []byte("hallo\n"), "cut short": gz[:len(gz)-2], "more behind it": append(slices.Clone(gz), "xx"...), "empty": nil,
	} {
		t.Run(name, func(t *testing.T) {
			r := finish(t, []Claim{{Digest: mustDigest(t, "sha512:"+helloSHA512), Source: FromIndex}}, "gzip", true, body)
			if r.ContentOK || r.Mismatch == nil {
				t.Errorf("Finish = %+v", r)
			}
		})
	}
}

func TestUnknownCodingProvesNothing(t *testing.T) {
	r := finish(t, []Claim{{Digest: mustDigest(t, "sha256:"+helloSHA256), Source: FromIndex}}, "compress", true, []byte("xyz"))
	if r.ContentOK || r.Mismatch != nil || len(r.Verified) > 0 {
		t.Errorf("Finish = %+v", r)
	}
}

func TestBombIsNotUnpacked(t *testing.T) {
	// Brotli's windows repeat more cheaply than gzip's thousandfold.
	bomb := encoded(t, "br", make([]byte, 64<<20))
	r := finish(t, nil, "br", true, bomb)
	if r.ContentOK {
		t.Errorf("%d bytes were unpacked to 64 MiB", len(bomb))
	}
}

func TestCloseEndsADecoder(t *testing.T) {
	c := NewCheck(nil, "gzip", true)
	if _, err := c.Write([]byte{0x1f, 0x8b}); err != nil {
		t.Fatal(err)
	}
	d := c.decoder
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-d.done // or the test hangs
}

func moduleZip(t testing.TB, members map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, body := range members {
		m, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestGoDigestIsThatOfGoSum(t *testing.T) {
	body := moduleZip(t, map[string]string{
		"example.com/m@v1.0.0/go.mod": "module example.com/m\n",
		"example.com/m@v1.0.0/m.go":   "package m\n" + strings.Repeat("// x\n", 200_000),
	})
	file := filepath.Join(t.TempDir(), "m.zip")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	want, err := dirhash.HashZip(file, dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	d, ok := ParseH1(want, false)
	if !ok {
		t.Fatalf("ParseH1(%q)", want)
	}
	if r := finish(t, []Claim{{Digest: d, Source: FromIndex}}, "", false, body); len(r.Verified) != 1 {
		t.Errorf("Finish = %+v", r)
	}
	other := moduleZip(t, map[string]string{"example.com/m@v1.0.0/go.mod": "module example.com/m\n\n"})
	if r := finish(t, []Claim{{Digest: d, Source: FromIndex}}, "", false, other); r.Mismatch == nil || r.Got.IsZero() {
		t.Errorf("Finish of another module = %+v", r)
	}
	if r := finish(t, []Claim{{Digest: d, Source: FromIndex}}, "", false, []byte("no zip")); r.Mismatch == nil || !r.Got.IsZero() {
		t.Errorf("Finish of no zip file = %+v", r)
	}
	if got, err := Of(GoZip, sha256.Sum256(body), bytes.NewReader(body), int64(len(body))); got != d || err != nil {
		t.Errorf("Of = %v, %v", got, err)
	}
}

func TestGoModDigestIsThatOfGoSum(t *testing.T) {
	mod := []byte("module example.com/m\n")
	want, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(mod)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	d, _ := ParseH1(want, true)
	if r := finish(t, []Claim{{Digest: d, Source: FromIndex}}, "", false, mod); len(r.Verified) != 1 {
		t.Errorf("Finish = %+v", r)
	}
	if r := finish(t, []Claim{{Digest: d, Source: FromIndex}}, "gzip", false, encoded(t, "gzip", mod)); len(r.Verified) != 1 {
		t.Errorf("Finish in gzip = %+v", r)
	}
}

func TestDigestOfAStoredBody(t *testing.T) {
	hello := []byte("hello\n")
	for _, want := range []string{"sha256:" + helloSHA256, "sha512:" + helloSHA512, "sha1:" + helloSHA1, "md5:" + helloMD5, "crc32c:353dd8be"} {
		d := mustDigest(t, want)
		got, err := Of(d.Algorithm(), sha256.Sum256(hello), bytes.NewReader(hello), int64(len(hello)))
		if got != d || err != nil {
			t.Errorf("Of = %v, %v, want %v", got, err, d)
		}
	}
}

func FuzzCheckOfCodings(f *testing.F) {
	for i, coding := range []string{"gzip", "deflate", "br", "zstd"} {
		f.Add(byte(i), encoded(f, coding, []byte("hello\n")))
	}
	f.Fuzz(func(t *testing.T, which byte, body []byte) {
		coding := []string{"gzip", "deflate", "br", "zstd"}[which%4]
		finish(t, []Claim{{Digest: mustDigest(t, "sha512:"+helloSHA512), Source: FromIndex}}, coding, true, body)
	})
}

func FuzzGoZip(f *testing.F) {
	f.Add(moduleZip(f, map[string]string{"a@v1/go.mod": "module a\n"}))
	f.Fuzz(func(t *testing.T, body []byte) {
		if d, err := goZip(bytes.NewReader(body), int64(len(body))); err == nil && d.IsZero() {
			t.Error("neither digest nor error")
		}
	})
}

// TestLargeBodiesAreHashedBeside: by another goroutine than the one that brings them.
func TestLargeBodiesAreHashedBeside(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 3*ownPace/16)
	sum := sha512.Sum512(body)
	d, _ := NewDigest(SHA512, sum[:])
	for _, ended := range []string{"finished", "given up", "given up in between"} {
		c := NewCheck([]Claim{{Digest: d, Source: FromIndex}}, "", false)
		for part := range slices.Chunk(body, 100_000) {
			c.Start(part)
			if ended == "given up in between" && c.pending {
				break
			}
			c.Wait()
		}
		if c.work == nil {
			t.Error("no goroutine was begun")
		}
		if ended == "finished" {
			if r := c.Finish(sha256.Sum256(body), bytes.NewReader(body)); len(r.Verified) != 1 {
				t.Errorf("Finish = %+v", r)
			}
		}
		if err := c.Close(); err != nil || c.work != nil {
			t.Errorf("Close: %v", err)
		}
	}
}
