package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"larder/tests/origin"
)

// kitService is a larder with a proxy over TLS too, before artifacts.
func kitService(t *testing.T) (s *service, tlsProxy string) {
	t.Helper()
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	s = newInstance(t, origins, "listeners:\n  - { listen: \"127.0.0.1:0\", mode: tls-proxy }\n"+artifactRules).serve(t)
	return s, s.waitLog(t, func(l logLine) bool { return strings.Contains(l.raw, `"mode":"tls-proxy"`) }).Listen
}

// fingerprint is that of the root as "larder ca show" prints it.
func (in *instance) fingerprint(t testing.TB) string {
	t.Helper()
	m := regexp.MustCompile(`sha256 +([0-9A-F:]{95})`).FindStringSubmatch(in.ca(t, "show"))
	if m == nil {
		t.Fatal("larder ca show prints no fingerprint")
	}
	return m[1]
}

// TestNodesFetchTheKit has curl and wget fetch each file from both kinds of
// listener, and sha256sum compare.
func TestNodesFetchTheKit(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl", "wget", "sha256sum", "openssl", "keytool", "dash", "python3")
	s, tlsProxy := kitService(t)
	root := filepath.Join(s.state, "trust", "ca.pem")
	for name, fetch := range map[string]string{
		"curl, plain":    "curl -fsS -o $f http://" + s.proxy + "/$f",
		"wget, plain":    "wget -q -O $f http://" + s.proxy + "/$f",
		"wget, over TLS": "wget -q --ca-certificate=" + root + " -O $f https://" + tlsProxy + "/$f",
		"curl, over TLS": "curl -fsS --cacert " + root + " -o $f https://" + tlsProxy + "/$f",
	} {
		dir := privateDir(t)
		res := command{dir: dir, argv: []string{"sh", "-ec", `f=SHA256SUMS; ` + fetch + `; for f in $(cut -c67- SHA256SUMS); do ` + fetch + `; done; sha256sum -c SHA256SUMS`}}.run(t)
		if res.code != 0 || strings.Count(res.stdout, ": OK\n") < 15 {
			t.Errorf("%s: %v", name, res)
		}
		for line, want := range map[string]string{
			"openssl x509 -inform der -in ca.der -noout -subject":            "larder root CA",
			"openssl pkcs12 -in ca.p12 -nokeys -passin pass:changeit":        "larder root CA",
			"keytool -list -keystore ca.p12 -storepass changeit":             "trustedCertEntry",
			"keytool -printcert -file ca.der":                                s.fingerprint(t),
			"openssl verify -CAfile bundle.pem ca.pem":                       "ca.pem: OK",
			"dash -n setup.sh && echo read":                                  "read",
			"python3 -c 'import json; print(json.load(open(\"env.json\")))'": "https_proxy",
			". ./env.sh && echo $SSL_CERT_FILE":                              "/etc/larder/trust/bundle.pem",
		} {
			if res := (command{dir: dir, argv: []string{"sh", "-c", line}}).run(t); res.code != 0 || !strings.Contains(res.stdout, want) {
				t.Errorf("%s: %s: %v", name, line, res)
			}
		}
	}
	dir := privateDir(t)
	res := command{dir: dir, argv: []string{"curl", "-sS", "-I", "http://" + s.proxy + "/ca.pem"}}.run(t)
	tag := regexp.MustCompile(`(?i)etag: ("[0-9a-f]{64}")`).FindStringSubmatch(res.stdout)
	if tag == nil {
		t.Fatalf("HEAD: %v", res)
	}
	res = command{dir: dir, argv: []string{"curl", "-sS", "-o", "x", "-w", "%{http_code} %{size_download}", "-H", "If-None-Match: " + tag[1], "http://" + s.proxy + "/ca.pem"}}.run(t)
	if res.stdout != "304 0" {
		t.Errorf("with its ETag: %v", res)
	}
}

// TestKitIsNotReachedThroughTheProxy wants no request to come round.
func TestKitIsNotReachedThroughTheProxy(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl")
	s, _ := kitService(t)
	res := command{dir: privateDir(t), argv: []string{"curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--noproxy", "", "--proxy", "http://" + s.proxy, "http://" + s.proxy + "/ca.pem"}}.run(t)
	if res.stdout != fmt.Sprint(http.StatusBadGateway) {
		t.Errorf("%v", res)
	}
}

