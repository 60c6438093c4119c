package mitm

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"larder/policy"
)

// TestRootsOfAHost: those of its entry hold instead of all others, or besides the
// system's; what upstream.ca_file names holds for the rest.
func TestRootsOfAHost(t *testing.T) {
	common, own := newAuthorityKey(t, "common"), newAuthorityKey(t, "own")
	answer := func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) }
	w := newWorld(t, passEverything, map[string]string{
		"own.test:443":      tlsOrigin(t, own, true, answer, "own.test"),
		"imposter.test:443": tlsOrigin(t, common, true, answer, "imposter.test"),
		"rest.test:443":     tlsOrigin(t, common, true, answer, "rest.test"),
		"stray.test:443":    tlsOrigin(t, own, true, answer, "stray.test"),
	}, common, func(_ *Options, u *UpstreamOptions) {
		u.Hosts = []policy.Origin{
			forHost(t, "{own,imposter}.test", func(o *policy.Origin) { o.CAFile = pemFile(t, own) }),
		}
	})
	for host, status := range map[string]int{"own.test": 200, "imposter.test": 502, "rest.test": 200, "stray.test": 502} {
		if res, body := get(t, w.client(false), "https://"+host+"/"); res.StatusCode != status {
			t.Errorf("%s: %s %q", host, res.Status, body)
		}
	}
}

// TestClientCertificates go to hosts of their entry alone.
func TestClientCertificates(t *testing.T) {
	roots, clients := newAuthorityKey(t, "origins"), newAuthorityKey(t, "clients")
	pool := x509.NewCertPool()
	pool.AddCert(clients.cert)
	wanting := func(name string) string {
		return startOrigin(t, &tls.Config{
			Certificates: []tls.Certificate{roots.leaf(t, nil, name)}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven,
		}, true, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, len(r.TLS.PeerCertificates))
		})
	}
	certificate, key := clientPair(t, clients, "node")
	w := newWorld(t, passEverything, map[string]string{"a.test:443": wanting("a.test"), "b.test:443": wanting("b.test")}, roots,
		func(_ *Options, u *UpstreamOptions) {
			u.Hosts = []policy.Origin{forHost(t, "a.test", func(o *policy.Origin) { o.CertificateFile, o.KeyFile = certificate, key })}
		})
	for host, want := range map[string]string{"a.test": "2", "b.test": "0"} {
		if res, body := get(t, w.client(false), "https://"+host+"/"); res.StatusCode != 200 || body != want {
			t.Errorf("%s: %s, %s certificates, want %s", host, res.Status, body, want)
		}
	}
}

