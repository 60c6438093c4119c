package policy

import (
	"net"
	"net/netip"
	"strconv"
)

// Settings is what a policy file says apart from its rules. Every key may be
// left out; the comments say what holds then.
//
// The yaml tags are the keys of the file; the decoder is held to them by a test.
type Settings struct {
	// Listen is the host:port of the proxy. Absent: ":3128".
	Listen string `yaml:"listen"`
	// Listeners are further addresses with modes of their own. Absent: none.
	Listeners []Listener `yaml:"listeners"`
	// Unnamed is what becomes of connections on a transparent listener that do not
	// tell which host they are for: tunnel, to their original destination, or
	// refuse. Absent: as Default says of hosts without a rule.
	Unnamed Unnamed `yaml:"unnamed"`
	// Admin is the listener for health and metrics.
	Admin Admin `yaml:"admin"`
	// State is the folder of the authority, the store and the trust files; a
	// relative path is relative to the file's folder. Absent: "", which leaves
	// the choice to the program.
	State string `yaml:"state"`
	// Limits bounds what clients may take.
	Limits Limits `yaml:"limits"`
	// Store bounds what is kept.
	Store Store `yaml:"store"`
	// Ledger bounds what is written down for good.
	Ledger LedgerBounds `yaml:"ledger"`
	// Upstream says how and where larder dials.
	Upstream Upstream `yaml:"upstream"`
	// NoProxy lists what clients shall reach without larder, for the
	// environments that larder prints: host names, .suffixes and addresses.
	// Absent: none besides the loopback that is always there.
	NoProxy []string `yaml:"no_proxy"`
	// Kit is what larder serves to nodes on its own port.
	Kit Kit `yaml:"kit"`
	// Offline: nothing is fetched from anywhere. What is stored is served whatever its
	// age, and all else answered 504. Absent: false.
	Offline bool `yaml:"offline"`
	// Default is what happens to hosts and requests without a rule: tunnel or
	// deny. Absent: tunnel.
	Default Action `yaml:"default"`
	// DefaultMode of default deny is enforce, report or open, as the Mode of a rule.
	// Absent: enforce.
	DefaultMode Mode `yaml:"default_mode"`
	// OnDistrust is refuse or tunnel, as of a Rule, for rules that say neither; after 3
	// handshakes, for 1h. Absent: refuse.
	OnDistrust OnDistrust `yaml:"on_distrust"`
	// Auth says how clients prove who they are. Absent: nil, and nobody is asked.
	Auth *Auth `yaml:"auth"`
	// Curation says which packages of registries may be had. Absent: all.
	Curation []*Curation `yaml:"curation"`
	// Wheels are those that "larder wheels" has built or was given.
	Wheels Wheels `yaml:"wheels"`
	// Presets names the presets in effect, in order; in the file also all or
	// none. Absent: all.
	Presets []string `yaml:"presets"`
}

// Admin is the listener for health, metrics and the programming interface.
type Admin struct {
	// Listen is its host:port; "" is off. Absent: "127.0.0.1:3129".
	Listen string `yaml:"listen"`
}

// Auth says how clients of the proxy prove who they are, for rules with users and
// for the log. The background larder of "larder run" asks nobody.
type Auth struct {
	// Required: who has proved no name gets 407. Otherwise such requests go on
	// without one. Absent: true.
	Required bool `yaml:"required"`
	// PasswordsFile holds lines of NAME:HASH as htpasswd writes them, the hash of
	// bcrypt or argon2id; a relative path is relative to the file's folder. Absent:
	// no passwords.
	PasswordsFile string `yaml:"passwords_file"`
	// TokensFile holds lines of NAME:TOKEN or NAME:sha256:DIGEST. A token is taken as
	// Bearer, and as the password of its name in Basic. Absent: no tokens.
	TokensFile string `yaml:"tokens_file"`
	// CertificateUser says what of a client certificate that the TLS listener has
	// verified is the name: cn, dns, email or uri. Absent: certificates name nobody.
	CertificateUser string `yaml:"certificate_user"`
}

// Kit is what larder answers when it is addressed as an origin, on proxy and
// tls-proxy listeners: the root to trust, environments, a set-up script, and pages
// for people. It is public; neither Auth nor rules apply to it.
type Kit struct {
	// Enabled turns it on. Absent: true.
	Enabled bool `yaml:"enabled"`
	// ProxyURL is the proxy that the kit tells nodes to use: http:// or https://,
	// host and port. Absent: "", which is the one that they fetched the kit from.
	ProxyURL string `yaml:"proxy_url"`
	// Name is the host under which larder itself answers those who reach it through
	// the proxy, http and https: /doctor says whether proxy and trust both work. It is
	// looked up nowhere and no rule is for it. "": none. Absent: larder.internal.
	Name string `yaml:"name"`
}

