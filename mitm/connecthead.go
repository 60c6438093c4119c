package mitm

import "bytes"

// connectHead is the head of a CONNECT that says nothing but where to. It aliases
// what it was parsed from.
type connectHead struct {
	target []byte
	agent  []byte // User-Agent
	length int    // bytes of the head, its empty line included
}

// parseConnectHead reads a head from the beginning of b. ok is false for whatever it
// is not entirely sure about, credentials among it, which is then for net/http to
// judge: it takes nothing that net/http would refuse, nor reads anything differently.
func parseConnectHead(b []byte) (h connectHead, ok bool) {
	line, rest, found := bytes.Cut(b, []byte("\r\n"))
	if !found {
		return h, false
	}
	if line, ok = bytes.CutPrefix(line, []byte("CONNECT ")); !ok {
		return h, false
	}
	if h.target, ok = bytes.CutSuffix(line, []byte(" HTTP/1.1")); !ok || !isPlainAuthority(h.target) {
		return h, false
	}
	named := false
	for {
		if line, rest, found = bytes.Cut(rest, []byte("\r\n")); !found {
			return h, false
		}
		if len(line) == 0 {
			h.length = len(b) - len(rest)
			return h, named
		}
		name, value, found := bytes.Cut(line, []byte(":"))
		value = bytes.Trim(value, " \t")
		if !found || !isPlainValue(line) { // the name too: beyond ASCII there are letters that fold to its own
			return h, false
		}
		switch {
		case bytes.EqualFold(name, []byte("Host")):
			// Of two hosts net/http would take the target's; who sends them may explain.
			if named || !bytes.Equal(value, h.target) {
				return h, false
			}
			named = true
		case bytes.EqualFold(name, []byte("User-Agent")):
			if h.agent != nil {
				return h, false
			}
			h.agent = value
		case bytes.EqualFold(name, []byte("Proxy-Connection")), bytes.EqualFold(name, []byte("Connection")):
			if !bytes.EqualFold(value, []byte("keep-alive")) {
				return h, false
			}
		default:
			return h, false
		}
	}
}

// isPlainAuthority reports whether b is of characters that every reader takes for
// those of host and port.
func isPlainAuthority(b []byte) bool {
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case c == '-', c == '.', c == '_', c == ':', c == '[', c == ']':
		default:
			return false
		}
	}
	return len(b) > 0
}

// isPlainValue reports whether b is of visible ASCII, spaces and tabs.
func isPlainValue(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c > '~' {
			return false
		}
	}
	return true
}