// clientPair writes a client's certificate with its chain, and its key.
func clientPair(t *testing.T, a *authorityKey, name string) (certificate, key string) {
	t.Helper()
	pair := a.leaf(t, func(c *x509.Certificate) {
		c.Subject.CommonName, c.ExtKeyUsage = name, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var chain []byte
	for _, c := range pair.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	return secretFile(t, string(chain)), secretFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

// TestReload: files are read again, all or none, and connections made with what is
// no longer there serve no further request.
func TestReload(t *testing.T) {
	first, second, clients := newAuthorityKey(t, "first"), newAuthorityKey(t, "second"), newAuthorityKey(t, "clients")
	addr := startOrigin(t, &tls.Config{
		Certificates: []tls.Certificate{first.leaf(t, nil, "a.test")}, ClientAuth: tls.RequestClientCert,
	}, true, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Header.Get("Authorization"), r.TLS.PeerCertificates[0].Subject.CommonName)
	})
	roots, secret := pemFile(t, first), secretFile(t, "bearer one")
	certificate, key := clientPair(t, clients, "node 1")
	var upstream *Upstream
	w := newWorld(t, passEverything, map[string]string{"a.test:443": addr}, nil, func(_ *Options, u *UpstreamOptions) {
		u.Hosts = []policy.Origin{forHost(t, "a.test", func(o *policy.Origin) {
			o.CAFile, o.CredentialsFile, o.CertificateFile, o.KeyFile = roots, secret, certificate, key
		})}
	})
	upstream = w.server.options.Upstream
	c := w.client(false)
	want := func(status int, text string) {
		t.Helper()
		if res, body := get(t, c, "https://a.test/"); res.StatusCode != status || !strings.Contains(body, text) {
			t.Errorf("got %s %q, want %d %q", res.Status, body, status, text)
		}
	}
	write := func(file, from string) {
		t.Helper()
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(file, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	want(200, "Bearer one node 1")
	write(secret, secretFile(t, "bearer two"))
	want(200, "Bearer one node 1")
	if err := upstream.Reload(); err != nil {
		t.Fatal(err)
	}
	want(200, "Bearer two node 1")

	certificate2, key2 := clientPair(t, clients, "node 2")
	write(certificate, certificate2)
	write(secret, secretFile(t, "bearer three"))
	if err := upstream.Reload(); err == nil || !strings.Contains(err.Error(), "upstream.hosts, entry 1: certificate_file "+certificate) {
		t.Errorf("a certificate with another's key: %v", err)
	}
	want(200, "Bearer two node 1") // nothing of it
	write(key, key2)
	if err := upstream.Reload(); err != nil {
		t.Fatal(err)
	}
	want(200, "Bearer three node 2")

	write(roots, pemFile(t, second))
	if err := upstream.Reload(); err != nil {
		t.Fatal(err)
	}
	want(502, "unknown authority")
}

// TestFilesThatWillNotDo: the message says which, and whose.
func TestFilesThatWillNotDo(t *testing.T) {
	a := newAuthorityKey(t, "a")
	certificate, key := clientPair(t, a, "node")
	loose := secretFile(t, "bearer hunter2")
	if err := os.Chmod(loose, 0o644); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	parents := func(scheme string, change func(*policy.Parent)) UpstreamOptions {
		u := (&parentProxy{t: t}).start("http", nil)
		u.Scheme = scheme
		return UpstreamOptions{Parents: []policy.Parent{through(t, u, change)}}
	}
	hosts := func(change func(*policy.Origin)) UpstreamOptions {
		return UpstreamOptions{Hosts: []policy.Origin{forHost(t, "a.test", change)}}
	}
	for _, c := range []struct {
		options UpstreamOptions
		want    []string
	}{
		{UpstreamOptions{CAFile: missing}, []string{"upstream.ca_file: ", missing}},
		{UpstreamOptions{CAFile: loose}, []string{"upstream.ca_file: " + loose, "no PEM certificate"}},
		{hosts(func(o *policy.Origin) { o.CAFile = missing }), []string{"upstream.hosts, entry 1: ca_file: ", missing}},
		{hosts(func(o *policy.Origin) { o.CredentialsFile = loose }), []string{"upstream.hosts, entry 1: credentials_file: ", loose, "mode 0644", "chmod 600"}},
		{hosts(func(o *policy.Origin) { o.CertificateFile, o.KeyFile = missing, key }), []string{"certificate_file: ", missing}},
		{hosts(func(o *policy.Origin) { o.CertificateFile, o.KeyFile = certificate, loose }), []string{"key_file: ", "mode 0644"}},
		{hosts(func(o *policy.Origin) { o.CertificateFile, o.KeyFile = key, certificate }), []string{"certificate_file " + key, "key_file " + certificate}},
		{parents("http", func(p *policy.Parent) { p.CredentialsFile = missing }), []string{"upstream.parents, entry 1: credentials_file of parent http://127", missing}},
		{parents("socks5", func(p *policy.Parent) { p.CredentialsFile = secretFile(t, "bearer hunter2") }), []string{"a parent takes basic USER:PASSWORD"}},
		{parents("https", func(p *policy.Parent) { p.CAFile = missing }), []string{"ca_file of parent https://127", missing}},
	} {
		_, err := NewUpstream(c.options)
		if err == nil {
			t.Errorf("no error, want %q", c.want)
			continue
		}
		mustContain(t, "error", err.Error(), c.want...)
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v gives the secret away", err)
		}
	}
}
