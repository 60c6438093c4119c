package policy

import (
	"net/netip"
	"strings"
	"testing"
)

// clientOf reads "ADDRESS USER", either of which may be -.
func clientOf(t *testing.T, s string) (c Client) {
	t.Helper()
	addr, user, _ := strings.Cut(s, " ")
	if addr != "-" {
		c.Addr = netip.MustParseAddr(addr)
	}
	if user != "-" {
		c.User = user
	}
	return c
}

func TestRulesByClientAndUser(t *testing.T) {
	p := mustParse(t, `
presets: none
default: deny
rules:
  - { name: quarantine, hosts: ["*"], clients: [10.9.0.0/16], action: deny }
  - { name: no-deletes, hosts: [a.test], clients: [10.1.0.0/16], users: ["*"], methods: [DELETE], action: deny }
  - { name: builders, hosts: [a.test], clients: [10.1.0.0/16, 192.0.2.7, "2001:db8::/32"], action: pass }
  - { name: releases, hosts: [b.test], users: [release-bot, alice], action: pass }
  - { name: anybody, hosts: [c.test], users: ["*"], action: tunnel }
  - { name: both, hosts: [d.test], clients: [10.1.0.0/16], users: [alice], action: tunnel }
`)
	for _, c := range []struct {
		client, request string
		connect, action Action
		rule            string
	}{
		{"10.1.2.3 -", "GET https://a.test/", Pass, Pass, "builders"},
		{"::ffff:10.1.2.3 -", "GET https://a.test/", Pass, Pass, "builders"},
		{"192.0.2.7 -", "GET https://a.test/", Pass, Pass, "builders"},
		{"2001:db8::7 -", "GET https://a.test/", Pass, Pass, "builders"},
		{"2001:db8::7%eth0 -", "GET https://a.test/", Pass, Pass, "builders"},
		{"192.0.2.8 -", "GET https://a.test/", Deny, Deny, ""},
		{"- -", "GET https://a.test/", Deny, Deny, ""},
		{"10.9.1.1 alice", "GET https://b.test/", Deny, Deny, "quarantine"},
		{"10.1.2.3 -", "DELETE https://a.test/", Pass, Pass, "builders"},
		{"10.1.2.3 bob", "DELETE https://a.test/", Pass, Deny, "no-deletes"},
		{"192.0.2.7 bob", "DELETE https://a.test/", Pass, Pass, "builders"},
		{"192.0.2.7 alice", "GET https://b.test/", Pass, Pass, "releases"},
		{"192.0.2.7 Alice", "GET https://b.test/", Deny, Deny, ""},
		{"192.0.2.7 -", "GET https://b.test/", Deny, Deny, ""},
		{"- release-bot", "GET https://b.test/", Pass, Pass, "releases"},
		{"- carol", "GET https://c.test/", Tunnel, Tunnel, "anybody"},
		{"- -", "GET https://c.test/", Deny, Deny, ""},
		{"10.1.2.3 alice", "GET https://d.test/", Tunnel, Tunnel, "both"},
		{"10.1.2.3 bob", "GET https://d.test/", Deny, Deny, ""},
		{"10.2.2.3 alice", "GET https://d.test/", Deny, Deny, ""},
	} {
		method, url, _ := strings.Cut(c.request, " ")
		u := mustURL(t, url)
		who := clientOf(t, c.client)
		if d := p.Connect(who, u.Host, 443); d.Action != c.connect {
			t.Errorf("%s, CONNECT %s: %v, want %v", c.client, u.Host, d.Action, c.connect)
		}
		if d := p.Classify(who, method, u); d.Action != c.action || ruleName(d) != c.rule {
			t.Errorf("%s, %s: %v by %q, want %v by %q", c.client, c.request, d.Action, ruleName(d), c.action, c.rule)
		}
	}
}

