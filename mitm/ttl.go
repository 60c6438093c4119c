package mitm

import (
	"encoding/binary"
	"net"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// ttlSeen notes the least time to live among the answers that pass by on the way
// to Go's resolver, which keeps it to itself. The resolver judges the answers;
// here a message that it would not take can at most change a time within bounds.
type ttlSeen struct {
	mu   sync.Mutex // the resolver asks for both kinds of address at once
	ttl  time.Duration
	some bool
}

// least is zero if there was none, as with a hosts file.
func (s *ttlSeen) least() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ttl
}

// watch returns a connection whose messages are looked at. The resolver takes
// what is a net.PacketConn for UDP, so the result must be one if c is.
func (s *ttlSeen) watch(c net.Conn) net.Conn {
	if u, ok := c.(*net.UDPConn); ok {
		return &watchedPackets{u, s}
	}
	return &watchedStream{Conn: c, seen: s}
}

type watchedPackets struct {
	*net.UDPConn
	seen *ttlSeen
}

func (c *watchedPackets) Read(p []byte) (int, error) {
	n, err := c.UDPConn.Read(p)
	c.seen.message(p[:n])
	return n, err
}

// watchedStream puts messages together: each has its length before it (RFC 1035,
// Section 4.2.2).
type watchedStream struct {
	net.Conn
	seen *ttlSeen
	got  []byte
}

func (c *watchedStream) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.got = append(c.got, p[:n]...)
	for len(c.got) >= 2 {
		end := 2 + int(binary.BigEndian.Uint16(c.got))
		if len(c.got) < end {
			break
		}
		c.seen.message(c.got[2:end])
		c.got = c.got[end:]
	}
	return n, err
}

// message notes the times of a message's answers, aliases on the way included.
func (s *ttlSeen) message(b []byte) {
	var p dnsmessage.Parser
	header, err := p.Start(b)
	if err != nil || !header.Response || p.SkipAllQuestions() != nil {
		return
	}
	for {
		answer, err := p.AnswerHeader()
		if err != nil {
			return
		}
		switch answer.Type {
		case dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeCNAME:
			s.note(time.Duration(answer.TTL) * time.Second)
		}
		if p.SkipAnswer() != nil {
			return
		}
	}
}

func (s *ttlSeen) note(ttl time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.some || ttl < s.ttl {
		s.ttl, s.some = ttl, true
	}
}
