package policy

import "go.yaml.in/yaml/v4"

// Key says what stored responses are found by.
type Key uint8

const (
	// KeyURL is the target URI.
	KeyURL Key = iota
	// KeyDigest is the digest of the body, where Digest finds one in the path, whatever
	// host, path and query it comes with.
	KeyDigest
)

var keyNames = [...]string{KeyURL: "url", KeyDigest: "digest"}

// String returns the word of the policy file.
func (k Key) String() string { return nameOf(keyNames[:], int(k)) }

// Redirects says what becomes of upstream's redirects.
type Redirects uint8

const (
	// PassRedirects hands them to the client.
	PassRedirects Redirects = iota
	// FollowRedirects goes on to their target, and answers with what is there.
	FollowRedirects
)

var redirectsNames = [...]string{PassRedirects: "pass", FollowRedirects: "follow"}

// String returns the word of the policy file.
func (r Redirects) String() string { return nameOf(redirectsNames[:], int(r)) }

// Validate says how upstream is asked about what is stale.
type Validate uint8

const (
	// ValidateGet asks with a conditional GET (RFC 9111, section 4.3).
	ValidateGet Validate = iota
	// ValidateHead asks with HEAD.
	ValidateHead
)

var validateNames = [...]string{ValidateGet: "get", ValidateHead: "head"}

// String returns the word of the policy file.
func (v Validate) String() string { return nameOf(validateNames[:], int(v)) }

func nameOf(names []string, i int) string {
	if i >= len(names) {
		return "invalid"
	}
	return names[i]
}

func (d *ruleDecoder) key(v *yaml.Node) {
	i, _ := d.word(v, "key", keyNames[:])
	d.rule.Key = Key(i)
}

func (d *ruleDecoder) redirects(v *yaml.Node) {
	i, _ := d.word(v, "redirects", redirectsNames[:])
	d.rule.Redirects = Redirects(i)
}

func (d *ruleDecoder) validate(v *yaml.Node) {
	i, _ := d.word(v, "validate", validateNames[:])
	d.rule.Validate = Validate(i)
}

// contentKeys reports keys about where content is found that go with others only.
func (d *ruleDecoder) contentKeys() {
	r := d.rule
	if r.Key == KeyDigest {
		switch {
		case r.Action != Immutable:
			d.complain("key", "use action immutable", "key digest makes no sense under action %s: what a digest names never changes", r.Action)
		case r.Verify == VerifyOff:
			d.complain("key", "leave verify out", "key digest makes no sense with verify off: anybody could put anything under a digest")
		case !r.findsSHA256():
			d.complain("key", "write digest: { sha256: '^/v2/.+/blobs/sha256:([0-9a-f]{64})$' }", "key digest needs a digest by sha256 in the path")
		}
		for _, key := range []string{"vary", "drop_query", "negative_ttl", "request_body"} {
			d.complain(key, "", "%s has no effect with key digest, under which nothing but the digest counts", key)
		}
		d.complain("recheck_at", "", "recheck_at cannot tell whether there is what a digest names, so it makes no sense with key digest")
	}
	if r.Validate == ValidateHead && r.Action != Revalidate {
		d.complain("validate", "use action revalidate", "validate head makes no sense under action %s", r.Action)
	}
}

func (r *Rule) findsSHA256() bool {
	for _, d := range r.Digest {
		if d.Algorithm == "sha256" || d.Algorithm == "sha256-nix32" {
			return true
		}
	}
	return false
}

// contentWords says where content is found.
func (r *Rule) contentWords() []string {
	var parts []string
	if r.Key == KeyDigest {
		parts = append(parts, "The digest in the path is the key, whatever host and path it comes with.")
	}
	if r.Redirects == FollowRedirects {
		parts = append(parts, "Redirects of upstream are followed.")
	}
	if r.Validate == ValidateHead {
		parts = append(parts, "Upstream is asked with HEAD whether what is stored is what there is now.")
	}
	return parts
}
