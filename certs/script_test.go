package certs

import (
	"bytes"
	"crypto/x509"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"software.sslmate.com/src/go-pkcs12"
)

// shells are those that nodes have as /bin/sh.
func shells(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for name, argv := range map[string][]string{"dash": {"dash"}, "bash": {"bash", "--posix"}, "busybox": {"busybox", "ash"}} {
		if path, err := exec.LookPath(argv[0]); err == nil {
			all[name] = append([]string{path}, argv[1:]...)
		}
	}
	if len(all) == 0 || len(all) < 3 && os.Getenv("LARDER_REQUIRE_CLIENTS") != "" {
		t.Fatalf("of the shells only %v are installed", all)
	}
	return all
}

// machine is a folder that setup.sh takes for a machine, and a script for it.
type machine struct {
	t      *testing.T
	root   string
	shell  []string
	script string
	ca     string
	home   string // that of who runs the script
}

func newMachine(t *testing.T, shell []string, files map[string]string, roots ...[]byte) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{t: t, root: filepath.Join(dir, "root"), shell: shell, script: filepath.Join(dir, "setup.sh"), ca: filepath.Join(dir, "ca.pem"), home: dir}
	for path, content := range files {
		m.write(path, content)
	}
	script, err := Script{Kit: "http://larder.test:3128", Proxy: Proxy{URL: "http://larder.test:3128", NoProxy: []string{".corp.test", "10.1.2.3"}}}.Render()
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, m.script, script)
	m.offer(roots...)
	return m
}

// offer puts roots where the script is told to take them from.
func (m *machine) offer(roots ...[]byte) {
	m.t.Helper()
	writeFile(m.t, m.ca, encode(roots...))
}

func (m *machine) write(path, content string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if target, ok := strings.CutPrefix(content, "-> "); ok {
		if err := os.Symlink(target, path); err != nil {
			m.t.Fatal(err)
		}
		return
	}
	writeFile(m.t, path, []byte(content))
	if strings.HasPrefix(content, "#!") {
		if err := os.Chmod(path, 0o755); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *machine) read(path string) string {
	m.t.Helper()
	content, err := os.ReadFile(filepath.Join(m.root, path))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(content)
}

// setUp runs the script, which must end with code, and returns what it says.
func (m *machine) setUp(code int, args ...string) string {
	m.t.Helper()
	argv := append(append([]string{}, m.shell...), m.script)
	cmd := exec.Command(argv[0], append(argv[1:], args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LARDER_ROOT=" + m.root, "HOME=" + m.home}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != code {
		m.t.Fatalf("setup.sh %s: %v, want code %d\n%s", args, err, code, out)
	}
	return string(out)
}

// install runs it with the root that is offered.
func (m *machine) install(args ...string) string {
	m.t.Helper()
	return m.setUp(0, append([]string{"--ca", m.ca, "--trust-on-first-use"}, args...)...)
}

// tree is what is on the machine: modes, targets of links and contents by path.
func (m *machine) tree() map[string]string {
	m.t.Helper()
	tree := map[string]string{}
	err := filepath.WalkDir(m.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content := info.Mode().String() + " "
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			content += target
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content += string(data)
		}
		tree[strings.TrimPrefix(path, m.root)] = content
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return tree
}

// debianFiles is a machine with something of everything, in a state that people leave.
func debianFiles() map[string]string {
	return map[string]string{
		"/etc/ssl/certs/ca-certificates.crt":     "# none\n",
		"/etc/environment":                       "FOO=1", // no end of line
		"/etc/profile.d/a.sh":                    "",
		"/etc/apt/apt.conf.d/10x":                "",
		"/etc/dnf/dnf.conf":                      "[main]\ngpgcheck=True\n",
		"/etc/pip.conf":                          "[global]\nindex-url = https://x.test/\n\n[install]\nproxy=http://own.test:1\n",
		"/usr/bin/python3":                       "#!",
		"/usr/bin/npm":                           "-> ../lib/node_modules/npm/bin/npm-cli.js",
		"/usr/etc/npmrc":                         "fund=false\n",
		"/usr/lib/systemd/system/docker.service": "[Service]\n",
		"/etc/maven/settings.xml":                "<settings>\n  <!-- <proxies>\n  </proxies> -->\n  <proxies>\n    <!-- <proxy/> -->\n  </proxies>\n</settings>\n",
		"/usr/share/maven/conf":                  "-> /etc/maven",
		"/root/.gradle/gradle.properties":        "org.gradle.daemon=false\n",
		"/root/.m2/x":                            "",
	}
}

func TestSetupIsIdempotentAndUndone(t *testing.T) {
	for name, shell := range shells(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, shell, debianFiles(), newRoot(t, "larder root"))
			before := m.tree()
			m.install("--dry-run")
			if diff := cmp.Diff(before, m.tree()); diff != "" {
				t.Fatalf("--dry-run changes (-before +after):\n%s", diff)
			}
			m.install()
			after := m.tree()
			if out := m.setUp(0, "--ca", m.ca); !strings.Contains(out, "nothing to change") {
				t.Errorf("a second run says %s", out)
			}
			if diff := cmp.Diff(after, m.tree()); diff != "" {
				t.Errorf("a second run changes (-before +after):\n%s", diff)
			}
			m.setUp(0, "--undo", "--dry-run")
			if diff := cmp.Diff(after, m.tree()); diff != "" {
				t.Errorf("--undo --dry-run changes (-before +after):\n%s", diff)
			}
			m.setUp(0, "--undo")
			if diff := cmp.Diff(before, m.tree()); diff != "" {
				t.Errorf("after --undo (-before +after):\n%s", diff)
			}
			if out := m.setUp(0, "--undo"); !strings.Contains(out, "nothing to undo") {
				t.Errorf("a second --undo says %s", out)
			}
		})
	}
}

