package tests

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"larder/tests/origin"
)

func matrixGo() []matrixRow {
	return []matrixRow{
		matrixOf(goClient(), matrixRow{
			host: goProxyHost, version: []string{"go", "version"},
			distrust: regexp.MustCompile(`certificate signed by unknown authority`),
			fetch: func(t *testing.T, dir string) command {
				cmd := goClient().fetch(t, dir)
				cmd.env = nil
				// A process of go's own would go on writing when go has ended.
				writeFile(t, cmd.dir, "config/go/telemetry/mode", "off 2024-01-01\n")
				return cmd
			},
			verify: func(t *testing.T, dir string, _ result) {
				wantFile(t, filepath.Join(dir, "consumer/go/pkg/mod/example.test/!larder/demo@v1.2.0/ballast.bin"))
			},
		}),
	}
}

func matrixRust() []matrixRow {
	return []matrixRow{
		matrixOf(cargoClient(), matrixRow{
			host: cratesIndexHost, version: []string{"cargo", "--version"},
			distrust: regexp.MustCompile(`SSL peer certificate .* was not OK|SSL certificate problem|unable to get local issuer certificate`),
			verify: func(t *testing.T, dir string, _ result) {
				found, err := filepath.Glob(filepath.Join(dir, ".cargo/registry/cache/*/*.crate"))
				if err != nil || len(found) != 2 {
					t.Errorf("cargo keeps %v, want two crates (%v)", found, err)
				}
			},
		}),
	}
}

// matrixSystem are the clients of machines and of containers.
func matrixSystem() []matrixRow {
	apt := aptClient("https")
	inner := apt.fetch
	apt.fetch = func(t *testing.T, dir string) command {
		cmd := inner(t, dir)
		f, err := os.OpenFile(filepath.Join(dir, "apt.conf"), os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteString("Acquire::Retries \"0\";\n")
		must(t, errors.Join(err, f.Close()))
		return cmd
	}
	return []matrixRow{
		matrixOf(apt, matrixRow{
			client: "apt", host: debianHost, version: []string{"apt-get", "--version"},
			distrust: regexp.MustCompile(`certificate is NOT trusted`),
		}),
		{
			client: "skopeo", needs: []string{"skopeo"}, version: []string{"skopeo", "--version"}, host: "registry.test",
			distrust: regexp.MustCompile(`certificate signed by unknown authority`),
			registry: func(_ *testing.T, s *origin.Server) []string {
				s.Handle("registry.test", imageRegistry())
				return nil
			},
			fetch: func(_ *testing.T, dir string) command {
				return command{dir: dir, argv: []string{"skopeo", "inspect", "--raw", "docker://registry.test/demo:1"}}
			},
			verify: func(t *testing.T, _ string, res result) {
				var manifest struct{ MediaType string }
				if err := json.Unmarshal([]byte(res.stdout), &manifest); err != nil || manifest.MediaType == "" {
					t.Errorf("skopeo printed no manifest: %v", res)
				}
			},
		},
	}
}

// imageRegistry has one image, of which nobody fetches more than the manifest.
func imageRegistry() http.Handler {
	const kind = "application/vnd.oci.image.index.v1+json"
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /v2/demo/manifests/1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write([]byte(`{"schemaVersion":2,"mediaType":"` + kind + `","manifests":[]}`)) // the client's error says so
	})
	return mux
}
