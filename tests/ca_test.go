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

// trusts reports whether a new client that knows only this root is served.
func (s *service) trusts(t testing.TB, root *x509.Certificate) bool {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(root)
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

// TestRotationUnderAServer rotates and retires the root of a larder that serves.
func TestRotationUnderAServer(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	in := newInstance(t, origins, artifactRules)
	s := in.serve(t)
	old := in.trusted(t)[0]
	if !s.trusts(t, old) {
		t.Fatal("not trusted before the rotation")
	}
	reload := func(roots int) {
		t.Helper()
		s.signal(t, syscall.SIGHUP)
		if !eventually(func() bool { return len(in.trusted(t)) == roots }, s.done) {
			t.Fatalf("%d roots in the trust files, want %d", len(in.trusted(t)), roots)
		}
	}
	in.ca(t, "rotate")
	reload(2)
	renewed := in.trusted(t)[0]
	if renewed.Equal(old) {
		t.Fatal("the old root is the first of the trust files")
	}
	if !s.trusts(t, old) || !s.trusts(t, renewed) {
		t.Errorf("in the overlap: old root trusted %v, new root %v", s.trusts(t, old), s.trusts(t, renewed))
	}
	in.ca(t, "rotate", "--retire", "--early")
	reload(1)
	if s.trusts(t, old) || !s.trusts(t, renewed) {
		t.Errorf("after the retirement: old root trusted %v, new root %v", s.trusts(t, old), s.trusts(t, renewed))
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
