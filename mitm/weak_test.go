package mitm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// weakSuites are what no current browser speaks, by the names of OpenSSL; RC4 and
// 3DES are in crypto/tls, which the tests here and of certificates use too.
func weakSuites() map[uint16]string {
	return map[uint16]string{
		tls.TLS_RSA_WITH_RC4_128_SHA:                "",
		tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA:          "",
		tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA:           "DES-CBC3-SHA",
		tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA:     "ECDHE-RSA-DES-CBC3-SHA",
		tls.TLS_RSA_WITH_AES_128_CBC_SHA:            "AES128-SHA",
		tls.TLS_RSA_WITH_AES_128_CBC_SHA256:         "AES128-SHA256",
		tls.TLS_RSA_WITH_AES_256_GCM_SHA384:         "AES256-GCM-SHA384",
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA:    "ECDHE-ECDSA-AES128-SHA",
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA:    "ECDHE-ECDSA-AES256-SHA",
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256: "ECDHE-ECDSA-AES128-SHA256",
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256:   "ECDHE-RSA-AES128-SHA256",
	}
}

// TestWeakClientsAreRefused: on an intercepted connection larder speaks nothing that
// it would not speak to an origin.
func TestWeakClientsAreRefused(t *testing.T) {
	w := newWorld(t, passEverything, nil, nil)
	handshake := func(c *tls.Config) error {
		conn := w.dial()
		w.connect(conn, "a.test:443", 200)
		c.RootCAs, c.ServerName = w.larder, "a.test"
		return tls.Client(conn, c).Handshake()
	}
	for id := range weakSuites() {
		err := handshake(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{id}})
		if err == nil || !strings.Contains(err.Error(), "handshake failure") {
			t.Errorf("%s: %v", tls.CipherSuiteName(id), err)
		}
	}
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		err := handshake(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: version})
		if err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
	for _, id := range []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256} {
		if err := handshake(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{id}}); err != nil {
			t.Errorf("%s: %v", tls.CipherSuiteName(id), err)
		}
	}
}

// TestNoSettingBringsWeakSuitesBack: GODEBUG may change what crypto/tls does by
// default, not what is listed.
func TestNoSettingBringsWeakSuitesBack(t *testing.T) {
	t.Setenv("GODEBUG", "tlsrsakex=1,tls3des=1,tls10server=1,x509sha1=1")
	p := newPKI(t)
	for name, c := range map[string]struct {
		config configOf
		reason string
	}{
		"3DES":       {suite(leafKey(rsaKey(2048)), tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA), "handshake failure"},
		"RSA":        {suite(leafKey(rsaKey(2048)), tls.TLS_RSA_WITH_AES_128_GCM_SHA256), "handshake failure"},
		"SHA-1 leaf": {leaf(sha1Signed), "signed with ECDSA-SHA1"},
	} {
		p.t, p.host = t, "a.test"
		addr := startOrigin(t, c.config(p), false, nil)
		w := newWorld(t, passEverything, map[string]string{"a.test:443": addr}, &authorityKey{cert: p.root.cert})
		res, body := get(t, w.client(false), "https://a.test/")
		if res.StatusCode != 502 || !strings.Contains(body, c.reason) {
			t.Errorf("%s: %s %q", name, res.Status, body)
		}
	}
}

