package hello

import (
	"slices"
	"strings"
)

// Guess is which program most likely sent a hello.
type Guess struct {
	// Tool is one of Tools.
	Tool string
	// Title names it in a sentence: "a Java-like client".
	Title string
	// Basis says what the guess rests on, in a clause.
	Basis string
	// Quiet: it is known to go without a word when it does not trust a certificate,
	// by closing the connection, so that its going is as good as an alert.
	Quiet bool
}

// Unknown is the Tool of which nothing is known.
const Unknown = "unknown"

// Of guesses by a hello, and by the User-Agent of the CONNECT before it, "" if there
// was none. What a client calls itself counts more: it tells programs with the same
// library apart. h may be the zero Hello.
func Of(h *Hello, userAgent string) Guess {
	g := byShape(h)
	product, _, _ := strings.Cut(userAgent, "/")
	tool, known := byProduct()[strings.ToLower(product)]
	if !known {
		return g
	}
	said := "the User-Agent of its CONNECT"
	if g.Tool == tool || g.Tool == "firefox" && tool == "browser" {
		g.Basis = said + " and " + g.Basis
		return g
	}
	title := g.Title
	if t := titles()[tool]; t != "" {
		title = t
	}
	// The library decides how it ends a connection, whatever the program.
	return Guess{Tool: tool, Title: title, Basis: said + "; " + g.Basis, Quiet: g.Quiet}
}

// Tools are all values of Guess.Tool.
func Tools() []string {
	all := []string{Unknown}
	for tool := range titles() {
		all = append(all, tool)
	}
	slices.Sort(all)
	return all
}

// Title names a tool in a sentence.
func Title(tool string) string {
	if t := titles()[tool]; t != "" {
		return t
	}
	return "a client"
}

// titles are the tools with how they are called in a sentence.
func titles() map[string]string {
	return map[string]string{
		"apt": "apt", "browser": "a browser", "bun": "Bun", "cargo": "cargo", "conda": "conda", "container": "a container tool",
		"curl": "curl or a program with libcurl", "deno": "Deno", "dotnet": "a .NET client", "firefox": "Firefox or a program with NSS",
		"git": "git", "gnutls": "a GnuTLS client", "go": "a Go program", "java": "a Java-like client", "node": "a Node-like client",
		"npm": "npm", "openssl": "an OpenSSL client", "perl": "a Perl client", "php": "a PHP client", "pip": "pip", "pnpm": "pnpm",
		"python": "a Python client", "ruby": "a Ruby client", "rust": "a Rust client", "uv": "uv", "wget": "wget", "yarn": "Yarn",
	}
}

// byProduct finds the tool of the first product of a User-Agent, in lower case.
func byProduct() map[string]string {
	return map[string]string{
		"apache-httpclient": "java", "apache-maven": "java", "gradle": "java", "java": "java", "java-http-client": "java", "okhttp": "java",
		"bun": "bun", "bundler": "ruby", "ruby": "ruby", "rubygems": "ruby",
		"buildah": "container", "containerd": "container", "containers": "container", "docker": "container", "podman": "container", "skopeo": "container",
		"cargo": "cargo", "composer": "php", "php": "php", "conda": "conda", "curl": "curl", "debian apt-http": "apt", "deno": "deno",
		"git": "git", "git-lfs": "git", "go-http-client": "go", "libwww-perl": "perl", "lwp::useragent": "perl", "mozilla": "browser",
		"node": "node", "node.js": "node", "npm": "npm", "nuget": "dotnet", "pip": "pip", "pnpm": "pnpm",
		"python": "python", "python-httpx": "python", "python-requests": "python", "python-urllib": "python", "python-urllib3": "python",
		"reqwest": "rust", "rustup": "rust", "uv": "uv", "wget": "wget", "wget2": "wget", "yarn": "yarn",
	}
}

