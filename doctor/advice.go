package doctor

import (
	"cmp"
	"net"
)

// Advice says what to do about a finding.
func Advice(f *Finding) string {
	switch f.Reason {
	case "incompatible":
		return "update it to what speaks TLS 1.2 or 1.3; till then, tunnel the host (a rule with action: tunnel)"
	case "certificate_expired":
		return "look at the client's clock: larder's certificates are good for days, not years"
	case "bad_certificate_status_response":
		return "it asks for stapled OCSP, which a private CA has none of: tunnel the host (a rule with action: tunnel)"
	case "no_answer":
		return "if it does not wait for a person, look for a network on the way that loses large packets (MTU)"
	}
	do := ForTool(f.Tool)
	switch {
	case f.Pinned:
		return do + ". But a client like it, from the same address, trusts larder for other hosts: if it is the same, it has pinned this one, which only a tunnel helps (a rule with action: tunnel, or on_distrust: tunnel)"
	case f.Elsewhere.After(f.Last):
		return do + ". A client like it, from the same address, has trusted larder for another host since: it may be mended"
	}
	return do
}

// remedies make a tool trust larder, by its word; "" is for all others.
func remedies() map[string]string {
	const (
		system = "install larder's root in the trust store of its machine or image (setup.sh of the kit does)"
		node   = "set NODE_EXTRA_CA_CERTS to larder's ca.pem before it starts"
	)
	return map[string]string{
		"": system + ", or give it the variables of 'larder env'",

		"apt":       "set APT_CONFIG to larder's apt.conf: it has no variable for roots",
		"browser":   "import ca.pem as an authority for web sites",
		"bun":       node,
		"cargo":     "set CARGO_HTTP_CAINFO to larder's bundle.pem",
		"conda":     "set CONDA_SSL_VERIFY to larder's bundle.pem",
		"container": system + " and restart it: it reads its roots once",
		"curl":      "set CURL_CA_BUNDLE to larder's bundle.pem; a program with libcurl that is not curl wants the trust store of its machine or image",
		"deno":      "set DENO_CERT to larder's ca.pem",
		"dotnet":    "set SSL_CERT_FILE to larder's bundle.pem",
		"firefox":   "import ca.pem as an authority for web sites: it does not look at the machine's",
		"git":       "set GIT_SSL_CAINFO to larder's bundle.pem",
		"gnutls":    system + ": it has no variable for roots",
		"go":        "set SSL_CERT_FILE to larder's bundle.pem and start it again: it reads its roots once",
		"java":      "give the JVM larder's trust store: JAVA_TOOL_OPTIONS as 'larder env' prints it, or import ca.pem into its cacerts with keytool",
		"node":      node + "; what sets roots of its own, as npm's cafile, takes its place",
		"npm":       node + "; cafile in npmrc takes its place",
		"openssl":   "set SSL_CERT_FILE to larder's bundle.pem",
		"perl":      "set PERL_LWP_SSL_CA_FILE to larder's bundle.pem",
		"php":       "set SSL_CERT_FILE, or openssl.cafile in php.ini, to larder's bundle.pem; COMPOSER_CAFILE for Composer",
		"pip":       "set PIP_CERT to larder's bundle.pem",
		"pnpm":      node,
		"python":    "set SSL_CERT_FILE and REQUESTS_CA_BUNDLE to larder's bundle.pem",
		"ruby":      "set SSL_CERT_FILE to larder's bundle.pem, and BUNDLE_SSL_CA_CERT for Bundler",
		"rust":      "set SSL_CERT_FILE to larder's bundle.pem, which it may not heed if its roots are built in",
		"uv":        "set SSL_CERT_FILE to larder's bundle.pem",
		"wget":      "set WGETRC to larder's wgetrc: it has no variable for roots",
		"yarn":      node,
	}
}

// ForTool says how a tool is made to trust larder.
func ForTool(tool string) string { return cmp.Or(remedies()[tool], remedies()[""]) }

// see is where more is to be read on how a tool is made to trust larder, which the
// client reaches at via: its part of the kit's page.
func see(tool, via string) string {
	if host, _, err := net.SplitHostPort(via); err != nil || host == "" {
		return "docs/clients.md"
	}
	page := "http://" + via + "/setup"
	if remedies()[tool] == "" {
		return page
	}
	return page + "#" + tool
}
