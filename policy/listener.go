package policy

import "net/netip"

// Listener is an address on which larder accepts besides Settings.Listen, and
// how the connections that come there begin.
type Listener struct {
	// Listen is its host:port.
	Listen string `yaml:"listen"`
	// Mode is what clients speak there: proxy, tls-proxy, redirect, tproxy or
	// socks5. Absent: proxy.
	Mode ListenMode `yaml:"mode"`
	// ProxyProtocol lists the load balancers whose connections begin with a
	// PROXY protocol header, version 1 or 2. From them it is required, from
	// others it is refused. Absent: nobody sends one.
	ProxyProtocol []netip.Prefix `yaml:"proxy_protocol"`
	// CertFile and KeyFile are the certificate with its chain, and its key, that
	// a tls-proxy shows, in PEM; relative paths are relative to the file's
	// folder. They are read anew when they change. Absent: a leaf of larder's own
	// authority.
	CertFile string `yaml:"cert_file"`
	// KeyFile is the key of CertFile.
	KeyFile string `yaml:"key_file"`
	// ClientCAFile is a PEM file of roots. A tls-proxy admits clients only with a
	// certificate that one of them has signed. Absent: none is asked for.
	ClientCAFile string `yaml:"client_ca_file"`
	// Names are the host names and addresses for which a tls-proxy shows a leaf
	// of larder's own authority. Absent: this machine's name and addresses.
	Names []string `yaml:"names"`
}

// ListenMode is what clients speak on a listener.
type ListenMode uint8

// The modes of a listener.
const (
	// ListenProxy is a proxy that clients are told about: CONNECT, and requests
	// with an absolute target (RFC 9110, section 7.3.2).
	ListenProxy ListenMode = iota
	// ListenTLSProxy is the same inside of TLS.
	ListenTLSProxy
	// ListenRedirect takes connections that the kernel's REDIRECT or DNAT has sent
	// here, and asks it for their original destination.
	ListenRedirect
	// ListenTProxy takes those that the kernel's TPROXY has sent here: their local
	// address is the original destination.
	ListenTProxy
	// ListenSOCKS5 is RFC 1928, CONNECT without authentication.
	ListenSOCKS5
)

var listenModeNames = [...]string{
	ListenProxy: "proxy", ListenTLSProxy: "tls-proxy", ListenRedirect: "redirect", ListenTProxy: "tproxy", ListenSOCKS5: "socks5",
}

// String returns the word of the policy file.
func (m ListenMode) String() string {
	if int(m) >= len(listenModeNames) {
		return "invalid"
	}
	return listenModeNames[m]
}

// Transparent reports whether clients in this mode know nothing of a proxy.
func (m ListenMode) Transparent() bool { return m == ListenRedirect || m == ListenTProxy }

// Unnamed says what becomes of connections on a transparent listener that do not
// tell which host they are for.
type Unnamed uint8

// The ways with connections without a name.
const (
	// UnnamedAsDefault is tunnel or refuse as Settings.Default is tunnel or deny.
	UnnamedAsDefault Unnamed = iota
	// TunnelUnnamed lets them through to their original destination.
	TunnelUnnamed
	// RefuseUnnamed closes them.
	RefuseUnnamed
)

var unnamedNames = [...]string{UnnamedAsDefault: "as default", TunnelUnnamed: "tunnel", RefuseUnnamed: "refuse"}

// String returns the word of the policy file, where there is one.
func (u Unnamed) String() string {
	if int(u) >= len(unnamedNames) {
		return "invalid"
	}
	return unnamedNames[u]
}

// ConnectUnnamed decides on a client's connection of which only the address is
// known: one that was redirected and holds no server name, or none to be believed.
// A rule that names the address decides as in Connect, and where there is none
// Settings.Unnamed does.
func (p *Policy) ConnectUnnamed(c Client, address netip.Addr, port int) Decision {
	d := p.Connect(c, address.String(), port)
	if d.Rule != nil {
		return d
	}
	if p.settings.Unnamed != UnnamedAsDefault && d.Waived == p.byDefault {
		d.Waived = nil // the default has no say here
	}
	switch p.settings.Unnamed {
	case TunnelUnnamed:
		d.Action = Tunnel
	case RefuseUnnamed:
		d.Action = Deny
	}
	return d
}