func TestSetupWritesWhatToolsRead(t *testing.T) {
	root := newRoot(t, "larder root")
	m := newMachine(t, []string{"sh"}, debianFiles(), root)
	m.install()
	for path, wants := range map[string][]string{
		"/etc/larder/trust/ca.pem":           {string(encode(root))},
		"/etc/ssl/certs/ca-certificates.crt": {"# none\n", string(encode(root))},
		"/etc/environment": {
			"FOO=1\n# larder setup: begin\n", "\nhttp_proxy=\"http://larder.test:3128\"\n", "\nHTTPLIB2_CA_CERTS=\"/etc/ssl/certs/ca-certificates.crt\"\n",
			"\nno_proxy=\"localhost,127.0.0.1,::1,.corp.test,10.1.2.3\"\n", "\nJAVA_TOOL_OPTIONS=\"-Dhttp.proxyHost=larder.test ",
		},
		"/etc/larder/trust/env.sh": {"unset all_proxy ALL_PROXY\n", "export https_proxy='http://larder.test:3128'\n"},
		"/etc/profile.d/larder.sh": {". /etc/larder/trust/env.sh\n"},
		"/etc/apt/apt.conf.d/99larder": {
			"Acquire::http::Proxy \"http://larder.test:3128\";\n", "Acquire::https::Proxy::10.1.2.3 \"DIRECT\";\n", "CaInfo \"/etc/ssl/certs/ca-certificates.crt\"",
		},
		"/etc/dnf/dnf.conf": {"[main]\n# larder setup: begin\nproxy=http://larder.test:3128\n# larder setup: end\ngpgcheck=True\n"},
		"/etc/pip.conf": {
			"[global]\n# larder setup: begin\nproxy=http://larder.test:3128\ncert=/etc/ssl/certs/ca-certificates.crt\n# larder setup: end\nindex-url = https://x.test/\n",
			"\n[install]\nproxy=http://own.test:1\n",
		},
		"/usr/etc/npmrc": {"fund=false\n# larder", "\nhttps-proxy=http://larder.test:3128\n", "\ncafile=/etc/ssl/certs/ca-certificates.crt\n"},
		"/etc/systemd/system/docker.service.d/larder.conf": {
			"[Service]\n", "\nEnvironment=\"HTTPS_PROXY=http://larder.test:3128\"\n", "\nEnvironment=\"SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt\"\n",
		},
		"/etc/maven/settings.xml": {
			"</proxies> -->\n  <proxies>\n    <!-- <proxy/> -->\n<!-- larder setup: begin -->\n    <proxy><id>larder-http</id>",
			"<protocol>https</protocol><host>larder.test</host><port>3128</port>", "<!-- larder setup: end -->\n  </proxies>\n</settings>\n",
		},
		"/root/.m2/settings.xml":          {"<settings>\n  <proxies>\n<!-- larder"},
		"/root/.gradle/gradle.properties": {"org.gradle.daemon=false\n", "\nsystemProp.https.proxyPort=3128\n"},
	} {
		content := m.read(path)
		for _, want := range wants {
			if !strings.Contains(content, want) {
				t.Errorf("%s lacks %q:\n%s", path, want, content)
			}
		}
	}
	if got, want := m.read("/etc/larder/trust/bundle.pem"), m.read("/etc/ssl/certs/ca-certificates.crt"); got != want {
		t.Errorf("bundle.pem is %s, want %s", got, want)
	}
	roots, err := pkcs12.DecodeTrustStore([]byte(m.read("/etc/larder/trust/truststore.p12")), "")
	if err != nil || len(roots) != 1 || !bytes.Equal(roots[0].Raw, root) {
		t.Errorf("truststore.p12 has %d roots, %v", len(roots), err)
	}
	// What was there may hold secrets.
	if info, err := os.Stat(filepath.Join(m.root, "/var/lib/larder-setup")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of what was there: %v, %v", info, err)
	}
}

