package hello

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// JA4 is the fingerprint of that name (FoxIO, JA4 for TLS clients over TCP), by which
// other tools and databases know a client.
func (h *Hello) JA4() string {
	named := byte('i')
	if h.Has(extServerName) {
		named = 'd'
	}
	suites := hexes(h.Suites)
	slices.Sort(suites)
	hashed := slices.DeleteFunc(slices.Clone(h.Extensions), func(e uint16) bool { return e == extServerName || e == extALPN })
	extensions := hexes(hashed)
	slices.Sort(extensions)
	text := strings.Join(extensions, ",")
	if len(h.Signatures) > 0 {
		text += "_" + strings.Join(hexes(h.Signatures), ",")
	}
	if len(extensions) == 0 {
		text = ""
	}
	return fmt.Sprintf("t%s%c%02d%02d%s_%s_%s", h.highest(), named, min(len(h.Suites), 99), min(len(h.Extensions), 99), h.firstALPN(),
		digest(strings.Join(suites, ",")), digest(text))
}

// highest is the highest version that is offered.
func (h *Hello) highest() string {
	version := h.Version
	if len(h.Versions) > 0 {
		version = slices.Max(h.Versions)
	}
	switch version {
	case 0x0304:
		return "13"
	case 0x0303:
		return "12"
	case 0x0302:
		return "11"
	case 0x0301:
		return "10"
	case 0x0300:
		return "s3"
	}
	return "00"
}

// firstALPN is the first and the last character of the first protocol.
func (h *Hello) firstALPN() string {
	if len(h.ALPN) == 0 {
		return "00"
	}
	p := h.ALPN[0]
	first, last := p[0], p[len(p)-1]
	if alphanumeric(first) && alphanumeric(last) {
		return string([]byte{first, last})
	}
	// Of one that is no text, the first and the last digit of what it is in hexadecimal.
	text := hex.EncodeToString([]byte(p))
	return text[:1] + text[len(text)-1:]
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func hexes(numbers []uint16) []string {
	all := make([]string, len(numbers))
	for i, n := range numbers {
		all[i] = fmt.Sprintf("%04x", n)
	}
	return all
}

func digest(text string) string {
	if text == "" {
		return "000000000000"
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}
