package tests

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"larder/tests/origin"
)

const gemsHost = "gems.test"

func matrixRuby() []matrixRow {
	distrust := regexp.MustCompile(`certificate verify failed|Could not verify the SSL certificate`)
	return []matrixRow{
		scriptRow(matrixRow{
			client: "Ruby Net::HTTP", needs: []string{"ruby"}, version: []string{"ruby", "--version"}, distrust: distrust,
		}, "get.rb", "require 'net/http'\nputs Net::HTTP.get(URI(ARGV[0]))\n", "ruby"),
		{
			client: "gem", needs: []string{"gem"}, version: []string{"gem", "--version"}, host: gemsHost, distrust: distrust,
			registry: serveGems,
			fetch: func(_ *testing.T, dir string) command {
				return command{dir: dir, argv: []string{
					"gem", "install", "--clear-sources", "--source", "https://" + gemsHost, "--no-document", "--install-dir", filepath.Join(dir, "gems"), "larder-demo",
				}}
			},
			verify: func(t *testing.T, dir string, _ result) {
				wantFile(t, filepath.Join(dir, "gems/gems/larder-demo-1.0.0/demo.rb"))
			},
		},
		{
			client: "Bundler", needs: []string{"bundle", "gem"}, version: []string{"bundle", "--version"}, host: gemsHost, distrust: distrust,
			registry: serveGems,
			fetch: func(t *testing.T, dir string) command {
				writeFile(t, dir, "Gemfile", lines("source 'https://"+gemsHost+"'", "gem 'larder-demo'"))
				writeFile(t, dir, ".bundle/config", "---\nBUNDLE_PATH: \"vendor\"\n")
				return command{dir: dir, argv: []string{"bundle", "install"}}
			},
			verify: func(t *testing.T, dir string, _ result) {
				found, err := filepath.Glob(filepath.Join(dir, "vendor/ruby/*/gems/larder-demo-1.0.0/demo.rb"))
				if err != nil || len(found) != 1 {
					t.Errorf("bundle installed %v (%v)", found, err)
				}
			},
		},
	}
}

// serveGems serves one gem with the index that RubyGems itself makes of it.
func serveGems(t *testing.T, s *origin.Server) []string {
	t.Helper()
	dir := privateDir(t)
	mkdir(t, dir, "gems")
	writeFile(t, dir, "demo.rb", "# demo\n")
	writeFile(t, dir, "demo.gemspec", lines(
		"Gem::Specification.new do |s|", "  s.name = 'larder-demo'", "  s.version = '1.0.0'", "  s.summary = 'demo'",
		"  s.authors = ['nobody']", "  s.license = 'MIT'", "  s.homepage = 'https://gems.test/'", "  s.files = ['demo.rb']", "  s.require_paths = ['.']", "end",
	))
	for _, args := range [][]string{{"build", "--output", "gems/larder-demo-1.0.0.gem", "demo.gemspec"}, {"generate_index", "--directory", "."}} {
		cmd := exec.Command("gem", args...)
		cmd.Dir, cmd.Env = dir, hermetic(dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("gem %v: %v\n%s", args, err, out)
		}
	}
	s.Handle(gemsHost, http.FileServer(http.Dir(dir)))
	return nil
}
