package tests

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"larder/tests/origin"
)

// finding is what "larder doctor --json" lists.
type finding struct {
	Client         string `json:"client"`
	Run            string `json:"run"`
	Host           string `json:"host"`
	Tool           string `json:"tool"`
	Reason         string `json:"reason"`
	Count          int64  `json:"count"`
	UserAgent      string `json:"user_agent"`
	Do             string `json:"do"`
	See            string `json:"see"`
	TunnelledUntil string `json:"tunnelled_until"`
	TunnelledBy    string `json:"tunnelled_by"`
	Mended         string `json:"mended"`
}

// doctor runs "larder doctor" for the instance.
func (in *instance) doctor(t testing.TB, args ...string) result {
	t.Helper()
	argv := append([]string{in.larder, "doctor", "--config", in.config, "--state", in.state}, args...)
	return command{dir: in.dir, argv: argv}.run(t)
}

// findings asks the doctor, whose exit code must be code.
func (in *instance) findings(t testing.TB, code int) []finding {
	t.Helper()
	res := in.doctor(t, "--json")
	var all []finding
	if err := json.Unmarshal([]byte(res.stdout), &all); err != nil || res.code != code {
		t.Fatalf("larder doctor: %v, want code %d: %v", err, code, res)
	}
	return all
}

// distrusting is a client that fetches something, and what the doctor is to make of it
// when it does not trust larder.
type distrusting struct {
	name  string
	needs string
	argv  func(dir, proxy string) []string
	// trust is what makes it trust larder, of the trust folder: arguments or environment.
	trustArgs, trustEnv func(trust string) []string
	tool, reason        string
}

const echoURL = "https://" + artifactsHost + "/echo"

// javaFetch is for HttpURLConnection or HttpClient.
const javaFetch = `import java.net.*; import java.net.http.*;
public class Fetch { public static void main(String[] a) throws Exception {
  if (a[0].equals("old")) new URL("` + echoURL + `").openStream().readAllBytes();
  else HttpClient.newBuilder().proxy(ProxySelector.getDefault()).build()
    .send(HttpRequest.newBuilder(URI.create("` + echoURL + `")).build(), HttpResponse.BodyHandlers.ofString());
} }
`

// nodeFetch does what agents for proxies do, since Node itself knows none before 22.
const nodeFetch = `const http = require("http"), tls = require("tls"), p = new URL(process.env.https_proxy);
http.request({ host: p.hostname, port: p.port, method: "CONNECT", path: "` + artifactsHost + `:443" }).on("connect", (_, socket) => {
  const t = tls.connect({ socket, servername: "` + artifactsHost + `" }, () => t.write("GET /echo HTTP/1.1\r\nHost: ` + artifactsHost + `\r\nConnection: close\r\n\r\n"));
  t.on("data", (d) => { if (!d.toString().startsWith("HTTP/1.1 200")) process.exit(2); process.exit(0); });
  t.on("error", (e) => { console.error(e.code); process.exit(1); });
}).end();
`

