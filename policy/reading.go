package policy

import (
	"strings"
	"unicode/utf8"
)

// readings are what origins may make of a path: they differ in how often they
// decode it, in what they take for a slash, and in whether they join slashes and
// remove dot segments. A deny rule holds if it matches any of them.
//
// Nothing but the decoded path goes into them, so that however a path is encoded
// its readings are the same; only a slash that is encoded becomes a maybeSlash,
// with which a glob matches more and never less.
type readings struct {
	// hidden says that there is a dot segment beside a maybeSlash. Where such a
	// path leads only the origin knows, and nobody but an attacker sends it.
	hidden bool
	// runes are for globs: one rune for each byte, maybeSlash among them.
	runes []string
	// texts are for regular expressions: the path as sent, and decoded, with every
	// maybeSlash as / and as %2f.
	texts []string
}

// maybeSlash stands for an encoded slash, for a backslash, encoded or not, and
// for NUL, at which some origins end: some read a slash, others do not.
const maybeSlash = 0

func readPath(path string) *readings {
	decoded := decodeFully(path)
	segments := splitSegments(decoded)
	r := &readings{hidden: hidesDots(segments)}
	plain := joinSegments(removeDots(segments))
	for _, reading := range []string{string(decoded), string(plain)} {
		r.runes = appendNew(r.runes, reading)
	}
	r.texts = []string{path}
	for _, reading := range r.runes {
		r.texts = appendNew(r.texts, asText(reading, "/"))
		r.texts = appendNew(r.texts, asText(reading, "%2f"))
	}
	return r
}

func appendNew(all []string, s string) []string {
	for _, old := range all {
		if old == s {
			return all
		}
	}
	return append(all, s)
}

// asText returns the bytes of a reading.
func asText(reading, slash string) string {
	var b strings.Builder
	for _, c := range reading {
		if c == maybeSlash {
			b.WriteString(slash)
			continue
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}

// decodeFully decodes percent-encoding until there is none left, in one pass: a
// triplet that comes of decoding another ends where the other ended. The result
// has one rune for each byte.
func decodeFully(s string) []rune {
	out := make([]rune, 0, len(s))
	for i := range len(s) {
		out = append(out, rune(s[i]))
		for {
			n := len(out)
			if n < 3 || out[n-3] != '%' {
				break
			}
			high, ok1 := hexDigit(byte(out[n-2]))
			low, ok2 := hexDigit(byte(out[n-1]))
			if !ok1 || !ok2 {
				break
			}
			c := rune(high<<4 | low)
			if c == '/' {
				c = maybeSlash
			}
			out = append(out[:n-3], c)
		}
	}
	for i, c := range out {
		if c == '\\' {
			out[i] = maybeSlash
		}
	}
	return out
}

// segment is a part of a path with the slash before it: '/' or maybeSlash, or -1
// for the beginning of what does not begin with one.
type segment struct {
	slash rune
	text  []rune
}

func isSlash(c rune) bool { return c == '/' || c == maybeSlash }

func splitSegments(path []rune) []segment {
	var all []segment
	current := segment{slash: -1}
	start := 0
	for i, c := range path {
		if !isSlash(c) {
			continue
		}
		current.text = path[start:i]
		if i > 0 {
			all = append(all, current)
		}
		current, start = segment{slash: c}, i+1
	}
	current.text = path[start:]
	return append(all, current)
}

func (s segment) dots() int {
	switch string(s.text) {
	case ".":
		return 1
	case "..":
		return 2
	}
	return 0
}

func hidesDots(segments []segment) bool {
	for i, s := range segments {
		if s.dots() == 0 {
			continue
		}
		if s.slash == maybeSlash || i+1 < len(segments) && segments[i+1].slash == maybeSlash {
			return true
		}
	}
	return false
}

// removeDots removes dot segments (RFC 3986, section 5.2.4) and joins slashes to
// one, which is a maybeSlash if any of them is. It works on patterns too, where
// .. does not remove a **, since that may stand for more than one segment.
func removeDots(segments []segment) []segment {
	kept := make([]segment, 0, len(segments))
	slash := rune('/')
	for i, s := range segments {
		if s.slash == maybeSlash {
			slash = maybeSlash
		}
		if i == len(segments)-1 && (len(s.text) == 0 || s.dots() > 0) {
			// The path ends in a slash, or in what stands for a folder.
			if s.dots() == 2 {
				kept = withoutLast(kept)
			}
			return append(kept, segment{slash: slash})
		}
		switch {
		case len(s.text) == 0 || s.dots() == 1:
		case s.dots() == 2:
			kept, slash = withoutLast(kept), '/'
		default:
			kept = append(kept, segment{slash: slash, text: s.text})
			slash = '/'
		}
	}
	return kept
}

func withoutLast(segments []segment) []segment {
	n := len(segments)
	if n == 0 || string(segments[n-1].text) == string(anySegments) {
		return segments
	}
	return segments[:n-1]
}

func joinSegments(segments []segment) []rune {
	var out []rune
	for _, s := range segments {
		out = append(out, s.slash)
		out = append(out, s.text...)
	}
	return out
}

// bytesOf returns the bytes that runes of one byte each stand for, if they are
// text in UTF-8.
func bytesOf(runes []rune) (string, bool) {
	s := asText(string(runes), "/")
	return s, utf8.ValidString(s)
}