// TestEnvVerify has a node that was given a fingerprint, and nothing else.
func TestEnvVerify(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl")
	s, tlsProxy := kitService(t)
	print := s.fingerprint(t)
	node := privateDir(t)
	env := func(args ...string) result {
		return command{dir: node, argv: append([]string{s.larder, "env", "--state", filepath.Join(node, "state")}, args...)}.run(t)
	}
	for name, from := range map[string]string{"plain": "http://" + s.proxy, "over TLS": "https://" + tlsProxy} {
		res := env("--verify", "SHA256:"+print, "--from", from, "--proxy", "http://"+s.proxy)
		if res.code != 0 || res.stderr != "" {
			t.Fatalf("%s: %v", name, res)
		}
		res = command{dir: node, argv: []string{"sh", "-ec", res.stdout + "curl -fsS -o /dev/null -w '%{http_code}' " + artifactURL("/echo")}}.run(t)
		if res.stdout != "200" {
			t.Errorf("%s: curl with it: %v", name, res)
		}
	}
	files := filepath.Join(node, "files")
	res := env("--verify", print, "--from", "http://"+s.proxy, "--files", files, "--format", "json")
	var vars map[string]string
	must(t, json.Unmarshal([]byte(res.stdout), &vars))
	if vars["SSL_CERT_FILE"] != filepath.Join(files, "bundle.pem") || vars["https_proxy"] != "http://"+s.proxy {
		t.Errorf("--files: %v", vars)
	}
	if got, want := readFile(t, filepath.Join(files, "ca.pem")), readFile(t, filepath.Join(s.state, "trust", "ca.pem")); got != want {
		t.Errorf("ca.pem is %s, want %s", got, want)
	}

	wrong := "00" + print[2:]
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"--verify", wrong, "--from", "http://" + s.proxy}, 1, []string{"the root that came is SHA256:" + print + ", and not SHA256:" + wrong, "hint: 'larder ca show'"}},
		{[]string{"--verify", "12", "--from", "http://" + s.proxy}, 2, []string{"no SHA-256 fingerprint"}},
		{[]string{"--verify", print, "--from", "http://" + s.admin}, 1, []string{"404", "hint: --from is the address of the proxy"}},
		{[]string{"--from", "http://" + s.proxy}, 2, []string{"--from and --files mean nothing without --verify"}},
	} {
		res := env(append(c.args, "--files", filepath.Join(node, "none"))...)
		for _, want := range c.want {
			if res.code != c.code || res.stdout != "" || !strings.Contains(res.stderr, want) {
				t.Errorf("%s: want code %d and %q: %v", c.args, c.code, want, res)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(node, "none")); err == nil {
		t.Error("a root that is refused leaves files")
	}
}

// TestSetupScriptForAJob is setup.sh without root.
func TestSetupScriptForAJob(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl", "java")
	s, tlsProxy := kitService(t)
	dir := privateDir(t)
	script := func(from, args string) string {
		return "curl -fsSk -o setup.sh " + from + "/setup.sh; vars=$(sh setup.sh --files files " + args + "); eval \"$vars\"\n"
	}
	for name, begin := range map[string]string{
		"plain":    script("http://"+s.proxy, "--fingerprint "+s.fingerprint(t)),
		"over TLS": script("https://"+tlsProxy, "") + "https_proxy=http://" + s.proxy + "\n", // curl may not speak TLS to a proxy without more
	} {
		res := command{dir: dir, argv: []string{"sh", "-ec", begin + "curl -fsS -o /dev/null -w '%{http_code}' " + artifactURL("/echo")}}.run(t)
		if res.code != 0 || res.stdout != "200" {
			t.Errorf("%s: %v", name, res)
		}
	}
	trust, err := filepath.Abs("../certs/testdata/Trust.java")
	must(t, err)
	res := command{dir: dir, argv: []string{"sh", "-ec", script("http://"+s.proxy, "--fingerprint "+s.fingerprint(t)) + "java " + trust}}.run(t)
	if res.code != 0 || !strings.Contains(res.stdout, "CN=larder root CA") || !strings.Contains(res.stdout, "https.proxyHost=127.0.0.1\n") {
		t.Errorf("java: %v", res)
	}
	res = command{dir: dir, argv: []string{"sh", "-ec", "sh setup.sh --files files --format lines --fingerprint " + s.fingerprint(t)}}.run(t)
	for line := range strings.Lines(res.stdout) {
		if !regexp.MustCompile(`^[A-Za-z0-9_]+=[^'"]+\n$`).MatchString(line) {
			t.Errorf("--format lines: %q", line)
		}
	}
	if !strings.Contains(res.stdout, " -Dhttp.proxyHost=127.0.0.1 ") || !strings.Contains(res.stdout, "\nAPT_CONFIG="+dir+"/files/apt.conf\n") {
		t.Errorf("--format lines: %v", res)
	}
	res = command{dir: dir, argv: []string{"sh", "-ec", script("http://"+s.proxy, "")}}.run(t)
	if res.code != 1 || !strings.Contains(res.stderr, "nothing vouches for the root that came") {
		t.Errorf("without a fingerprint: %v", res)
	}
}

// TestKitSwitchedOff wants the switch heeded at a reload too.
func TestKitSwitchedOff(t *testing.T) {
	t.Parallel()
	s, _ := kitService(t)
	get := func() int {
		res, err := http.Get("http://" + s.proxy + "/ca.pem")
		must(t, err)
		must(t, res.Body.Close())
		return res.StatusCode
	}
	if got := get(); got != http.StatusOK {
		t.Fatalf("/ca.pem: %d", got)
	}
	config := readFile(t, s.config)
	must(t, os.WriteFile(s.config, []byte(config+"kit: { enabled: false }\n"), 0o644))
	res, err := http.Post("http://"+s.admin+"/-/reload", "", nil)
	must(t, err)
	must(t, res.Body.Close())
	if got := get(); got != http.StatusNotFound {
		t.Errorf("/ca.pem after it was switched off: %d", got)
	}
}
