package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"larder/tests/origin"
)

// gitClient clones over smart HTTP under a rule that passes: git's protocol goes
// through an intercepting proxy whole. What is cached of it is in git_test.go.
func gitClient() client {
	return client{
		name:   "git",
		needs:  []string{"git"},
		online: true,
		rules: `rules:
  - name: test-git
    hosts: [git.test]
    action: pass
`,
		registry: func(t *testing.T, s *origin.Server) []string {
			root := mkdir(t, privateDir(t), "repositories")
			makeRepository(t, filepath.Join(root, "demo.git"))
			must(t, origin.Git(s, "git.test", root))
			return nil
		},
		fetch: func(_ *testing.T, dir string) command {
			return command{
				dir:  dir,
				argv: []string{"git", "clone", "--quiet", "https://git.test/demo.git"},
				env:  []string{"GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0"},
			}
		},
		verify: func(t *testing.T, dir string, _ result) {
			wantFile(t, filepath.Join(dir, "demo/ballast.bin"))
		},
		// Protocol version 2: the advertisement, the refs, the pack.
		artifact:  func(e origin.Exchange) bool { return e.Header.Get("Git-Protocol") == "version=2" },
		artifacts: 3,
	}
}

// makeRepository makes a bare repository with one commit that is large enough
// for the pack to come in many pieces.
func makeRepository(t *testing.T, bare string) {
	t.Helper()
	work := privateDir(t)
	writeFile(t, work, "ballast.bin", string(readAll(t, origin.NewContent("git", 3<<20))))
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"},
		{"add", "."},
		{"-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "first"},
		{"clone", "--quiet", "--bare", work, bare},
	} {
		cmd := exec.Command("git", args...)
		cmd.Dir = work
		cmd.Env = hermetic(work, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
}
