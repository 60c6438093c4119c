package tests

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"larder/tests/origin"
)

// TestHTTP2Client gets the same hit over HTTP/2 as over HTTP/1.1.
func TestHTTP2Client(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	s := newInstance(t, origins, artifactRules).serve(t)
	target := artifactURL("/releases/%d/tool.tar", 1<<20)
	_, want := get(t, s.client(t), target)

	client := s.client(t)
	client.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	res, got := get(t, client, target)
	if res.ProtoMajor != 2 {
		t.Errorf("larder speaks %s to a client that offers h2", res.Proto)
	}
	if status := res.Header.Get("Cache-Status"); !strings.HasPrefix(status, "larder; hit") {
		t.Errorf("Cache-Status is %q, want a hit", status)
	}
	if string(got) != string(want) {
		t.Errorf("body over HTTP/2 differs")
	}
}

// TestNotTLSIsTunnelled writes plain HTTP behind a CONNECT to a host that larder
// would intercept if it spoke TLS.
func TestNotTLSIsTunnelled(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	s := newInstance(t, origins, artifactRules).serve(t)
	conn := s.dialTunnel(t, artifactsHost+":80")
	_, err := io.WriteString(conn, "GET /index/list.txt HTTP/1.1\r\nHost: "+artifactsHost+"\r\nConnection: close\r\n\r\n")
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	defer res.Body.Close()
	if body := readAll(t, res.Body); string(body) != "list.txt, edition 0\n" {
		t.Errorf("tunnel delivered %q", body)
	}
	if status := res.Header.Get("Cache-Status"); status != "" {
		t.Errorf("a tunnelled response has Cache-Status %q", status)
	}
}

// TestUntrustedUpstreamIsRefused has an upstream whose certificate nobody that
// larder trusts has signed. The client must not be shown a good certificate
// with somebody's bytes behind it.
func TestUntrustedUpstreamIsRefused(t *testing.T) {
	t.Parallel()
	trusted, impostor := startOrigins(t), startOrigins(t)
	origin.ServeArtifacts(impostor, artifactsHost)
	in := newInstance(t, trusted, artifactRules)
	base := configFor(t, in.dir, trusted)
	writeFile(t, in.dir, "larder.yaml", strings.ReplaceAll(base, trusted.TLSAddr(), impostor.TLSAddr())+artifactRules)
	s := in.serve(t)
	res, body := get(t, s.client(t), artifactURL("/releases/1000/tool.tar"))
	if res.StatusCode != http.StatusBadGateway {
		t.Errorf("status %s, want 502", res.Status)
	}
	if !strings.Contains(string(body), artifactsHost) || !strings.Contains(string(body), "certificate") {
		t.Errorf("body does not name host and reason: %q", body)
	}
	if n := len(impostor.Exchanges(nil)); n != 0 {
		t.Errorf("%d requests were sent to an upstream that is not trusted", n)
	}
}

// TestPrivateAddressesAreNotDialled asks for a loopback address, by its number
// and by CONNECT, of a larder that is not told to allow it.
func TestPrivateAddressesAreNotDialled(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	in := newInstance(t, origins, "")
	writeFile(t, in.dir, "larder.yaml", "listen: \"127.0.0.1:0\"\nadmin: { listen: \"127.0.0.1:0\" }\n")
	s := in.serve(t)
	res, _ := get(t, s.client(t), "http://"+origins.PlainAddr()+"/")
	if res.StatusCode < 400 {
		t.Errorf("plain request for a loopback address: %s", res.Status)
	}
	if res, err := s.client(t).Get("https://" + origins.TLSAddr() + "/"); err == nil {
		res.Body.Close()
		t.Errorf("CONNECT to a loopback address: %s", res.Status)
	}
	if seen := origins.Exchanges(nil); len(seen) != 0 {
		t.Errorf("origin was reached: %v", seen)
	}
}

