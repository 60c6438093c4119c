package tests

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"larder/tests/origin"
)

// The addresses of the test's Internet: those for documentation, which larder
// does not take for private.
const (
	goodAddr4, goodAddr6 = "198.51.100.10", "2001:db8:2::10"
	evilAddr4, evilAddr6 = "198.51.100.66", "2001:db8:2::66"
	dnsAddr              = "198.51.100.53"
	gatewayAddr          = "10.77.1.1"
	otherPort            = "8443"
)

// internet is a client, a gateway and a network of origins behind it, each a
// namespace. The client's only way is the gateway.
type internet struct {
	client, gateway, origins *namespace
	authority                *origin.Authority

	good, evil atomic.Int64 // requests that reached the address of the names, and the other
	stray      atomic.Int64 // connections and datagrams to anywhere else
}

func newInternet(t *testing.T) *internet {
	t.Helper()
	authority, err := origin.NewAuthority()
	must(t, err)
	n := &internet{client: newNamespace(t), gateway: newNamespace(t), origins: newNamespace(t), authority: authority}
	n.wire(t)
	resolv := writeFile(t, privateDir(t), "resolv.conf", "nameserver "+dnsAddr+"\noptions timeout:5 attempts:2\n")
	n.client.resolv, n.gateway.resolv = resolv, resolv
	for _, a := range []string{goodAddr4, goodAddr6} {
		n.serve(t, a, "good", &n.good)
	}
	for _, a := range []string{evilAddr4, evilAddr6} {
		n.serve(t, a, "evil", &n.evil)
	}
	n.serveDNS(t)
	return n
}

// wire joins the namespaces and gives the gateway the role of a router.
func (n *internet) wire(t *testing.T) {
	t.Helper()
	n.gateway.setup(t,
		fmt.Sprintf("ip link add lan0 type veth peer name eth0 netns %d", n.client.pid),
		fmt.Sprintf("ip link add wan0 type veth peer name eth0 netns %d", n.origins.pid),
		"ip addr add "+gatewayAddr+"/24 dev lan0", "ip addr add 2001:db8:1::1/64 dev lan0 nodad",
		"ip addr add 198.51.100.1/24 dev wan0", "ip addr add 2001:db8:2::1/64 dev wan0 nodad",
		"ip link set lan0 up", "ip link set wan0 up",
		"echo 1 > /proc/sys/net/ipv4/ip_forward", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
	)
	n.client.setup(t,
		"ip addr add 10.77.1.2/24 dev eth0", "ip addr add 2001:db8:1::2/64 dev eth0 nodad", "ip link set eth0 up",
		"ip route add default via "+gatewayAddr, "ip -6 route add default via 2001:db8:1::1",
	)
	lines := []string{"ip link set eth0 up"}
	for _, a := range []string{goodAddr4, evilAddr4, dnsAddr} {
		lines = append(lines, "ip addr add "+a+"/24 dev eth0")
	}
	for _, a := range []string{goodAddr6, evilAddr6} {
		lines = append(lines, "ip addr add "+a+"/64 dev eth0 nodad")
	}
	n.origins.setup(t, append(lines, "ip route add default via 198.51.100.1", "ip -6 route add default via 2001:db8:2::1")...)
}

// serve answers at an address on 443 and 80, whatever name is asked for, and
// counts who comes to another port.
func (n *internet) serve(t *testing.T, addr, what string, hits *atomic.Int64) {
	t.Helper()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		fmt.Fprintf(w, "%s says %s", what, r.URL.Path)
	})
	server := &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), TLSConfig: &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName == "" {
				return n.authority.Leaf("nameless.test")
			}
			return n.authority.Leaf(hello.ServerName)
		},
	}}
	plain := &http.Server{Handler: handler}
	t.Cleanup(func() { _, _ = server.Close(), plain.Close() })
	for _, port := range []string{"443", "80", otherPort} {
		l := n.listen(t, net.JoinHostPort(addr, port))
		switch port {
		case "443":
			go func() { _ = server.ServeTLS(l, "", "") }() // ends when it is closed
		case "80":
			go func() { _ = plain.Serve(l) }() // ends when it is closed
		default:
			go n.countConns(l) // ends when l is closed
		}
	}
	for _, port := range []string{"443", "5353"} {
		go n.countDatagrams(n.listenUDP(t, net.JoinHostPort(addr, port)), nil) // ends when it is closed
	}
}

