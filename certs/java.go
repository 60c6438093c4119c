package certs

import (
	"net/netip"
	"slices"
	"strings"
)

// javaOptions returns the caller's options of the JVM and ours after them, for
// of two settings of a property the last one holds. What was ours in the
// caller's, as in a run inside a run, is taken out.
func javaOptions(f Files, proxy string, noProxy []string, own string) string {
	var properties [][2]string
	if f.TrustStore != "" {
		properties = append(properties,
			[2]string{"javax.net.ssl.trustStore", f.TrustStore},
			[2]string{"javax.net.ssl.trustStorePassword", f.TrustStorePassword},
			[2]string{"javax.net.ssl.trustStoreType", "PKCS12"},
		)
	}
	if host, port := hostPort(proxy); host != "" {
		properties = append(properties,
			[2]string{"http.proxyHost", host},
			[2]string{"http.proxyPort", port},
			[2]string{"https.proxyHost", host},
			[2]string{"https.proxyPort", port},
			// It holds for https as well.
			[2]string{"http.nonProxyHosts", nonProxyHosts(noProxy)},
			// Without it Maven's resolver looks at none of the above.
			[2]string{"aether.connector.http.useSystemProperties", "true"},
		)
	}
	options := splitJavaOptions(own)
	for _, p := range properties {
		options = slices.DeleteFunc(options, func(option string) bool {
			return strings.HasPrefix(option, "-D"+p[0]+"=")
		})
	}
	for _, p := range properties {
		options = append(options, "-D"+p[0]+"="+quoteJava(p[1]))
	}
	return strings.Join(options, " ")
}

// nonProxyHosts returns the hosts as the JVM wants them: separated by "|", with
// "*" at the beginning or the end. It knows no ports, so that a host with one
// is left out and goes through the proxy.
func nonProxyHosts(hosts []string) string {
	var patterns []string
	for _, host := range hosts {
		if addr, err := netip.ParseAddr(host); err == nil {
			switch {
			case addr == netip.AddrFrom4([4]byte{127, 0, 0, 1}):
				host = "127.*"
			case addr.Is6():
				host = "[" + host + "]" // as URIs have it
			}
			patterns = append(patterns, host)
			continue
		}
		if strings.Contains(host, ":") {
			continue
		}
		// A name stands for itself and all below it, with or without a dot.
		name := strings.TrimPrefix(host, ".")
		patterns = append(patterns, name)
		if name != "localhost" {
			patterns = append(patterns, "*."+name)
		}
	}
	return strings.Join(slices.Compact(patterns), "|")
}

// splitJavaOptions cuts JAVA_TOOL_OPTIONS as the JVM does, at blanks outside of
// quotes of either kind, but leaves the quotes where they are.
func splitJavaOptions(s string) []string {
	var options []string
	start, quote := -1, byte(0)
	for i := range len(s) {
		c := s[i]
		blank := quote == 0 && strings.IndexByte(" \t\n\v\f\r", c) >= 0
		switch {
		case blank && start >= 0:
			options = append(options, s[start:i])
			start = -1
		case !blank && start < 0:
			start = i
		}
		switch {
		case quote != 0 && quote == c:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		}
	}
	if start >= 0 {
		options = append(options, s[start:])
	}
	return options
}

// quoteJava quotes what the JVM would cut or take for a quote. There is no
// escape character: a quote is put between quotes of the other kind.
func quoteJava(s string) string {
	if !strings.ContainsAny(s, " \t\n\v\f\r\"'") {
		return s
	}
	var b strings.Builder
	for i, part := range strings.Split(s, "'") {
		if i > 0 {
			b.WriteString(`"'"`)
		}
		if part != "" {
			b.WriteString("'" + part + "'")
		}
	}
	return b.String()
}
