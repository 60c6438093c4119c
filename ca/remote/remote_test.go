package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloudflare/cfssl/signer"

	"larder/ca"
)

const (
	key1 = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	key2 = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"
)

// center is a larder that has the root and signs for others.
type center struct {
	log       bytes.Buffer // complete when no request is under way
	keeper    ca.Keeper
	url       string
	cert      atomic.Pointer[tls.Certificate]
	permitted []string
}

func startCenter(t *testing.T) *center {
	t.Helper()
	c := &center{keeper: ca.Keeper{Dir: filepath.Join(t.TempDir(), "ca")}, permitted: []string{"example.org", "other.test"}}
	if _, err := c.keeper.Init(); err != nil {
		t.Fatal(err)
	}
	c.renew(t)
	h, err := NewHandler(Options{
		Keeper: c.keeper, Permitted: func() ([]string, error) { return c.permitted, nil },
		Keys: map[string]string{"n1": key1, "n2": key2}, Logger: slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), &c.log), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	server.Listener = tls.NewListener(server.Listener, &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.cert.Load(), nil },
	})
	server.Start()
	t.Cleanup(server.Close)
	c.url = strings.Replace(server.URL, "http://", "https://", 1)
	return c
}

func (c *center) renew(t *testing.T) {
	t.Helper()
	cert, err := c.keeper.ServerCertificate([]string{"127.0.0.1", "signer.test"})
	if err != nil {
		t.Fatal(err)
	}
	c.cert.Store(cert)
}

// roots returns those that clients are to trust at present.
func (c *center) roots(t *testing.T) string {
	t.Helper()
	data, err := c.keeper.IssueNode("roots", nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return selfSigned(data)
}

// node opens an authority that has its intermediate signed by the center.
func (c *center) node(t *testing.T, config Config, permitted ...string) (*ca.Authority, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state", "ca")
	if err := config.Save(dir); err != nil {
		t.Fatal(err)
	}
	return openNode(t, dir, permitted...)
}

func openNode(t *testing.T, dir string, permitted ...string) (*ca.Authority, error) {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ca.Open(ca.Options{Dir: dir, PermittedDNS: permitted, Signer: s, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err == nil {
		t.Cleanup(func() { a.Close() })
	}
	return a, err
}

func verify(t *testing.T, a *ca.Authority, host string, roots string) error {
	t.Helper()
	leaf, err := a.Leaf(context.Background(), host)
	if err != nil {
		return err
	}
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(roots))
	for _, der := range leaf.Certificate[1:] {
		above, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(above)
	}
	_, err = leaf.Leaf.Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, DNSName: host})
	return err
}

func TestNodesOfOneSigner(t *testing.T) {
	c := startCenter(t)
	roots := c.roots(t)
	n1, err := c.node(t, Config{c.url, "n1", key1, roots}, "example.org")
	if err != nil {
		t.Fatal(err)
	}
	n2, err := c.node(t, Config{c.url + "/", "n2", key2, roots}, "example.org", "other.test")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(verify(t, n1, "a.example.org", roots), verify(t, n2, "other.test", roots)); err != nil {
		t.Error(err)
	}
	if n1.Issuing().PermittedDNSDomains[0] != "example.org" || len(n1.Issuing().PermittedDNSDomains) != 1 {
		t.Errorf("n1 is constrained to %v", n1.Issuing().PermittedDNSDomains)
	}
	// A policy that widens gets another at once, one beyond the signer's none.
	if err := n1.Permit([]string{"example.org", "other.test"}); err != nil {
		t.Error(err)
	}
	if err := verify(t, n1, "other.test", roots); err != nil {
		t.Error(err)
	}
	if err := n1.Permit([]string{"beyond.test"}); err == nil || !strings.Contains(err.Error(), "beyond.test") {
		t.Errorf("beyond the signer's policy: %v", err)
	}
	entries, _, err := c.keeper.Log()
	if err != nil {
		t.Fatal(err)
	}
	nodes := map[string]int{}
	for _, e := range entries {
		if e.Kind == ca.KindIntermediate {
			nodes[e.Node]++
		}
	}
	if nodes["n1"] != 2 || nodes["n2"] != 1 {
		t.Errorf("intermediates in the log: %v", nodes)
	}
}