// openssl runs the program, if there is one that may speak weakly.
func openssl(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil && os.Getenv("LARDER_REQUIRE_CLIENTS") != "" {
		t.Fatal("openssl is not installed")
	}
	if err != nil {
		t.Skip("openssl is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, path, args...)
}

// TestWeakOpenSSLClients: the same by another hand, with renegotiation.
func TestWeakOpenSSLClients(t *testing.T) {
	w := newWorld(t, passEverything, nil, nil)
	client := func(args ...string) string {
		cmd := openssl(t, append([]string{"s_client", "-proxy", w.addr, "-connect", "a.test:443", "-servername", "a.test"}, args...)...)
		cmd.Stdin = strings.NewReader("")
		out, _ := cmd.CombinedOutput() // it fails where it is meant to
		return string(out)
	}
	for _, name := range weakSuites() {
		if name == "" {
			continue
		}
		out := client("-tls1_2", "-cipher", name+":@SECLEVEL=0")
		if strings.Contains(out, "Cipher is "+name) || strings.Contains(out, "Cipher    : "+name) {
			t.Errorf("%s was spoken:\n%s", name, out)
		}
	}
	for _, version := range []string{"-tls1", "-tls1_1"} {
		out := client(version, "-cipher", "DEFAULT:@SECLEVEL=0")
		if !strings.Contains(out, "alert protocol version") && !strings.Contains(out, "no protocols available") && !strings.Contains(out, "unknown option") {
			t.Errorf("%s was spoken:\n%s", version, out)
		}
	}
	if out := client("-tls1_2"); !strings.Contains(out, "Cipher is ECDHE-ECDSA-AES") || !strings.Contains(out, "Secure Renegotiation IS supported") {
		t.Errorf("TLS 1.2 was not spoken:\n%s", out)
	}
	if out := client("-tls1_2", "-sigalgs", "ECDSA+SHA1", "-cipher", "DEFAULT:@SECLEVEL=0"); strings.Contains(out, "Peer signing digest: SHA1") {
		t.Errorf("a handshake was signed with SHA-1:\n%s", out)
	}
}

// TestWeakOpenSSLOrigins are refused, with a reason.
func TestWeakOpenSSLOrigins(t *testing.T) {
	p := newPKI(t)
	p.host = "a.test"
	rsa := p.root.issue(p, false, rsaKey(2048))
	der, err := x509.MarshalPKCS8PrivateKey(rsa.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := secretFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rsa.cert.Raw})))
	key := secretFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	for _, c := range []struct{ args, reason string }{
		{"-tls1_2 -cipher AES128-SHA:@SECLEVEL=0", "handshake failure"},
		{"-tls1_2 -cipher AES256-GCM-SHA384:@SECLEVEL=0", "handshake failure"},
		{"-tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0", "handshake failure"},
		{"-tls1_2 -cipher ECDHE-RSA-AES128-SHA256:@SECLEVEL=0", "handshake failure"},
		{"-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0 -sigalgs RSA+SHA1", "handshake failure"},
		{"-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0 -curves secp224r1", "handshake failure"},
		{"-tls1_1 -cipher DEFAULT:@SECLEVEL=0", "protocol version"},
		{"-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256", ""},
	} {
		t.Run(c.args, func(t *testing.T) {
			args := append([]string{"s_server", "-accept", "127.0.0.1:0", "-cert", certificate, "-key", key, "-www"}, strings.Fields(c.args)...)
			addr := startOpenSSL(t, openssl(t, args...))
			w := newWorld(t, passEverything, map[string]string{"a.test:443": addr}, &authorityKey{cert: p.root.cert})
			res, body := get(t, w.client(false), "https://a.test/")
			if c.reason == "" {
				if res.StatusCode != 200 {
					t.Errorf("%s %q", res.Status, body)
				}
				return
			}
			if res.StatusCode != 502 || !strings.Contains(body, c.reason) {
				t.Errorf("%s %q", res.Status, body)
			}
		})
	}
}

// startOpenSSL starts a server that chooses its port, and says which.
func startOpenSSL(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var failed bytes.Buffer
	cmd.Stderr = &failed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
		addr, ok := strings.CutPrefix(lines.Text(), "ACCEPT ")
		if !ok {
			continue
		}
		drained := make(chan struct{})
		go func() { // ends when the server does
			defer close(drained)
			_, _ = io.Copy(io.Discard, out)
		}()
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			<-drained
			_ = cmd.Wait() // it was killed
		})
		return addr
	}
	_ = cmd.Wait()
	t.Fatalf("openssl %q does not listen: %q %s", cmd.Args, said, failed.String())
	return ""
}
