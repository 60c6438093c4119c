package tests

import (
	"path/filepath"
	"strings"
	"testing"

	"larder/tests/origin"
)

func cargoClient() client {
	return client{
		name:  "cargo",
		needs: []string{"cargo"},
		registry: func(t *testing.T, s *origin.Server) []string {
			must(t, origin.Crates(s, cratesIndexHost, cratesFilesHost,
				origin.Package{Name: "larder-demo", Version: "1.0.0", Requires: []string{"ldr"}, Payload: 2 << 20},
				origin.Package{Name: "ldr", Version: "2.1.0", Payload: 10},
			))
			return nil
		},
		fetch: func(t *testing.T, dir string) command {
			writeFile(t, dir, "src/lib.rs", "")
			writeFile(t, dir, "Cargo.toml", lines(
				"[package]", `name = "consumer"`, `version = "0.1.0"`, `edition = "2021"`,
				"[dependencies]", `larder-demo = "1"`,
			))
			return command{
				dir:  dir,
				argv: []string{"cargo", "fetch"},
				env:  []string{"CARGO_HOME=" + filepath.Join(dir, "cargo-home")},
			}
		},
		verify: func(t *testing.T, dir string, _ result) {
			found, err := filepath.Glob(filepath.Join(dir, "cargo-home/registry/cache/*/*.crate"))
			if err != nil || len(found) != 2 {
				t.Errorf("cargo keeps %v, want two crates (%v)", found, err)
			}
		},
		artifact:  func(e origin.Exchange) bool { return strings.HasSuffix(e.Path, "/download") },
		artifacts: 2,
	}
}
