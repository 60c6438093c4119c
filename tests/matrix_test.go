package tests

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"

	"larder/tests/origin"
)

// TestMatrix has every client of the matrix that is installed here use larder with
// the environment that "larder env" prints and with nothing else; then without its
// part about trust, to see that it fails for that reason; then without its part
// about the proxy, to see that it goes elsewhere. With LARDER_MATRIX naming
// docs/clients.md, the versions are written into the table there ("make matrix").
func TestMatrix(t *testing.T) {
	found := &matrixVersions{of: make(map[string]string)}
	t.Run("clients", func(t *testing.T) {
		for _, row := range matrixRows() {
			t.Run(row.client, func(t *testing.T) {
				t.Parallel()
				version := row.installed(t)
				r := newMatrixRun(t, row)
				r.alone(t)
				r.withMore(t)
				r.withoutTrust(t)
				r.withoutProxy(t)
				if !t.Failed() {
					found.add(row.client, version)
				}
			})
		}
	})
	if path := os.Getenv("LARDER_MATRIX"); path != "" && !t.Failed() {
		must(t, updateMatrix(path, found.of))
	}
}

type matrixVersions struct {
	mu sync.Mutex
	of map[string]string // guarded by mu
}

func (v *matrixVersions) add(client, version string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.of[client] = version
}

// installed returns the version of the row's client, or ends the test if that is not
// here, or is none that the row is about.
func (row matrixRow) installed(t *testing.T) string {
	t.Helper()
	for _, name := range row.needs {
		if _, err := exec.LookPath(name); err != nil && row.optional {
			t.Skipf("client %s is not installed", name)
		}
	}
	requireClient(t, row.needs...)
	cmd := exec.Command(row.version[0], row.version[1:]...)
	cmd.Dir = privateDir(t)
	cmd.Env = hermetic(cmd.Dir)
	out, err := cmd.CombinedOutput()
	version := regexp.MustCompile(`\d+(\.\d+)+(-rc-?\d+)?`).FindString(string(out))
	if err != nil && row.optional {
		t.Skipf("%v: %v\n%s", row.version, err, out)
	}
	if err != nil || version == "" {
		t.Fatalf("%v: %v\n%s", row.version, err, out)
	}
	if !strings.Contains(string(out), row.build) {
		t.Skipf("this one is not built with %s", row.build)
	}
	if row.applies != nil && !row.applies(version) {
		t.Skipf("version %s is none of these", version)
	}
	return version
}

// matrixRun is one row with a larder and an origin of its own.
type matrixRun struct {
	row     matrixRow
	origins *origin.Server
	service *service
	own     []string // variables of the registry's
	vars    []string // what "larder env" prints
	direct  *directOrigin
}

func newMatrixRun(t *testing.T, row matrixRow) *matrixRun {
	t.Helper()
	if row.rules == "" {
		row.rules = matrixRules
	}
	r := &matrixRun{row: row, origins: startOrigins(t)}
	if row.registry != nil {
		r.own = row.registry(t, r.origins)
	}
	in := newInstance(t, r.origins, row.rules)
	r.service = in.serve(t)
	r.vars = in.printedEnvironment(t, r.service.proxy)
	r.direct = startDirectOrigin(t, r.origins)
	return r
}

// printedEnvironment is what a shell has of "larder env" after eval.
func (in *instance) printedEnvironment(t *testing.T, proxy string) []string {
	t.Helper()
	printed := command{dir: in.dir, argv: []string{
		in.larder, "env", "--config", in.config, "--state", in.state, "--proxy", "http://" + proxy,
	}}.run(t)
	if printed.code != 0 {
		t.Fatalf("larder env: %v", printed)
	}
	cmd := exec.Command("sh", "-c", `eval "$(cat)"; env -0`)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.Stdin = strings.NewReader(printed.stdout)
	out, err := cmd.Output()
	must(t, err)
	var vars []string
	for v := range bytes.SplitSeq(out, []byte{0}) {
		switch name, _, _ := strings.Cut(string(v), "="); name {
		case "", "PATH", "PWD", "SHLVL", "_", "OLDPWD":
		default:
			vars = append(vars, string(v))
		}
	}
	if len(vars) < 30 {
		t.Fatalf("larder env sets %d variables", len(vars))
	}
	return vars
}

// isAboutProxy tells the variables that say where the proxy is from those that say
// whom to trust.
func isAboutProxy(name string) bool { return strings.Contains(strings.ToLower(name), "proxy") }

