package mitm

import (
	"net"
	"net/netip"
)

// target says where to connect for an address, and whether an operator wrote
// that very IP address in ConnectTo.
func (u *Upstream) target(address string) (target string, literal bool) {
	if len(u.options.ConnectTo) == 0 {
		return address, false
	}
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return address, false
	}
	port, err := parsePort(portText)
	if err != nil {
		return address, false
	}
	for _, r := range u.options.ConnectTo {
		if r.Port == port && r.Host.Match(host) {
			_, err := netip.ParseAddrPort(r.Address)
			return r.Address, err == nil
		}
	}
	return address, false
}
