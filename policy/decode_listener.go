package policy

import (
	"fmt"
	"net/netip"
	"strings"

	"go.yaml.in/yaml/v4"
)

// listenerDecoder reads one entry of listeners and keeps the nodes that later
// checks point at.
type listenerDecoder struct {
	*decoder
	listener Listener
	node     *yaml.Node
	keys     map[string]*yaml.Node
}

const listenersContext = "listeners"

// listeners reads the list; what it says of addresses together is checked by
// addresses, once the rest of the file is known.
func (d *decoder) listeners(n *yaml.Node) []*listenerDecoder {
	var all []*listenerDecoder
	d.sequence(n, "", "listeners", func(item *yaml.Node) {
		l := &listenerDecoder{decoder: d, node: item}
		before := len(d.problems)
		l.keys = d.mapping(item, listenersContext, "a listener", l.fields())
		if l.keys == nil {
			return
		}
		if l.keys["listen"] == nil {
			d.problem(item, listenersContext, `write listen: "127.0.0.1:3130"`, "listener has no listen")
		}
		if len(d.problems) == before {
			l.combinations()
		}
		all = append(all, l)
	})
	return all
}

func (d *listenerDecoder) fields() []field {
	l := &d.listener
	const in = listenersContext
	return []field{
		{"listen", func(v *yaml.Node) { d.address(v, in, "listen", &l.Listen) }},
		{"mode", func(v *yaml.Node) { d.word(v, in, "mode", listenModeNames[:], func(i int) { l.Mode = ListenMode(i) }) }},
		{"proxy_protocol", d.balancers},
		{"cert_file", func(v *yaml.Node) { d.path(v, in, "cert_file", &l.CertFile) }},
		{"key_file", func(v *yaml.Node) { d.path(v, in, "key_file", &l.KeyFile) }},
		{"client_ca_file", func(v *yaml.Node) { d.path(v, in, "client_ca_file", &l.ClientCAFile) }},
		{"names", func(v *yaml.Node) { l.Names = d.texts(v, in, "names", checkListenerName) }},
	}
}

// word reads one of a few words and hands over which.
func (d *decoder) word(n *yaml.Node, context, key string, known []string, into func(int)) {
	s, ok := d.text(n, context, key)
	if !ok {
		return
	}
	for i, name := range known {
		if s == name {
			into(i)
			return
		}
	}
	hint := didYouMean(s, known)
	if hint == "" {
		hint = "known: " + strings.Join(known, ", ")
	}
	d.problem(n, context, hint, "%s must not be %q", key, s)
}

// balancers refuses the whole Internet: whoever may send a PROXY header may say
// to be anybody.
func (d *listenerDecoder) balancers(n *yaml.Node) {
	const in, key = listenersContext, "proxy_protocol"
	before := len(d.problems)
	d.sequence(n, in, key, func(item *yaml.Node) {
		network, ok := d.network(item, in, key)
		if !ok {
			return
		}
		if network.Bits() == 0 {
			d.problem(item, in, "list the addresses of the load balancers", "%s: %s lets every client say to be another", key, network)
			return
		}
		d.listener.ProxyProtocol = append(d.listener.ProxyProtocol, network)
	})
	if len(d.listener.ProxyProtocol) == 0 && len(d.problems) == before {
		d.problem(n, in, "leave it out where no load balancer sends a header", "%s is empty", key)
	}
}

func checkListenerName(s string) *valueError {
	pattern, err := parseHostPattern(s)
	if err != nil {
		return err
	}
	if strings.ContainsAny(pattern.text, "*{}/") || strings.HasPrefix(s, ".") {
		return badValue("", "%q must name one host, not a pattern", s)
	}
	return nil
}

// combinations reports keys that would be ignored in silence.
func (d *listenerDecoder) combinations() {
	l := &d.listener
	if l.Mode != ListenTLSProxy {
		for _, key := range []string{"cert_file", "key_file", "client_ca_file", "names"} {
			d.complain(key, "use mode tls-proxy", "%s has no effect under mode %s, where clients do not speak TLS to larder itself", key, l.Mode)
		}
	}
	if l.Mode.Transparent() {
		d.complain("proxy_protocol", "use mode proxy, tls-proxy or socks5 behind a load balancer",
			"proxy_protocol has no effect under mode %s: these connections come from clients by way of the kernel", l.Mode)
	}
	if l.CertFile != "" && l.KeyFile == "" {
		d.complain("cert_file", "", "cert_file needs a key_file")
	}
	if l.KeyFile != "" && l.CertFile == "" {
		d.complain("key_file", "", "key_file needs a cert_file")
	}
	if l.CertFile != "" {
		d.complain("names", "leave names out: the certificate says for which names it is", "names has no effect beside cert_file")
	}
	if d.keys["names"] != nil && len(l.Names) == 0 {
		d.complain("names", "leave it out for this machine's name and addresses", "names is empty")
	}
}

// complain reports a problem at a key, if the key is there.
func (d *listenerDecoder) complain(key, hint, format string, args ...any) {
	if n := d.keys[key]; n != nil {
		d.problem(n, listenersContext, hint, "%s", fmt.Sprintf(format, args...))
	}
}

// settleListeners takes the listeners over and reports those that cannot be
// bound because another listener of the file has their address.
func (d *decoder) settleListeners(all []*listenerDecoder, s *Settings) {
	type taken struct{ what, address string }
	others := []taken{{"listen", s.Listen}, {"admin.listen", s.Admin.Listen}}
	for _, l := range all {
		address := l.listener.Listen
		for _, o := range others {
			if sameAddress(o.address, address) {
				d.problem(l.keys["listen"], listenersContext, "give each listener a port of its own",
					"listen: %q is taken by %s %q", address, o.what, o.address)
				break
			}
		}
		l.needsNoName(s)
		s.Listeners = append(s.Listeners, l.listener)
		if address != "" {
			others = append(others, taken{fmt.Sprintf("the listener in line %d", l.node.Line), address})
		}
	}
}

// needsNoName reports a listener that nobody could use: what its clients speak has no
// place for credentials.
func (d *listenerDecoder) needsNoName(s *Settings) {
	if s.Auth != nil && s.Auth.Required && (d.listener.Mode.Transparent() || d.listener.Mode == ListenSOCKS5) {
		d.complain("mode", "write auth: { required: false }, and rules with users for what is not for everybody",
			"mode %s has no place for credentials, and auth refuses all without", d.listener.Mode)
	}
}

// sameAddress reports whether two addresses cannot both be bound, as far as can
// be told without looking names up. Port 0 is any that is free.
func sameAddress(a, b string) bool {
	hostA, portA, errA := splitAddress(a)
	hostB, portB, errB := splitAddress(b)
	if errA != nil || errB != nil || portA != portB || portA == 0 {
		return false
	}
	ipA, ipB := parseHostAddr(hostA), parseHostAddr(hostB)
	return strings.EqualFold(hostA, hostB) || ipA == ipB && ipA.IsValid() || takesAll(hostA, ipA, ipB) || takesAll(hostB, ipB, ipA)
}

func parseHostAddr(host string) netip.Addr {
	a, _ := netip.ParseAddr(host) // a name or nothing at all is not valid, as is meant
	return a.Unmap()
}

// takesAll reports whether a host to listen on stands for all addresses of the
// other's family. A socket for all of IPv6 takes IPv4 as well.
func takesAll(host string, ip, other netip.Addr) bool {
	return host == "" || ip == netip.IPv6Unspecified() || ip == netip.IPv4Unspecified() && !other.Is6()
}