// variables are those of "larder env", its part about the proxy, about trust, or both.
func (r *matrixRun) variables(proxy, trust bool) []string {
	// The JVM has one variable for both.
	javaTrust := regexp.MustCompile(`-Djavax\.net\.ssl\.\S+`)
	javaProxy := regexp.MustCompile(`-D(https?\.(proxy|nonProxy)|aether\.)\S+`)
	var vars []string
	for _, v := range r.vars {
		name, value, _ := strings.Cut(v, "=")
		switch {
		case name == "JAVA_TOOL_OPTIONS" && !trust:
			vars = append(vars, name+"="+javaTrust.ReplaceAllString(value, ""))
		case name == "JAVA_TOOL_OPTIONS" && !proxy:
			vars = append(vars, name+"="+javaProxy.ReplaceAllString(value, ""))
		case isAboutProxy(name) && proxy, !isAboutProxy(name) && trust:
			vars = append(vars, v)
		}
	}
	return vars
}

// run runs the client in a fresh home with these variables, and with what it needs
// besides if more. Where it goes past larder it gets nowhere, or if direct to the
// origin.
func (r *matrixRun) run(t *testing.T, proxy, trust, more, direct bool) (dir string, res result, requests []origin.Exchange) {
	t.Helper()
	r.origins.Forget()
	dir = privateDir(t)
	cmd := r.row.fetch(t, dir)
	if more {
		cmd = r.row.more.apply(t, cmd, r.lookup(), trust)
	}
	cmd.env = append(cmd.env, r.own...)
	cmd.env = append(cmd.env, r.variables(proxy, trust)...)
	hosts := r.direct.nowhere
	if direct {
		hosts = r.direct.here
	}
	cmd.argv = hosts.argv(cmd.argv...)
	res = cmd.run(t)
	requests = r.origins.Exchanges(func(e origin.Exchange) bool { return e.Host == r.row.host })
	return dir, res, requests
}

// lookup has larder's variables by name.
func (r *matrixRun) lookup() map[string]string {
	vars := make(map[string]string)
	for _, v := range r.vars {
		name, value, _ := strings.Cut(v, "=")
		vars[name] = value
	}
	return vars
}

// alone runs the client with the variables alone.
func (r *matrixRun) alone(t *testing.T) {
	t.Helper()
	more := r.row.more
	if more != nil && more.pastLarder && !r.direct.available() {
		return
	}
	dir, res, requests := r.run(t, true, true, false, more != nil)
	if more == nil {
		r.wantThrough(t, "with the variables alone", dir, res, requests)
		return
	}
	if len(requests) > 0 {
		t.Errorf("works with the variables alone, which the table denies: %v", res)
	}
	if !r.row.distrust.MatchString(res.stdout + res.stderr) {
		t.Errorf("with the variables alone it fails otherwise than by %v: %v", r.row.distrust, res)
	}
	if past := r.direct.seen(r.row.host) > 0; past != more.pastLarder && r.direct.available() {
		t.Errorf("with the variables alone it goes past larder: %v, want %v", past, more.pastLarder)
	}
}

func (r *matrixRun) wantThrough(t *testing.T, when, dir string, res result, requests []origin.Exchange) {
	t.Helper()
	if res.code != 0 || len(requests) == 0 {
		t.Fatalf("%s: %d requests for %s came through larder, %v\nlarder's log:\n%s", when, len(requests), r.row.host, res, r.service.log())
	}
	if r.row.verify != nil {
		r.row.verify(t, dir, res)
	}
}

// withMore runs it with what it needs besides.
func (r *matrixRun) withMore(t *testing.T) {
	t.Helper()
	if r.row.more == nil || r.row.more.apply == nil {
		return
	}
	dir, res, requests := r.run(t, true, true, true, false)
	r.wantThrough(t, "with what it needs besides", dir, res, requests)
}

// withoutTrust leaves out what says whom to trust. The client must come to larder and
// go no further.
func (r *matrixRun) withoutTrust(t *testing.T) {
	t.Helper()
	more := r.row.more != nil
	if more && r.row.more.apply == nil {
		return
	}
	before := r.handshakes(t)
	_, res, requests := r.run(t, true, false, more, false)
	if len(requests) > 0 {
		t.Errorf("without the variables of trust: %d requests, %v", len(requests), res)
	}
	if !r.row.distrust.MatchString(res.stdout + res.stderr) {
		t.Errorf("without the variables of trust it fails otherwise than by %v: %v", r.row.distrust, res)
	}
	if !eventually(func() bool { return r.handshakes(t) > before }, r.service.done) {
		t.Errorf("without the variables of trust it does not come to larder: %v", res)
	}
}