func distrustingClients(t *testing.T) []distrusting {
	plain := func(argv ...string) func(string, string) []string {
		return func(string, string) []string { return argv }
	}
	env := func(name, file string) func(string) []string {
		return func(trust string) []string { return []string{name + "=" + filepath.Join(trust, file)} }
	}
	java := func(which string) func(string, string) []string {
		return func(dir, proxy string) []string {
			host, port, err := net.SplitHostPort(proxy)
			must(t, err)
			return []string{"java", "-Dhttps.proxyHost=" + host, "-Dhttps.proxyPort=" + port, writeFile(t, dir, "Fetch.java", javaFetch), which}
		}
	}
	store := func(trust string) []string {
		return []string{"JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore=" + filepath.Join(trust, "truststore.p12") + " -Djavax.net.ssl.trustStorePassword=changeit"}
	}
	return []distrusting{
		{
			name: "curl", needs: "curl", argv: plain("curl", "-sS", echoURL), trustEnv: env("CURL_CA_BUNDLE", "bundle.pem"),
			tool: "curl", reason: "unknown_ca",
		},
		{
			name: "wget", needs: "wget", argv: plain("wget", "-t1", "-qO-", echoURL), trustEnv: env("WGETRC", "wgetrc"),
			tool: "wget", reason: "closed_after_handshake",
		},
		{
			name: "python", needs: "python3", argv: plain("python3", "-c", "import urllib.request; urllib.request.urlopen('"+echoURL+"').read()"), trustEnv: env("SSL_CERT_FILE", "bundle.pem"),
			tool: "python", reason: "unknown_ca",
		},
		{
			name: "java HttpURLConnection", needs: "java", argv: java("old"), trustEnv: store,
			tool: "java", reason: "certificate_unknown",
		},
		{
			name: "java HttpClient", needs: "java", argv: java("new"), trustEnv: store,
			// It closes the connection as its alert is on its way.
			tool: "java", reason: "closed_after_certificate or certificate_unknown",
		},
		{
			name: "node", needs: "node", argv: plain("node", "-e", nodeFetch), trustEnv: env("NODE_EXTRA_CA_CERTS", "ca.pem"),
			tool: "node", reason: "closed_after_certificate",
		},
		{
			name: "openssl", needs: "openssl",
			argv: func(_, proxy string) []string {
				// Nothing but a request on standard input would show that it trusts.
				return []string{"sh", "-c", `printf 'GET /echo HTTP/1.1\r\nHost: ` + artifactsHost + `\r\nConnection: close\r\n\r\n' | openssl s_client -quiet -proxy "$0" -connect ` + artifactsHost + `:443 -servername ` + artifactsHost + ` -verify_return_error "$@"`, proxy}
			},
			trustArgs: func(trust string) []string { return []string{"-CAfile", filepath.Join(trust, "bundle.pem")} },
			tool:      "openssl", reason: "unknown_ca",
		},
		{
			name: "git", needs: "git", argv: plain("git", "ls-remote", "https://"+artifactsHost+"/echo"), trustEnv: env("GIT_SSL_CAINFO", "bundle.pem"),
			tool: "git", reason: "closed_after_handshake or unknown_ca", // by GnuTLS or OpenSSL
		},
	}
}

// fetch runs the client through the service, with what makes it trust larder or not.
func (d distrusting) fetch(t *testing.T, in *instance, s *service, trusting bool) result {
	t.Helper()
	dir := privateDir(t)
	c := command{dir: dir, argv: d.argv(dir, s.proxy), env: []string{"https_proxy=http://" + s.proxy}}
	trust := filepath.Join(in.state, "trust")
	if trusting && d.trustArgs != nil {
		c.argv = append(c.argv, d.trustArgs(trust)...)
	}
	if trusting && d.trustEnv != nil {
		c.env = append(c.env, d.trustEnv(trust)...)
	}
	return c.run(t)
}

// TestDoctorNamesEachClientRightly has real clients fetch without larder's root, and
// then with it.
func TestDoctorNamesEachClientRightly(t *testing.T) {
	t.Parallel()
	for _, c := range distrustingClients(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			requireClient(t, c.needs)
			origins := startOrigins(t)
			origin.ServeArtifacts(origins, artifactsHost)
			in := newInstance(t, origins, artifactRules)
			s := in.serve(t)

			if res := c.fetch(t, in, s, true); res.code != 0 && c.name != "git" { // which finds no repository there
				t.Fatalf("with larder's root: %v", res)
			}
			if all := in.findings(t, 0); len(all) > 0 {
				t.Fatalf("with larder's root: %+v", all)
			}
			if n := len(origins.Exchanges(nil)); n == 0 {
				t.Fatal("with larder's root nothing came to the origin")
			}

			// A second time the client might resume its TLS session; a new larder knows none.
			in = newInstance(t, origins, artifactRules)
			s = in.serve(t)
			if res := c.fetch(t, in, s, false); res.code == 0 {
				t.Fatalf("without larder's root: %v", res)
			}
			all := in.findings(t, 1)
			if len(all) != 1 {
				t.Fatalf("without larder's root there are %d findings: %+v", len(all), all)
			}
			f := all[0]
			if f.Client != "127.0.0.1" || f.Host != artifactsHost || f.Tool != c.tool || !slices.Contains(strings.Split(c.reason, " or "), f.Reason) {
				t.Errorf("found %+v, want tool %s and reason %s", f, c.tool, c.reason)
			}
			if want := "http://" + s.proxy + "/setup#" + c.tool; f.See != want || f.Do == "" {
				t.Errorf("it says %q, see %s; want %s", f.Do, f.See, want)
			}
			s.waitLog(t, func(l logLine) bool { return l.Msg == "client does not trust larder" })

			if res := c.fetch(t, in, s, true); res.code != 0 && c.name != "git" {
				t.Fatalf("with larder's root in the end: %v", res)
			}
			if all := in.findings(t, 0); len(all) != 1 || all[0].Mended == "" {
				t.Errorf("when it is mended: %+v", all)
			}
		})
	}
}

