package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"larder/cache/integrity"
)

// metaVersion is the first byte of every record. A record of another version is a
// miss: what it describes can be fetched again.
const metaVersion = 3

// metaVersion2 ended with the partition, if there was one; metaVersion1 knew no
// selectors either. Nothing else was different.
const (
	metaVersion1 = 1
	metaVersion2 = 2
)

// Facts are what a record may hold besides, by number. A larder that knows none of that
// number leaves it out.
const (
	factVerified = 1 // digests that the body was found to have
	factTaught   = 2 // the table of digests that knows what this index says
)

const (
	kindObject   = 1 // a stored response
	kindVariants = 2 // the Vary field sets known for a target URI
	kindPart     = 3 // bytes of a response that is not stored; nothing else is known here
	kindShared   = 4 // a stored response at a key that no target URI has
)

var errMeta = errors.New("malformed record")

// record is the metadata kept with a key: of a stored response, or (kindVariants) of
// a target URI whose responses are stored under secondary keys.
type record struct {
	kind byte

	// kindObject
	status int
	url    string // see storedURL
	// requested and received are when the request that last selected or validated
	// the response was sent and when its answer came (RFC 9111, section 4.2.3).
	requested, received time.Time
	// etag and lastModified are upstream's present validators, for the next
	// conditional request. They differ from the header's when upstream sent the
	// same bytes under new validators: clients keep knowing the old ones.
	etag, lastModified string
	header             http.Header
	// selectors are the request fields that select the response among others of its
	// URI, in the order of the key, with their normalised values.
	selectors []selector
	// partition is that of the rule under which it was fetched.
	partition string
	// verified are digests that the body was found to have, and who named them.
	verified []integrity.Claim
	// taught is the ID of the table of digests that knows what the body, an index, says.
	taught [8]byte
	// date and lifetime are what dateOf and ownLifetime make of the header, where they
	// were worked out before.
	date     time.Time
	lifetime time.Duration
	// proof is proofOf verified, where it was worked out before.
	proof string

	// kindVariants
	nonce [8]byte
	sets  [][]string // newest first
}

// selector is a request field of a secondary key.
type selector struct{ name, value string }

// encode writes the record as version, kind, and length-prefixed strings.
func (m *record) encode() []byte {
	b := make([]byte, 0, 1024)
	b = append(b, metaVersion, m.kind)
	if m.kind == kindVariants {
		b = append(b, m.nonce[:]...)
		b = binary.AppendUvarint(b, uint64(len(m.sets)))
		for _, set := range m.sets {
			b = binary.AppendUvarint(b, uint64(len(set)))
			for _, name := range set {
				b = appendString(b, name)
			}
		}
		return b
	}
	b = binary.AppendUvarint(b, uint64(m.status))
	b = binary.AppendVarint(b, m.requested.UnixNano())
	b = binary.AppendVarint(b, m.received.UnixNano())
	b = appendString(b, m.url)
	b = appendString(b, m.etag)
	b = appendString(b, m.lastModified)
	n := 0
	for _, values := range m.header {
		n += len(values)
	}
	b = binary.AppendUvarint(b, uint64(len(m.header)))
	b = binary.AppendUvarint(b, uint64(n))
	for name, values := range m.header {
		b = appendString(b, name)
		b = binary.AppendUvarint(b, uint64(len(values)))
		for _, v := range values {
			b = appendString(b, v)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(m.selectors)))
	for _, s := range m.selectors {
		b = appendString(appendString(b, s.name), s.value)
	}
	b = appendString(b, m.partition)
	return m.appendFacts(b)
}

// appendFacts writes how many facts there are, and each as number and string.
func (m *record) appendFacts(b []byte) []byte {
	facts := map[uint64][]byte{}
	if len(m.verified) > 0 {
		facts[factVerified] = encodeClaims(m.verified)
	}
	if m.taught != [8]byte{} {
		facts[factTaught] = m.taught[:]
	}
	b = binary.AppendUvarint(b, uint64(len(facts)))
	for _, number := range slices.Sorted(maps.Keys(facts)) {
		b = binary.AppendUvarint(b, number)
		b = appendString(b, string(facts[number]))
	}
	return b
}

// encodeClaims writes each as source, algorithm and value. A claim in a record is about
// the content, or about bytes that have no other.
func encodeClaims(claims []integrity.Claim) []byte {
	var b []byte
	for _, c := range claims {
		b = append(b, byte(c.Source), byte(c.Digest.Algorithm()))
		b = append(b, c.Digest.Sum()...)
	}
	return b
}