// Limits bounds what clients may take.
type Limits struct {
	// Connections is the most client connections in all; more wait to be accepted.
	// Absent: 0, which is as many as the limit of open files allows.
	Connections int `yaml:"connections"`
	// ConnectionsPerClient is the most of one client, an IPv4 address or an IPv6
	// network of 64 bits; more are answered 429 and closed. Absent: 0, which is half
	// of all, and any number from loopback.
	ConnectionsPerClient int `yaml:"connections_per_client"`
}

// Wheels are Python wheels of the operator's own, for packages that publish none.
type Wheels struct {
	// Overlay adds them to the indexes of rules with registry pypi. Absent: false.
	Overlay bool `yaml:"overlay"`
	// MaxSize is the most that they may take on disk together, in bytes; in the file a
	// size such as 10GiB. Absent: 10GiB.
	MaxSize int64 `yaml:"max_size"`
}

// Store bounds what is kept.
type Store struct {
	// MaxSize is the most that the store may take on disk, in bytes; in the
	// file a size such as 20GiB. Absent: 20GiB.
	MaxSize int64 `yaml:"max_size"`
	// OnFailure is what becomes of requests that would be stored while the store is
	// broken, such as without its disk: pass or refuse. What it can still read is
	// served in any case. Absent: pass.
	OnFailure OnFailure `yaml:"on_failure"`
}

// LedgerBounds bounds the record of the digests under which URLs were first seen.
type LedgerBounds struct {
	// MaxSize is the most that it may take on disk, in bytes; in the file a size such as
	// 2GiB, some 14 million URLs. What it has it keeps; new URLs beyond are not written
	// down. Absent: 2GiB.
	MaxSize int64 `yaml:"max_size"`
}

// OnFailure says what larder does without a store that works.
type OnFailure uint8

// The ways to go on without a store.
const (
	// PassOnFailure passes requests through, as if nothing could be stored.
	PassOnFailure OnFailure = iota
	// RefuseOnFailure answers 503, so that a fleet does not fall upon upstream.
	RefuseOnFailure
)

// String returns the word of the policy file.
func (f OnFailure) String() string {
	if f == RefuseOnFailure {
		return "refuse"
	}
	return "pass"
}

// Upstream says how and where larder dials.
type Upstream struct {
	// CAFile is a PEM file of roots trusted besides the system's; a relative
	// path is relative to the file's folder. Absent: none.
	CAFile string `yaml:"ca_file"`
	// AllowAddresses lists networks that may be dialled although they are
	// private, loopback or link-local. Absent: none of these is ever dialled.
	AllowAddresses []netip.Prefix `yaml:"allow_addresses"`
	// ConnectTo maps a target to the address that is dialled in its place; the
	// certificate is verified for the target's name all the same. Absent: none.
	ConnectTo []Redirection `yaml:"connect_to"`
	// Parents lists the proxies through which hosts are reached; the first whose
	// hosts match decides. Absent, or none matches: directly.
	Parents []Parent `yaml:"parents"`
	// NoParent lists targets reached directly whatever Parents says, in the words
	// of the NO_PROXY variable. Absent: none but loopback, which is always direct.
	NoParent []string `yaml:"no_parent"`
	// Hosts lists what is trusted and shown to single hosts; the first entry that
	// matches decides. Absent: system roots, no client certificate, no credential.
	Hosts []Origin `yaml:"hosts"`
	// DNS bounds how long addresses are kept.
	DNS DNS `yaml:"dns"`
	// MaxConnectionsPerHost bounds the connections for requests to one host and
	// port, or to one parent; tunnels and upgraded connections, of which each
	// belongs to one client, are not counted. 0: no bound. Absent: 512.
	MaxConnectionsPerHost int `yaml:"max_connections_per_host"`
}

// Redirection is one entry of Upstream.ConnectTo.
type Redirection struct {
	Host    *HostPattern // of the target
	Port    int          // of the target
	Address string       // host:port to dial
}

// DialAddress returns the address to dial for a target: that of the first
// redirection whose host and port match, else host:port itself.
func (u Upstream) DialAddress(host string, port int) string {
	for _, r := range u.ConnectTo {
		if r.Port == port && r.Host.Match(host) {
			return r.Address
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

func defaultSettings() Settings {
	return Settings{
		Listen:   ":3128",
		Admin:    Admin{Listen: "127.0.0.1:3129"},
		Store:    Store{MaxSize: 20 << 30},
		Ledger:   LedgerBounds{MaxSize: 2 << 30},
		Upstream: defaultUpstream(),
		Kit:      Kit{Enabled: true, Name: "larder.internal"},
		Default:  Tunnel,

		OnDistrust: RefuseDistrust,
		Wheels:     Wheels{MaxSize: 10 << 30},
	}
}
