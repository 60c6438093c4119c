package tests

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"larder/tests/origin"
)

const artifactsHost = "artifacts.test"

// artifactRules are for hosts that no preset knows: an operator's own.
const artifactRules = `rules:
  - name: test-releases
    hosts: [artifacts.test]
    paths: ["/releases/**", "/gated/**", "/truncated/**"]
    action: immutable
  - name: test-indexes
    hosts: [artifacts.test]
    paths: ["/index/**", "/bare/**"]
    action: revalidate
    stale_if_error: 24h
  - name: test-rest
    hosts: [artifacts.test]
    action: pass
`

func curlClient() client {
	const release, index = "/releases/300000/tool-1.0.tar", "/index/tools.txt"
	return client{
		name:  "curl",
		needs: []string{"curl"},
		rules: artifactRules,
		registry: func(_ *testing.T, s *origin.Server) []string {
			origin.ServeArtifacts(s, artifactsHost)
			return nil
		},
		fetch: func(_ *testing.T, dir string) command {
			return command{
				dir: dir,
				argv: []string{
					"curl", "--fail", "--silent", "--show-error", "--remote-name-all",
					"https://" + artifactsHost + release, "https://" + artifactsHost + index,
				},
			}
		},
		verify: func(t *testing.T, dir string, _ result) {
			want := origin.Sum256("tool-1.0.tar", 300000)
			if got := fileSum(t, filepath.Join(dir, "tool-1.0.tar")); got != hex.EncodeToString(want[:]) {
				t.Errorf("SHA-256 of the artifact is %s, want %x", got, want)
			}
			if got, want := readFile(t, filepath.Join(dir, "tools.txt")), "tools.txt, edition 0\n"; got != want {
				t.Errorf("index says %q, want %q", got, want)
			}
		},
		artifact:  func(e origin.Exchange) bool { return strings.HasPrefix(e.Path, "/releases/") },
		artifacts: 1,
	}
}

// artifactURL is a URL of the artifacts host.
func artifactURL(format string, args ...any) string {
	return "https://" + artifactsHost + fmt.Sprintf(format, args...)
}