func (n *internet) listen(t *testing.T, addr string) (l net.Listener) {
	t.Helper()
	var err error
	n.origins.do(t, func() { l, err = net.Listen("tcp", addr) })
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func (n *internet) listenUDP(t *testing.T, addr string) (c net.PacketConn) {
	t.Helper()
	var err error
	n.origins.do(t, func() { c, err = net.ListenPacket("udp", addr) })
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (n *internet) countConns(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		n.stray.Add(1)
		_ = c.Close()
	}
}

// countDatagrams answers what answer makes of them, else counts and echoes.
func (n *internet) countDatagrams(c net.PacketConn, answer func([]byte) []byte) {
	b := make([]byte, 1500)
	for {
		size, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		if answer == nil {
			n.stray.Add(1)
			_, _ = c.WriteTo(b[:size], from)
			continue
		}
		_, _ = c.WriteTo(answer(b[:size]), from)
	}
}

// serveDNS knows every name below test, all at the good address.
func (n *internet) serveDNS(t *testing.T) {
	t.Helper()
	c := n.listenUDP(t, net.JoinHostPort(dnsAddr, "53"))
	go n.countDatagrams(c, answerDNS) // ends when c is closed
}

func answerDNS(query []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: h.ID, Response: true, RecursionAvailable: true})
	_, _ = b.StartQuestions(), b.Question(q)
	_ = b.StartAnswers()
	rh := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}
	switch q.Type {
	case dnsmessage.TypeA:
		_ = b.AResource(rh, dnsmessage.AResource{A: netip.MustParseAddr(goodAddr4).As4()})
	case dnsmessage.TypeAAAA:
		_ = b.AAAAResource(rh, dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(goodAddr6).As16()})
	}
	answer, _ := b.Finish()
	return answer
}

// gatewayUser is whom larder runs as on the gateway; in a user namespace there is
// nobody but root.
func gatewayUser() int {
	data, err := os.ReadFile("/proc/self/uid_map")
	if err == nil && len(strings.Fields(string(data))) == 3 && !strings.HasSuffix(strings.TrimSpace(string(data)), " 1") {
		return 64321
	}
	return 0
}

// larder starts larder on the gateway. It gets a user of its own and, for tproxy,
// the one capability that needs.
func (n *internet) larder(t *testing.T, mode string) *service {
	t.Helper()
	dir := privateDir(t)
	in := &instance{dir: dir, state: filepath.Join(mkdir(t, dir, "var"), "state")}
	roots := writeFile(t, dir, "origins.pem", string(n.authority.PEM()))
	in.config = writeFile(t, dir, "larder.yaml", fmt.Sprintf(`listen: ":3128"
admin: { listen: "127.0.0.1:0" }
listeners:
  - { listen: ":3130", mode: %s }
store: { max_size: 1GiB }
upstream: { ca_file: %q }
default: deny
presets: none
rules:
  - { name: artifacts, hosts: [artifacts.test], action: immutable }
  - { name: bank, hosts: [bank.test], action: tunnel }
`, mode, roots))
	uid := strconv.Itoa(gatewayUser())
	must(t, os.Chown(filepath.Join(dir, "var"), gatewayUser(), gatewayUser()))
	as := []string{"setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--no-new-privs", "--inh-caps", "-all"}
	if mode == "tproxy" {
		as = append(as[:len(as)-1], "-all,+net_admin", "--ambient-caps", "+net_admin")
	}
	if gatewayUser() == 0 {
		as = nil // root of a user namespace can be nobody else
	}
	argv := n.gateway.argv(append(as, larderPath(t))...)
	for i := range argv {
		argv[i] = "'" + strings.ReplaceAll(argv[i], "'", `'\''`) + "'"
	}
	in.larder = writeFile(t, dir, "larder-on-gateway", "#!/bin/sh\nexec "+strings.Join(argv, " ")+` "$@"`+"\n")
	must(t, os.Chmod(in.larder, 0o755))
	return in.serve(t)
}

// firewall loads what larder firewall prints, on the gateway.
func (n *internet) firewall(t *testing.T, flags ...string) {
	t.Helper()
	out, err := exec.Command(larderPath(t), append([]string{"firewall"}, flags...)...).Output()
	must(t, err)
	n.gateway.setup(t, "nft -f "+writeFile(t, privateDir(t), "rules.nft", string(out)))
}

// curl runs curl without any proxy variable, in a namespace.
func (n *internet) curl(t *testing.T, where *namespace, args ...string) result {
	t.Helper()
	dir := privateDir(t)
	must(t, os.Chmod(dir, 0o777))
	return command{
		dir:  dir,
		argv: where.argv(append([]string{"curl", "--silent", "--show-error", "--max-time", "30", "--include"}, args...)...),
	}.run(t)
}

