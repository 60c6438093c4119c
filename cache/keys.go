package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"net/url"
	"strings"

	"larder/cache/store"
)

// Domains keep the kinds of digest apart.
const (
	domainPrimary   = "larder key 1"
	domainPartition = "larder partition 1"
	domainDigest    = "larder digest 1"
	domainVariant   = "larder variant 1"
	domainFlight    = "larder flight 1"
	domainParts     = "larder parts 1"
	domainFile      = "larder file 1"
	domainContent   = "larder content 1"
	domainShared    = "larder shared 1"
	domainBefore    = "larder before 1"
)

// keyBuilder hashes a sequence of strings injectively: each goes in with its length
// before it, so no two different sequences give the same bytes.
type keyBuilder struct{ buf []byte }

func (b *keyBuilder) add(s string) {
	b.buf = binary.AppendUvarint(b.buf, uint64(len(s)))
	b.buf = append(b.buf, s...)
}

func (b *keyBuilder) sum() store.Key { return sha256.Sum256(b.buf) }

// primaryKey is the primary cache key of RFC 9111, section 2, without the method,
// since only GET is stored: scheme, host, port, path and query of the target URI.
// Spellings that RFC 3986, section 6.2.2, calls equivalent give the same key;
// upstream is always asked with the spelling of the client. The rule's partition
// belongs to the key where there is one. Under KeyByDigest nothing else does but the
// digest that the path names.
func primaryKey(u *url.URL, rule *Rule) store.Key {
	var space [512]byte
	b := keyBuilder{buf: space[:0]}
	if d, ok := rule.contentOf(u); ok {
		b.add(domainDigest)
		b.add(rule.Partition)
		b.add(d.String())
		return b.sum()
	}
	if rule.Partition == "" {
		b.add(domainPrimary)
	} else {
		b.add(domainPartition)
		b.add(rule.Partition)
	}
	b.addTarget(u, rule)
	return b.sum()
}

// contentKey is the primary key of a request with content.
func contentKey(u *url.URL, rule *Rule, method string, content *Content) store.Key {
	var space [512]byte
	b := keyBuilder{buf: space[:0]}
	b.add(domainContent)
	b.add(rule.Partition)
	b.add(method)
	b.buf = append(b.buf, content.Key[:]...)
	b.addTarget(u, rule)
	return b.sum()
}

// addTarget adds the target URI in its normal form.
func (b *keyBuilder) addTarget(u *url.URL, rule *Rule) {
	scheme := strings.ToLower(u.Scheme)
	b.add(scheme)
	b.add(strings.TrimSuffix(strings.ToLower(u.Hostname()), "."))
	port := u.Port()
	if port == "" {
		port = defaultPort(scheme)
	}
	b.add(port)
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	b.add(normalEscapes(path))
	query := u.RawQuery
	present := query != "" || u.ForceQuery
	if drop := rule.dropped(); len(drop) > 0 && query != "" {
		query = withoutParameters(query, drop)
		present = query != ""
	}
	if present {
		// An empty query is not the absence of one.
		b.add("?")
		b.add(normalEscapes(query))
	}
}

// variantKey is the secondary key of RFC 9111, section 4.1: the primary key with the
// normalised values of the fields in set. The nonce belongs to the primary record,
// so that deleting that one record puts all variants out of reach for good.
func variantKey(primary store.Key, nonce [8]byte, set []string, header fieldSource) store.Key {
	var space [512]byte
	b := keyBuilder{buf: space[:0]}
	b.add(domainVariant)
	b.buf = append(b.buf, primary[:]...)
	b.buf = append(b.buf, nonce[:]...)
	for _, name := range set {
		b.add(name)
		b.add(header.normal(name))
	}
	return b.sum()
}

// flightKey names what a running fill asks for: the primary key with all fields that
// the canonical request carries on.
func flightKey(primary store.Key, set []string, header fieldSource) store.Key {
	var space [512]byte
	b := keyBuilder{buf: space[:0]}
	b.add(domainFlight)
	b.buf = append(b.buf, primary[:]...)
	for _, name := range set {
		b.add(name)
		b.add(header.normal(name))
	}
	return b.sum()
}

func defaultPort(scheme string) string {
	switch scheme {
	case "http":
		return "80"
	case "https":
		return "443"
	}
	return ""
}

// normalEscapes decodes percent-encoded unreserved characters and writes the other
// escapes in upper case (RFC 3986, sections 6.2.2.1 and 6.2.2.2). A percent sign
// that begins no escape stays as it is; it cannot be mistaken for one, since it is
// still not followed by two hexadecimal digits: decoding yields only unreserved
// characters, and a decoded digit after a bare percent is kept encoded.
func normalEscapes(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' || i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
			out = append(out, s[i])
			continue
		}
		c := unhex(s[i+1])<<4 | unhex(s[i+2])
		if isUnreserved(c) && !completesEscape(out, c) {
			out = append(out, c)
		} else {
			out = append(out, '%', upperHex(c>>4), upperHex(c&15))
		}
		i += 2
	}
	return string(out)
}

// completesEscape reports whether appending c would make bytes after a bare percent
// sign in out look like an escape, or like the beginning of one.
func completesEscape(out []byte, c byte) bool {
	n := len(out)
	return isHex(c) && (n >= 1 && out[n-1] == '%' || n >= 2 && out[n-2] == '%' && isHex(out[n-1]))
}

// withoutParameters removes from a raw query the parameters that drop names.
func withoutParameters(query string, drop []string) string {
	var kept []string
	for part := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		if !matchesAny(drop, name) {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "&")
}

// dropped lists the query parameters that are left out of the key.
func (r *Rule) dropped() []string {
	if r.Access != AccessSigned {
		return r.DropQuery
	}
	return append(signatureParameters(), r.DropQuery...)
}

func matchesAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		} else if p == name {
			return true
		}
	}
	return false
}

func isUnreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c >= 'a':
		return c - 'a' + 10
	}
	return c - 'A' + 10
}

func upperHex(c byte) byte { return "0123456789ABCDEF"[c] }
