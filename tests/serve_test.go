package tests

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"larder/tests/origin"
)

// TestSecondGetIsAHit is the acceptance test of "larder serve" as an operator
// tries it: curl, the bundle, the same URL twice.
func TestSecondGetIsAHit(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl")
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	in := newInstance(t, origins, artifactRules)
	s := in.serve(t)
	target := artifactURL("/releases/1000000/tool.tar")
	var bodies [2][]byte
	var heads [2]string
	for i := range bodies {
		dir := privateDir(t)
		res := command{
			dir: dir,
			argv: []string{
				"curl", "--fail", "--silent", "--show-error", "--proxy", "http://" + s.proxy,
				"--cacert", filepath.Join(in.state, "trust", "bundle.pem"),
				"--dump-header", "head", "--output", "body", target,
			},
		}.run(t)
		if res.code != 0 {
			t.Fatalf("curl failed: %v", res)
		}
		bodies[i] = []byte(readFile(t, filepath.Join(dir, "body")))
		heads[i] = readFile(t, filepath.Join(dir, "head"))
	}
	if strings.Contains(heads[0], "; hit") {
		t.Errorf("first response calls itself a hit:\n%s", heads[0])
	}
	if !strings.Contains(strings.ToLower(heads[1]), "cache-status: larder; hit") {
		t.Errorf("second response is no hit:\n%s", heads[1])
	}
	if !strings.Contains(strings.ToLower(heads[1]), "\nage: ") {
		t.Errorf("second response has no Age:\n%s", heads[1])
	}
	if !bytes.Equal(bodies[0], bodies[1]) || sha256.Sum256(bodies[0]) != origin.Sum256("tool.tar", 1000000) {
		t.Errorf("bodies differ from each other or from the origin's")
	}
	if n := len(origins.Exchanges(nil)); n != 1 {
		t.Errorf("%d requests upstream, want 1", n)
	}
}

// TestHostWithoutRuleShowsItsOwnCertificate looks at the certificate behind a
// tunnel, and at the one that larder shows for a host that it intercepts.
func TestHostWithoutRuleShowsItsOwnCertificate(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	origin.ServeArtifacts(origins, "bank.test")
	in := newInstance(t, origins, artifactRules)
	s := in.serve(t)

	peer := func(name string, config *tls.Config) []byte {
		config.ServerName = name
		conn := tls.Client(s.dialTunnel(t, name+":443"), config)
		must(t, conn.Handshake())
		return conn.ConnectionState().PeerCertificates[0].Raw
	}
	own, err := origins.Authority.Leaf("bank.test")
	must(t, err)
	trustOrigin := &tls.Config{RootCAs: originRoots(t, origins)}
	if !bytes.Equal(peer("bank.test", trustOrigin), own.Certificate[0]) {
		t.Errorf("a tunnelled host shows another certificate than its own")
	}
	own, err = origins.Authority.Leaf(artifactsHost)
	must(t, err)
	if bytes.Equal(peer(artifactsHost, &tls.Config{RootCAs: in.roots(t)}), own.Certificate[0]) {
		t.Errorf("an intercepted host shows its own certificate")
	}
}

// TestReload sends SIGHUP with a changed, then with a wrong configuration while a
// client keeps one connection.
func TestReload(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	in := newInstance(t, origins, artifactRules)
	s := in.serve(t)

	client := s.client(t)
	dials := 0
	transport := client.Transport.(*http.Transport)
	transport.DialContext = countDials(&dials)
	status := func() int {
		res, _ := get(t, client, artifactURL("/echo"))
		return res.StatusCode
	}
	if got := status(); got != http.StatusOK {
		t.Fatalf("before the reload: status %d", got)
	}

	denied := strings.Replace(artifactRules, "rules:\n", `rules:
  - name: closed
    hosts: [artifacts.test]
    paths: ["/echo"]
    action: deny
`, 1)
	base := configFor(t, in.dir, origins)
	writeFile(t, in.dir, "larder.yaml", base+denied)
	s.signal(t, syscall.SIGHUP)
	s.waitLog(t, func(l logLine) bool { return strings.Contains(l.Msg, "reloaded") })
	if got := status(); got != http.StatusForbidden {
		t.Errorf("after the reload: status %d, want %d by the new rule", got, http.StatusForbidden)
	}

	writeFile(t, in.dir, "larder.yaml", base+"rules: [{ nmae: typo }]\n")
	s.signal(t, syscall.SIGHUP)
	s.waitLog(t, func(l logLine) bool { return strings.Contains(l.Msg, "reload failed") })
	if got := status(); got != http.StatusForbidden {
		t.Errorf("after a wrong reload: status %d, want %d by the policy before it", got, http.StatusForbidden)
	}
	if dials != 1 {
		t.Errorf("client needed %d connections, want the one it began with", dials)
	}
}

