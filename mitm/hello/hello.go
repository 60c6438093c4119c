package hello

import (
	"hash/maphash"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Numbers of extensions that are looked at (IANA, TLS ExtensionType Values).
const (
	extServerName        = 0
	extStatusRequest     = 5
	extGroups            = 10
	extPointFormats      = 11
	extSignatures        = 13
	extALPN              = 16
	extStatusRequestV2   = 17
	extSCT               = 18
	extEncryptThenMAC    = 22
	extRecordSizeLimit   = 28
	extDelegated         = 34
	extTicket            = 35
	extVersions          = 43
	extPostHandshakeAuth = 49
)

// Hello is what a client offers, in its order and without the values that are there
// to be ignored (GREASE, RFC 8701).
type Hello struct {
	// Version is legacy_version.
	Version uint16
	// SessionID is how long the session ID is.
	SessionID int
	// Suites are the cipher suites, signalling values among them.
	Suites []uint16
	// Extensions are the numbers of the extensions.
	Extensions []uint16
	// Versions are those of supported_versions, nil without that.
	Versions []uint16
	// Groups are those of supported_groups, Signatures those of signature_algorithms.
	Groups, Signatures []uint16
	// PointFormats is how many ec_point_formats there are.
	PointFormats int
	// ALPN are the protocols.
	ALPN []string
	// GREASE: there were values to be ignored.
	GREASE bool
}

// Parse reads the body of a ClientHello, the handshake header apart. It takes only
// what is whole: anything that does not parse, or is there twice, is false.
func Parse(body []byte) (Hello, bool) {
	var h Hello
	s := cryptobyte.String(body)
	var session, suites, methods, extensions cryptobyte.String
	if !s.ReadUint16(&h.Version) || !s.Skip(32) || !s.ReadUint8LengthPrefixed(&session) ||
		!s.ReadUint16LengthPrefixed(&suites) || !s.ReadUint8LengthPrefixed(&methods) {
		return Hello{}, false
	}
	h.SessionID = len(session)
	if !h.numbers(suites, &h.Suites) {
		return Hello{}, false
	}
	if s.Empty() {
		return h, true // a client of before extensions
	}
	if !s.ReadUint16LengthPrefixed(&extensions) || !s.Empty() {
		return Hello{}, false
	}
	for !extensions.Empty() {
		var kind uint16
		var data cryptobyte.String
		if !extensions.ReadUint16(&kind) || !extensions.ReadUint16LengthPrefixed(&data) || !h.extension(kind, data) {
			return Hello{}, false
		}
	}
	return h, true
}

// extension reads one extension.
func (h *Hello) extension(kind uint16, data cryptobyte.String) bool {
	if grease(kind) {
		h.GREASE = true
		return true
	}
	if h.Has(kind) {
		return false // RFC 8446, Section 4.2: no more than one of a type
	}
	h.Extensions = append(h.Extensions, kind)
	var list cryptobyte.String
	switch kind {
	case extGroups:
		return data.ReadUint16LengthPrefixed(&list) && data.Empty() && h.numbers(list, &h.Groups)
	case extSignatures:
		return data.ReadUint16LengthPrefixed(&list) && data.Empty() && h.numbers(list, &h.Signatures)
	case extVersions:
		return data.ReadUint8LengthPrefixed(&list) && data.Empty() && h.numbers(list, &h.Versions)
	case extPointFormats:
		ok := data.ReadUint8LengthPrefixed(&list) && data.Empty()
		h.PointFormats = len(list)
		return ok
	case extALPN:
		return data.ReadUint16LengthPrefixed(&list) && data.Empty() && h.protocols(list)
	}
	return true
}

// numbers reads a list of numbers of two bytes.
func (h *Hello) numbers(list cryptobyte.String, into *[]uint16) bool {
	all := make([]uint16, 0, len(list)/2)
	for !list.Empty() {
		var n uint16
		if !list.ReadUint16(&n) {
			return false
		}
		if grease(n) {
			h.GREASE = true
			continue
		}
		all = append(all, n)
	}
	*into = all
	return true
}

func (h *Hello) protocols(list cryptobyte.String) bool {
	for !list.Empty() {
		var p cryptobyte.String
		if !list.ReadUint8LengthPrefixed(&p) || len(p) == 0 {
			return false
		}
		if len(p) == 2 && grease(uint16(p[0])<<8|uint16(p[1])) {
			h.GREASE = true
			continue
		}
		h.ALPN = append(h.ALPN, string(p))
	}
	return true
}

// grease reports whether a number is one of those that are there to be ignored (RFC
// 8701, Section 2): 0x0a0a, 0x1a1a and so on.
func grease(n uint16) bool { return n&0x0f0f == 0x0a0a && n>>8 == n&0xff }

// Has reports whether there is an extension of that number.
func (h *Hello) Has(extension uint16) bool { return slices.Contains(h.Extensions, extension) }

// offers reports whether a protocol is among those of ALPN.
func (h *Hello) offers(protocol string) bool { return slices.Contains(h.ALPN, protocol) }

// Shape tells clients apart for as long as this process lives: it is the same for two
// hellos with the same suites in the same order and the same protocols.
func (h *Hello) Shape(seed maphash.Seed) uint64 {
	var m maphash.Hash
	m.SetSeed(seed)
	for _, n := range h.Suites {
		_ = m.WriteByte(byte(n >> 8)) // it never fails
		_ = m.WriteByte(byte(n))
	}
	for _, p := range h.ALPN {
		_ = m.WriteByte(byte(len(p)))
		_, _ = m.WriteString(p)
	}
	return m.Sum64()
}
