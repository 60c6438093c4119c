package integrity

import (
	"net/http"
	"slices"
	"testing"
)

// Digests of "hello\n" by sha256sum, sha512sum, sha1sum, md5sum.
const (
	helloSHA256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
	helloSHA512 = "e7c22b994c59d9cf2b48e549b1e24666636045930d3da7c1acb299d1c3b7f931f94aae41edda2c2b207a36e10f8bcb8d45223e54878f5b316e7ce3b6bc019629"
	helloSHA1   = "f572d396fae9206628714fb2ce00f72e94f2258f"
	helloMD5    = "b1946ac92492d2347c6235b4d2611184"

	helloSHA256b64 = "WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM="
	helloSHA512b64 = "58IrmUxZ2c8rSOVJseJGZmNgRZMNPafBrLKZ0cO3+TH5Sq5B7dosKyB6NuEPi8uNRSI+VIePWzFufOO2vAGWKQ=="
	helloSHA1b64   = "9XLTlvrpIGYocU+yzgD3LpTyJY8="
	helloMD5b64    = "sZRqySSS0jR8YjW00mERhA=="
	helloCRC32Cb64 = "NT3Yvg=="
)

func TestHeaderSaysDigests(t *testing.T) {
	for _, c := range []struct {
		name   string
		header http.Header
		want   []string
	}{
		{"nothing", http.Header{}, nil},
		{"Repr-Digest of RFC 9530", http.Header{"Repr-Digest": {"sha-256=:" + helloSHA256b64 + ":, sha-512=:" + helloSHA512b64 + ":"}}, []string{"coded sha256:" + helloSHA256, "coded sha512:" + helloSHA512}},
		{"Content-Digest on two lines", http.Header{"Content-Digest": {"sha-256=:" + helloSHA256b64 + ":", "unixsum=:AAAA:"}}, []string{"coded sha256:" + helloSHA256}},
		{"a dictionary that cannot be read says nothing", http.Header{"Repr-Digest": {"sha-256=:" + helloSHA256b64 + ":, ="}}, nil},
		{"a digest that is too short says nothing", http.Header{"Repr-Digest": {"sha-256=:AAAA:"}}, nil},
		{"no byte sequence says nothing", http.Header{"Repr-Digest": {`sha-256="x"`}}, nil},
		{"Digest of RFC 3230", http.Header{"Digest": {"SHA-256=" + helloSHA256b64 + ",MD5=" + helloMD5b64 + ",unixsum=5"}}, []string{"coded sha256:" + helloSHA256, "coded md5:" + helloMD5}},
		{"OCI", http.Header{"Docker-Content-Digest": {"sha256:" + helloSHA256}}, []string{"sha256:" + helloSHA256}},
		{"OCI with sha512", http.Header{"Docker-Content-Digest": {"sha512:" + helloSHA512}}, []string{"sha512:" + helloSHA512}},
		{"Maven Central", http.Header{"X-Checksum-Sha1": {helloSHA1}, "X-Checksum-Md5": {helloMD5}}, []string{"sha1:" + helloSHA1, "md5:" + helloMD5}},
		{"S3", http.Header{"X-Amz-Checksum-Sha256": {helloSHA256b64}, "X-Amz-Checksum-Crc32c": {helloCRC32Cb64}}, []string{"sha256:" + helloSHA256, "crc32c:353dd8be"}},
		{"S3 in parts says nothing of the whole", http.Header{"X-Amz-Checksum-Sha1": {helloSHA1b64 + "-3"}}, nil},
		{"Google", http.Header{"X-Goog-Hash": {"crc32c=" + helloCRC32Cb64, "md5=" + helloMD5b64}}, []string{"crc32c:353dd8be", "md5:" + helloMD5}},
		{"Google on one line", http.Header{"X-Goog-Hash": {"crc32c=" + helloCRC32Cb64 + ",md5=" + helloMD5b64}}, []string{"crc32c:353dd8be", "md5:" + helloMD5}},
		{"Google, decompressed on the way", http.Header{"X-Goog-Hash": {"md5=" + helloMD5b64}, "X-Goog-Stored-Content-Encoding": {"gzip"}}, nil},
		{"Google, as stored", http.Header{"X-Goog-Hash": {"md5=" + helloMD5b64}, "X-Goog-Stored-Content-Encoding": {"identity"}}, []string{"md5:" + helloMD5}},
		{"Azure", http.Header{"X-Ms-Blob-Content-Md5": {helloMD5b64}}, []string{"md5:" + helloMD5}},
		{"Content-MD5", http.Header{"Content-Md5": {helloMD5b64}}, []string{"md5:" + helloMD5}},
		{"Nexus 2", http.Header{"Etag": {`"{SHA1{` + helloSHA1 + `}}"`}}, []string{"sha1:" + helloSHA1}},
		{"two that contradict each other say nothing", http.Header{"Docker-Content-Digest": {"sha256:" + helloSHA256, "sha256:" + helloSHA256[1:] + "0"}}, nil},
		{"one said twice", http.Header{"X-Checksum-Sha1": {helloSHA1, helloSHA1}}, []string{"sha1:" + helloSHA1, "sha1:" + helloSHA1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, claim := range HeaderClaims(c.header) {
				if claim.Source != FromHeader {
					t.Errorf("source is %v", claim.Source)
				}
				text := claim.Digest.String()
				if claim.Coded {
					text = "coded " + text
				}
				got = append(got, text)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("HeaderClaims = %q, want %q", got, c.want)
			}
		})
	}
}

func TestSubresourceIntegrityIsRead(t *testing.T) {
	got := SRI("sha512-" + helloSHA512b64 + " sha1-" + helloSHA1b64 + "?opt md5-" + helloMD5b64 + " sha384-x junk")
	var texts []string
	for _, d := range got {
		texts = append(texts, d.String())
	}
	if want := []string{"sha512:" + helloSHA512, "sha1:" + helloSHA1}; !slices.Equal(texts, want) {
		t.Errorf("SRI = %q, want %q", texts, want)
	}
}

func FuzzHeaderClaims(f *testing.F) {
	f.Add("Repr-Digest", "sha-256=:"+helloSHA256b64+":")
	f.Add("Digest", "SHA-256="+helloSHA256b64+",MD5="+helloMD5b64)
	f.Add("X-Goog-Hash", "crc32c="+helloCRC32Cb64+",md5="+helloMD5b64)
	f.Add("Docker-Content-Digest", "sha256:"+helloSHA256)
	f.Add("Etag", `"{SHA1{`+helloSHA1+`}}"`)
	f.Fuzz(func(t *testing.T, name, value string) {
		for _, c := range HeaderClaims(http.Header{http.CanonicalHeaderKey(name): {value}}) {
			if back, err := ParseDigest(c.Digest.String()); err != nil || back != c.Digest {
				t.Errorf("ParseDigest(%q) = %v, %v", c.Digest, back, err)
			}
		}
		for _, d := range SRI(value) {
			if d.Algorithm().New() == nil {
				t.Errorf("SRI(%q) holds %v", value, d)
			}
		}
	})
}
