package certs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func nobody(string) string { return "" }

func lookup(vars []Var, name string) (Var, bool) {
	i := slices.IndexFunc(vars, func(v Var) bool { return v.Name == name })
	if i < 0 {
		return Var{}, false
	}
	return vars[i], true
}

func TestEnvironment(t *testing.T) {
	f := Paths("/state/trust")
	vars := Environment(f, Proxy{URL: "http://127.0.0.1:3128", NoProxy: []string{".corp.example", "10.1.2.3"}}, nobody)
	want := map[string]string{
		"http_proxy":          "http://127.0.0.1:3128",
		"HTTP_PROXY":          "http://127.0.0.1:3128",
		"https_proxy":         "http://127.0.0.1:3128",
		"HTTPS_PROXY":         "http://127.0.0.1:3128",
		"no_proxy":            "localhost,127.0.0.1,::1,.corp.example,10.1.2.3",
		"NO_PROXY":            "localhost,127.0.0.1,::1,.corp.example,10.1.2.3",
		"YARN_HTTPS_PROXY":    "http://127.0.0.1:3128",
		"SSL_CERT_FILE":       "/state/trust/bundle.pem",
		"PIP_CERT":            "/state/trust/bundle.pem",
		"npm_config_cafile":   "/state/trust/bundle.pem",
		"NODE_EXTRA_CA_CERTS": "/state/trust/ca.pem",
		"DENO_CERT":           "/state/trust/ca.pem",
		"APT_CONFIG":          "/state/trust/apt.conf",
		"PHP_INI_SCAN_DIR":    ":/state/trust",
		"NODE_USE_ENV_PROXY":  "1",
		"PERL_LWP_ENV_PROXY":  "1",
		"JAVA_TOOL_OPTIONS": "-Djavax.net.ssl.trustStore=/state/trust/truststore.p12 -Djavax.net.ssl.trustStorePassword=changeit " +
			"-Djavax.net.ssl.trustStoreType=PKCS12 -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=3128 -Dhttps.proxyHost=127.0.0.1 " +
			"-Dhttps.proxyPort=3128 -Dhttp.nonProxyHosts=localhost|127.*|[::1]|corp.example|*.corp.example|10.1.2.3 " +
			"-Daether.connector.http.useSystemProperties=true",
	}
	for name, value := range want {
		if v, ok := lookup(vars, name); !ok || v.Value != value || v.Unset || v.Note != "" {
			t.Errorf("%s: %+v, want %s", name, v, value)
		}
	}
	for _, name := range []string{"ALL_PROXY", "all_proxy"} {
		if v, ok := lookup(vars, name); !ok || !v.Unset || v.Value != "" {
			t.Errorf("%s is not unset: %+v", name, v)
		}
	}
	seen := map[string]bool{}
	for _, v := range vars {
		if seen[v.Name] {
			t.Errorf("%s comes twice", v.Name)
		}
		seen[v.Name] = true
	}
	// Yarn before version 4 refuses to start with it.
	if seen["YARN_HTTPS_CA_FILE_PATH"] {
		t.Error("YARN_HTTPS_CA_FILE_PATH is set")
	}
	again := Environment(f, Proxy{URL: "http://127.0.0.1:3128", NoProxy: []string{".corp.example", "10.1.2.3"}}, nobody)
	if d := cmp.Diff(vars, again); d != "" {
		t.Errorf("not the same twice:\n%s", d)
	}
}

