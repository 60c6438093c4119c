package tests

import (
	"path/filepath"
	"strings"
	"testing"

	"larder/tests/origin"
)

// TestListeners serves the other modes that curl knows, each from the same store.
func TestListeners(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl")
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	in := newInstance(t, origins, `listeners:
  - { listen: "127.0.0.1:0", mode: tls-proxy }
  - { listen: "127.0.0.1:0", mode: socks5 }
`+artifactRules)
	s := in.serve(t)
	bundle := filepath.Join(in.state, "trust", "bundle.pem")
	for i, c := range []struct{ mode, scheme string }{
		{"tls-proxy", "https"},
		{"socks5", "socks5h"},
	} {
		at := s.waitLog(t, func(l logLine) bool { return strings.Contains(l.raw, `"mode":"`+c.mode+`"`) }).Listen
		res := command{
			dir: privateDir(t),
			argv: []string{
				"curl", "--fail", "--silent", "--show-error", "--include", "--output", "-", "--proxy", c.scheme + "://" + at,
				"--cacert", bundle, "--proxy-cacert", bundle, artifactURL("/releases/1000/tool.tar"),
			},
		}.run(t)
		if res.code != 0 {
			t.Fatalf("curl by way of %s failed: %v", c.mode, res)
		}
		if hit := strings.Contains(strings.ToLower(res.stdout), "cache-status: larder; hit"); hit != (i > 0) {
			t.Errorf("by way of %s: hit is %v", c.mode, hit)
		}
	}
	if n := len(origins.Exchanges(nil)); n != 1 {
		t.Errorf("%d requests upstream, want 1", n)
	}
}
