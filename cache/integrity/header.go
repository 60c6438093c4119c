package integrity

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/dunglas/httpsfv"
)

// HeaderClaims returns what the header of a whole response says of the digest of its
// body. Fields that cannot be read say nothing, and neither does one that says two
// things.
//
// Repr-Digest and Content-Digest (RFC 9530) and their forerunner Digest (RFC 3230) are
// of the bytes with their content coding. Other fields are of what the origin has
// stored, so for a body in a coding, which something on the way may have made, they are
// taken for those of the content.
func HeaderClaims(h http.Header) []Claim {
	var out []Claim
	add := func(coded bool, all []Digest) {
		for _, d := range all {
			same := func(o Digest) bool { return o.Algorithm() == d.Algorithm() && o != d }
			if !slices.ContainsFunc(all, same) {
				out = append(out, Claim{Digest: d, Source: FromHeader, Coded: coded})
			}
		}
	}
	add(true, structured(h["Repr-Digest"]))
	add(true, structured(h["Content-Digest"]))
	add(true, instanceDigests(h["Digest"]))
	add(false, hexField(SHA256, h, "Docker-Content-Digest", "sha256:"))
	add(false, hexField(SHA512, h, "Docker-Content-Digest", "sha512:"))
	for _, f := range checksumFields() {
		add(false, hexField(f.algorithm, h, f.name, ""))
		add(false, base64Field(f.algorithm, h, f.base64))
	}
	if !transcoded(h) {
		add(false, googleHashes(h["X-Goog-Hash"]))
	}
	add(false, nexusTag(h.Get("Etag")))
	return out
}

// checksumFields lists the fields of Maven Central, Artifactory and Nexus (hexadecimal)
// and of S3 (base64, with -N behind it where the object was uploaded in N parts and the
// checksum is none of the whole).
func checksumFields() []struct {
	algorithm    Algorithm
	name, base64 string
} {
	return []struct {
		algorithm    Algorithm
		name, base64 string
	}{
		{SHA256, "X-Checksum-Sha256", "X-Amz-Checksum-Sha256"},
		{SHA512, "X-Checksum-Sha512", "X-Amz-Checksum-Sha512"},
		{SHA1, "X-Checksum-Sha1", "X-Amz-Checksum-Sha1"},
		{MD5, "X-Checksum-Md5", "Content-Md5"},
		{MD5, "", "X-Ms-Blob-Content-Md5"},
		{CRC32C, "", "X-Amz-Checksum-Crc32c"},
	}
}

// structured reads a dictionary of RFC 9530: sha-256=:base64:.
func structured(lines []string) []Digest {
	if len(lines) == 0 {
		return nil
	}
	dictionary, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return nil
	}
	var out []Digest
	for _, name := range dictionary.Names() {
		member, _ := dictionary.Get(name)
		item, ok := member.(httpsfv.Item)
		if !ok {
			continue
		}
		sum, ok := item.Value.([]byte)
		if d, fits := NewDigest(ianaAlgorithm(name), sum); ok && fits {
			out = append(out, d)
		}
	}
	return out
}

// ianaAlgorithm returns the algorithm of the registry of RFC 9530, section 7.2, or 0.
func ianaAlgorithm(name string) Algorithm {
	switch name {
	case "sha-256":
		return SHA256
	case "sha-512":
		return SHA512
	case "sha":
		return SHA1
	case "md5":
		return MD5
	case "crc32c":
		return CRC32C
	}
	return 0
}

// instanceDigests reads Digest: SHA-256=base64,SHA=base64.
func instanceDigests(lines []string) []Digest {
	var out []Digest
	for part := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			continue
		}
		a := ianaAlgorithm(strings.ToLower(name))
		if a == CRC32C {
			continue // in that field it was written in hexadecimal digits by some
		}
		if d, ok := fromBase64(a, value); ok {
			out = append(out, d)
		}
	}
	return out
}

func hexField(a Algorithm, h http.Header, name, prefix string) []Digest {
	if name == "" {
		return nil
	}
	var out []Digest
	for _, v := range h[name] {
		value, ok := strings.CutPrefix(strings.TrimSpace(v), prefix)
		if d, fits := fromHex(a, value); ok && fits {
			out = append(out, d)
		}
	}
	return out
}

func base64Field(a Algorithm, h http.Header, name string) []Digest {
	var out []Digest
	for _, v := range h[name] {
		if d, ok := fromBase64(a, strings.TrimSpace(v)); ok {
			out = append(out, d)
		}
	}
	return out
}

func fromBase64(a Algorithm, value string) (Digest, bool) {
	sum, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return Digest{}, false
	}
	return NewDigest(a, sum)
}

// transcoded reports whether Google's storage has taken a coding away that the object
// is stored in (https://cloud.google.com/storage/docs/transcoding): its hashes are of
// what is stored.
func transcoded(h http.Header) bool {
	stored := h.Get("X-Goog-Stored-Content-Encoding")
	return stored != "" && !strings.EqualFold(stored, "identity") && !strings.EqualFold(stored, h.Get("Content-Encoding"))
}

// googleHashes reads x-goog-hash: crc32c=base64,md5=base64.
func googleHashes(lines []string) []Digest {
	var out []Digest
	for part := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		var a Algorithm
		switch strings.ToLower(name) {
		case "crc32c":
			a = CRC32C
		case "md5":
			a = MD5
		}
		if d, ok := fromBase64(a, value); ok {
			out = append(out, d)
		}
	}
	return out
}

// nexusTag reads the entity tags of Nexus 2, "{SHA1{…}}".
func nexusTag(tag string) []Digest {
	value, ok := strings.CutPrefix(strings.Trim(tag, `"`), "{SHA1{")
	if !ok {
		return nil
	}
	value, ok = strings.CutSuffix(value, "}}")
	if d, fits := fromHex(SHA1, value); ok && fits {
		return []Digest{d}
	}
	return nil
}

// SRI returns the digests of a Subresource Integrity value (W3C SRI, section 3.3), such
// as npm's dist.integrity and its request field Pacote-Integrity.
func SRI(s string) []Digest {
	var out []Digest
	for one := range strings.FieldsSeq(s) {
		name, value, ok := strings.Cut(one, "-")
		value, _, _ = strings.Cut(value, "?") // options, of which none is defined
		a, known := ParseAlgorithm(name)
		if !ok || !known || a == MD5 || a.New() == nil {
			continue
		}
		if d, ok := fromBase64(a, value); ok {
			out = append(out, d)
		}
	}
	return out
}