func TestSetupTrustsNoRootThatNothingVouchesFor(t *testing.T) {
	root, other := newRoot(t, "larder root"), newRoot(t, "other root")
	m := newMachine(t, []string{"sh"}, debianFiles(), root)
	before := m.tree()
	if out := m.setUp(1, "--ca", m.ca); !strings.Contains(out, "nothing vouches") || !strings.Contains(out, printOf(root)) {
		t.Errorf("without a fingerprint: %s", out)
	}
	out := m.setUp(1, "--ca", m.ca, "--fingerprint", printOf(other))
	if !strings.Contains(out, "came is SHA256:"+printOf(root)+", and not SHA256:"+printOf(other)) {
		t.Errorf("with another fingerprint: %s", out)
	}
	for _, wrong := range []string{"SHA256:12", "x", strings.Repeat("g", 64), ""} {
		if out := m.setUp(2, "--ca", m.ca, "--fingerprint", wrong); !strings.Contains(out, "is no SHA-256 fingerprint") {
			t.Errorf("--fingerprint %q: %s", wrong, out)
		}
	}
	if diff := cmp.Diff(before, m.tree()); diff != "" {
		t.Errorf("a refusal changes (-before +after):\n%s", diff)
	}
	m.setUp(0, "--ca", m.ca, "--fingerprint", "SHA256:"+strings.ToLower(printOf(root)))

	// The first use is over.
	m.offer(other)
	if out := m.setUp(1, "--ca", m.ca, "--trust-on-first-use"); !strings.Contains(out, "the root was replaced") {
		t.Errorf("another root at the second use: %s", out)
	}
}

