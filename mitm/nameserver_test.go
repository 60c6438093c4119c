package mitm

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer answers for *.a.test on loopback. What is below large.a.test does not
// fit into a datagram.
type nameServer struct {
	packets *net.UDPConn
	streams net.Listener
}

func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	packets, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	streams, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{packets, streams}
	t.Cleanup(func() { _ = packets.Close(); _ = streams.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := packets.ReadFromUDP(b)
			if err != nil {
				return
			}
			_, _ = packets.WriteToUDP(answerTo(b[:n], false), from)
		}
	}()
	go func() {
		for {
			c, err := streams.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				length := make([]byte, 2)
				for {
					if _, err := io.ReadFull(c, length); err != nil {
						return
					}
					q := make([]byte, binary.BigEndian.Uint16(length))
					if _, err := io.ReadFull(c, q); err != nil {
						return
					}
					a := answerTo(q, true)
					_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
				}
			}()
		}
	}()
	return s
}

func (s *nameServer) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	var d net.Dialer
	if network == "udp" {
		return d.DialContext(ctx, network, s.packets.LocalAddr().String())
	}
	return d.DialContext(ctx, network, s.streams.Addr().String())
}

func answerTo(query []byte, stream bool) []byte {
	var q dnsmessage.Message
	if q.Unpack(query) != nil || len(q.Questions) != 1 {
		return nil
	}
	ask := q.Questions[0]
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true}, Questions: q.Questions}
	add := func(ttl uint32, body dnsmessage.ResourceBody) {
		kind := ask.Type
		if _, alias := body.(*dnsmessage.CNAMEResource); alias {
			kind = dnsmessage.TypeCNAME
		}
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: ask.Name, Type: kind, Class: dnsmessage.ClassINET, TTL: ttl}, Body: body,
		})
	}
	four := &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}
	six := &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::1").As16()}
	switch name := ask.Name.String(); {
	case name == "both.a.test." && ask.Type == dnsmessage.TypeA:
		add(300, four)
	case name == "both.a.test." && ask.Type == dnsmessage.TypeAAAA:
		add(40, six)
	case name == "four.a.test." && ask.Type == dnsmessage.TypeA:
		add(77, four)
	case name == "large.a.test." && ask.Type == dnsmessage.TypeA && !stream:
		m.Truncated = true
	case name == "large.a.test." && ask.Type == dnsmessage.TypeA:
		add(99, four)
	case name == "four.a.test." || name == "large.a.test.": // no such record
	default:
		m.RCode = dnsmessage.RCodeNameError
	}
	b, _ := m.Pack()
	return b
}

// TestAddressesAndTimesComeFromNameServers, over UDP and, where that is too small,
// over TCP.
func TestAddressesAndTimesComeFromNameServers(t *testing.T) {
	look := lookOver(newNameServer(t).dial)
	for _, c := range []struct {
		name  string
		addrs []string
		ttl   time.Duration
	}{
		{"four.a.test", []string{"192.0.2.1"}, 77 * time.Second},
		{"both.a.test", []string{"192.0.2.1", "2001:db8::1"}, 40 * time.Second},
		{"large.a.test", []string{"192.0.2.1"}, 99 * time.Second},
		{"missing.a.test", nil, 0},
	} {
		addrs, ttl, err := look(t.Context(), c.name)
		var got []string
		for _, a := range addrs {
			got = append(got, a.Unmap().String())
		}
		slices.Sort(got)
		if !slices.Equal(got, c.addrs) || ttl != c.ttl {
			t.Errorf("%s: got %q for %s, want %q for %s (%v)", c.name, got, ttl, c.addrs, c.ttl, err)
		}
		if c.addrs == nil {
			if dns, ok := errors.AsType[*net.DNSError](err); !ok || !dns.IsNotFound {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}
