package tests

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"larder/tests/origin"
)

// goEnvironment is a go command of its own below dir, whatever the user's says.
func goEnvironment(dir string) []string {
	return []string{
		"GOENV=off",
		"GOFLAGS=-modcacherw",
		"GOTOOLCHAIN=local",
		"GOPATH=" + filepath.Join(dir, "gopath"),
		"GOMODCACHE=" + filepath.Join(dir, "modcache"),
		"GOCACHE=" + filepath.Join(dir, "gocache"),
		"GOTELEMETRY=off",
	}
}

func goClient() client {
	immutable := regexp.MustCompile(`/@v/v[0-9.]+\.(info|mod|zip)$|/tile/`)
	return client{
		name:  "go",
		needs: []string{"go"},
		registry: func(t *testing.T, s *origin.Server) []string {
			verifier, err := origin.GoProxy(s, goProxyHost, goSumHost,
				// Upper case is escaped on the way: /example.test/!larder/demo.
				origin.Package{Name: "example.test/Larder/demo", Version: "v1.2.0", Requires: []string{"example.test/dep"}, Payload: 2 << 20},
				origin.Package{Name: "example.test/Larder/demo", Version: "v1.1.0", Requires: []string{"example.test/dep"}, Payload: 10},
				origin.Package{Name: "example.test/dep", Version: "v1.0.0", Payload: 10},
			)
			must(t, err)
			return []string{"GOSUMDB=" + verifier}
		},
		fetch: func(t *testing.T, dir string) command {
			module := mkdir(t, dir, "consumer")
			writeFile(t, module, "go.mod", lines(
				"module consumer", "go 1.21",
				"require example.test/Larder/demo v1.2.0", "require example.test/dep v1.0.0",
			))
			return command{
				dir:  module,
				argv: []string{"sh", "-ec", "go mod download all; go list -m -versions example.test/Larder/demo"},
				env:  goEnvironment(dir),
			}
		},
		verify: func(t *testing.T, dir string, res result) {
			if want := "example.test/Larder/demo v1.1.0 v1.2.0\n"; res.stdout != want {
				t.Errorf("go lists %q, want %q", res.stdout, want)
			}
			wantFile(t, filepath.Join(dir, "modcache/example.test/!larder/demo@v1.2.0/ballast.bin"))
			if sums := readFile(t, filepath.Join(dir, "consumer/go.sum")); !strings.Contains(sums, "example.test/dep v1.0.0") {
				t.Errorf("go.sum lacks the dependency:\n%s", sums)
			}
		},
		artifact:  func(e origin.Exchange) bool { return immutable.MatchString(e.Path) },
		artifacts: 4,
	}
}
