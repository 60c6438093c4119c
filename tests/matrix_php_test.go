package tests

import (
	"archive/tar"
	"bytes"
	"crypto/sha1"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"testing"

	"larder/tests/origin"
)

func matrixPHP() []matrixRow {
	const host = "packages.test"
	streams := regexp.MustCompile(`certificate verify failed`)
	libcurl := regexp.MustCompile(`unable to get local issuer certificate`)
	return []matrixRow{
		{
			client: "Composer", needs: []string{"composer"}, version: []string{"composer", "--version"}, host: host,
			distrust: regexp.MustCompile(`certificate verify failed|unable to get local issuer certificate`),
			registry: serveComposer(host),
			fetch: func(t *testing.T, dir string) command {
				writeFile(t, dir, "composer.json", `{
  "repositories": [{"type": "composer", "url": "https://`+host+`"}, {"packagist.org": false}],
  "require": {"larder/demo": "1.0.0"}
}`)
				return command{dir: dir, argv: []string{"composer", "--no-interaction", "--no-plugins", "install"}}
			},
			verify: func(t *testing.T, dir string, _ result) {
				wantFile(t, filepath.Join(dir, "vendor/larder/demo/demo.php"))
			},
		},
		scriptRow(matrixRow{
			client: "PHP curl", needs: []string{"php"}, version: []string{"php", "-r", "echo PHP_VERSION, ' ', curl_version()['version'];"}, distrust: libcurl,
		}, "get.php", `<?php $c = curl_init($argv[1]); curl_setopt($c, CURLOPT_RETURNTRANSFER, true); $r = curl_exec($c);
if ($r === false) { fwrite(STDERR, curl_error($c)."\n"); exit(1); } echo $r;`, "php"),
		scriptRow(matrixRow{
			client: "PHP streams", needs: []string{"php"}, version: []string{"php", "--version"}, distrust: streams,
			more: &matrixMore{
				text:       "a stream context with `proxy` in the program (`stream_context_set_default`): PHP reads no variable for that; roots it takes from `SSL_CERT_FILE`",
				pastLarder: true,
				apply: func(_ *testing.T, c command, vars map[string]string, _ bool) command {
					c.argv = append(c.argv, "tcp://"+vars["https_proxy"][len("http://"):])
					return c
				},
			},
		}, "get.php", `<?php if ($argc > 2) { stream_context_set_default(["http" => ["proxy" => $argv[2]]]); }
$r = file_get_contents($argv[1]); if ($r === false) { exit(1); } echo $r;`, "php"),
	}
}

// serveComposer serves a repository of one package.
func serveComposer(host string) func(t *testing.T, s *origin.Server) []string {
	return func(t *testing.T, s *origin.Server) []string {
		var dist bytes.Buffer
		w := tar.NewWriter(&dist)
		for name, body := range map[string]string{"demo/composer.json": `{"name": "larder/demo"}`, "demo/demo.php": "<?php\n"} {
			must(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body))}))
			_, err := w.Write([]byte(body))
			must(t, err)
		}
		must(t, w.Close())
		mux := http.NewServeMux()
		mux.HandleFunc("GET /packages.json", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"packages": {"larder/demo": {"1.0.0": {"name": "larder/demo", "version": "1.0.0",
				"dist": {"type": "tar", "url": "https://%s/demo.tar", "shasum": "%x"}}}}}`, host, sha1.Sum(dist.Bytes()))
		})
		mux.HandleFunc("GET /demo.tar", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(dist.Bytes()) // the client's error says so
		})
		s.Handle(host, mux)
		return nil
	}
}
