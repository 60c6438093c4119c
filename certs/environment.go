package certs

import (
	"net/url"
	"slices"
	"strings"
)

// A Proxy says where larder listens and what clients shall fetch without it.
type Proxy struct {
	// URL is http://host:port; https:// several clients do not know, among them
	// wget and all JVMs. Empty means that clients reach larder without being
	// told, and get only the variables of trust.
	URL string

	// NoProxy are host names, suffixes written with a leading dot, and IP
	// addresses, besides those of the machine itself.
	NoProxy []string
}

// A Var is an environment variable.
type Var struct {
	Name  string
	Value string

	// Unset says that the variable shall not exist. Where that cannot be
	// said, the empty Value serves: clients take it for no setting.
	Unset bool

	// Note says what was left out of Value that the caller had in it, or "".
	Note string
}

// bundleVariables name a file of roots that takes the place of a tool's own
// (ECOSYSTEMS.md, 7.3). YARN_HTTPS_CA_FILE_PATH is not among them: Yarn before
// version 4 ends with an error on a YARN_ variable that it does not know
// (yarnpkg/berry#5908), and all read NODE_EXTRA_CA_CERTS.
func bundleVariables() []string {
	return []string{
		"SSL_CERT_FILE",                          // OpenSSL, Go, Ruby, Nix, cargo, bun, pnpm, uv, dotnet
		"CURL_CA_BUNDLE",                         // curl, R
		"REQUESTS_CA_BUNDLE",                     // Python requests, conda, poetry
		"PIP_CERT",                               // pip
		"npm_config_cafile",                      // npm; one in an npmrc would disable NODE_EXTRA_CA_CERTS
		"GIT_SSL_CAINFO",                         // git
		"CARGO_HTTP_CAINFO",                      // cargo
		"NIX_SSL_CERT_FILE",                      // nix
		"COMPOSER_CAFILE",                        // composer
		"PERL_LWP_SSL_CA_FILE",                   // LWP, cpanm
		"HTTPS_CA_FILE",                          // older LWP
		"BUNDLE_SSL_CA_CERT",                     // bundler
		"HEX_CACERTS_PATH",                       // hex
		"AWS_CA_BUNDLE",                          // aws
		"CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",     // gcloud
		"HTTPLIB2_CA_CERTS",                      // httplib2
		"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",       // gRPC
		"CONDA_SSL_VERIFY",                       // conda, mamba
		"JULIA_SSL_CA_ROOTS_PATH",                // julia
		"SYSTEM_CERTIFICATE_PATH",                // stack
		"URLSessionCertificateAuthorityInfoFile", // Swift on Linux
		"SSL_CA_CERT_FILE",                       // apk
	}
}

// addingVariables name a file of roots that a tool trusts besides its own.
func addingVariables() []string {
	return []string{"NODE_EXTRA_CA_CERTS", "DENO_CERT"}
}

// Environment returns the variables under which clients find larder and trust
// it, always in the same order. current returns what the caller's environment
// has for a name, or ""; where that means something besides larder's own, it is
// kept: hosts to be reached without a proxy, options of the JVM, the fact that
// the caller's Node trusts roots of its own (give Write the CallerBundles). For a
// file that f does not name there is no variable: its reader finds larder's root
// among those of the operating system.
func Environment(f Files, p Proxy, current func(string) string) []Var {
	var vars []Var
	set := func(name, value string) { vars = append(vars, Var{Name: name, Value: value}) }

	noProxy, note := mergeNoProxy(p.NoProxy, current)
	if p.URL != "" {
		// wget and apt read lower case only, Ruby only http_proxy, even for
		// https; upper case is for those that read nothing else.
		for _, name := range []string{"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"} {
			set(name, p.URL)
		}
		for _, name := range []string{"no_proxy", "NO_PROXY"} {
			vars = append(vars, Var{Name: name, Value: strings.Join(noProxy, ","), Note: note})
		}
		// One that is left over would send other schemes elsewhere.
		vars = append(vars, Var{Name: "all_proxy", Unset: true}, Var{Name: "ALL_PROXY", Unset: true})
		set("YARN_HTTP_PROXY", p.URL)
		set("YARN_HTTPS_PROXY", p.URL)
		set("NODE_USE_ENV_PROXY", "1")
		if strings.HasPrefix(p.URL, "https:") {
			set("GIT_PROXY_SSL_CAINFO", f.Bundle) // of the proxy's own certificate
		}
		set("PERL_LWP_ENV_PROXY", "1")
	}
	for _, name := range bundleVariables() {
		set(name, f.Bundle)
	}
	for _, name := range addingVariables() {
		if own := current(name); own != "" && own != f.CA {
			set(name, f.Bundle)
		} else {
			set(name, f.CA)
		}
	}
	set("NODE_USE_SYSTEM_CA", "1")
	set("DENO_TLS_CA_STORE", "system,mozilla")
	set("UV_SYSTEM_CERTS", "1")
	set("UV_NATIVE_TLS", "1") // the older name
	for _, v := range []Var{
		{Name: "APT_CONFIG", Value: f.AptConf},
		{Name: "WGETRC", Value: f.Wgetrc}, // also in place of ~/.wgetrc
	} {
		if v.Value == "" {
			continue
		}
		if own := current(v.Name); own != "" && own != v.Value {
			v.Note = "takes the place of " + own
		}
		vars = append(vars, v)
	}
	if f.PHPIni != "" {
		set("PHP_INI_SCAN_DIR", phpScanDir(f.Dir, current("PHP_INI_SCAN_DIR")))
	}
	if java := (Var{Name: "JAVA_TOOL_OPTIONS", Value: javaOptions(f, p.URL, noProxy, current("JAVA_TOOL_OPTIONS"))}); java.Value != "" {
		if strings.HasPrefix(p.URL, "https:") {
			java.Note = "names no proxy, since JVMs speak to none over TLS"
		}
		vars = append(vars, java)
	}
	return vars
}

// phpScanDir adds larder's folder to those where PHP looks for settings; an empty
// entry stands for the one that it was built with.
func phpScanDir(dir, own string) string {
	dirs := slices.DeleteFunc(strings.Split(own, ":"), func(d string) bool { return d == dir })
	return strings.Join(append(dirs, dir), ":")
}

// Apply returns the environment, in the form of os.Environ, with the variables
// in it in place of those of the same name.
func Apply(environ []string, vars []Var) []string {
	named := make(map[string]bool, len(vars))
	for _, v := range vars {
		named[v.Name] = true
	}
	environ = slices.DeleteFunc(slices.Clone(environ), func(s string) bool {
		name, _, _ := strings.Cut(s, "=")
		return named[name]
	})
	for _, v := range vars {
		if !v.Unset {
			environ = append(environ, v.Name+"="+v.Value)
		}
	}
	return environ
}

// hostPort takes the proxy's URL apart for those who want the parts. There are none
// of a proxy over TLS, which who wants the parts does not speak.
func hostPort(proxy string) (host, port string) {
	u, err := url.Parse(proxy)
	if err != nil || u.Host == "" || u.Scheme == "https" {
		return "", ""
	}
	if port = u.Port(); port == "" {
		port = "80"
	}
	return u.Hostname(), port
}
