package tests

import (
	"path/filepath"
	"strings"
	"testing"

	"larder/tests/origin"
)

func npmClient() client {
	return client{
		name:  "npm",
		needs: []string{"npm"},
		registry: func(t *testing.T, s *origin.Server) []string {
			must(t, origin.NPM(s, npmHost,
				origin.Package{Name: "@larder/demo", Version: "1.0.0", Requires: []string{"larder-dep"}, Payload: 2 << 20},
				origin.Package{Name: "larder-dep", Version: "2.1.0", Payload: 10},
			))
			return nil
		},
		fetch: func(t *testing.T, dir string) command {
			writeFile(t, dir, "package.json", `{"name": "consumer", "version": "1.0.0"}`)
			// A cafile in somebody's npmrc makes npm ignore every other CA variable.
			writeFile(t, dir, ".npmrc", "cafile=/etc/ssl/certs/ca-certificates.crt\n")
			return command{
				dir:  dir,
				argv: []string{"npm", "install", "--no-fund", "--no-audit", "@larder/demo"},
				env:  []string{"npm_config_cache=" + filepath.Join(dir, "npm-cache"), "npm_config_update_notifier=false"},
			}
		},
		verify: func(t *testing.T, dir string, _ result) {
			wantFile(t, filepath.Join(dir, "node_modules/@larder/demo/ballast.bin"))
			wantFile(t, filepath.Join(dir, "node_modules/larder-dep/package.json"))
		},
		artifact:  func(e origin.Exchange) bool { return strings.HasSuffix(e.Path, ".tgz") },
		artifacts: 2,
	}
}