func TestNodeOnDiskNeedsNoSigner(t *testing.T) {
	c := startCenter(t)
	dir := filepath.Join(t.TempDir(), "ca")
	if err := (Config{c.url, "n1", key1, c.roots(t)}).Save(dir); err != nil {
		t.Fatal(err)
	}
	first, err := openNode(t, dir, "example.org")
	if err != nil {
		t.Fatal(err)
	}
	config, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	config.URL = "https://127.0.0.1:1" // nobody is there
	if err := config.Save(dir); err != nil {
		t.Fatal(err)
	}
	second, err := openNode(t, dir, "example.org")
	if err != nil || !second.Issuing().Equal(first.Issuing()) {
		t.Errorf("without the signer: %v", err)
	}
	if _, err := openNode(t, dir, "other.test"); err == nil || !strings.Contains(err.Error(), config.URL) {
		t.Errorf("a wider policy without the signer: %v", err)
	}
}

func TestSignerRefuses(t *testing.T) {
	c, other := startCenter(t), startCenter(t)
	roots := c.roots(t)
	for name, tt := range map[string]struct {
		config Config
		says   string
		hint   string
	}{
		"another's key": {Config{c.url, "n1", key2, roots}, `does not know node "n1"`, "--nodes"},
		"unknown node":  {Config{c.url, "n3", key1, roots}, `does not know node "n3"`, "--nodes"},
		"another root":  {Config{c.url, "n1", key1, other.roots(t)}, ": tls: failed to verify", "--signer-root"},
		"another host":  {Config{strings.Replace(c.url, "127.0.0.1", "localhost", 1), "n1", key1, roots}, ": tls: failed to verify", "--host"},
	} {
		_, err := c.node(t, tt.config, "example.org")
		problem, ok := errors.AsType[*SignerError](err)
		if !ok || !strings.Contains(err.Error(), tt.config.URL+": ") || !strings.Contains(problem.Error(), tt.says) || !strings.Contains(problem.Hint(), tt.hint) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), key1) || strings.Contains(err.Error(), key2) || strings.ContainsAny(err.Error(), "{}")) {
			t.Errorf("%s: the message has the key in it, or JSON: %v", name, err)
		}
	}
	_, err := c.node(t, Config{c.url, "n1", key1, roots}, "evil.test")
	if problem, ok := errors.AsType[*SignerError](err); !ok || !strings.Contains(problem.Problem, "[evil.test]") || strings.Contains(problem.Problem, "{") {
		t.Errorf("a name that the policy there does not open: %v", err)
	}
	if n := strings.Count(c.log.String(), `msg="request refused" client=127.0.0.1:`); n != 2 {
		t.Errorf("%d requests with wrong keys are logged, want 2:\n%s", n, &c.log)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: poolOf(roots)}}}
	defer client.CloseIdleConnections()
	for path, want := range map[string]int{
		"/api/v1/cfssl/sign": http.StatusNotFound, "/": http.StatusNotFound, "/api/v1/cfssl/authsign": http.StatusBadRequest,
	} {
		resp, err := client.Post(c.url+path, "application/json", strings.NewReader(`{"token":"","request":"e30="}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	resp, err := client.Post(c.url+"/api/v1/cfssl/authsign", "application/json", bytes.NewReader(make([]byte, maxRequest+1)))
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("a request of more than is read: %s", resp.Status)
		}
	}
}

func poolOf(roots string) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(roots))
	return pool
}

func TestSignerIsAskedForSoMuchOnly(t *testing.T) {
	c := startCenter(t)
	dir := filepath.Join(t.TempDir(), "ca")
	if err := (Config{c.url, "n1", key1, c.roots(t)}).Save(dir); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	csrPEM, err := (ca.Keeper{Dir: dir}).Request([]string{"example.org"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range signBurst {
		if _, err := s.Sign(signer.SignRequest{Request: string(csrPEM)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Sign(signer.SignRequest{Request: string(csrPEM)}); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("%v", err)
	}
}

// TestNodeFollowsARotation has the root rotated and retired under a node.
func TestNodeFollowsARotation(t *testing.T) {
	c := startCenter(t)
	old := c.roots(t)
	dir := filepath.Join(t.TempDir(), "ca")
	if err := (Config{c.url, "n1", key1, old}).Save(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := openNode(t, dir, "example.org"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.keeper.Rotate(); err != nil {
		t.Fatal(err)
	}
	c.renew(t)
	both := c.roots(t)
	node, err := openNode(t, dir, "example.org") // asks at once, as it does every hour
	if err != nil {
		t.Fatal(err)
	}
	if string(node.RootPEM()) != both || both == old {
		t.Error("the node does not have both roots")
	}
	current := strings.SplitAfterN(both, "-----END CERTIFICATE-----\n", 2)[0]
	if err := errors.Join(verify(t, node, "a.example.org", old), verify(t, node, "a.example.org", current)); err != nil {
		t.Error(err)
	}
	if _, err := c.keeper.Retire(true); err != nil {
		t.Fatal(err)
	}
	c.renew(t)
	node, err = openNode(t, dir, "example.org")
	if err != nil || string(node.RootPEM()) != current {
		t.Errorf("the node keeps a root that was retired: %v", err)
	}
	if config, err := Load(dir); err != nil || config.Roots != current {
		t.Errorf("the retired root still vouches for the signer: %v", err)
	}
}

func TestConfig(t *testing.T) {
	roots := startCenter(t).roots(t)
	good := Config{"https://signer.test:3130", "n1", key1, roots}
	for name, change := range map[string]func(*Config){
		"plain http":    func(c *Config) { c.URL = "http://signer.test:3130" },
		"no host":       func(c *Config) { c.URL = "https://" },
		"two addresses": func(c *Config) { c.URL += ",https://b.test" },
		"a path":        func(c *Config) { c.URL += "/x" },
		"no node":       func(c *Config) { c.Node = "" },
		"no key":        func(c *Config) { c.Key = "" },
		"short key":     func(c *Config) { c.Key = key1[:62] },
		"a file":        func(c *Config) { c.Key = "file:/etc/passwd" },
		"no root":       func(c *Config) { c.Roots = "hello" },
	} {
		c := good
		change(&c)
		if err := c.Save(filepath.Join(t.TempDir(), "ca")); err == nil {
			t.Errorf("%s: saved", name)
		}
	}
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := Load(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if err := good.Save(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(dir); err != nil || got != good {
		t.Errorf("%+v, %v", got, err)
	}
	if err := os.Chmod(filepath.Join(dir, configFile), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("loose mode: %v", err)
	}
}

func TestParseKeys(t *testing.T) {
	keys, err := parseKeys([]byte("# nodes\n\nn1 " + key1 + "\n  n2\t" + key2 + "\n"))
	if err != nil || len(keys) != 2 || keys["n2"] != key2 {
		t.Errorf("%d nodes, %v", len(keys), err)
	}
	for text, says := range map[string]string{
		"":                              "none",
		"n1":                            "line 1",
		"n1 " + key1 + " x":             "line 1",
		"\nn1 env:KEY":                  "line 2",
		"n1 abc":                        "hexadecimal",
		"n1 " + key1 + "\nn1 " + key2:   "line 2",
		"n1 " + strings.Repeat("g", 64): "hexadecimal",
	} {
		if _, err := parseKeys([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte("# nodes\nn1 " + key1 + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeys(data)
		for node, key := range keys {
			if err != nil || node == "" || checkKey(key) != nil {
				t.Fatalf("%q: %v", node, err)
			}
		}
	})
}

// TestSignerThatKnowsNothingOfAWish has a center that does not sign for larder's own
// name: its nodes serve all the same.
func TestSignerThatKnowsNothingOfAWish(t *testing.T) {
	c := startCenter(t)
	roots := c.roots(t)
	dir := filepath.Join(t.TempDir(), "state", "ca")
	if err := (Config{c.url, "n1", key1, roots}).Save(dir); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ca.Open(ca.Options{Dir: dir, PermittedDNS: []string{"example.org"}, WishedDNS: []string{"larder.internal"}, Signer: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if err := verify(t, a, "a.example.org", roots); err != nil {
		t.Error(err)
	}
	if err := verify(t, a, "larder.internal", roots); err == nil {
		t.Error("the center signs for a name that is not its policy's")
	}
}