// TestTransparent has a client that knows of no proxy, on a gateway that turns its
// connections to larder and lets nothing else out.
func TestTransparent(t *testing.T) {
	if requireNamespaces(t) {
		return
	}
	for _, mode := range []string{"redirect", "tproxy"} {
		t.Run(mode, func(t *testing.T) {
			n := newInternet(t)
			if !n.reaches(t, "tcp", net.JoinHostPort(evilAddr4, otherPort)) || !n.reaches(t, "udp", net.JoinHostPort(evilAddr6, "443")) {
				t.Fatal("the network is not open before the firewall, so that nothing is shown by its being closed")
			}
			n.stray.Store(0)
			s := n.larder(t, mode)
			n.firewall(t, "--mode", mode, "--config", s.config, "--in", "lan0")
			if mode == "tproxy" {
				n.gateway.setup(t,
					"ip -4 rule add fwmark 0x6c64 lookup 27748", "ip -4 route add local default dev lo table 27748",
					"ip -6 rule add fwmark 0x6c64 lookup 27748", "ip -6 route add local default dev lo table 27748")
			}
			n.firewall(t, "--mode", "egress", "--user", strconv.Itoa(gatewayUser()), "--resolver", dnsAddr)
			n.checkCached(t, s)
			n.checkTunnel(t)
			n.checkAround(t, s)
			if mode == "redirect" {
				n.checkLocal(t, s)
			}
		})
	}
}

// checkCached fetches everything twice, over both families of addresses: each is
// fetched upstream once, by either.
func (n *internet) checkCached(t *testing.T, s *service) {
	t.Helper()
	bundle := filepath.Join(s.state, "trust", "bundle.pem")
	for _, scheme := range []string{"https", "http"} {
		before := n.good.Load()
		for i, family := range []string{"-4", "-6", "-4", "-6"} {
			res := n.curl(t, n.client, family, "--cacert", bundle, scheme+"://artifacts.test/file")
			if res.code != 0 || !strings.Contains(res.stdout, "good says /file") {
				t.Fatalf("curl %s %s: %v", family, scheme, res)
			}
			if hit := strings.Contains(strings.ToLower(res.stdout), "cache-status: larder; hit"); hit != (i > 0) {
				t.Errorf("curl %s %s: request %d is a hit: %v\n%s", family, scheme, i+1, hit, res.stdout)
			}
		}
		if got := n.good.Load() - before; got != 1 {
			t.Errorf("%s: the origin saw %d requests, want 1", scheme, got)
		}
	}
}

// checkTunnel wants the origin's own certificate where policy tunnels.
func (n *internet) checkTunnel(t *testing.T) {
	t.Helper()
	roots := writeFile(t, privateDir(t), "origins.pem", string(n.authority.PEM()))
	for _, family := range []string{"-4", "-6"} {
		res := n.curl(t, n.client, family, "--cacert", roots, "https://bank.test/account")
		if res.code != 0 || !strings.Contains(res.stdout, "good says /account") {
			t.Errorf("curl %s: %v", family, res)
		}
	}
}

