package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"larder/tests/origin"
)

func pipClient() client {
	return client{
		name:  "pip",
		needs: []string{"pip"},
		registry: func(t *testing.T, s *origin.Server) []string {
			must(t, origin.PyPI(s, pypiIndexHost, pypiFilesHost,
				origin.Package{Name: "larder-demo", Version: "1.0", Requires: []string{"larder-dep"}, Payload: 3 << 20},
				origin.Package{Name: "larder-dep", Version: "2.1", Payload: 10},
				origin.Package{Name: "larder-dep", Version: "2.0", Payload: 10},
			))
			return nil
		},
		fetch: func(_ *testing.T, dir string) command {
			return command{
				dir:  dir,
				argv: []string{"pip", "install", "--target", filepath.Join(dir, "site"), "larder-demo"},
				env: []string{
					"PIP_NO_CACHE_DIR=1",
					"PIP_CONFIG_FILE=" + os.DevNull,
					// The check asks the index for pip itself.
					"PIP_DISABLE_PIP_VERSION_CHECK=1",
				},
			}
		},
		verify: func(t *testing.T, dir string, _ result) {
			wantFile(t, filepath.Join(dir, "site/larder_demo/ballast.bin"))
			wantFile(t, filepath.Join(dir, "site/larder_dep-2.1.dist-info/METADATA"))
		},
		artifact:  func(e origin.Exchange) bool { return strings.HasPrefix(e.Path, "/packages/") },
		artifacts: 3, // two wheels and at least one metadata file
	}
}