// TestSetupFollowsARotation has both roots, of which only those are taken that are
// known or given, and then the new one alone.
func TestSetupFollowsARotation(t *testing.T) {
	old, next := newRoot(t, "old root"), newRoot(t, "new root")
	m := newMachine(t, []string{"sh"}, debianFiles(), old)
	before := m.tree()
	m.install()
	m.offer(next, old)
	if out := m.setUp(0, "--ca", m.ca); !strings.Contains(out, "left out") || !strings.Contains(out, printOf(next)) {
		t.Errorf("a root that nothing vouches for: %s", out)
	}
	if got := m.read("/etc/larder/trust/ca.pem"); got != string(encode(old)) {
		t.Errorf("ca.pem has %s", got)
	}
	m.setUp(0, "--ca", m.ca, "--fingerprint", printOf(next))
	if got := m.read("/etc/larder/trust/ca.pem"); got != string(encode(next, old)) {
		t.Errorf("ca.pem has %s", got)
	}
	m.offer(next)
	m.setUp(0, "--ca", m.ca)
	if got := m.read("/etc/ssl/certs/ca-certificates.crt"); strings.Contains(got, string(encode(old))) || !strings.Contains(got, string(encode(next))) {
		t.Errorf("after the rotation the store is %s", got)
	}
	m.setUp(0, "--undo")
	if diff := cmp.Diff(before, m.tree()); diff != "" {
		t.Errorf("after --undo (-before +after):\n%s", diff)
	}
}

// TestUndoKeepsWhatOthersHaveChangedSince takes out the script's own lines alone.
func TestUndoKeepsWhatOthersHaveChangedSince(t *testing.T) {
	m := newMachine(t, []string{"sh"}, debianFiles(), newRoot(t, "larder root"))
	m.install()
	for path, edit := range map[string]func(string) string{
		"/etc/environment":        func(s string) string { return "BAR=2\n" + s + "BAZ=3\n" },
		"/etc/pip.conf":           func(s string) string { return strings.Replace(s, "x.test", "y.test", 1) },
		"/etc/maven/settings.xml": func(s string) string { return strings.Replace(s, "<settings>", "<settings >", 1) },
	} {
		writeFile(t, filepath.Join(m.root, path), []byte(edit(m.read(path))))
	}
	if err := os.Remove(filepath.Join(m.root, "/root/.m2/settings.xml")); err != nil {
		t.Fatal(err)
	}
	m.setUp(0, "--undo")
	if got := m.read("/etc/environment"); got != "BAR=2\nFOO=1\nBAZ=3\n" {
		t.Errorf("environment is %q", got)
	}
	if got, want := m.read("/etc/pip.conf"), strings.Replace(debianFiles()["/etc/pip.conf"], "x.test", "y.test", 1); got != want {
		t.Errorf("pip.conf is %q", got)
	}
	if got, want := m.read("/etc/maven/settings.xml"), strings.Replace(debianFiles()["/etc/maven/settings.xml"], "<settings>", "<settings >", 1); got != want {
		t.Errorf("settings.xml is %q", got)
	}
	for path := range m.tree() {
		if strings.Contains(path, "larder") {
			t.Errorf("%s is left", path)
		}
	}
}

func TestSetupLeavesAloneWhatItCannotChangeSafely(t *testing.T) {
	files := debianFiles()
	files["/etc/maven/settings.xml"] = "<settings><proxies></proxies></settings>\n"
	files["/etc/pip.conf"] = "[global]\nproxy=http://own.test:1\ncert = /own.pem\n"
	files["/usr/etc/npmrc"] = "a=b\n# larder setup: begin\nc=d\n"
	m := newMachine(t, []string{"sh"}, files, newRoot(t, "larder root"))
	out := m.install()
	for _, path := range []string{"/etc/maven/settings.xml", "/etc/pip.conf", "/usr/etc/npmrc"} {
		if got := m.read(path); got != files[path] {
			t.Errorf("%s became %s", path, got)
		}
		if !strings.Contains(out, "larder: warning: "+path) {
			t.Errorf("nothing is said of %s:\n%s", path, out)
		}
	}
}

func TestSetupOfSomePartsLeavesTheOthers(t *testing.T) {
	m := newMachine(t, []string{"sh"}, debianFiles(), newRoot(t, "larder root"))
	m.install("--skip", "npm,maven")
	if got := m.read("/usr/etc/npmrc"); got != "fund=false\n" {
		t.Errorf("npmrc is %s", got)
	}
	after := m.tree()
	m.setUp(0, "--ca", m.ca, "--only", "apt")
	if diff := cmp.Diff(after, m.tree()); diff != "" {
		t.Errorf("--only apt undoes (-before +after):\n%s", diff)
	}
	if out := m.setUp(2, "--only", "npm,nothing"); !strings.Contains(out, "no part nothing") {
		t.Errorf("--only nothing: %s", out)
	}
}

