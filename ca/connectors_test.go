package ca

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"software.sslmate.com/src/go-pkcs12"
)

// connectors connect to a port of this machine as files.example.org, each with
// a TLS stack of its own, and say whether they trust what they see.
func connectors() map[string]func(t *testing.T, roots []*x509.Certificate, port string) bool {
	run := func(t *testing.T, name string, args ...string) (string, error) {
		tool(t, name)
		cmd := exec.Command(name, args...)
		cmd.Stdin = strings.NewReader("Q\n")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	// script is a program of testdata that prints "NAME trusted" or "refused".
	script := func(t *testing.T, name string, args ...string) bool {
		out, err := run(t, name, append(args, "files.example.org")...)
		trusted, refused := strings.Contains(out, "files.example.org trusted"), strings.Contains(out, "files.example.org refused")
		if err != nil || trusted == refused {
			t.Fatalf("%v\n%s", err, out)
		}
		return trusted
	}
	return map[string]func(*testing.T, []*x509.Certificate, string) bool{
		"go": func(t *testing.T, roots []*x509.Certificate, port string) bool {
			pool := x509.NewCertPool()
			for _, root := range roots {
				pool.AddCert(root)
			}
			conn, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{ServerName: "files.example.org", RootCAs: pool})
			if err != nil {
				if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
					t.Fatal(err)
				}
				return false
			}
			conn.Close()
			return true
		},
		"openssl": func(t *testing.T, roots []*x509.Certificate, port string) bool {
			out, _ := run(t, "openssl", "s_client", "-connect", "127.0.0.1:"+port, "-servername", "files.example.org",
				"-verify_hostname", "files.example.org", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile", rootFile(t, roots))
			if !strings.Contains(out, "Verify return code: ") {
				t.Fatal(out)
			}
			return strings.Contains(out, "Verify return code: 0 (ok)")
		},
		"gnutls": func(t *testing.T, roots []*x509.Certificate, port string) bool {
			out, err := run(t, "gnutls-cli", "--x509cafile", rootFile(t, roots), "--sni-hostname", "files.example.org",
				"--verify-hostname", "files.example.org", "--port", port, "127.0.0.1")
			trusted, refused := strings.Contains(out, "The certificate is trusted"), strings.Contains(out, "NOT trusted")
			if trusted == refused {
				t.Fatalf("%v\n%s", err, out)
			}
			return trusted
		},
		"nss": func(t *testing.T, roots []*x509.Certificate, port string) bool {
			tool(t, "tstclnt")
			db := "sql:" + t.TempDir()
			if out, err := run(t, "certutil", "-N", "-d", db, "--empty-password"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for i, root := range roots {
				if out, err := run(t, "certutil", "-A", "-d", db, "-n", strconv.Itoa(i), "-t", "C,,", "-a", "-i", writePEM(t, root.Raw)); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
			out, err := run(t, "tstclnt", "-4", "-h", "127.0.0.1", "-p", port, "-a", "files.example.org", "-d", db, "-Q")
			if refused := strings.Contains(out, "authentication of server cert failed"); refused == (err == nil) {
				t.Fatalf("%v\n%s", err, out)
			}
			return err == nil
		},
		"rustls": func(t *testing.T, roots []*x509.Certificate, port string) bool {
			uv, err := exec.LookPath("uv") // no Debian package: not in CI
			if err != nil {
				t.Skip(err)
			}
			// What it gets is no HTTP/2. Whether it came so far shows in the error.
			cmd := exec.Command(uv, "pip", "install", "--no-cache", "--no-config", "--target", t.TempDir(), "--index-url", "https://files.example.org/simple", "demo")
			cmd.Env = []string{
				"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "UV_HTTP_RETRIES=0", "UV_SYSTEM_CERTS=1",
				"HTTPS_PROXY=http://" + relay(t, port), "SSL_CERT_FILE=" + rootFile(t, roots),
			}
			out, err := cmd.CombinedOutput()
			trusted, refused := strings.Contains(string(out), "client error (SendRequest)"), strings.Contains(string(out), "invalid peer certificate")
			if err == nil || trusted == refused {
				t.Fatalf("%v\n%s", err, out)
			}
			return trusted
		},
		"python": func(t *testing.T, roots []*x509.Certificate, port string) bool {
			return script(t, "python3", "testdata/connect.py", rootFile(t, roots), port)
		},
		"node": func(t *testing.T, roots []*x509.Certificate, port string) bool {
			return script(t, "node", "testdata/connect.js", rootFile(t, roots), port)
		},
		"java": func(t *testing.T, roots []*x509.Certificate, port string) bool {
			return script(t, "java", "testdata/Connect.java", storeFile(t, roots), port)
		},
	}
}

func rootFile(t *testing.T, roots []*x509.Certificate) string {
	var ders [][]byte
	for _, root := range roots {
		ders = append(ders, root.Raw)
	}
	return writePEM(t, ders...)
}

func storeFile(t *testing.T, roots []*x509.Certificate) string {
	data, err := pkcs12.Modern2023.EncodeTrustStore(roots, "changeit")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "roots.p12")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// relay is a proxy that answers CONNECT to whatever with a connection to a port of
// this machine.
func relay(t *testing.T, port string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer client.Close()
				r := bufio.NewReader(client)
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				server, err := net.Dial("tcp", "127.0.0.1:"+port)
				if err != nil {
					return
				}
				defer server.Close()
				io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
				wg.Go(func() { io.Copy(server, r); server.(*net.TCPConn).CloseWrite() })
				io.Copy(client, server)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}
