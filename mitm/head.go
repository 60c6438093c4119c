package mitm

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
)

// plainHead is the head of a request that asks for the whole of a resource and
// nothing else: GET over HTTP/1.1, without body, condition, range, credentials
// or any field of which it is not known that it changes no stored answer. It
// aliases what it was parsed from.
type plainHead struct {
	path, query []byte
	hasQuery    bool
	host        []byte
	length      int // bytes of the head, its empty line included
	// expects: the client says which digest it expects.
	expects bool
}

// parsePlainHead reads a head from the beginning of b. ok is false for whatever
// it is not entirely sure about, which is then for net/http to judge: it takes
// nothing that net/http would refuse, nor reads anything differently.
func parsePlainHead(b []byte) (h plainHead, ok bool) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		return h, false
	}
	line, ok := bytes.CutSuffix(b[:end+1], []byte(" HTTP/1.1\r\n"))
	if !ok {
		return h, false
	}
	if line, ok = bytes.CutPrefix(line, []byte("GET ")); !ok || !h.target(line) {
		return h, false
	}
	for rest := b[end+1:]; ; {
		end := bytes.IndexByte(rest, '\n')
		if end < 1 || rest[end-1] != '\r' {
			return h, false
		}
		line := rest[:end-1]
		rest = rest[end+1:]
		if len(line) == 0 {
			h.length = len(b) - len(rest)
			return h, h.host != nil
		}
		if !h.field(line) {
			return h, false
		}
	}
}

// target takes a request target in origin form, of characters that mean
// themselves to every reader.
func (h *plainHead) target(b []byte) bool {
	if len(b) == 0 || b[0] != '/' || len(b) > 1 && b[1] == '/' {
		return false
	}
	query := -1
	for i, c := range b {
		switch {
		case !meansItself(c):
			return false
		case c == '?' && query < 0:
			query = i
		}
	}
	h.path = b
	if query >= 0 {
		h.path, h.query, h.hasQuery = b[:query], b[query+1:], true
	}
	return true
}

// url is the target URI.
func (h *plainHead) url(host string) *url.URL {
	return &url.URL{
		Scheme: "https", Host: host, Path: string(h.path),
		RawQuery: string(h.query), ForceQuery: h.hasQuery && len(h.query) == 0,
	}
}

// meansItself reports whether c may be in a target here: unreserved characters,
// those of sub-delims that nobody encodes, and separators. Nothing encoded.
func meansItself(c byte) bool {
	switch {
	case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		return true
	}
	switch c {
	case '-', '.', '_', '~', '/', '@', '+', '=', '&', ',', ':', '?':
		return true
	}
	return false
}

// maxName is the length of the longest known name.
const maxName = 32

// field takes one line of the header, without its end.
func (h *plainHead) field(line []byte) bool {
	colon := bytes.IndexByte(line, ':')
	if colon < 1 || colon > maxName {
		return false
	}
	value := bytes.Trim(line[colon+1:], " \t")
	for _, c := range value {
		if c < ' ' && c != '\t' || c > '~' {
			return false
		}
	}
	var canonical [maxName]byte // as net/http spells it
	name := canonical[:colon]
	first := true
	for i, c := range line[:colon] {
		switch {
		case c >= 'A' && c <= 'Z':
			if !first {
				c += 'a' - 'A'
			}
		case c >= 'a' && c <= 'z':
			if first {
				c -= 'a' - 'A'
			}
		case c >= '0' && c <= '9', c == '-':
		default:
			return false
		}
		name[i] = c
		first = c == '-'
	}
	switch string(name) {
	case "Host":
		if h.host != nil {
			return false
		}
		h.host = value
		return len(value) > 0
	case "Connection":
		return bytes.EqualFold(value, []byte("keep-alive"))
	case expectsField:
		h.expects = true
	}
	return changesNothing(string(name))
}

// isPlain is parsePlainHead's judgement of a request that net/http has read.
func isPlain(r *http.Request) bool {
	if r.Method != http.MethodGet || r.ContentLength != 0 || r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		return false
	}
	for name, values := range r.Header {
		if name == "Connection" {
			if len(values) != 1 || !strings.EqualFold(values[0], "keep-alive") {
				return false
			}
		} else if !changesNothing(name) {
			return false
		}
	}
	return true
}

// expectsField is npm's: what its lock file, or the index, says of a tarball.
const expectsField = "Pacote-Integrity"

// changesNothing lists the fields that package clients send and that mean nothing
// to net/http's server, to larder's policy and to a stored answer under a rule of
// action immutable: that does not vary, and no directive of Cache-Control speaks
// to it. A field that is not listed may be anything.
func changesNothing(name string) bool {
	switch name {
	case "Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Cache-Control", "Cache-Store",
		"Cargo-Protocol", "Dnt", "Origin", "Pragma", "Priority", "Referer", "User-Agent", "X-Requested-With",
		"X-Nuget-Session-Id", "X-Nuget-Client-Version":
		return true
	}
	return strings.HasPrefix(name, "Npm-") || strings.HasPrefix(name, "Pacote-") || strings.HasPrefix(name, "Sec-Fetch-")
}