// TestOtherHostOnAConnectionIsMisdirected names another host in a request than
// the connection was opened for.
func TestOtherHostOnAConnectionIsMisdirected(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	in := newInstance(t, origins, artifactRules)
	s := in.serve(t)
	conn := tls.Client(s.dialTunnel(t, artifactsHost+":443"), &tls.Config{ServerName: artifactsHost, RootCAs: in.roots(t)})
	_, err := io.WriteString(conn, "GET /index/list.txt HTTP/1.1\r\nHost: bank.test\r\n\r\n")
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	res.Body.Close()
	if res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("status %s, want 421", res.Status)
	}
	if n := len(origins.Exchanges(nil)); n != 0 {
		t.Errorf("%d requests went upstream", n)
	}
}

// TestPlainHTTPIsCached sends absolute-form requests, as apt does.
func TestPlainHTTPIsCached(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	s := newInstance(t, origins, artifactRules).serve(t)
	plain := func() *http.Response {
		t.Helper()
		client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: s.proxy})}}
		defer client.CloseIdleConnections()
		res, _ := get(t, client, "http://"+artifactsHost+"/releases/1000/tool.tar")
		return res
	}
	plain()
	if got := plain().Header.Get("Cache-Status"); !strings.HasPrefix(got, "larder; hit") {
		t.Errorf("second plain request: Cache-Status %q, want a hit", got)
	}
	// The scheme is part of what is asked for: https is another resource.
	res, _ := get(t, s.client(t), artifactURL("/releases/1000/tool.tar"))
	if got := res.Header.Get("Cache-Status"); strings.Contains(got, "; hit") {
		t.Errorf("what came over plain HTTP is a hit over TLS: Cache-Status %q", got)
	}
}

// TestPyPIVariants asks one URL for JSON and for HTML, which a cache that keys by
// URL alone would mix up.
func TestPyPIVariants(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	must(t, origin.PyPI(origins, pypiIndexHost, pypiFilesHost, origin.Package{Name: "demo", Version: "1.0", Payload: 10}))
	s := newInstance(t, origins, "").serve(t)
	client := s.client(t)
	for round := range 2 {
		for accept, kind := range map[string]string{
			"application/vnd.pypi.simple.v1+json": "application/vnd.pypi.simple.v1+json",
			"application/vnd.pypi.simple.v1+html": "application/vnd.pypi.simple.v1+html",
			"text/html":                           "text/html; charset=UTF-8",
		} {
			req, err := http.NewRequest(http.MethodGet, "https://"+pypiIndexHost+"/simple/demo/", http.NoBody)
			must(t, err)
			req.Header.Set("Accept", accept)
			res, err := client.Do(req)
			must(t, err)
			// A body that is not read is a fill that is given up.
			readAll(t, res.Body)
			res.Body.Close()
			if got := res.Header.Get("Content-Type"); got != kind {
				t.Errorf("round %d: Accept: %s is answered with %s", round, accept, got)
			}
		}
	}
	if n := len(origins.Exchanges(nil)); n != 3 {
		t.Errorf("%d requests upstream, want one for each variant:\n%s", n, exchangeList(origins))
	}
}

// TestGoFallsThrough lets the go command ask two proxies, of which the first
// knows nothing: its 404 must arrive as one.
func TestGoFallsThrough(t *testing.T) {
	t.Parallel()
	requireClient(t, "go")
	origins := startOrigins(t)
	origins.Handle("goproxy.test", http.NotFoundHandler())
	verifier, err := origin.GoProxy(origins, goProxyHost, goSumHost, origin.Package{Name: "example.test/dep", Version: "v1.0.0", Payload: 10})
	must(t, err)
	in := newInstance(t, origins, `rules:
  - name: first-proxy
    hosts: [goproxy.test]
    action: immutable
    negative_ttl: 10s
`)
	in.endDaemon(t)
	dir := privateDir(t)
	writeFile(t, dir, "go.mod", "module consumer\n\ngo 1.21\n\nrequire example.test/dep v1.0.0\n")
	for range 2 { // the second time with the 404s remembered
		res := in.run(t, command{
			dir:  dir,
			argv: []string{"go", "mod", "download", "-x"},
			env: append(goEnvironment(privateDir(t)),
				"GOPROXY=https://goproxy.test,https://"+goProxyHost, "GOSUMDB="+verifier),
		})
		if res.code != 0 {
			t.Fatalf("go mod download failed: %v", res)
		}
	}
}