func TestEnvironmentHasEveryVariableOfTheTable(t *testing.T) {
	vars := Environment(Paths("/t"), Proxy{URL: "http://p:1"}, nobody)
	for name := range strings.FieldsSeq(`
		SSL_CERT_FILE CURL_CA_BUNDLE REQUESTS_CA_BUNDLE PIP_CERT GIT_SSL_CAINFO CARGO_HTTP_CAINFO NIX_SSL_CERT_FILE
		COMPOSER_CAFILE PERL_LWP_SSL_CA_FILE HTTPS_CA_FILE BUNDLE_SSL_CA_CERT HEX_CACERTS_PATH AWS_CA_BUNDLE
		CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE HTTPLIB2_CA_CERTS GRPC_DEFAULT_SSL_ROOTS_FILE_PATH CONDA_SSL_VERIFY
		JULIA_SSL_CA_ROOTS_PATH SYSTEM_CERTIFICATE_PATH URLSessionCertificateAuthorityInfoFile SSL_CA_CERT_FILE
		NODE_EXTRA_CA_CERTS DENO_CERT UV_SYSTEM_CERTS UV_NATIVE_TLS NODE_USE_SYSTEM_CA NODE_USE_ENV_PROXY
		DENO_TLS_CA_STORE YARN_HTTPS_PROXY JAVA_TOOL_OPTIONS APT_CONFIG WGETRC PHP_INI_SCAN_DIR PERL_LWP_ENV_PROXY npm_config_cafile`) {
		if v, ok := lookup(vars, name); !ok || v.Value == "" {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestEnvironmentWithoutProxyIsAboutTrustOnly(t *testing.T) {
	for _, v := range Environment(Paths("/t"), Proxy{}, nobody) {
		if strings.Contains(strings.ToLower(v.Name), "proxy") || strings.Contains(v.Value, "roxyHost") {
			t.Errorf("%+v", v)
		}
	}
}

func TestEnvironmentKeepsWhatTheCallerHas(t *testing.T) {
	env := map[string]string{
		"no_proxy":            "*.internal, 192.0.2.1 LOCALHOST,10.0.0.0/8,,*",
		"NO_PROXY":            ".internal,10.9.9.9/32,[2001:DB8::1],build.host:8080",
		"NODE_EXTRA_CA_CERTS": "/etc/corp.pem",
		"APT_CONFIG":          "/etc/apt/corp.conf",
		"WGETRC":              "/etc/wgetrc.corp",
		"JAVA_TOOL_OPTIONS":   `-Xmx1g  "-Down=a b" -Dhttps.proxyHost=old`,
	}
	current := func(name string) string { return env[name] }
	vars := Environment(Paths("/t"), Proxy{URL: "http://p:1", NoProxy: []string{".corp"}}, current)

	noProxy, _ := lookup(vars, "NO_PROXY")
	if want := "localhost,127.0.0.1,::1,.corp,.internal,192.0.2.1,10.9.9.9,2001:db8::1,build.host:8080"; noProxy.Value != want {
		t.Errorf("NO_PROXY=%s, want %s", noProxy.Value, want)
	}
	if !strings.Contains(noProxy.Note, "10.0.0.0/8 *") {
		t.Errorf("note %q says nothing of 10.0.0.0/8 and *", noProxy.Note)
	}
	if v, _ := lookup(vars, "NODE_EXTRA_CA_CERTS"); v.Value != "/t/bundle.pem" {
		t.Errorf("the caller's own roots are lost to Node: %+v", v)
	}
	for _, name := range []string{"APT_CONFIG", "WGETRC"} {
		if v, _ := lookup(vars, name); !strings.Contains(v.Note, env[name]) {
			t.Errorf("no word about the caller's %s: %+v", name, v)
		}
	}
	java, _ := lookup(vars, "JAVA_TOOL_OPTIONS")
	if !strings.HasPrefix(java.Value, `-Xmx1g "-Down=a b" -Djavax`) || strings.Contains(java.Value, "proxyHost=old") {
		t.Errorf("JAVA_TOOL_OPTIONS=%s", java.Value)
	}
	if strings.Contains(java.Value, "8080") {
		t.Errorf("the JVM is told of a port: %s", java.Value)
	}

	// A run inside a run changes nothing any more.
	for _, v := range vars {
		env[v.Name] = v.Value
	}
	for _, v := range Environment(Paths("/t"), Proxy{URL: "http://p:1", NoProxy: []string{".corp"}}, current) {
		if v.Value != env[v.Name] || v.Note != "" {
			t.Errorf("%s changes from %q to %q, %s", v.Name, env[v.Name], v.Value, v.Note)
		}
	}
}

func TestApply(t *testing.T) {
	got := Apply([]string{"PATH=/bin", "A=1", "ALL_PROXY=x", "A=2", "=odd"}, []Var{
		{Name: "A", Value: "3=4"}, {Name: "ALL_PROXY", Unset: true}, {Name: "B"},
	})
	if d := cmp.Diff([]string{"PATH=/bin", "=odd", "A=3=4", "B="}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestNoProxyHost(t *testing.T) {
	for in, want := range map[string]string{
		"example.org": "example.org", ".example.org": ".example.org", "*.example.org": ".example.org",
		"192.0.2.1": "192.0.2.1", "192.0.2.1/32": "192.0.2.1", "[::1]": "::1", "0:0::1": "::1", "h:80": "h:80",
		"*": "", "10.0.0.0/8": "", "fd00::/8": "", "a*.example.org": "", "*.*.org": "", ".": "", "a|b": "", "$(x)": "",
	} {
		if got, ok := noProxyHost(in); got != want && ok || ok != (want != "") {
			t.Errorf("noProxyHost(%q) = %q, %v, want %q", in, got, ok, want)
		}
	}
}

func TestPHPScanDirKeepsTheCallers(t *testing.T) {
	for own, want := range map[string]string{
		"":          ":/t",
		"/a:/b":     "/a:/b:/t",
		":/a":       ":/a:/t",
		":/t":       ":/t",
		"/t:/other": "/other:/t",
	} {
		if got := phpScanDir("/t", own); got != want {
			t.Errorf("%q becomes %q, want %q", own, got, want)
		}
	}
}

func TestJVMReadsItsOptions(t *testing.T) {
	java, err := exec.LookPath("java")
	if err != nil {
		t.Skip(err)
	}
	root := newRoot(t, "larder root")
	f := write(t, filepath.Join(t.TempDir(), "it's a folder"), encode(root))
	env := map[string]string{"JAVA_TOOL_OPTIONS": `"-Down.property=a b" -Dhttp.proxyPort=1`}
	vars := Environment(f, Proxy{URL: "http://127.0.0.1:3128", NoProxy: []string{".corp.example", "2001:db8::1"}},
		func(name string) string { return env[name] })
	cmd := exec.Command(java, "testdata/Trust.java",
		"https://pkg.test/", "http://pkg.test/", "https://a.corp.example/", "https://corp.example/", "https://localhost/",
		"https://127.0.0.1/", "https://[::1]/", "https://[2001:db8::1]/", "https://notcorp.example/")
	cmd.Env = Apply(os.Environ(), vars)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"http.proxyHost=127.0.0.1", "http.proxyPort=3128", "https.proxyHost=127.0.0.1", "https.proxyPort=3128",
		"aether.connector.http.useSystemProperties=true", "own.property=a b",
		"https://pkg.test/ via HTTP", "http://pkg.test/ via HTTP", "https://notcorp.example/ via HTTP",
		"https://a.corp.example/ via DIRECT", "https://corp.example/ via DIRECT", "https://localhost/ via DIRECT",
		"https://127.0.0.1/ via DIRECT", "https://[::1]/ via DIRECT", "https://[2001:db8::1]/ via DIRECT",
		fmt.Sprintf("anchor %d CN=larder root", mustParse(t, root).SerialNumber),
	} {
		if !strings.Contains(string(out), want+"\n") {
			t.Errorf("no line %q", want)
		}
	}
	if got, want := strings.Count(string(out), "\nanchor "), len(ders(t, f.Bundle)); got != want {
		t.Errorf("the JVM has %d trust anchors, want %d", got, want)
	}
	if t.Failed() {
		t.Logf("%.4000s", out)
	}
}

func TestSplitJavaOptions(t *testing.T) {
	for in, want := range map[string][]string{
		"":                       nil,
		"  -a\t-b\n":             {"-a", "-b"},
		`-a="b c" 'd "e' f`:      {`-a="b c"`, `'d "e'`, "f"},
		`-a'b'"c d" "unclosed e`: {`-a'b'"c d"`, `"unclosed e`},
	} {
		if d := cmp.Diff(want, splitJavaOptions(in)); d != "" {
			t.Errorf("%q (-want +got):\n%s", in, d)
		}
	}
}

// FuzzJavaOptions checks that a value survives quoting, whatever stands before.
func FuzzJavaOptions(f *testing.F) {
	f.Add("-Xmx1g", "/a b/c'd\"e")
	f.Add(`"-Da=b c"`, "")
	f.Fuzz(func(t *testing.T, own, value string) {
		if strings.Count(own, `"`)%2 != 0 || strings.Count(own, "'") > 0 {
			return // the JVM refuses open quotes
		}
		options := splitJavaOptions(strings.Join(append(splitJavaOptions(own), "-Dx="+quoteJava(value)), " "))
		if got := unquoteJava(options[len(options)-1]); got != "-Dx="+value {
			t.Errorf("%q becomes %q", value, got)
		}
	})
}

// unquoteJava takes quotes away as the JVM does.
func unquoteJava(s string) string {
	var b strings.Builder
	quote := byte(0)
	for i := range len(s) {
		switch c := s[i]; {
		case quote != 0 && quote == c:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func TestEnvironmentForAProxyOverTLSNamesNoneForJVMs(t *testing.T) {
	vars := Environment(Paths("/x"), Proxy{URL: "https://larder.test:3443"}, nobody)
	if git, ok := lookup(vars, "GIT_PROXY_SSL_CAINFO"); !ok || git.Value != "/x/bundle.pem" {
		t.Errorf("%+v", git)
	}
	java := vars[len(vars)-1]
	if java.Name != "JAVA_TOOL_OPTIONS" || strings.Contains(java.Value, "proxy") || !strings.Contains(java.Value, "trustStore=/x/") || java.Note == "" {
		t.Errorf("%+v", java)
	}
}

func TestEnvironmentWithoutFilesHasNoVariablesForThem(t *testing.T) {
	vars := Environment(Files{CA: "/x/ca.pem", Bundle: "/x/bundle.pem"}, Proxy{}, nobody)
	for _, v := range vars {
		switch v.Name {
		case "APT_CONFIG", "WGETRC", "JAVA_TOOL_OPTIONS":
			t.Errorf("%+v", v)
		}
	}
	vars = Environment(Files{}, Proxy{URL: "http://larder.test:3128"}, nobody)
	if java := vars[len(vars)-1].Value; strings.Contains(java, "trustStore") || !strings.Contains(java, "https.proxyHost=larder.test") {
		t.Errorf("JAVA_TOOL_OPTIONS=%s", java)
	}
}
