package firewall

import (
	"fmt"
	"net/netip"
	"strings"
)

// selections are the matches of whose connections are turned, one rule each: none
// of them is a prefix of none.
func (r *Ruleset) selections() []string {
	in := ""
	if len(r.Interfaces) > 0 {
		in = "iifname " + set(r.Interfaces, func(s string) string { return `"` + s + `"` }) + " "
	}
	if len(r.Sources) == 0 {
		return []string{in}
	}
	var all []string
	byFamily(apart(r.Sources), netip.Prefix.Addr, func(family string, of []netip.Prefix) {
		all = append(all, in+family+" saddr "+set(of, prefixText)+" ")
	})
	return all
}

func (r *Ruleset) dports() string { return set(r.ports(), portText) }

// redirect writes NAT rules. That of a connection is decided at its first packet.
func (r *Ruleset) redirect(w *writer) {
	w.line("# Turns connections to ports %s to larder's redirect listener on port %d.", r.dports(), r.Port)
	w.table("larder_redirect")
	w.line("chain prerouting {")
	w.line("type nat hook prerouting priority dstnat; policy accept;")
	w.line("fib daddr type local return comment \"for this machine itself\"")
	for _, who := range r.selections() {
		w.line("%stcp dport %s counter redirect to :%d", who, r.dports(), r.Port)
	}
	w.line("}")
	if r.Local {
		w.line("chain output {")
		w.line("type nat hook output priority -100; policy accept;")
		w.line("meta skuid %d return comment \"larder's own\"", *r.UID)
		w.line("fib daddr type local return comment \"for this machine itself\"")
		w.line("tcp dport %s counter redirect to :%d", r.dports(), r.Port)
		w.line("}")
	}
	r.withoutQUIC(w)
	w.line("}")
}

// withoutQUIC refuses HTTP/3, which larder does not speak: clients fall back to
// TCP when they are told at once.
func (r *Ruleset) withoutQUIC(w *writer) {
	const verdict = "counter reject with icmpx type port-unreachable comment \"HTTP/3: clients fall back to TCP\""
	w.line("chain forward {")
	w.line("type filter hook forward priority filter; policy accept;")
	for _, who := range r.selections() {
		w.line("%sudp dport %s %s", who, r.dports(), verdict)
	}
	w.line("}")
	if r.Local {
		w.line("chain local {")
		w.line("type filter hook output priority filter; policy accept;")
		w.line("meta skuid != %d fib daddr type != local udp dport %s %s", *r.UID, r.dports(), verdict)
		w.line("}")
	}
}

// tproxy writes rules that give packets to a socket of this machine as they are.
func (r *Ruleset) tproxy(w *writer) {
	w.line("# Turns connections to ports %s to larder's tproxy listener on port %d.", r.dports(), r.Port)
	w.line("# nft cannot route. For marked packets to be delivered here run as well, once per boot:")
	for _, family := range []string{"-4", "-6"} {
		w.line("#   ip %s rule add fwmark %#x lookup %d", family, tproxyMark, tproxyTable)
		w.line("#   ip %s route add local default dev lo table %d", family, tproxyTable)
	}
	w.table("larder_tproxy")
	w.line("chain prerouting {")
	w.line("type filter hook prerouting priority mangle; policy accept;")
	w.line("fib daddr type local return comment \"for this machine itself\"")
	for _, who := range r.selections() {
		for _, f := range []struct{ family, protocol, other string }{{"ip", "ipv4", "ip6 saddr"}, {"ip6", "ipv6", "ip saddr"}} {
			if !strings.Contains(who, f.other) {
				w.line("meta nfproto %s %stcp dport %s counter tproxy %s to :%d meta mark set %#x accept",
					f.protocol, who, r.dports(), f.family, r.Port, tproxyMark)
			}
		}
	}
	w.line("}")
	r.withoutQUIC(w)
	w.line("}")
}

// egress writes what may leave this machine and what may pass through it.
func (r *Ruleset) egress(w *writer) {
	w.line("# Lets larder out, and nobody else: neither processes of this machine nor what")
	w.line("# it forwards. Connections that come in are not touched. What was open before")
	w.line("# this was loaded stays open: conntrack -F ends it.")
	w.table("larder_egress")
	w.line("chain output {")
	w.line("type filter hook output priority filter; policy drop;")
	w.line("ct state established,related accept")
	// By address: the way out was looked up before a redirection changed it.
	w.line("fib daddr type local accept")
	if r.UID != nil {
		w.line("meta skuid %d accept comment \"larder\"", *r.UID)
	}
	w.line("udp sport 68 udp dport 67 accept comment \"DHCP\"")
	w.line("udp sport 546 udp dport 547 accept comment \"DHCPv6\"")
	w.line("icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, mld2-listener-report } accept")
	r.exceptions(w)
	refuse(w, "output")
	w.line("}")
	w.line("chain forward {")
	w.line("type filter hook forward priority filter; policy drop;")
	w.line("ct state established,related accept")
	r.exceptions(w)
	byFamily(r.Larder, netip.AddrPort.Addr, func(family string, of []netip.AddrPort) {
		w.line("%s saddr %s accept comment \"larder\"", family, set(of, func(a netip.AddrPort) string { return a.Addr().String() }))
	})
	refuse(w, "forward")
	w.line("}")
	w.line("}")
}

// exceptions lets through what is for larder and what needs no larder.
func (r *Ruleset) exceptions(w *writer) {
	for _, l := range r.Larder {
		family := "ip"
		if l.Addr().Is6() {
			family = "ip6"
		}
		w.line("%s daddr %s tcp dport %d accept comment \"to larder\"", family, l.Addr(), l.Port())
	}
	byFamily(r.Resolvers, func(a netip.Addr) netip.Addr { return a }, func(family string, of []netip.Addr) {
		w.line("%s daddr %s meta l4proto { tcp, udp } th dport 53 accept comment \"DNS\"", family, set(of, netip.Addr.String))
	})
	byFamily(apart(r.Allow), netip.Prefix.Addr, func(family string, of []netip.Prefix) {
		w.line("%s daddr %s accept comment \"allowed\"", family, set(of, prefixText))
	})
}

// refuse tells whoever tries, so that nothing hangs, and now and then the log.
func refuse(w *writer, chain string) {
	w.line("limit rate 10/minute burst 20 packets log prefix %q", fmt.Sprintf("larder egress %s: ", chain))
	w.line("counter reject with icmpx type admin-prohibited")
}
