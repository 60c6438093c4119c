package tests

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"larder/tests/origin"
)

// ca runs "larder ca" for the instance and returns what it printed.
func (in *instance) ca(t testing.TB, args ...string) string {
	t.Helper()
	argv := append([]string{"ca"}, args...)
	cmd := exec.Command(in.larder, append(argv, "--config", in.config, "--state", in.state)...)
	cmd.Dir, cmd.Env = in.dir, hermetic(in.dir)
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("larder ca %v: %v\n%s", args, err, exit.Stderr)
		}
		t.Fatalf("larder ca %v: %v", args, err)
	}
	return string(out)
}

// trusted returns the roots in trust/ca.pem, the current one first.
func (in *instance) trusted(t testing.TB) []*x509.Certificate {
	t.Helper()
	var roots []*x509.Certificate
	data := []byte(readFile(t, filepath.Join(in.state, "trust", "ca.pem")))
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return roots
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		must(t, err)
		roots = append(roots, cert)
	}
}

// trusts reports whether a new client that knows only these roots is served.
func (s *service) trusts(t testing.TB, roots ...*x509.Certificate) bool {
	t.Helper()
	pool := x509.NewCertPool()
	for _, root := range roots {
		pool.AddCert(root)
	}
	transport := &http.Transport{
		Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: s.proxy}), TLSClientConfig: &tls.Config{RootCAs: pool},
	}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport, Timeout: commandLimit}).Get(artifactURL("/echo"))
	if _, distrust := errors.AsType[*tls.CertificateVerificationError](err); distrust {
		return false
	}
	must(t, err)
	must(t, res.Body.Close())
	return res.StatusCode == http.StatusOK
}

// writeSecretFile writes a file that nobody else reads.
func writeSecretFile(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := writeFile(t, dir, name, text)
	must(t, os.Chmod(path, 0o600))
	return path
}

// TestRotationUnderAServer rotates and retires the root of a larder that serves,
// with each way to come by the new one. Clients that know the old root, both or the
// new one connect in every phase. Package ca has other TLS stacks do the same.
func TestRotationUnderAServer(t *testing.T) {
	t.Parallel()
	requireClient(t, "openssl")
	for name, begin := range map[string]func(t *testing.T, in *instance, corp string){
		"made here": func(t *testing.T, in *instance, _ string) { in.ca(t, "rotate") },
		"imported with its key": func(t *testing.T, in *instance, corp string) {
			in.ca(t, "rotate", "--import-root", corp+".pem", "--root-key", corp+".key")
		},
		"by a company's answer": func(t *testing.T, in *instance, corp string) {
			csr := writeFile(t, in.dir, "node.csr", in.ca(t, "init", "--csr"))
			cert := companySigns(t, in.dir, csr, corp)
			answer := writeFile(t, in.dir, "answer.pem", cert+readFile(t, corp+".pem"))
			in.ca(t, "rotate", "--install", answer)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			origins := startOrigins(t)
			origin.ServeArtifacts(origins, artifactsHost)
			in := newInstance(t, origins, artifactRules)
			s := in.serve(t)
			old := in.trusted(t)[0]
			phase := func(name string, renewed *x509.Certificate, oldOnly, both, newOnly bool) {
				t.Helper()
				if got := s.trusts(t, old); got != oldOnly {
					t.Errorf("%s: a client with the old root is served: %v", name, got)
				}
				if renewed == nil {
					return
				}
				if got := s.trusts(t, old, renewed); got != both {
					t.Errorf("%s: a client with both roots is served: %v", name, got)
				}
				if got := s.trusts(t, renewed); got != newOnly {
					t.Errorf("%s: a client with the new root is served: %v", name, got)
				}
			}
			reload := func(roots int) {
				t.Helper()
				s.signal(t, syscall.SIGHUP)
				if !eventually(func() bool { return len(in.trusted(t)) == roots }, s.done) {
					t.Fatalf("%d roots in the trust files, want %d", len(in.trusted(t)), roots)
				}
			}
			phase("before", nil, true, true, false)
			begin(t, in, companyRoot(t, in.dir))
			phase("rotated and not yet looked at", nil, true, true, false)
			reload(2)
			renewed := in.trusted(t)[0]
			if renewed.Equal(old) {
				t.Fatal("the old root is the first of the trust files")
			}
			phase("overlap", renewed, true, true, true)
			in.ca(t, "rotate", "--retire", "--early")
			phase("retired and not yet looked at", renewed, true, true, true)
			reload(1)
			phase("retired", renewed, false, true, true)
			if show := in.ca(t, "show"); strings.Contains(show, "old root") || strings.Contains(show, "rotation under way") {
				t.Errorf("larder ca show speaks of the old root:\n%s", show)
			}
		})
	}
}

// companyRoot makes a root as companies do and returns its path without ending.
func companyRoot(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "corp")
	openssl(t, dir, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes", "-days", "900",
		"-subj", "/C=ZZ/O=Corp/OU=PKI/CN=Corp Root", "-utf8", "-keyout", path+".key", "-out", path+".pem",
		"-addext", "basicConstraints=critical,CA:true", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
	return path
}

