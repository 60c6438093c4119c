package policy

import (
	"net/url"
	"slices"
	"time"
)

// Parent is one entry of Upstream.Parents: the proxy through which larder
// reaches some hosts. A Parent that comes out of a Policy is valid.
type Parent struct {
	// Hosts lists host patterns of targets; see HostPattern.
	Hosts []*HostPattern `yaml:"hosts"`
	// Proxy is http://, https:// or socks5:// with host and port and nothing
	// else; in the file also direct, which is nil here: no parent.
	Proxy *url.URL `yaml:"proxy"`
	// CAFile is a PEM file of the roots that the certificate of an https parent
	// is verified against, instead of the system's. Absent: the system's.
	CAFile string `yaml:"ca_file"`
	// CredentialsFile holds one line, basic USER:PASSWORD, for the parent.
	// Absent: none.
	CredentialsFile string `yaml:"credentials_file"`
}

// Match reports whether the entry is for a host.
func (p Parent) Match(host string) bool { return matchAny(p.Hosts, host) }

// Origin is one entry of Upstream.Hosts: what larder trusts and shows some
// hosts. An Origin that comes out of a Policy is valid.
type Origin struct {
	// Hosts lists host patterns of targets; see HostPattern.
	Hosts []*HostPattern `yaml:"hosts"`
	// Ports lists ports of the target. Absent: any.
	Ports []int `yaml:"ports"`
	// CAFile is a PEM file of the roots that these hosts are verified against,
	// instead of the system's and upstream.ca_file. Absent: those.
	CAFile string `yaml:"ca_file"`
	// SystemRoots trusts the system's roots besides CAFile. Absent: false.
	SystemRoots bool `yaml:"system_roots"`
	// CertificateFile is a PEM file of a client certificate with its chain, shown
	// to hosts that ask for one. Absent: none.
	CertificateFile string `yaml:"certificate_file"`
	// KeyFile is the PEM file of the key of CertificateFile.
	KeyFile string `yaml:"key_file"`
	// CredentialsFile holds one line, basic USER:PASSWORD or bearer TOKEN, which
	// goes as Authorization with requests over TLS that have none. Absent: none.
	CredentialsFile string `yaml:"credentials_file"`
	// Methods lists the request methods that the credential goes with. Absent:
	// GET and HEAD, so that nobody publishes with it.
	Methods []string `yaml:"methods"`
	// Shared says that everybody who may use the proxy may have what the
	// credential reads, so that it may be stored as if it were public. Absent:
	// false, stored only as RFC 9111, section 3.5, allows.
	Shared bool `yaml:"shared"`
}

// Match reports whether the entry is for a host and port.
func (o Origin) Match(host string, port int) bool {
	return (len(o.Ports) == 0 || slices.Contains(o.Ports, port)) && matchAny(o.Hosts, host)
}

// Injects reports whether the credential goes with requests of a method.
func (o Origin) Injects(method string) bool {
	if len(o.Methods) == 0 {
		return method == "GET" || method == "HEAD"
	}
	return slices.Contains(o.Methods, method)
}

// DNS bounds how long larder keeps what it looked up.
type DNS struct {
	// MinTTL is the least, also for names from /etc/hosts, which have no time of
	// their own. Absent: 1s.
	MinTTL time.Duration `yaml:"min_ttl"`
	// MaxTTL is the most; 0 keeps nothing. Absent: 10m.
	MaxTTL time.Duration `yaml:"max_ttl"`
	// NegativeTTL is how long it is kept that a name does not exist, or could not
	// be looked up. Absent: 1s.
	NegativeTTL time.Duration `yaml:"negative_ttl"`
}

func defaultUpstream() Upstream {
	return Upstream{
		DNS:                   DNS{MinTTL: time.Second, MaxTTL: 10 * time.Minute, NegativeTTL: time.Second},
		MaxConnectionsPerHost: 512,
	}
}

func matchAny(patterns []*HostPattern, host string) bool {
	return slices.ContainsFunc(patterns, func(p *HostPattern) bool { return p.Match(host) })
}
