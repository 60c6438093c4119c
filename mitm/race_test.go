package mitm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestRace is a table of addresses, each with what becomes of an attempt to connect
// and after how long, and who wins when.
func TestRace(t *testing.T) {
	for _, c := range []struct {
		name     string
		attempts string // address=delay, or address!delay for a failure
		want     string // the winner, or the error
		after    time.Duration
		tried    string
	}{
		{"one", "192.0.2.1=10ms", "192.0.2.1", 10 * time.Millisecond, "192.0.2.1"},
		{"one fails", "192.0.2.1!10ms", "192.0.2.1 failed", 10 * time.Millisecond, "192.0.2.1"},
		{"the first is quick enough", "2001:db8::1=249ms 192.0.2.1=1ms", "2001:db8::1", 249 * time.Millisecond, "2001:db8::1"},
		{"the first is slow", "2001:db8::1=1h 192.0.2.1=10ms", "192.0.2.1", 260 * time.Millisecond, "2001:db8::1 192.0.2.1"},
		{"the first is slow but wins", "2001:db8::1=300ms 192.0.2.1=100ms", "2001:db8::1", 300 * time.Millisecond, "2001:db8::1 192.0.2.1"},
		{"the first fails at once", "2001:db8::1!1ms 192.0.2.1=10ms", "192.0.2.1", 11 * time.Millisecond, "2001:db8::1 192.0.2.1"},
		{"families take turns", "2001:db8::1!1ms 2001:db8::2!1ms 192.0.2.1!1ms 192.0.2.2=1ms", "192.0.2.2", 4 * time.Millisecond, "2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2"},
		{"all fail", "192.0.2.1!2ms 192.0.2.2!1ms", "192.0.2.1 failed", 3 * time.Millisecond, "192.0.2.1 192.0.2.2"},
		{"all hang", "192.0.2.1=1h 2001:db8::1=1h", "deadline exceeded", 5 * time.Second, "192.0.2.1 2001:db8::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				outcome := map[netip.Addr]string{}
				var addrs []netip.AddrPort
				for f := range strings.FieldsSeq(c.attempts) {
					i := strings.IndexAny(f, "=!")
					a := netip.MustParseAddr(f[:i])
					outcome[a] = f[i:]
					addrs = append(addrs, netip.AddrPortFrom(a, 443))
				}
				var mu sync.Mutex
				var tried []string
				open := 0
				dial := func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
					mu.Lock()
					tried = append(tried, to.Addr().String())
					mu.Unlock()
					d, err := time.ParseDuration(outcome[to.Addr()][1:])
					if err != nil {
						panic(err)
					}
					select {
					case <-time.After(d):
					case <-ctx.Done():
						return nil, ctx.Err()
					}
					if outcome[to.Addr()][0] == '!' {
						return nil, fmt.Errorf("%s failed", to.Addr())
					}
					mu.Lock()
					defer mu.Unlock()
					open++
					return &racedConn{at: to.Addr(), closed: func() { mu.Lock(); defer mu.Unlock(); open-- }}, nil
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				start := time.Now()
				conn, err := race(ctx, addrs, dial)
				if took := time.Since(start); took != c.after {
					t.Errorf("took %s, want %s", took, c.after)
				}
				if got := strings.Join(tried, " "); got != c.tried {
					t.Errorf("tried %s, want %s", got, c.tried)
				}
				if err != nil {
					if !strings.Contains(err.Error(), c.want) {
						t.Errorf("got %v, want %s", err, c.want)
					}
				} else if got := conn.(*racedConn).at.String(); got != c.want || open != 1 {
					t.Errorf("got %s, want %s; %d connections are open", got, c.want, open)
				}
			})
		})
	}
}

type racedConn struct {
	net.Conn
	at     netip.Addr
	closed func()
}

func (c *racedConn) Close() error { c.closed(); return nil }

// TestEachRacedAddressIsJudged: a refused address does not keep an allowed one from
// being dialled, and both are judged at the moment of dialling.
func TestEachRacedAddressIsJudged(t *testing.T) {
	origin := tcpOrigin(t, echo)
	_, port, err := net.SplitHostPort(origin)
	if err != nil {
		t.Fatal(err)
	}
	u, err := NewUpstream(UpstreamOptions{AllowAddresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	if err != nil {
		t.Fatal(err)
	}
	u.resolver.names["mixed.test"] = resolved(t, "10.0.0.1", "169.254.169.254", "127.0.0.1")
	u.resolver.names["bad.test"] = resolved(t, "10.0.0.1", "169.254.169.254")
	c, err := u.DialContext(t.Context(), "tcp", "mixed.test:"+port)
	if err != nil {
		t.Fatal(err)
	}
	if c.RemoteAddr().String() != origin {
		t.Errorf("connected to %s", c.RemoteAddr())
	}
	_ = c.Close()
	_, err = u.DialContext(t.Context(), "tcp", "bad.test:"+port)
	if _, ok := errors.AsType[*AddressError](err); !ok {
		t.Errorf("got %v", err)
	}
	if u.resolver.names["bad.test"] != nil {
		t.Error("addresses of which none answers are kept")
	}
}