// TestSetupStaysBelowItsRoot has links that lead to the machine it runs on, if they
// were followed from there.
func TestSetupStaysBelowItsRoot(t *testing.T) {
	outside := t.TempDir()
	writeFile(t, filepath.Join(outside, "npmrc"), []byte("untouched"))
	files := debianFiles()
	files["/usr/etc/npmrc"] = "-> " + filepath.Join(outside, "npmrc")
	files["/usr/share/maven/conf"] = "-> ../../../../../../../../etc/maven"
	m := newMachine(t, []string{"sh"}, files, newRoot(t, "larder root"))
	m.install()
	if got, err := os.ReadFile(filepath.Join(outside, "npmrc")); err != nil || string(got) != "untouched" {
		t.Errorf("%s, %v", got, err)
	}
	if got := m.read(filepath.Join(outside, "npmrc")); !strings.Contains(got, "cafile=") {
		t.Errorf("below the root: %s", got)
	}
}

func TestScriptHoldsNothingThatAShellWouldRead(t *testing.T) {
	good := Script{Kit: "https://[fd00::1]:3443", Proxy: Proxy{URL: "http://larder.test:3128"}}
	if _, err := good.Render(); err != nil {
		t.Error(err)
	}
	for _, bad := range []Script{
		{Kit: "http://larder.test", Proxy: good.Proxy},
		{Kit: "http://larder.test:3128/x", Proxy: good.Proxy},
		{Kit: "http://larder.test:3128'", Proxy: good.Proxy},
		{Kit: "file:///etc", Proxy: good.Proxy},
		{Kit: good.Kit, Proxy: Proxy{URL: "http://$(id):3128"}},
		{Kit: good.Kit, Proxy: Proxy{URL: "http://u:p@larder.test:3128"}},
		{Kit: good.Kit},
	} {
		if script, err := bad.Render(); err == nil {
			t.Errorf("%+v:\n%.300s", bad, script)
		}
	}
	// What clients would not understand is left out already.
	script, err := Script{Kit: good.Kit, Proxy: Proxy{URL: good.Proxy.URL, NoProxy: []string{"a'b", "$(id)", "ok.test"}}}.Render()
	if err != nil || bytes.Contains(script, []byte("a'b")) || bytes.Contains(script, []byte("$(id)")) || !bytes.Contains(script, []byte("::1,ok.test")) {
		t.Errorf("%v", err)
	}
}

func TestShellcheckHasNothingToSay(t *testing.T) {
	if _, err := exec.LookPath("shellcheck"); err != nil {
		if os.Getenv("LARDER_REQUIRE_CLIENTS") != "" {
			t.Fatal("shellcheck is missing, and LARDER_REQUIRE_CLIENTS is set")
		}
		t.Skip("shellcheck is not installed")
	}
	m := newMachine(t, nil, nil, newRoot(t, "larder root"))
	if out, err := exec.Command("shellcheck", "--shell=sh", m.script).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// printOf is the fingerprint of a certificate in DER.
func printOf(der []byte) string { return Fingerprint(&x509.Certificate{Raw: der}) }

// TestSetupMakesATrustStoreForJVMs has roots of each length that base64 pads in
// another way, and one that is there twice.
func TestSetupMakesATrustStoreForJVMs(t *testing.T) {
	var want [][]byte
	for i := range 6 {
		want = append(want, newRoot(t, strings.Repeat("x", i+1)))
	}
	for name, shell := range shells(t) {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"/etc/ssl/certs/ca-certificates.crt": "# roots\n" + string(encode(want[:5]...)) + string(encode(want[0]))}
			m := newMachine(t, shell, files, want[5])
			m.install("--only", "trust")
			roots, err := pkcs12.DecodeTrustStore([]byte(m.read("/etc/larder/trust/truststore.p12")), "")
			var got [][]byte
			for _, root := range roots {
				got = append(got, root.Raw)
			}
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}