// checkAround is what somebody tries who will not be looked at. Nothing of it may
// reach anybody.
func (n *internet) checkAround(t *testing.T, s *service) {
	t.Helper()
	evil, good := n.evil.Load(), n.good.Load()
	for _, try := range []struct{ network, addr string }{
		{"tcp", net.JoinHostPort(evilAddr4, otherPort)},
		{"tcp", net.JoinHostPort(evilAddr6, otherPort)},
		{"tcp", net.JoinHostPort(goodAddr4, otherPort)},
		{"udp", net.JoinHostPort(evilAddr4, "443")},
		{"udp", net.JoinHostPort(evilAddr6, "443")},
		{"udp", net.JoinHostPort(goodAddr4, "443")},
		{"udp", net.JoinHostPort(evilAddr4, "5353")},
		{"udp", net.JoinHostPort(evilAddr6, "5353")},
	} {
		if n.reaches(t, try.network, try.addr) {
			t.Errorf("%s %s is to be reached", try.network, try.addr)
		}
	}
	for _, args := range [][]string{
		{"--insecure", "https://" + evilAddr4 + "/"},                                                // no server name
		{"--insecure", "https://[" + evilAddr6 + "]/"},                                              // over IPv6
		{"--insecure", "https://strange.test/"},                                                     // no rule
		{"--insecure", "--resolve", "bank.test:443:" + evilAddr4, "https://bank.test/"},             // another's name
		{"--insecure", "--resolve", "bank.test:443:[" + evilAddr6 + "]", "https://bank.test/"},      // over IPv6
		{"--fail", "http://" + evilAddr4 + "/"},                                                     // a plain request
		{"--fail", "--header", "Host: artifacts.test:443", "http://" + evilAddr4 + "/"},             // for another port
		{"--fail", "--insecure", "https://" + gatewayAddr + ":3130/"},                               // larder itself
		{"--fail", "--proxy", "http://" + gatewayAddr + ":3130", "http://" + evilAddr4 + ":8443/"},  // as a proxy
		{"--fail", "--proxy", "http://" + gatewayAddr + ":3128", "https://" + evilAddr4 + ":8443/"}, // the real one
	} {
		if res := n.curl(t, n.client, args...); res.code == 0 {
			t.Errorf("curl %v: %v", args, res)
		}
	}
	// The name is that of a host with a rule: it is what is fetched, and from there.
	res := n.curl(t, n.client, "--cacert", filepath.Join(s.state, "trust", "bundle.pem"),
		"--resolve", "artifacts.test:443:"+evilAddr4, "https://artifacts.test/file")
	if !strings.Contains(res.stdout, "good says /file") {
		t.Errorf("a name with another's address: %v", res)
	}
	if uid := gatewayUser(); uid != 0 {
		res := n.curl(t, &namespace{pid: n.gateway.pid}, "--insecure", "https://"+evilAddr4+"/")
		if res.code == 0 {
			t.Errorf("on the gateway itself, another user: %v", res)
		}
	}
	if e, g, other := n.evil.Load()-evil, n.good.Load()-good, n.stray.Load(); e+g+other != 0 {
		t.Errorf("the origins saw %d and %d requests, and %d others: want none", e, g, other)
	}
}

// checkLocal turns the gateway's own processes to larder as well: it is a node now.
func (n *internet) checkLocal(t *testing.T, s *service) {
	t.Helper()
	if gatewayUser() == 0 {
		return // nobody else is there
	}
	n.firewall(t, "--mode", "redirect", "--config", s.config, "--local", "--user", strconv.Itoa(gatewayUser()))
	before := n.good.Load()
	for _, family := range []string{"-4", "-6"} {
		res := n.curl(t, n.gateway, family, "--cacert", filepath.Join(s.state, "trust", "bundle.pem"), "https://artifacts.test/file")
		if res.code != 0 || !strings.Contains(strings.ToLower(res.stdout), "cache-status: larder; hit") {
			t.Errorf("on the node itself, curl %s: %v", family, res)
		}
	}
	if got := n.good.Load() - before; got != 0 {
		t.Errorf("the origin saw %d requests, want none", got)
	}
}

// reaches tries to get an answer, or over TCP a connection, from the client. The
// gateway says at once that it does not let through, so no timeout decides.
func (n *internet) reaches(t *testing.T, network, addr string) bool {
	t.Helper()
	var c net.Conn
	var err error
	n.client.do(t, func() {
		d := net.Dialer{Timeout: patience}
		c, err = d.DialContext(context.WithoutCancel(t.Context()), network, addr)
	})
	if err == nil {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if network == "udp" {
			_, err = c.Write([]byte("anybody?"))
			if err == nil {
				_, err = c.Read(make([]byte, 64))
			}
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s %s: no answer of any kind in %v", network, addr, patience)
	}
	return err == nil
}

// TestFirewallIsForNft has nft read what larder firewall prints.
func TestFirewallIsForNft(t *testing.T) {
	if requireNamespaces(t) {
		return
	}
	n := newNamespace(t)
	for _, flags := range []string{
		"--mode redirect --to 3130",
		"--mode redirect --to 3130 --ports 443,8443 --from 10.0.0.0/8,10.1.0.0/16,fd00::/8 --in lan0,br-* --local --user 997",
		"--mode tproxy --to 3131",
		"--mode tproxy --to 3131 --from 10.0.0.0/8 --in docker0",
		"--mode egress --user 997",
		"--user 997 --resolver 10.0.0.53,fd00::53 --allow 10.20.0.0/16,10.20.1.0/24,fd00:1::/64",
		"--mode egress --larder 10.0.0.5:3128,[fd00::5]:3128",
	} {
		out, err := exec.Command(larderPath(t), append([]string{"firewall"}, strings.Fields(flags)...)...).Output()
		must(t, err)
		argv := n.argv("nft", "-c", "-f", "-")
		check := exec.Command(argv[0], argv[1:]...)
		check.Stdin = bytes.NewReader(out)
		if said, err := check.CombinedOutput(); err != nil {
			t.Errorf("larder firewall %s: %v\n%s", flags, err, said)
		}
	}
}