// decodeClaims reads what encodeClaims wrote. It stops at an algorithm that it does not
// know.
func decodeClaims(s string) []integrity.Claim {
	var claims []integrity.Claim
	for len(s) > 2 {
		source, a := integrity.Source(s[0]), integrity.Algorithm(s[1])
		s = s[2:]
		n := a.Size()
		if n == 0 || len(s) < n {
			break
		}
		if d, ok := integrity.NewDigest(a, []byte(s[:n])); ok {
			claims = append(claims, integrity.Claim{Digest: d, Source: source})
		}
		s = s[n:]
	}
	return claims
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decodeRecord reads what encode wrote. Whatever the bytes, it allocates no more
// than a small multiple of their number.
func decodeRecord(data []byte) (*record, error) {
	if len(data) < 2 {
		return nil, errMeta
	}
	if !knownVersion(data[0]) {
		return nil, fmt.Errorf("record version %d, this larder knows %d: %w", data[0], metaVersion, errMeta)
	}
	d := metaDecoder{s: string(data[2:])}
	m := &record{kind: data[1]}
	switch m.kind {
	case kindVariants:
		d.variants(m)
	case kindObject, kindShared:
		d.object(m)
		d.rest(m, data[0])
	default:
		return nil, errMeta
	}
	if d.failed || d.s != "" {
		return nil, errMeta
	}
	return m, nil
}

func knownVersion(v byte) bool { return v >= metaVersion1 && v <= metaVersion }

// recordURL returns the target URI of a record that encode wrote, without reading the
// rest of it; false for what is no stored response.
func recordURL(data []byte) (string, bool) {
	if len(data) < 2 || data[1] != kindObject && data[1] != kindShared || !knownVersion(data[0]) {
		return "", false
	}
	// The fields before the URL are three numbers, and the decoder's string is a copy.
	short := data[2:min(len(data), 2+3*binary.MaxVarintLen64+binary.MaxVarintLen64)]
	d := metaDecoder{s: string(short)}
	d.uvarint()
	d.varint()
	d.varint()
	n := d.uvarint()
	from := 2 + len(short) - len(d.s)
	if d.failed || n > uint64(len(data)-from) {
		return "", false
	}
	return string(data[from : from+int(n)]), true
}

// metaDecoder cuts fields off a string; the strings it returns share its memory, so
// that a record costs one copy.
type metaDecoder struct {
	s      string
	failed bool
}

func (d *metaDecoder) variants(m *record) {
	if len(d.s) < len(m.nonce) {
		d.failed = true
		return
	}
	copy(m.nonce[:], d.s)
	d.s = d.s[len(m.nonce):]
	m.sets = make([][]string, d.count())
	for i := range m.sets {
		m.sets[i] = make([]string, d.count())
		for j := range m.sets[i] {
			m.sets[i][j] = d.str()
		}
	}
}

func (d *metaDecoder) object(m *record) {
	m.status = int(d.uvarint())
	m.requested = time.Unix(0, d.varint())
	m.received = time.Unix(0, d.varint())
	m.url = d.str()
	m.etag = d.str()
	m.lastModified = d.str()
	names, values := d.count(), d.count()
	m.header = make(http.Header, names)
	// One backing array for all values: most fields have one.
	all := make([]string, 0, values)
	for range names {
		name := d.str()
		n := d.count()
		if d.failed || n > cap(all)-len(all) {
			d.failed = true
			return
		}
		from := len(all)
		for range n {
			all = append(all, d.str())
		}
		m.header[name] = all[from:len(all):len(all)]
	}
}

// rest reads what came with later versions.
func (d *metaDecoder) rest(m *record, version byte) {
	if version == metaVersion1 {
		return
	}
	d.selectors(m)
	if version == metaVersion2 {
		if d.s != "" {
			m.partition = d.str()
			d.failed = d.failed || m.partition == ""
		}
		return
	}
	m.partition = d.str()
	for range d.count() {
		switch number, value := d.uvarint(), d.str(); number {
		case factVerified:
			m.verified = decodeClaims(value)
		case factTaught:
			copy(m.taught[:], value)
		}
	}
}

func (d *metaDecoder) selectors(m *record) {
	n := d.count()
	if n == 0 || d.failed {
		return
	}
	m.selectors = make([]selector, n)
	for i := range m.selectors {
		m.selectors[i] = selector{name: d.str(), value: d.str()}
	}
}

func (d *metaDecoder) uvarint() uint64 {
	// Uvarint wants bytes; ten are as many as it reads.
	var b [binary.MaxVarintLen64]byte
	v, n := binary.Uvarint(b[:copy(b[:], d.s)])
	if n <= 0 || d.failed {
		d.failed = true
		return 0
	}
	d.s = d.s[n:]
	return v
}

func (d *metaDecoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// count reads a number of things that take at least one byte each.
func (d *metaDecoder) count() int {
	v := d.uvarint()
	if v > uint64(len(d.s)) {
		d.failed = true
		return 0
	}
	return int(v)
}

func (d *metaDecoder) str() string {
	n := d.count()
	s := d.s[:n]
	d.s = d.s[n:]
	return s
}
