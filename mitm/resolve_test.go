package mitm

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"larder/policy"
)

// resolved is a name that has been looked up, and holds for the test's time.
func resolved(t testing.TB, addrs ...string) *lookup {
	t.Helper()
	l := &lookup{done: make(chan struct{}), until: time.Now().Add(time.Hour)}
	for _, a := range addrs {
		l.addrs = append(l.addrs, netip.MustParseAddr(a))
	}
	close(l.done)
	return l
}

// TestResolverKeepsAnswersWithinBounds: each row is what the answer says, and for
// how long it is kept.
func TestResolverKeepsAnswersWithinBounds(t *testing.T) {
	bounds := policy.DNS{MinTTL: 5 * time.Second, MaxTTL: time.Minute, NegativeTTL: 2 * time.Second}
	missing := &net.DNSError{Err: "no such host", IsNotFound: true}
	for _, c := range []struct {
		name   string
		bounds policy.DNS
		ttl    time.Duration
		err    error
		keep   time.Duration
	}{
		{"the answer's own", bounds, 30 * time.Second, nil, 30 * time.Second},
		{"at least the least", bounds, time.Second, nil, 5 * time.Second},
		{"at most the most", bounds, time.Hour, nil, time.Minute},
		{"none, from a hosts file", bounds, 0, nil, 5 * time.Second},
		{"negative", bounds, 0, missing, 2 * time.Second},
		{"nothing is kept", policy.DNS{MinTTL: time.Second}, time.Hour, nil, 0},
		{"nothing negative is kept", policy.DNS{MinTTL: time.Second}, 0, missing, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				r := newResolver(c.bounds)
				r.look = func(context.Context, string) ([]netip.Addr, time.Duration, error) {
					asked++
					if c.err != nil {
						return nil, 0, c.err
					}
					return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, c.ttl, nil
				}
				ask := func(want int) {
					t.Helper()
					addrs, err := r.lookup(t.Context(), "a.test")
					if !errors.Is(err, c.err) || err == nil && len(addrs) != 1 || asked != want {
						t.Errorf("got %v, %v, asked %d times, want %d", addrs, err, asked, want)
					}
				}
				ask(1)
				if c.keep > 0 {
					time.Sleep(c.keep - time.Millisecond)
					ask(1)
					time.Sleep(time.Millisecond)
				}
				ask(2)
				r.forget("a.test")
				ask(3)
			})
		})
	}
}

// TestResolverAsksOnce for all who ask at the same time; when whoever asked leaves,
// another of them asks.
func TestResolverAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		answer := make(chan struct{})
		r := newResolver(policy.DNS{MinTTL: time.Second, MaxTTL: time.Second})
		r.look = func(ctx context.Context, _ string) ([]netip.Addr, time.Duration, error) {
			asked.Add(1)
			select {
			case <-answer:
				return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, 0, nil
			case <-ctx.Done():
				return nil, 0, ctx.Err()
			}
		}
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { _, err := r.lookup(ctx, "a.test"); left <- err }()
		synctest.Wait()
		var wait sync.WaitGroup
		for range 10 {
			wait.Go(func() {
				if addrs, err := r.lookup(t.Context(), "a.test"); err != nil || len(addrs) != 1 {
					t.Errorf("got %v, %v", addrs, err)
				}
			})
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wait.Go(func() {
			_, err := r.lookup(impatient, "a.test")
			if dns, ok := errors.AsType[*net.DNSError](err); !ok || !dns.IsTimeout {
				t.Errorf("impatient: %v", err)
			}
		})
		synctest.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times at once", n)
		}
		time.Sleep(2 * time.Second) // the impatient one is gone
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		synctest.Wait()
		if n := asked.Load(); n != 2 {
			t.Errorf("asked %d times after the first had left", n)
		}
		close(answer)
		wait.Wait()
		if n := asked.Load(); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestResolverHoldsABoundedNumberOfNames(t *testing.T) {
	r := newResolver(policy.DNS{MinTTL: time.Hour, MaxTTL: time.Hour})
	r.look = func(context.Context, string) ([]netip.Addr, time.Duration, error) {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, 0, nil
	}
	for i := range maxNames + 100 {
		if _, err := r.lookup(t.Context(), "n"+string(rune('a'+i%26))+time.Duration(i).String()); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.names) > maxNames {
		t.Errorf("%d names are kept", len(r.names))
	}
}

// TestTTLOfAnswers reads messages as the system's resolver gets them, over UDP and,
// in pieces, over TCP.
func TestTTLOfAnswers(t *testing.T) {
	for _, c := range []struct {
		name string
		ttls []uint32
		want time.Duration
	}{
		{"one", []uint32{300}, 300 * time.Second},
		{"the least of all", []uint32{300, 20, 60}, 20 * time.Second},
		{"zero counts", []uint32{300, 0}, 0},
		{"none", nil, 0},
	} {
		var s ttlSeen
		s.message(dnsAnswer(t, c.ttls...))
		if got := s.least(); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	client, server := net.Pipe()
	s := &ttlSeen{}
	watched := s.watch(client)
	if _, packets := watched.(net.PacketConn); packets {
		t.Error("a stream is taken for packets")
	}
	m := dnsAnswer(t, 77)
	go func() {
		for _, b := range append([]byte{byte(len(m) >> 8), byte(len(m))}, m...) {
			_, _ = server.Write([]byte{b})
		}
		_ = server.Close()
	}()
	for b := make([]byte, 3); ; {
		if _, err := watched.Read(b); err != nil {
			break
		}
	}
	if got := s.least(); got != 77*time.Second {
		t.Errorf("over TCP: got %s", got)
	}
}

// dnsAnswer is a response with an A record for each time to live.
func dnsAnswer(t testing.TB, ttls ...uint32) []byte {
	t.Helper()
	name := dnsmessage.MustNewName("a.test.")
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 1, Response: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	for _, ttl := range ttls {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: ttl},
			Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}},
		})
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzTTL: whatever a server sends, it changes a time at most.
func FuzzTTL(f *testing.F) {
	f.Add(dnsAnswer(f, 300, 20))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s ttlSeen
		s.message(b)
		if s.least() < 0 {
			t.Errorf("a time of %s", s.least())
		}
		stream := &watchedStream{Conn: readerConn{b}, seen: &ttlSeen{}}
		p := make([]byte, len(b)+1)
		_, _ = stream.Read(p)
		if len(stream.got) > 2+1<<16 && len(b) < 1<<16 {
			t.Errorf("%d bytes are kept", len(stream.got))
		}
	})
}

// readerConn gives all it has at once.
type readerConn struct{ b []byte }

func (c readerConn) Read(p []byte) (int, error)       { return copy(p, c.b), nil }
func (c readerConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c readerConn) Close() error                     { return nil }
func (c readerConn) LocalAddr() net.Addr              { return nil }
func (c readerConn) RemoteAddr() net.Addr             { return nil }
func (c readerConn) SetDeadline(time.Time) error      { return nil }
func (c readerConn) SetReadDeadline(time.Time) error  { return nil }
func (c readerConn) SetWriteDeadline(time.Time) error { return nil }