// handshakes is larder's own count, of those too in which the client looks at the
// certificate only when larder takes them for done.
func (r *matrixRun) handshakes(t *testing.T) (n int64) {
	t.Helper()
	res, err := http.Get("http://" + r.service.admin + "/metrics")
	must(t, err)
	defer res.Body.Close()
	for _, m := range regexp.MustCompile(`(?m)^larder_mitm_handshakes_total\{result="\w+"\} (\d+)`).FindAllSubmatch(readAll(t, res.Body), -1) {
		n += parseInt(t, string(m[1]))
	}
	return n
}

// withoutProxy leaves out what says where larder is. The client must go to the
// origin itself, whose certificate larder's bundle does not vouch for.
func (r *matrixRun) withoutProxy(t *testing.T) {
	t.Helper()
	if !r.direct.available() || r.row.more != nil && r.row.more.pastLarder {
		return // or it has been seen to
	}
	r.direct.forget()
	_, res, requests := r.run(t, false, true, false, true)
	if len(requests) > 0 {
		t.Errorf("without the variables of the proxy: %d requests came through larder: %v", len(requests), res)
	}
	if r.direct.seen(r.row.host) == 0 {
		t.Errorf("without the variables of the proxy it does not go to %s itself: %v", r.row.host, res)
	}
	if !r.row.distrust.MatchString(res.stdout + res.stderr) {
		t.Errorf("without the variables of the proxy it trusts the origin, or fails otherwise than by %v: %v", r.row.distrust, res)
	}
}

// hostsFile stands for /etc/hosts for commands run by its argv; "" for none.
type hostsFile string

// argv is a command line that runs a command with the file.
func (f hostsFile) argv(argv ...string) []string {
	if f == "" {
		return argv
	}
	in := []string{"unshare", "--mount"}
	if os.Geteuid() != 0 {
		in = append(in, "--user", "--map-root-user")
	}
	return append(append(in, "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, string(f)), argv...)
}

// writeHosts has all these names at one address.
func writeHosts(t *testing.T, address string, names []string) hostsFile {
	t.Helper()
	var text strings.Builder
	fmt.Fprintln(&text, "127.0.0.1 localhost")
	for _, name := range names {
		fmt.Fprintln(&text, address, name)
	}
	return hostsFile(writeFile(t, privateDir(t), "hosts", text.String()))
}

// directOrigin is where a client arrives that goes past larder. Whatever it does, no
// name of a real registry leads out of this machine.
type directOrigin struct {
	here     hostsFile // the names of all origins of the test lead to it
	nowhere  hostsFile // they lead to nobody
	listener net.Listener

	mu    sync.Mutex
	names map[string]int // guarded by mu: handshakes by server name
}

// startDirectOrigin listens. Where names cannot be redirected, or the port not be
// had, it is not available, unless all is promised (.ci/run).
func startDirectOrigin(t *testing.T, origins *origin.Server) *directOrigin {
	t.Helper()
	d := &directOrigin{names: make(map[string]int)}
	giveUp := func(err error) *directOrigin {
		if os.Getenv("LARDER_REQUIRE_CLIENTS") != "" {
			t.Fatalf("names cannot be redirected: %v", err)
		}
		t.Logf("clients are not tried without the variables of the proxy: %v", err)
		return d
	}
	// Nobody listens on 443 of all addresses. To some clients a name of this
	// machine's own address, 127.0.0.1, would be one to be reached without a proxy.
	nowhere := writeHosts(t, "0.0.0.0", origins.Hosts())
	probe := nowhere.argv("true")
	if out, err := exec.Command(probe[0], probe[1:]...).CombinedOutput(); err != nil {
		return giveUp(fmt.Errorf("%w: %s", err, out))
	}
	d.nowhere = nowhere
	// The port, 443, is the same for all, and nobody else has this address.
	_, port, err := net.SplitHostPort(origins.TLSAddr())
	must(t, err)
	n := parseInt(t, port)
	address := fmt.Sprintf("127.64.%d.%d", n>>8, n&0xff)
	l, err := tls.Listen("tcp", address+":443", &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			d.mu.Lock()
			d.names[hello.ServerName]++
			d.mu.Unlock()
			return origins.Authority.Leaf(hello.ServerName)
		},
	})
	if err != nil {
		return giveUp(err)
	}
	d.listener, d.here = l, writeHosts(t, address, origins.Hosts())
	served := make(chan error, 1)
	server := origin.Silent()
	go func() { served <- server.Serve(l) }() // ends when the test closes it
	t.Cleanup(func() { _ = server.Close(); <-served })
	return d
}

func (d *directOrigin) available() bool { return d.listener != nil }

// seen is how many handshakes were begun for a name.
func (d *directOrigin) seen(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.names[name]
}

func (d *directOrigin) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.names)
}
