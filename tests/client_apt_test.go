package tests

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"larder/tests/origin"
)

// aptClient updates and downloads over plain HTTP, as apt's sources mostly do,
// or over TLS. It has a tree of its own below dir and no right to the system's.
func aptClient(scheme string) client {
	// apt sends the plus sign of the version as %2b.
	const deb = "larder-demo_1.0+b1_amd64.deb"
	var keyring string
	return client{
		name:  "apt " + scheme,
		needs: []string{"apt-get"},
		registry: func(t *testing.T, s *origin.Server) []string {
			key, err := origin.Debian(s, debianHost, "/debian",
				origin.Package{Name: "larder-demo", Version: "1.0+b1", Requires: []string{"larder-dep"}, Payload: 2 << 20},
				origin.Package{Name: "larder-dep", Version: "2.1", Payload: 10},
			)
			must(t, err)
			keyring = writeFile(t, privateDir(t), "archive.gpg", string(key))
			return nil
		},
		fetch: func(t *testing.T, dir string) command {
			config := aptTree(t, dir, fmt.Sprintf("deb [signed-by=%s] %s://%s/debian stable main\n", keyring, scheme, debianHost))
			return command{
				dir: dir,
				argv: []string{
					"sh", "-ec", `apt-get -c "$1" update; apt-get -c "$1" download larder-demo larder-dep`, "apt", config,
				},
			}
		},
		verify: func(t *testing.T, dir string, _ result) {
			wantFile(t, filepath.Join(dir, deb))
			wantFile(t, filepath.Join(dir, "larder-dep_2.1_amd64.deb"))
		},
		artifact: func(e origin.Exchange) bool {
			return strings.Contains(e.Path, "/pool/") || strings.Contains(e.Path, "/by-hash/")
		},
		artifacts: 3,
	}
}

// aptTree lays out a tree of apt's own below dir, with these sources, and returns
// the configuration that leads there. options are lines of apt.conf.
func aptTree(t *testing.T, dir, sources string, options ...string) string {
	t.Helper()
	mkdir(t, dir, "state/lists/partial")
	mkdir(t, dir, "cache/archives/partial")
	mkdir(t, dir, "etc/preferences.d")
	writeFile(t, dir, "status", "")
	writeFile(t, dir, "etc/sources.list", sources)
	return writeFile(t, dir, "apt.conf", lines(append([]string{
		`APT::Architecture "amd64";`, `APT::Architectures { "amd64"; };`,
		fmt.Sprintf(`Dir::State "%s/state";`, dir),
		fmt.Sprintf(`Dir::State::status "%s/status";`, dir),
		fmt.Sprintf(`Dir::Cache "%s/cache";`, dir),
		fmt.Sprintf(`Dir::Etc "%s/etc";`, dir),
		`Acquire::Languages "none";`,
	}, options...)...))
}
