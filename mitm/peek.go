package mitm

import (
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/net/http/httpguts"
)

// opening says what the first bytes of a connection are.
type opening uint8

const (
	// openingShort is a beginning of a TLS ClientHello of which more must come.
	openingShort opening = iota
	// openingOther is anything that no TLS client begins with.
	openingOther
	// openingHello is a whole ClientHello, or one so broken that the TLS
	// server may tell the client so: what begins like TLS is never tunnelled
	// on account of a detail, or a detail would be the way round the policy.
	openingHello
)

// clientHello holds what larder reads in a ClientHello (RFC 8446, Section
// 4.1.2). Empty fields were absent or unreadable.
type clientHello struct {
	ServerName string
	ALPN       []string
	// ECH: another hello may be hidden inside (RFC 9849, Section 5), or nothing:
	// browsers send the extension to everybody, and no one can tell.
	ECH bool
}

// maxHello bounds the bytes looked at: a handshake message of crypto/tls's own
// limit, 64 KiB, cut in records.
const maxHello = 80 << 10

// peekHello looks at the first bytes of a connection without consuming them.
// The ClientHello may be spread over any number of segments (call again with
// more bytes) and records (RFC 8446, Section 5.1); post-quantum key shares
// make both common.
func peekHello(b []byte) (opening, clientHello) {
	kind, body := cutHello(b)
	if body == nil {
		return kind, clientHello{}
	}
	return kind, readHello(body)
}

// helloBody is the body of the ClientHello at the beginning of b, nil if it is not
// whole.
func helloBody(b []byte) []byte {
	_, body := cutHello(b)
	return body
}

// cutHello tells what b begins with, and takes records and header off a ClientHello
// that is whole.
func cutHello(b []byte) (opening, []byte) {
	var message []byte
	for rest := b; ; {
		// ContentType handshake, legacy_record_version 3.x.
		if len(rest) > 0 && rest[0] != 22 || len(rest) > 1 && rest[1] != 3 {
			if len(rest) == len(b) {
				return openingOther, nil
			}
			return openingHello, nil
		}
		if len(rest) < 5 {
			break
		}
		n := int(rest[3])<<8 | int(rest[4])
		if n == 0 || n > 16384 {
			if len(rest) == len(b) {
				return openingOther, nil
			}
			return openingHello, nil
		}
		rest = rest[5:]
		have := min(n, len(rest))
		if message == nil {
			message = rest[:have:have]
		} else {
			message = append(message, rest[:have]...)
		}
		if len(message) > 0 && message[0] != 1 { // HandshakeType client_hello
			return openingOther, nil
		}
		if len(message) >= 4 {
			size := 4 + (int(message[1])<<16 | int(message[2])<<8 | int(message[3]))
			if len(message) >= size {
				return openingHello, message[4:size]
			}
		}
		if have < n {
			break
		}
		rest = rest[have:]
	}
	if len(b) >= maxHello {
		return openingHello, nil
	}
	return openingShort, nil
}

// readHello reads the body of a ClientHello. What does not parse, or names two
// servers, of which an origin may take the other, is left empty.
func readHello(body []byte) (h clientHello) {
	s := cryptobyte.String(body)
	var session, suites, methods, extensions cryptobyte.String
	if !s.Skip(2+32) || !s.ReadUint8LengthPrefixed(&session) ||
		!s.ReadUint16LengthPrefixed(&suites) || !s.ReadUint8LengthPrefixed(&methods) ||
		!s.ReadUint16LengthPrefixed(&extensions) || !s.Empty() {
		return h
	}
	named := false
	for !extensions.Empty() {
		var kind uint16
		var data cryptobyte.String
		if !extensions.ReadUint16(&kind) || !extensions.ReadUint16LengthPrefixed(&data) {
			return clientHello{}
		}
		switch kind {
		case 0: // server_name, RFC 6066, Section 3
			if named {
				return clientHello{}
			}
			named = true
			h.ServerName = readServerName(data)
		case 16: // application_layer_protocol_negotiation, RFC 7301
			h.ALPN = readALPN(data)
		case 0xfe0d: // encrypted_client_hello
			h.ECH = true
		}
	}
	return h
}

func readServerName(data cryptobyte.String) (found string) {
	var names cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&names) {
		return ""
	}
	for !names.Empty() {
		var kind uint8
		var name cryptobyte.String
		if !names.ReadUint8(&kind) || !names.ReadUint16LengthPrefixed(&name) {
			return ""
		}
		if kind == 0 {
			if found != "" {
				return "" // RFC 6066, Section 3: one of each type
			}
			found = string(name)
		}
	}
	return found
}

func readALPN(data cryptobyte.String) (protocols []string) {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) {
		return nil
	}
	for !list.Empty() {
		var p cryptobyte.String
		if !list.ReadUint8LengthPrefixed(&p) {
			return nil
		}
		protocols = append(protocols, string(p))
	}
	return protocols
}

// mayBeHTTP reports whether a connection begins as an HTTP/1 request does, with
// a method: a token (RFC 9110, Section 5.6.2) and a space, as far as has come.
func mayBeHTTP(b []byte) bool {
	for i, c := range b {
		if c == ' ' {
			return i > 0
		}
		if !httpguts.IsTokenRune(rune(c)) {
			return false
		}
	}
	return len(b) > 0
}