// TestDoctorForgets clears, and looks back less far than anything was.
func TestDoctorForgets(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl")
	in := newInstance(t, startOrigins(t), artifactRules)
	s := in.serve(t)
	res := command{dir: in.dir, argv: []string{"curl", "-sS", "--proxy", "http://" + s.proxy, echoURL}}.run(t)
	if res.code != 60 {
		t.Fatalf("curl: %v", res)
	}
	if res := in.doctor(t, "--since", "1ns"); res.code != 0 || !strings.Contains(res.stdout, "no client has refused") {
		t.Errorf("in the last nanosecond: %v", res)
	}
	if res := in.doctor(t, "--clear"); res.code != 1 || !strings.Contains(res.stdout, "127.0.0.1: curl or a program with libcurl does not trust larder for "+artifactsHost+"\n") {
		t.Errorf("with --clear: %v", res)
	}
	if res := in.doctor(t); res.code != 0 || !strings.Contains(res.stdout, "no client has refused") {
		t.Errorf("after --clear: %v", res)
	}
	signalled := in.doctor(t, "--state", filepath.Join(in.dir, "elsewhere"))
	if signalled.code != 1 || !strings.Contains(signalled.stderr, "no larder is running") {
		t.Errorf("where there is no larder: %v", signalled)
	}
}

// TestDoctorOfTheBackgroundLarder has a command of a run drop the variables that it was
// given.
func TestDoctorOfTheBackgroundLarder(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl")
	in := newInstance(t, startOrigins(t), artifactRules)
	in.endDaemon(t)
	res := in.run(t, command{dir: in.dir, argv: []string{"env", "-u", "CURL_CA_BUNDLE", "-u", "SSL_CERT_FILE", "curl", "-sS", echoURL}})
	if res.code != 60 {
		t.Fatalf("curl: %v", res)
	}
	hint := "larder: hint: curl or a program with libcurl does not trust larder for " + artifactsHost + ": set CURL_CA_BUNDLE"
	if strings.Count(res.stderr, "larder: hint:") != 1 || !strings.Contains(res.stderr, hint) {
		t.Errorf("the run hints at nothing, or too much:\n%s", res.stderr)
	}
	all := in.findings(t, 1)
	if len(all) != 1 || all[0].Run != "env" || all[0].Tool != "curl" {
		t.Errorf("found %+v", all)
	}
	if res := in.run(t, command{dir: in.dir, argv: []string{"true"}}); strings.Contains(res.stderr, "larder: hint:") {
		t.Errorf("a run that fetched nothing hints:\n%s", res.stderr)
	}
}

// TestDoctorPage asks a larder about itself, directly and through it.
func TestDoctorPage(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl")
	in := newInstance(t, startOrigins(t), "")
	s := in.serve(t)
	ca := filepath.Join(in.state, "trust", "ca.pem")
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"directly", []string{"http://" + s.proxy + "/doctor"}, 0, "larder: you reach larder directly; no proxy is in use\nnext: http://larder.internal/doctor\n"},
		{"through it", []string{"--proxy", "http://" + s.proxy, "http://larder.internal/doctor"}, 0, "larder: the proxy is used; whether you trust larder shows over https\nnext: https://larder.internal/doctor\n"},
		{"trusting it", []string{"--proxy", "http://" + s.proxy, "--cacert", ca, "https://larder.internal/doctor"}, 0, "larder: proxy and trust both work\n"},
		{"as a program", []string{"--proxy", "http://" + s.proxy, "--cacert", ca, "-H", "Accept: application/json", "https://larder.internal/doctor"}, 0, `{"proxy":true,"trust":true,"says":"proxy and trust both work","client":"127.0.0.1","findings":0}` + "\n"},
		{"over HTTP/1.1", []string{"--http1.1", "--proxy", "http://" + s.proxy, "--cacert", ca, "https://larder.internal/doctor"}, 0, "larder: proxy and trust both work\n"},
		{"not trusting it", []string{"--proxy", "http://" + s.proxy, "https://larder.internal/doctor"}, 60, ""},
		{"what is not there", []string{"--fail", "--proxy", "http://" + s.proxy, "http://larder.internal/nothing"}, 22, ""},
	} {
		res := command{dir: in.dir, argv: append([]string{"curl", "-sS"}, c.args...)}.run(t)
		if res.code != c.code || res.stdout != c.want {
			t.Errorf("%s: %v, want code %d and %q", c.name, res, c.code, c.want)
		}
	}
	if all := in.findings(t, 1); len(all) != 1 || all[0].Host != "larder.internal" {
		t.Errorf("found %+v", all)
	}
}

