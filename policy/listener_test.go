package policy

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestListeners(t *testing.T) {
	p := mustParse(t, `
listeners:
  - { listen: ":4001" }
  - { listen: "127.0.0.1:4002", mode: tls-proxy, proxy_protocol: [10.0.0.1, "fd00::/64"], cert_file: a.pem, key_file: /b.key, client_ca_file: c.pem }
  - { listen: ":4003", mode: tls-proxy, names: [larder.test, 192.0.2.1, "[2001:db8::1]"] }
  - { listen: ":4004", mode: redirect }
  - { listen: ":4005", mode: tproxy }
  - { listen: ":4006", mode: socks5 }
`)
	want := []Listener{
		{Listen: ":4001"},
		{
			Listen: "127.0.0.1:4002", Mode: ListenTLSProxy,
			ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("fd00::/64")},
			CertFile:      "a.pem", KeyFile: "/b.key", ClientCAFile: "c.pem",
		},
		{Listen: ":4003", Mode: ListenTLSProxy, Names: []string{"larder.test", "192.0.2.1", "[2001:db8::1]"}},
		{Listen: ":4004", Mode: ListenRedirect},
		{Listen: ":4005", Mode: ListenTProxy},
		{Listen: ":4006", Mode: ListenSOCKS5},
	}
	if d := cmp.Diff(want, p.Settings().Listeners, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Error(d)
	}
}

func TestSameAddress(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{":1", ":1", true},
		{":1", ":2", false},
		{":0", ":0", false},
		{":1", "127.0.0.1:1", true},
		{"127.0.0.1:1", "127.0.0.2:1", false},
		{"127.0.0.1:1", "[::1]:1", false},
		{"0.0.0.0:1", "127.0.0.1:1", true},
		{"0.0.0.0:1", "localhost:1", true},
		{"0.0.0.0:1", "[::1]:1", false},
		{"[::]:1", "127.0.0.1:1", true},
		{"[::1]:1", "[0:0::1]:1", true},
		{"localhost:1", "LOCALHOST:1", true},
		{"", ":1", false},
	} {
		for _, got := range []bool{sameAddress(c.a, c.b), sameAddress(c.b, c.a)} {
			if got != c.want {
				t.Errorf("sameAddress(%q, %q) = %v, want %v", c.a, c.b, got, c.want)
			}
		}
	}
}

// TestConnectUnnamed extends the table of Connect by what holds for an address
// that no rule names.
func TestConnectUnnamed(t *testing.T) {
	const rules = `
presets: none
rules:
  - { name: legacy, hosts: [192.0.2.0/24], action: tunnel }
  - { name: closed, hosts: [198.51.100.0/24], action: deny }
  - { name: opened, hosts: [203.0.113.7], action: pass }
`
	for _, c := range []struct {
		settings, address string
		want              Action
		rule              string
	}{
		{"", "100.64.0.1", Tunnel, ""},
		{"default: deny", "100.64.0.1", Deny, ""},
		{"unnamed: refuse", "100.64.0.1", Deny, ""},
		{"default: deny\nunnamed: tunnel", "100.64.0.1", Tunnel, ""},
		{"unnamed: refuse", "192.0.2.1", Tunnel, "legacy"},
		{"unnamed: refuse", "::ffff:192.0.2.1", Tunnel, "legacy"},
		{"unnamed: tunnel", "198.51.100.1", Deny, "closed"},
		{"unnamed: refuse", "203.0.113.7", Pass, "opened"},
		{"unnamed: refuse", "2001:db8::1", Deny, ""},
	} {
		p := mustParse(t, c.settings+rules)
		d := p.ConnectUnnamed(Client{}, netip.MustParseAddr(c.address), 443)
		name := ""
		if d.Rule != nil {
			name = d.Rule.Name
		}
		if d.Action != c.want || name != c.rule {
			t.Errorf("%q, %s: %v by %q, want %v by %q", c.settings, c.address, d.Action, name, c.want, c.rule)
		}
	}
}