// TestModes has one line for each way in which a refusal may be less than one.
func TestModes(t *testing.T) {
	for _, c := range []struct {
		policy, request  string
		connect, decided Action // of the connection, of the request
		rule, waived     string
	}{
		{"- {name: no, hosts: [a.test], action: deny}", "GET https://a.test/", Deny, Deny, "no", ""},
		{"- {name: no, hosts: [a.test], action: deny, mode: enforce}", "GET https://a.test/", Deny, Deny, "no", ""},
		{"- {name: no, hosts: [a.test], action: deny, mode: report}", "GET https://a.test/", Tunnel, Tunnel, "", "no"},
		{"- {name: no, hosts: [a.test], action: deny, mode: open}", "GET https://a.test/", Tunnel, Tunnel, "", "no"},
		{"- {name: no, hosts: [a.test], action: deny, mode: report}\n- {name: yes, hosts: [a.test], action: immutable}", "GET https://a.test/", Pass, Immutable, "yes", "no"},
		{"- {name: no, hosts: [a.test], action: deny, mode: report}\n- {name: really, hosts: [a.test], action: deny}", "GET https://a.test/", Deny, Deny, "really", "no"},
		{"- {name: first, hosts: [a.test], action: deny, mode: open}\n- {name: second, hosts: [a.test], action: deny, mode: report}", "GET https://a.test/", Tunnel, Tunnel, "", "second"},
		{"- {name: first, hosts: [a.test], action: deny, mode: report}\n- {name: second, hosts: [a.test], action: deny, mode: report}", "GET https://a.test/", Tunnel, Tunnel, "", "first"},
		// To say what it would refuse, a rule that looks at requests has to see them.
		{"- {name: no, hosts: [a.test], methods: [PUT], action: deny, mode: report}", "PUT https://a.test/", Pass, Pass, "", "no"},
		{"- {name: no, hosts: [a.test], methods: [PUT], action: deny, mode: report}", "GET https://a.test/", Pass, Pass, "", ""},
		// One that is switched off opens nothing, and counts what is open anyway.
		{"- {name: no, hosts: [a.test], methods: [PUT], action: deny, mode: open}", "PUT https://a.test/", Tunnel, Tunnel, "", "no"},
		{"- {name: no, hosts: [a.test], methods: [PUT], action: deny, mode: open}\n- {name: yes, hosts: [a.test], action: pass}", "PUT https://a.test/", Pass, Pass, "yes", "no"},
	} {
		p := mustParse(t, "presets: none\nrules:\n"+c.policy+"\n")
		method, url, _ := strings.Cut(c.request, " ")
		u := mustURL(t, url)
		connect, d := p.Connect(Client{}, u.Host, 443), p.Classify(Client{}, method, u)
		waived := ""
		if d.Waived != nil {
			waived = d.Waived.Name
		}
		if connect.Action != c.connect || d.Action != c.decided || ruleName(d) != c.rule || waived != c.waived {
			t.Errorf("%s\n%s: connection %v, request %v by %q, waived %q", c.policy, c.request, connect.Action, d.Action, ruleName(d), waived)
		}
		if may := p.MayTunnel(Client{}, "a.test", 443); may != (c.decided != Deny) {
			t.Errorf("%s: MayTunnel = %v", c.policy, may)
		}
	}
}

func TestDefaultThatReports(t *testing.T) {
	for mode, want := range map[string]Action{"enforce": Deny, "report": Tunnel, "open": Tunnel} {
		p := mustParse(t, "presets: none\ndefault: deny\ndefault_mode: "+mode+"\nrules:\n"+
			"- {name: known, hosts: [a.test], action: pass}\n")
		for _, d := range []Decision{
			p.Connect(Client{}, "b.test", 443),
			p.Classify(Client{}, "GET", mustURL(t, "https://b.test/")),
			p.Classify(Client{}, "GET", mustURL(t, "http://b.test/")),
		} {
			if d.Action != want || d.Rule != nil || (d.Waived != nil) != (want == Tunnel) {
				t.Errorf("%s: %+v", mode, d)
			}
			if d.Waived != nil && (d.Waived.Name != "default" || d.Waived.Mode.String() != mode) {
				t.Errorf("%s: waived %+v", mode, d.Waived)
			}
		}
		if may := p.MayTunnel(Client{}, "b.test", 443); may != (want == Tunnel) {
			t.Errorf("%s: MayTunnel = %v", mode, may)
		}
		if d := p.Classify(Client{}, "GET", mustURL(t, "https://a.test/")); d.Action != Pass || d.Waived != nil {
			t.Errorf("%s: a known host: %+v", mode, d)
		}
		text := p.Explain(Client{}, "GET", mustURL(t, "https://b.test/")).String()
		if strings.Contains(text, "enforced, the default would deny: its mode is "+mode) != (want == Tunnel) {
			t.Errorf("%s: explained as\n%s", mode, text)
		}
	}
}