// companySigns has the company sign a request as it stands.
func companySigns(t testing.TB, dir, csr, corp string) (certPEM string) {
	t.Helper()
	extensions := writeFile(t, dir, "ext", lines("basicConstraints=critical,CA:true,pathlen:0", "keyUsage=critical,keyCertSign,cRLSign"))
	out := filepath.Join(dir, "node.crt")
	openssl(t, dir, "x509", "-req", "-in", csr, "-CA", corp+".pem", "-CAkey", corp+".key", "-days", "300",
		"-copy_extensions", "copyall", "-extfile", extensions, "-out", out)
	return readFile(t, out)
}

func openssl(t testing.TB, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir, cmd.Env = dir, hermetic(dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
}

// TestRunWithAPassphrase: "larder run" is given no passphrase. It serves with the
// intermediate that is there, and says what to do when that is not enough.
func TestRunWithAPassphrase(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl")
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	in := newInstance(t, origins, artifactRules)
	passphrase := writeSecretFile(t, in.dir, "passphrase", "correct horse battery\n")
	fetch := func() result {
		return command{dir: in.dir, argv: append(in.runArgs(), "curl", "--fail", "--silent", "--show-error", artifactURL("/echo"))}.run(t)
	}
	refused := func(what string) {
		t.Helper()
		res := fetch()
		if res.code == 0 || !strings.Contains(res.stderr, "root.key is encrypted") || !strings.Contains(res.stderr, "larder ca renew --passphrase-file") {
			t.Errorf("%s: %v", what, res)
		}
	}
	in.ca(t, "init", "--root-only", "--passphrase-file", passphrase)
	refused("without an intermediate")
	in.ca(t, "renew", "--passphrase-file", passphrase)
	if res := fetch(); res.code != 0 {
		t.Fatalf("with an intermediate: %v", res)
	}
	must(t, in.stopDaemon())

	wider := strings.Replace(artifactRules, "rules:\n", "rules:\n  - { name: more, hosts: [more.test], action: pass }\n", 1)
	writeFile(t, in.dir, "larder.yaml", configFor(t, in.dir, origins)+wider)
	refused("when the policy opens more hosts")
	in.ca(t, "renew", "--passphrase-file", passphrase)
	in.endDaemon(t)
	if res := fetch(); res.code != 0 {
		t.Errorf("after larder ca renew: %v", res)
	}
	if log := in.ca(t, "log"); strings.Count(log, " intermediate ") != 2 {
		t.Errorf("log:\n%s", log)
	}
}

// TestOneRootForManyNodes has two larders serve under one root: one that has it,
// and one that asks it for its intermediate over the network.
func TestOneRootForManyNodes(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	center, node := newInstance(t, origins, artifactRules), newInstance(t, origins, artifactRules)
	tickets := writeSecretFile(t, center.dir, "tickets", strings.Repeat("c3", 32)+"\n")
	first := center.serve(t, "--ticket-key-file", tickets)

	key := strings.Repeat("5a", 32)
	nodes := writeSecretFile(t, center.dir, "nodes", "# the fleet\nn2 "+key+"\n")
	signing := center.startSigner(t, "ca", "serve", "--listen", "127.0.0.1:0", "--host", "127.0.0.1", "--nodes", nodes)
	out := node.ca(t, "init", "--signer", "https://"+signing, "--node", "n2",
		"--auth-key-file", writeSecretFile(t, node.dir, "key", key+"\n"), "--signer-root", filepath.Join(center.state, "trust", "ca.pem"))
	if !strings.Contains(out, "larder issuing CA n2 ") {
		t.Errorf("the node has no intermediate of its own:\n%s", out)
	}
	second := node.serve(t, "--ticket-key-file", tickets)
	root := center.trusted(t)[0]
	if !first.trusts(t, root) || !second.trusts(t, root) {
		t.Errorf("one root is trusted at the first node: %v, at the second: %v", first.trusts(t, root), second.trusts(t, root))
	}
	if log := center.ca(t, "log"); !strings.Contains(log, " n2 ") {
		t.Errorf("the node is not in the log:\n%s", log)
	}
	config := &tls.Config{RootCAs: center.roots(t), ServerName: artifactsHost, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	if first.resumes(t, config) || !second.resumes(t, config) {
		t.Error("the second node does not resume a session of the first")
	}
}

// resumes makes a request on a new connection and reports whether its TLS
// session is one of before.
func (s *service) resumes(t testing.TB, config *tls.Config) bool {
	t.Helper()
	conn := tls.Client(s.dialTunnel(t, artifactsHost+":443"), config)
	defer conn.Close()
	_, err := io.WriteString(conn, "GET /echo HTTP/1.1\r\nHost: "+artifactsHost+"\r\nConnection: close\r\n\r\n")
	must(t, err)
	readAll(t, conn) // the ticket comes before the answer
	return conn.ConnectionState().DidResume
}