// TestTermDrains sends SIGTERM in the middle of a download, which must come to
// its end while no new connection is taken.
func TestTermDrains(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	origins := startOrigins(t)
	artifacts := origin.ServeArtifacts(origins, artifactsHost)
	s := newInstance(t, origins, artifactRules).serve(t)
	body := startDownload(t, s, artifactURL("/gated/%d/slow.tar", size), size/4)

	s.signal(t, syscall.SIGTERM)
	if !eventually(func() bool {
		conn, err := net.Dial("tcp", s.proxy)
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	}, s.done) {
		t.Errorf("new connections are still taken after SIGTERM")
	}
	artifacts.Open("slow.tar")
	if n, err := io.Copy(io.Discard, body); err != nil || n != size-size/4 {
		t.Errorf("the download under way was cut after %d more bytes: %v", n, err)
	}
	if code := s.wait(t); code != 0 {
		t.Errorf("exit code %d after a drain, want 0", code)
	}
}

// TestSecondTermEndsAtOnce never lets the download finish.
func TestSecondTermEndsAtOnce(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	s := newInstance(t, origins, artifactRules).serve(t)
	startDownload(t, s, artifactURL("/gated/%d/stuck.tar", size), size/4)
	s.signal(t, syscall.SIGTERM)
	s.waitLog(t, func(l logLine) bool { return strings.Contains(l.Msg, "drain") })
	s.signal(t, syscall.SIGTERM)
	if code := s.wait(t); code == 0 {
		t.Errorf("exit code 0 though the drain was cut short")
	}
}

// startDownload begins a download and returns its body after n bytes of it.
func startDownload(t *testing.T, s *service, target string, n int64) io.Reader {
	t.Helper()
	res, err := s.client(t).Get(target)
	must(t, err)
	t.Cleanup(func() { res.Body.Close() })
	_, err = io.CopyN(io.Discard, res.Body, n)
	must(t, err)
	return res.Body
}

// TestPassedMessagesAreWhole sends through an intercepted host what larder must
// not touch: method, target as written, fields, body.
func TestPassedMessagesAreWhole(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	s := newInstance(t, origins, artifactRules).serve(t)
	const target = "/echo?q=%7Etilde&empty=&plus=a+b&list=%2C"
	req, err := http.NewRequest(http.MethodPost, artifactURL("%s", target), strings.NewReader("the body"))
	must(t, err)
	req.Header.Set("Accept-Encoding", "x-odd;q=0.5")
	req.Header.Add("X-List", "one")
	req.Header.Add("X-List", "two")
	req.Header["User-Agent"] = nil // none sent, none to be added
	res, err := s.client(t).Do(req)
	must(t, err)
	defer res.Body.Close()
	var got origin.Echo
	must(t, json.NewDecoder(res.Body).Decode(&got))
	if got.Method != http.MethodPost || got.Target != target || got.Body != "the body" {
		t.Errorf("origin saw %s %s with body %q", got.Method, got.Target, got.Body)
	}
	if list := got.Header.Values("X-List"); len(list) != 2 || list[0] != "one" || list[1] != "two" {
		t.Errorf("origin saw X-List %q", list)
	}
	if got.Header.Get("Accept-Encoding") != "x-odd;q=0.5" {
		t.Errorf("origin saw Accept-Encoding %q", got.Header.Get("Accept-Encoding"))
	}
	for _, name := range []string{"User-Agent", "Via", "X-Forwarded-For", "Forwarded"} {
		if value, there := got.Header[name]; there {
			t.Errorf("larder added %s: %q", name, value)
		}
	}
	if res.Header.Get("Age") != "" {
		t.Errorf("a response that was passed has Age %s", res.Header.Get("Age"))
	}
}

