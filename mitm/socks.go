package mitm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"larder/policy"
)

// Replies of SOCKS5 (RFC 1928, Section 6).
const (
	socksDone            = 0
	socksFailed          = 1
	socksDenied          = 2
	socksUnreachable     = 4
	socksRefused         = 5
	socksNoSuchCommand   = 7
	socksNoSuchAddress   = 8
	socksVersion         = 5
	socksNoAuth          = 0
	socksNoneAcceptable  = 0xff
	socksConnect         = 1
	socksIPv4, socksName = 1, 3
	socksIPv6            = 4
)

// socksError is a request that is not understood, with what to reply.
type socksError struct {
	reply byte
	why   string
}

func (e *socksError) Error() string { return "SOCKS: " + e.why }

// serveSOCKS is CONNECT in the words of RFC 1928: the same decisions follow.
func (s *Server) serveSOCKS(c *clientConn, x *exchange) {
	_ = c.SetReadDeadline(time.Now().Add(s.options.HandshakeTimeout)) // a dead connection says so at Read
	a, err := readSOCKS(c)
	if err == nil {
		x.URL = a.String()
		err = c.SetReadDeadline(time.Time{})
	}
	if err != nil {
		if refused, ok := errors.AsType[*socksError](err); ok {
			err = &requestError{err}
			if refused.reply != 0 {
				socksReply(c, refused.reply)
			}
		} else {
			err = fmt.Errorf("read the SOCKS request: %w: %w", context.Canceled, err)
		}
		x.drop(c, err)
		return
	}
	c.fresh.Store(false) // it has made its request
	rules := s.rules.Load()
	decision := s.connection(rules, c.asker, a)
	x.decided(decision, rules.of(decision))
	switch decision.Action {
	case policy.Deny:
		socksReply(c, socksDenied)
		x.drop(c, &deniedError{x.Rule})
	case policy.Tunnel:
		s.tunnelSOCKS(c, a, x)
	default:
		socksReply(c, socksDone)
		s.open(c, a, x)
	}
}

// tunnelSOCKS dials before it answers, as for CONNECT.
func (s *Server) tunnelSOCKS(c *clientConn, a authority, x *exchange) {
	if x.offline {
		socksReply(c, socksFailed)
		x.drop(c, ErrOffline)
		return
	}
	origin, err := s.options.Upstream.DialContext(s.base, "tcp", a.String())
	if err != nil {
		socksReply(c, socksReplyFor(err))
		x.drop(c, err)
		return
	}
	socksReply(c, socksDone)
	s.startTunnel(c, origin, nil, x)
}

func socksReplyFor(err error) byte {
	_, prohibited := errors.AsType[*AddressError](err)
	switch {
	case prohibited, errors.Is(err, ErrLoop):
		return socksDenied
	case errors.Is(err, syscall.ECONNREFUSED):
		return socksRefused
	default:
		return socksUnreachable
	}
}

// socksReply tells nothing of the address that was dialled from.
func socksReply(w io.Writer, reply byte) {
	// A client that is gone shows at the next read.
	_, _ = w.Write([]byte{socksVersion, reply, 0, socksIPv4, 0, 0, 0, 0, 0, 0})
}

// readSOCKS reads the greeting, which it answers, and a request. It reads no byte
// beyond.
func readSOCKS(rw io.ReadWriter) (a authority, err error) {
	var b [262]byte // the longest request
	if _, err := io.ReadFull(rw, b[:2]); err != nil {
		return a, err
	}
	if b[0] != socksVersion {
		return a, &socksError{0, fmt.Sprintf("version %d, not 5", b[0])}
	}
	methods := b[2 : 2+int(b[1])]
	if _, err := io.ReadFull(rw, methods); err != nil {
		return a, err
	}
	if !slices.Contains(methods, socksNoAuth) {
		_, _ = rw.Write([]byte{socksVersion, socksNoneAcceptable}) // it is over either way
		return a, &socksError{0, "the client wants to authenticate, which this listener does not do"}
	}
	if _, err := rw.Write([]byte{socksVersion, socksNoAuth}); err != nil {
		return a, err
	}
	if _, err := io.ReadFull(rw, b[:5]); err != nil { // one byte into the address
		return a, err
	}
	if b[0] != socksVersion || b[2] != 0 {
		return a, &socksError{socksFailed, "the request is malformed"}
	}
	var size int
	switch b[3] {
	case socksIPv4:
		size = 4
	case socksName:
		size = 1 + int(b[4])
	case socksIPv6:
		size = 16
	default:
		return a, &socksError{socksNoSuchAddress, fmt.Sprintf("address type %d", b[3])}
	}
	address, end := b[4:4+size], 4+size+2
	if _, err := io.ReadFull(rw, b[5:end]); err != nil {
		return a, err
	}
	if b[1] != socksConnect {
		return a, &socksError{socksNoSuchCommand, fmt.Sprintf("command %d, not CONNECT", b[1])}
	}
	if a.Port = int(binary.BigEndian.Uint16(b[end-2 : end])); a.Port == 0 {
		return a, &socksError{socksFailed, "port 0"}
	}
	if a.Host, err = socksHost(b[3], address); err != nil {
		return a, &socksError{socksFailed, fmt.Sprintf("destination %.260q: %v", address, err)}
	}
	return a, nil
}

func socksHost(kind byte, address []byte) (string, error) {
	if kind == socksName {
		return normalHost(string(address[1:])) // brackets and addresses in text too
	}
	addr, _ := netip.AddrFromSlice(address) // of 4 or 16 bytes
	return addr.Unmap().String(), nil
}
