package ca

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
	"software.sslmate.com/src/go-pkcs12"
)

// tool returns the path of a program of others, or skips the test; where all are
// promised to be there (.ci/run) it fails it.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("LARDER_REQUIRE_CLIENTS") != "" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	return path
}

func writePEM(t *testing.T, ders ...[]byte) string {
	t.Helper()
	var data []byte
	for _, der := range ders {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	path := filepath.Join(t.TempDir(), "certs.pem")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenSSLVerifiesStrictly(t *testing.T) {
	openssl := tool(t, "openssl")
	a := open(t, Options{PermittedDNS: []string{"example.org", "10.0.0.0/8"}})
	for name, want := range map[string]string{
		"files.example.org": "",
		"a_b.example.org":   "",
		"10.1.2.3":          "",
		"other.test":        "permitted subtree violation",
		"notexample.org":    "permitted subtree violation",
		"11.1.2.3":          "permitted subtree violation",
		"2001:db8::1":       "permitted subtree violation",
	} {
		cert := forge(t, a, name)
		hostFlag := "-verify_hostname"
		if host, _ := parseName(name); host.addr.IsValid() {
			hostFlag = "-verify_ip"
		}
		out, err := exec.Command(openssl, "verify", "-x509_strict", "-purpose", "sslserver", hostFlag, name,
			"-CAfile", writePEM(t, a.Root().Raw), "-untrusted", writePEM(t, cert.Certificate[1]),
			writePEM(t, cert.Certificate[0])).CombinedOutput()
		if (err == nil) != (want == "") || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestOpenSSLExcludesAddresses(t *testing.T) {
	openssl := tool(t, "openssl")
	a := open(t, Options{PermittedDNS: []string{"example.org"}})
	for _, name := range []string{"10.1.2.3", "2001:db8::1"} {
		cert := forge(t, a, name)
		out, err := exec.Command(openssl, "verify", "-CAfile", writePEM(t, a.Root().Raw),
			"-untrusted", writePEM(t, cert.Certificate[1]), writePEM(t, cert.Certificate[0])).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "excluded subtree violation") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestOpenSSLClientConnects(t *testing.T) {
	openssl := tool(t, "openssl")
	a := open(t, Options{PermittedDNS: []string{"example.org"}})
	addr := serve(t, a)
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		cmd := exec.Command(openssl, "s_client", "-connect", addr, "-servername", "files.example.org",
			"-verify_hostname", "files.example.org", "-verify_return_error", "-x509_strict", "-CAfile", writePEM(t, a.Root().Raw), version)
		cmd.Stdin = strings.NewReader("Q\n")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Verify return code: 0 (ok)") {
			t.Errorf("%s: %v\n%s", version, err, out)
		}
	}
}

// TestOtherClients has TLS stacks of other languages connect for a name inside
// and one outside of the constraints.
func TestOtherClients(t *testing.T) {
	a := open(t, Options{PermittedDNS: []string{"example.org"}})
	_, port, _ := net.SplitHostPort(serve(t, a))
	root := writePEM(t, a.Root().Raw)
	store := filepath.Join(t.TempDir(), "roots.p12")
	data, err := pkcs12.Modern2023.EncodeTrustStore([]*x509.Certificate{a.Root()}, "changeit")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(store, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, command := range map[string][]string{
		"python": {"python3", "testdata/connect.py", root, port},
		"java":   {"java", "testdata/Connect.java", store, port},
		"node":   {"node", "testdata/connect.js", root, port},
	} {
		t.Run(name, func(t *testing.T) {
			tool(t, command[0])
			out, err := exec.Command(command[0], append(command[1:], "files.example.org", "other.test", "127.0.0.1")...).CombinedOutput()
			text := string(out)
			if err != nil || !strings.Contains(text, "files.example.org trusted") ||
				!strings.Contains(text, "other.test refused") || !strings.Contains(text, "127.0.0.1 refused") {
				t.Errorf("%v\n%s", err, text)
			}
		})
	}
}

// TestStolenIntermediateIsRefused has each TLS stack meet a leaf for a host
// outside of the policy, signed by the intermediate that larder serves with:
// what a thief of its key could show.
func TestStolenIntermediateIsRefused(t *testing.T) {
	inside := open(t, Options{PermittedDNS: []string{"example.org"}})
	outside := open(t, Options{PermittedDNS: []string{"other.test"}})
	for name, connect := range connectors() {
		t.Run(name, func(t *testing.T) {
			_, port, _ := net.SplitHostPort(serve(t, inside))
			if !connect(t, []*x509.Certificate{inside.Root()}, port) {
				t.Error("a leaf for a host of the policy is refused")
			}
			_, port, _ = net.SplitHostPort(serve(t, outside))
			if connect(t, []*x509.Certificate{outside.Root()}, port) {
				t.Error("a leaf for a host outside of the policy is trusted")
			}
		})
	}
}

// TestZlint holds the chain against the lints of RFC 5280, which those of the
// public web's authorities are not.
func TestZlint(t *testing.T) {
	registry, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: lint.SourceList{lint.RFC5280, lint.RFC5891}})
	if err != nil {
		t.Fatal(err)
	}
	a := open(t, Options{PermittedDNS: []string{"example.org", "bücher.example"}})
	rotated := open(t, Options{PermittedDNS: []string{"example.org"}})
	if _, err := (Keeper{Dir: rotated.dir}).Rotate(); err != nil {
		t.Fatal(err)
	}
	if err := rotated.Refresh(); err != nil {
		t.Fatal(err)
	}
	signer, err := (Keeper{Dir: a.dir}).ServerCertificate([]string{"signer.example", "10.1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{
		"cross":        leaf(t, rotated, "example.org").Certificate[2],
		"signer":       signer.Leaf.Raw,
		"root":         a.Root().Raw,
		"intermediate": a.Issuing().Raw,
		"leaf":         leaf(t, a, "files.example.org").Leaf.Raw,
		"address leaf": leaf(t, open(t, Options{PermittedDNS: []string{"example.org", "10.0.0.0/8"}}), "10.1.2.3").Leaf.Raw,
		"IDN leaf":     leaf(t, a, "bücher.example").Leaf.Raw,
	} {
		cert, err := zx509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		for id, result := range zlint.LintCertificateEx(cert, registry).Results {
			if result.Status >= lint.Warn {
				t.Errorf("%s: %s: %v %s", name, id, result.Status, result.Details)
			}
		}
	}
}

// TestJavaConnectsToAnAddress has one family of addresses permitted only.
func TestJavaConnectsToAnAddress(t *testing.T) {
	tool(t, "java")
	for permitted, want := range map[string]string{"127.0.0.0/8": "trusted", "2001:db8::/32": "refused"} {
		a := open(t, Options{PermittedDNS: []string{"example.org", permitted}})
		_, port, _ := net.SplitHostPort(serve(t, a))
		store := filepath.Join(t.TempDir(), "roots.p12")
		data, err := pkcs12.Modern2023.EncodeTrustStore([]*x509.Certificate{a.Root()}, "changeit")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(store, data, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("java", "testdata/Connect.java", store, port, "127.0.0.1").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "127.0.0.1 "+want) {
			t.Errorf("with %s permitted: %v\n%s", permitted, err, out)
		}
	}
}

// TestFetchersOfAnAddress has an address permitted next to names, with clients
// built on OpenSSL and (wget, on Debian) GnuTLS.
func TestFetchersOfAnAddress(t *testing.T) {
	for _, tt := range []struct {
		permitted []string
		trusted   bool
	}{
		{[]string{"example.org", "127.0.0.0/8"}, true},
		{[]string{"example.org", "10.0.0.0/8"}, false},
		{[]string{"example.org", "2001:db8::/32"}, false},
		{[]string{"example.org"}, false},
	} {
		a := open(t, Options{PermittedDNS: tt.permitted})
		url, root := "https://"+serve(t, a)+"/", writePEM(t, a.Root().Raw)
		for name, command := range map[string][]string{
			"curl": {"curl", "-sS", "--http1.1", "--noproxy", "*", "--cacert", root, "--capath", "/nowhere", url},
			"wget": {"wget", "-nv", "-t1", "--no-proxy", "--ca-certificate", root, "-O-", url},
		} {
			t.Run(name, func(t *testing.T) {
				tool(t, command[0])
				out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
				if (err == nil) != tt.trusted || strings.HasPrefix(string(out), "ok") != tt.trusted {
					t.Errorf("with %v permitted: %v\n%s", tt.permitted, err, out)
				}
			})
		}
	}
}