// byShape goes by the hello alone: first by the library, then by what its users do
// with it.
func byShape(h *Hello) Guess {
	switch lead := h.lead(); {
	case len(h.Suites) == 0:
		return Guess{Tool: Unknown, Title: "a client", Basis: "nothing that is known"}
	case h.GREASE:
		return guess("browser", "values to be ignored among its ciphers, as browsers send", false)
	case h.Has(extStatusRequestV2), starts(lead, 0xc02c, 0xc02b, 0xcca9, 0xc030) && slices.Contains(h.Suites, 0x00a3):
		// HttpClient of JDK 11 and later closes without an alert.
		return guess("java", "the ciphers and extensions of Java's TLS", true)
	case slices.Contains(h.Suites, 0x1304) && h.Has(extRecordSizeLimit):
		return byGnuTLS(h)
	case h.Has(extDelegated) && h.Has(extRecordSizeLimit):
		return guess("firefox", "the ciphers and extensions of NSS", false)
	case h.Has(extEncryptThenMAC) && h.PointFormats == 3:
		return byOpenSSL(h, lead)
	case starts(lead, 0xc02c, 0xc02b, 0xcca9, 0xc030, 0xc02f, 0xcca8):
		return guess("rust", "the ciphers of rustls", false)
	case h.ecdheFirst():
		return guess("go", "the ciphers and extensions of Go's crypto/tls", false)
	case starts(h.Suites, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8):
		return guess("bun", "the ciphers of BoringSSL, without what browsers add", true)
	}
	return Guess{Tool: Unknown, Title: "a client", Basis: "a ClientHello of no known shape"}
}

// byGnuTLS tells apart what Debian builds with GnuTLS. What verifies once the
// handshake is over ends it without an alert, and apt by a reset.
func byGnuTLS(h *Hello) Guess {
	const basis = "the ciphers and extensions of GnuTLS"
	switch {
	case h.offers("h2"):
		return guess("git", basis+", with HTTP/2 as by libcurl", true)
	case h.Has(extPostHandshakeAuth):
		return guess("wget", basis+" as wget sets it up", true)
	}
	return guess("gnutls", basis, true)
}

// byOpenSSL goes by the list of ciphers: programs that bring one of their own are
// told by it, and among those that do not, extensions may.
func byOpenSSL(h *Hello, lead []uint16) Guess {
	const basis = "OpenSSL with "
	late := h.Has(extPostHandshakeAuth)
	switch {
	case starts(lead, 0xc02f, 0xc02b, 0xc030, 0xc02c, 0x009e, 0xc027):
		return guess("node", basis+"the ciphers of Node", true)
	case starts(lead, 0xc02f, 0xc02b, 0xc030, 0xc02c, 0x009e, 0x00a2):
		return guess("php", basis+"the ciphers of PHP's streams", false)
	case starts(lead, 0xc02c, 0xc030, 0xc02b, 0xc02f):
		// asyncio, and with it aiohttp, closes without an alert.
		return guess("python", basis+"the ciphers of Python", !late)
	case late && h.offers("h2"), late && h.offers("http/1.1"):
		return guess("curl", basis+"the extensions of libcurl", false)
	case late && h.SessionID == 0:
		return guess("ruby", basis+"the extensions of Ruby", false)
	case late:
		return guess("python", basis+"the extensions of Python's http.client", false)
	case h.Has(extStatusRequest):
		return guess("perl", basis+"the extensions of Perl's IO::Socket::SSL", false)
	}
	return guess("openssl", basis+"its own ciphers", false)
}

func guess(tool, basis string, quiet bool) Guess {
	return Guess{Tool: tool, Title: titles()[tool], Basis: basis, Quiet: quiet}
}

// lead are the suites without those of TLS 1.3 (RFC 8446, Appendix B.4), of which
// nearly everybody has the same.
func (h *Hello) lead() []uint16 {
	return slices.DeleteFunc(slices.Clone(h.Suites), func(s uint16) bool { return s>>8 == 0x13 })
}

// ecdheFirst reports whether the suites of TLS 1.3 come last, if there are any, which
// Go does, with its certificate timestamps and one point format.
func (h *Hello) ecdheFirst() bool {
	n := len(h.Suites)
	if n == 0 || !h.Has(extSCT) || h.PointFormats != 1 {
		return false
	}
	first, last := h.Suites[0]>>8, h.Suites[n-1]>>8
	return (first == 0xc0 || first == 0xcc) && (last == 0x13 || !slices.Contains(h.Versions, 0x0304))
}

func starts(list []uint16, with ...uint16) bool {
	return len(list) >= len(with) && slices.Equal(list[:len(with)], with)
}
