package git

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
)

const (
	// RequestType and ResultType are the media types of a request to git-upload-pack
	// and of its answer (gitprotocol-http(5)).
	RequestType = "application/x-git-upload-pack-request"
	ResultType  = "application/x-git-upload-pack-result"
)

// Kind says how long the answer to a request holds.
type Kind uint8

const (
	// Other is what is not understood in every byte, and what depends on more than
	// the names of objects: want-ref, deepen-not, packfile-uris, server options.
	Other Kind = iota
	// Refs asks which refs there are: command=ls-refs. The answer holds now.
	Refs
	// Fetch asks for objects by their names, or is a step of the negotiation before
	// that. Any answer to it that was once right still serves.
	Fetch
)

// Request is what was asked of git-upload-pack.
type Request struct {
	Kind Kind
	// Digest is the same for requests that ask the same: a SHA-256 of the protocol's
	// version and all lines, without what only tells who asks (agent, session-id).
	Digest [32]byte

	version  int
	sha256   bool // the names of objects and the pack's checksum are SHA-256
	sideband bool // v0 and v1: the pack comes in packets
	all      bool // v2: sideband-all, every line comes in a sideband
	deepens  bool // v0 and v1: the answer begins with shallow lines
	packs    bool // the answer must have a pack
}

// ReadRequest reads the content of a POST to git-upload-pack, all of it and decoded;
// protocol is the request's Git-Protocol field, "" for none. An error is one of
// reading r: a request that is not understood is of the kind Other.
func ReadRequest(r io.Reader, protocol string) (*Request, error) {
	version, ok := versionOf(protocol)
	if !ok {
		return &Request{}, nil
	}
	p := &requestReader{packets: packetReader{r: r}, request: Request{version: version}, digest: sha256.New()}
	p.note("larder git request 1 of version " + string('0'+rune(version)))
	err := p.read()
	if err == nil && p.request.Kind != Other {
		p.digest.Sum(p.request.Digest[:0])
		return &p.request, nil
	}
	if err == nil || errors.Is(err, errOther) || errors.Is(err, errPacket) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &Request{}, nil
	}
	return nil, err
}

// versionOf reads a Git-Protocol field. A server takes the highest version of a list
// that it knows, so of a list nobody can say.
func versionOf(protocol string) (int, bool) {
	switch protocol {
	case "", "version=0":
		return 0, true
	case "version=1":
		return 1, true
	case "version=2":
		return 2, true
	}
	return 0, false
}

// errOther ends the reading of a request that is not understood.
var errOther = errors.New("not understood")

// requestReader reads one request.
type requestReader struct {
	packets packetReader
	request Request
	digest  hash.Hash
	length  [binary.MaxVarintLen64]byte

	format, wanted, has, done bool
}

// note makes s part of the digest, with its length before it. Lines go in behind a
// sign, so that none of them can be taken for a packet without data.
func (p *requestReader) note(s string) {
	p.digest.Write(binary.AppendUvarint(p.length[:0], uint64(len(s)))) // a hash never fails
	_, _ = io.WriteString(p.digest, s)
}

func (p *requestReader) noteLine(line string) { p.note("=" + line) }

// next returns the next packet. Those without data are noted; lines are by who reads
// them.
func (p *requestReader) next() (packet, string, error) {
	kind, line, err := p.packets.next()
	if err == nil && kind != dataPacket {
		p.note([]string{flushPacket: "flush", delimPacket: "delim", endPacket: "end"}[kind])
	}
	return kind, string(line), err
}

// end wants the end of the request.
func (p *requestReader) end() error {
	if _, _, err := p.packets.next(); err != io.EOF {
		return errOther
	}
	return nil
}

func (p *requestReader) read() error {
	if p.request.version == 2 {
		return p.readV2()
	}
	return p.readV0()
}

// objectFormat reads the value of the capability object-format.
func (p *requestReader) objectFormat(name string) error {
	if p.format || p.wanted {
		return errOther
	}
	p.format = true
	switch name {
	case "sha1":
		return nil
	case "sha256":
		p.request.sha256 = true
		return nil
	}
	return errOther
}

// isName reports whether s is the whole name of an object, in lower case, which both
// sides must use.
func (p *requestReader) isName(s string) bool {
	if len(s) != 40 && !p.request.sha256 || len(s) != 64 && p.request.sha256 {
		return false
	}
	return isHex(s)
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}

// isNumber reports whether s is a positive decimal number of a sensible length.
func isNumber(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && s[0] != '0' && len(s) <= 12
}
