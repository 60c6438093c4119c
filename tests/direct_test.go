package tests

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"larder/tests/origin"
)

// directEnvironment points clients at a proxy that does nothing but join them to
// the origins, and makes them trust the origins' authority.
func directEnvironment(t *testing.T, origins *origin.Server) []string {
	t.Helper()
	proxy := httptest.NewServer(joiner(origins))
	t.Cleanup(proxy.Close)
	dir := privateDir(t)
	pem := writeFile(t, dir, "origins.pem", string(origins.Authority.PEM()))
	env := []string{
		"APT_CONFIG=" + writeFile(t, dir, "apt.conf", `Acquire::https::CaInfo "`+pem+`";`),
	}
	for _, name := range []string{"http_proxy", "https_proxy", "HTTPS_PROXY"} {
		env = append(env, name+"="+proxy.URL)
	}
	for _, name := range []string{"SSL_CERT_FILE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO", "CARGO_HTTP_CAINFO", "npm_config_cafile"} {
		env = append(env, name+"="+pem)
	}
	if _, err := exec.LookPath("keytool"); err == nil {
		store := filepath.Join(dir, "trust.p12")
		out, err := exec.Command("keytool", "-importcert", "-noprompt", "-alias", "origins",
			"-file", pem, "-keystore", store, "-storepass", "changeit").CombinedOutput()
		if err != nil {
			t.Fatalf("make a trust store: %v\n%s", err, out)
		}
		at, port, _ := net.SplitHostPort(proxy.Listener.Addr().String())
		env = append(env, "JAVA_TOOL_OPTIONS=-Dhttps.proxyHost="+at+" -Dhttps.proxyPort="+port+
			" -Djavax.net.ssl.trustStore="+store+" -Djavax.net.ssl.trustStorePassword=changeit")
	}
	return env
}

// joiner is a forward proxy for which every name is the origins' address.
func joiner(origins *origin.Server) http.Handler {
	plain := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", origins.PlainAddr()
		r.Out.Host = r.In.Host
	}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			plain.ServeHTTP(w, r)
			return
		}
		upstream, err := net.Dial("tcp", origins.TLSAddr())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer upstream.Close()
		down, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer down.Close()
		if _, err := io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
			return
		}
		var both sync.WaitGroup
		both.Go(func() { _, _ = io.Copy(upstream, down); _ = upstream.(*net.TCPConn).CloseWrite() })
		both.Go(func() { _, _ = io.Copy(down, upstream); _ = down.(*net.TCPConn).CloseWrite() })
		both.Wait()
	})
}

// lines joins lines of a file.
func lines(text ...string) string { return strings.Join(text, "\n") + "\n" }