// TestPinnedClientIsTunnelled has curl trust nothing but the origin's own root, under a
// rule that has such clients tunnelled, and under one more that has to look inside.
func TestPinnedClientIsTunnelled(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl")
	const rule = "  - { name: pinned, hosts: [artifacts.test], action: pass, on_distrust: tunnel, distrust_after: 2, distrust_ttl: 1h }\n"
	for _, c := range []struct {
		name, rules string
		through     bool
	}{
		{"by rule", "rules:\n" + rule, true},
		{"not where something is denied", "rules:\n  - { name: no-uploads, hosts: [\"*\"], methods: [PUT], action: deny }\n" + rule, false},
		{"not by a rule that says refuse", "on_distrust: tunnel\nrules:\n  - { name: rest, hosts: [artifacts.test], action: pass, on_distrust: refuse }\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			origins := startOrigins(t)
			origin.ServeArtifacts(origins, artifactsHost)
			in := newInstance(t, origins, c.rules)
			s := in.serve(t)
			pinned := func() int {
				return command{dir: in.dir, argv: []string{"curl", "-sS", "--proxy", "http://" + s.proxy, "--cacert", filepath.Join(in.dir, "origins.pem"), echoURL}}.run(t).code
			}
			codes := []int{pinned(), pinned(), pinned(), pinned()}
			if want := map[bool][]int{true: {60, 60, 0, 0}, false: {60, 60, 60, 60}}[c.through]; !slices.Equal(codes, want) {
				t.Fatalf("curl ended with %v, want %v", codes, want)
			}
			if !c.through {
				in.findings(t, 1)
				return
			}
			all := in.findings(t, 0)
			if len(all) != 1 || all[0].TunnelledBy != "pinned" || all[0].TunnelledUntil == "" || all[0].Count != 2 {
				t.Errorf("found %+v", all)
			}
			if res := in.doctor(t); !strings.Contains(res.stdout, "  tunnelled: until ") {
				t.Errorf("larder doctor: %v", res)
			}
			s.waitLog(t, func(l logLine) bool { return l.Msg == "client is tunnelled, since it refuses larder's certificate" })
			// Others are served as before.
			if res, _ := get(t, s.client(t), echoURL); res.StatusCode != 200 {
				t.Errorf("another client: %s", res.Status)
			}
			if out := in.explain(t, "GET", echoURL); !strings.Contains(out, `If the client refuses larder's certificate for the host 2 times, rule "pinned" has its connections there tunnelled for 1h.`) {
				t.Errorf("policy explain says\n%s", out)
			}
		})
	}
}

// explain runs "larder policy explain" with the configuration of the instance.
func (in *instance) explain(t testing.TB, method, target string) string {
	t.Helper()
	out, err := exec.Command(in.larder, "policy", "explain", "--config", in.config, method, target).Output()
	must(t, err)
	return string(out)
}

// TestScansAreNoFindings connects as port scans and health checks do.
func TestScansAreNoFindings(t *testing.T) {
	t.Parallel()
	in := newInstance(t, startOrigins(t), artifactRules)
	s := in.serve(t)
	for range 3 {
		for _, say := range []string{"", "\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "SSH-2.0-scan\r\n", "CONNECT " + artifactsHost + ":443 HTTP/1.1\r\nHost: x\r\n\r\n"} {
			c, err := net.Dial("tcp", s.proxy)
			must(t, err)
			_, err = io.WriteString(c, say)
			must(t, err)
			must(t, c.Close())
		}
		c := s.dialTunnel(t, artifactsHost+":443")
		must(t, c.Close())
		c = s.dialTunnel(t, artifactsHost+":443")
		_, err := io.WriteString(c, "\x16\x03\x01")
		must(t, err)
		must(t, c.Close())
	}
	// One that looks at a certificate and goes, as monitoring of its validity does.
	c := tls.Client(s.dialTunnel(t, artifactsHost+":443"), &tls.Config{ServerName: artifactsHost, RootCAs: in.roots(t)})
	must(t, c.Handshake())
	must(t, c.Close())
	if all := in.findings(t, 0); len(all) > 0 {
		t.Errorf("found %s", fmt.Sprint(all))
	}
}