// TestIndexIsValidated changes a mutable document at the origin between requests
// of a rule without a TTL.
func TestIndexIsValidated(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	artifacts := origin.ServeArtifacts(origins, artifactsHost)
	s := newInstance(t, origins, artifactRules).serve(t)
	client, target := s.client(t), artifactURL("/index/list.txt")
	want := func(text string, upstream int) {
		t.Helper()
		origins.Forget()
		if _, body := get(t, client, target); string(body) != text {
			t.Errorf("index says %q, want %q", body, text)
		}
		seen := origins.Exchanges(nil)
		if len(seen) != 1 || seen[0].Status != upstream {
			t.Errorf("origin saw %v, want one exchange with status %d", seen, upstream)
		}
	}
	want("list.txt, edition 0\n", http.StatusOK)
	want("list.txt, edition 0\n", http.StatusNotModified)
	artifacts.Publish("list.txt")
	want("list.txt, edition 1\n", http.StatusOK)
	want("list.txt, edition 1\n", http.StatusNotModified)

	origins.Down()
	if res, body := get(t, client, target); res.StatusCode != http.StatusOK || string(body) != "list.txt, edition 1\n" {
		t.Errorf("without upstream: %s, %q; want the stale index", res.Status, body)
	}
	if res, _ := get(t, client, artifactURL("/index/other.txt")); res.StatusCode != http.StatusBadGateway {
		t.Errorf("without upstream, not stored: %s, want 502", res.Status)
	}
}

// TestUnchangedBodyCountsAsValidated uses an upstream that knows no validators:
// the same bytes again are no news, and keep the stored response usable.
func TestUnchangedBodyCountsAsValidated(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	artifacts := origin.ServeArtifacts(origins, artifactsHost)
	s := newInstance(t, origins, artifactRules).serve(t)
	client, target := s.client(t), artifactURL("/bare/list.txt")
	for i, want := range []string{"list.txt, edition 0\n", "list.txt, edition 0\n", "list.txt, edition 1\n"} {
		if i == 2 {
			artifacts.Publish("list.txt")
		}
		if _, body := get(t, client, target); string(body) != want {
			t.Errorf("request %d: index says %q, want %q", i, body, want)
		}
		if n := len(origins.Exchanges(nil)); n != i+1 {
			t.Errorf("request %d: origin saw %d requests, want one each", i, n)
		}
	}
	origins.Down()
	if res, body := get(t, client, target); res.StatusCode != http.StatusOK || string(body) != "list.txt, edition 1\n" {
		t.Errorf("without upstream: %s, %q; want the stale index", res.Status, body)
	}
}

// TestRangesAndHeadFromTheStore asks for parts of a stored object with the
// origin down: only the store can answer.
func TestRangesAndHeadFromTheStore(t *testing.T) {
	t.Parallel()
	const size = 3<<20 + 17
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	s := newInstance(t, origins, artifactRules).serve(t)
	client, target := s.client(t), artifactURL("/releases/%d/tool.tar", size)
	_, whole := get(t, client, target)
	origins.Down()
	for _, c := range []struct {
		spec     string
		from, to int // to is exclusive
	}{
		{"bytes=0-0", 0, 1},
		{"bytes=1048570-1048590", 1048570, 1048591},
		{"bytes=3145728-", 3145728, size},
		{"bytes=-20", size - 20, size},
	} {
		req, err := http.NewRequest(http.MethodGet, target, http.NoBody)
		must(t, err)
		req.Header.Set("Range", c.spec)
		res, err := client.Do(req)
		must(t, err)
		body := readAll(t, res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusPartialContent || !bytes.Equal(body, whole[c.from:c.to]) {
			t.Errorf("%s: %s, Content-Range %q, %d bytes, want those from %d to %d",
				c.spec, res.Status, res.Header.Get("Content-Range"), len(body), c.from, c.to)
		}
	}
	res, err := client.Head(target)
	must(t, err)
	res.Body.Close()
	if res.StatusCode != http.StatusOK || res.ContentLength != size {
		t.Errorf("HEAD: %s with Content-Length %d, want %d", res.Status, res.ContentLength, size)
	}
}

// TestAdminIsHealthy asks the admin listener what monitoring asks.
func TestAdminIsHealthy(t *testing.T) {
	t.Parallel()
	s := newInstance(t, startOrigins(t), "").serve(t)
	for _, path := range []string{"/-/healthy", "/-/ready", "/metrics"} {
		res, err := http.Get("http://" + s.admin + path)
		must(t, err)
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
}

// TestStateIsPrivate looks at the modes of what a fresh larder leaves on disk.
func TestStateIsPrivate(t *testing.T) {
	t.Parallel()
	in := newInstance(t, startOrigins(t), "")
	in.serve(t)
	for path, want := range map[string]os.FileMode{
		".": 0o755, "ca": 0o700, "store": 0o700, "integrity": 0o700, "integrity/digests": 0o600, "ledger": 0o700, "ledger/key": 0o600, "run": 0o700, "trust": 0o755,
		"ca/root.key": 0o600, "ca/issuing.key": 0o600, "trust/bundle.pem": 0o644,
	} {
		info, err := os.Stat(filepath.Join(in.state, path))
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}
