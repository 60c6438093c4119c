package mitm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// TestAddressTable asks for each target of testdata/addresses.txt by CONNECT and in
// absolute form: what an operator does not allow is refused, however it is written,
// and the answer says why.
func TestAddressTable(t *testing.T) {
	text, err := os.ReadFile("testdata/addresses.txt")
	if err != nil {
		t.Fatal(err)
	}
	names := newAnswerer(t)
	origin := plainOrigin(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	adminListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer adminListener.Close()
	strict := newWorld(t, "presets: none\n", nil, nil)
	lenient := newWorld(t, "presets: none\n", nil, nil, func(_ *Options, o *UpstreamOptions) {
		o.AllowAddresses = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	})
	for _, w := range []*world{strict, lenient} {
		names.serve(w.server.options.Upstream)
		w.server.options.Upstream.Refuse(adminListener.Addr())
		// What listens on every address is to be had under none of them.
		w.server.options.Upstream.Refuse(&net.TCPAddr{IP: net.IPv6unspecified, Port: 3129})
	}
	_, originPort, _ := net.SplitHostPort(origin)
	for number, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		if len(fields) < 4 {
			t.Fatalf("line %d: %s", number+1, line)
		}
		w := map[string]*world{"strict": strict, "all": lenient}[fields[0]]
		target, want, proxyStatus := fields[1], fields[2], fields[3]
		why := strings.Join(fields[4:], " ")
		_, proxyPort, _ := net.SplitHostPort(w.addr)
		_, adminPort, _ := net.SplitHostPort(adminListener.Addr().String())
		targets := []string{strings.NewReplacer("{origin}", originPort, "{proxy}", proxyPort, "{admin}", adminPort).Replace(target)}
		if strings.Contains(target, "{interface}") {
			targets = interfaces(t, targets[0])
		}
		for _, target := range targets {
			name := fmt.Sprintf("addresses.txt:%d %s", number+1, target)
			for _, head := range []string{
				fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: x.test\r\n", target),
				fmt.Sprintf("GET http://%s/ HTTP/1.1\r\nHost: x.test\r\n", strings.ReplaceAll(target, "%", "%25")),
			} {
				c := w.dial()
				res := w.ask(c, bufio.NewReader(c), head)
				_ = c.Close()
				status := res.Header.Get("Proxy-Status")
				if res.StatusCode == 400 && proxyStatus == "http_request_error" && status == "" {
					continue // net/http's own refusal
				}
				got := regexp.MustCompile(`error=([a-z_]+)`).FindStringSubmatch(status)
				if fmt.Sprint(res.StatusCode) != want || proxyStatus != "-" && (got == nil || got[1] != proxyStatus) || !strings.Contains(status, why) {
					t.Errorf("%s: %s: %s, Proxy-Status %s; want %s %s %s", name, head[:4], res.Status, status, want, proxyStatus, why)
				}
			}
		}
	}
}

// interfaces puts each address of this machine into a target.
func interfaces(t *testing.T, target string) (all []string) {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().IsLinkLocalUnicast() { // needs a zone, which is refused anyway
			continue
		}
		host := p.Addr().String()
		if p.Addr().Is6() {
			host = "[" + host + "]"
		}
		all = append(all, strings.ReplaceAll(target, "{interface}", host))
	}
	return all
}

// answerer answers DNS queries on loopback. A name such as 10-0-0-1.test has that
// address, --1.test the address ::1, and rebind-A-B.test has A the first time that it
// is asked for and B from then on.
type answerer struct {
	conn net.PacketConn

	mu    sync.Mutex // guards the rest
	asked map[string]int
}

func newAnswerer(t *testing.T) *answerer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &answerer{conn: conn, asked: map[string]int{}}
	var running sync.WaitGroup
	running.Go(n.run) // ends when conn is closed
	t.Cleanup(func() {
		_ = conn.Close()
		running.Wait()
	})
	return n
}

// serve makes an upstream ask this server for names.
func (n *answerer) serve(u *Upstream) {
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", n.conn.LocalAddr().String())
	}}
	u.resolver.look = func(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
		addrs, err := r.LookupNetIP(ctx, "ip", host)
		return addrs, 0, err // looked up anew for each connection
	}
}

// times is how often the IPv4 address of a name was asked for.
func (n *answerer) times(name string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[name]
}

func (n *answerer) run() {
	b := make([]byte, 1500)
	for {
		size, from, err := n.conn.ReadFrom(b)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b[:size]) != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		q := m.Questions[0]
		if addr, ok := n.lookup(strings.TrimSuffix(strings.ToLower(q.Name.String()), "."), q.Type); ok {
			header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
			if addr.Is4() {
				m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}}}
			} else {
				m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}}}
			}
		}
		packed, err := m.Pack()
		if err == nil {
			_, _ = n.conn.WriteTo(packed, from)
		}
	}
}

func (n *answerer) lookup(name string, kind dnsmessage.Type) (netip.Addr, bool) {
	label, _, _ := strings.Cut(name, ".")
	if kind == dnsmessage.TypeA {
		n.mu.Lock()
		n.asked[name]++
		again := n.asked[name] > 1
		n.mu.Unlock()
		if first, second, ok := strings.Cut(strings.TrimPrefix(label, "rebind-"), "-to-"); ok {
			label = first
			if again {
				label = second
			}
		}
	}
	addr, err := netip.ParseAddr(strings.ReplaceAll(label, "-", "."))
	if err != nil {
		addr, err = netip.ParseAddr(strings.ReplaceAll(label, "-", ":"))
	}
	return addr, err == nil && addr.Is4() == (kind == dnsmessage.TypeA)
}

// TestRebinding: a name that changes its address between two look-ups is judged by
// the address that is dialled each time.
func TestRebinding(t *testing.T) {
	names := newAnswerer(t)
	origin := plainOrigin(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	_, port, _ := net.SplitHostPort(origin)
	w := newWorld(t, "presets: none\n", nil, nil, func(_ *Options, o *UpstreamOptions) {
		o.AllowAddresses = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	names.serve(w.server.options.Upstream)
	for _, to := range []string{"127-0-0-2", "169-254-169-254", "10-0-0-1"} {
		host := "rebind-127-0-0-1-to-" + to + ".test"
		statuses := ""
		for range 3 {
			c := w.dial()
			res := w.ask(c, bufio.NewReader(c), fmt.Sprintf("GET http://%s:%s/ HTTP/1.1\r\nHost: x\r\n", host, port))
			statuses += " " + strconv.Itoa(res.StatusCode)
			_ = c.Close()
			w.server.options.Upstream.CloseIdleConnections() // the next request dials anew
		}
		if statuses != " 200 502 502" {
			t.Errorf("%s: %s after %d look-ups", host, statuses, names.times(host))
		}
	}
}
