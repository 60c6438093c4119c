package git

import (
	"bytes"
	"errors"
	"io"
)

// packet is the kind of a pkt-line (gitprotocol-common(5), and for all but data
// gitprotocol-v2(5)).
type packet uint8

const (
	dataPacket packet = iota
	flushPacket
	delimPacket
	endPacket // response-end-pkt: never sent over HTTP
)

// maxPacket is the largest length that a pkt-line can say, its own four bytes included.
const maxPacket = 65520

// errPacket says that bytes are no pkt-line.
var errPacket = errors.New("malformed pkt-line")

// packetLength reads the four hexadecimal digits before a packet. n is the length of
// the data after them.
func packetLength(head [4]byte) (kind packet, n int, ok bool) {
	v := 0
	for _, c := range head {
		d := hexDigit(c)
		if d < 0 {
			return 0, 0, false
		}
		v = v<<4 | d
	}
	switch {
	case v < 3:
		return []packet{flushPacket, delimPacket, endPacket}[v], 0, true
	case v == 3 || v == 4 || v > maxPacket:
		// 4 is an empty line, which "implementations SHOULD NOT send".
		return 0, 0, false
	}
	return dataPacket, v - 4, true
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// packetReader cuts a request into packets.
type packetReader struct {
	r    io.Reader
	data [maxPacket]byte
}

// next returns a packet, and for one of data its line without the line feed that may
// end it, valid until the next call. At the end of the input the error is io.EOF.
func (p *packetReader) next() (packet, []byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return 0, nil, err
	}
	kind, n, ok := packetLength(head)
	if !ok {
		return 0, nil, errPacket
	}
	line := p.data[:n]
	if _, err := io.ReadFull(p.r, line); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return kind, bytes.TrimSuffix(line, []byte("\n")), nil
}
