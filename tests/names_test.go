package tests

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// spelled are the hosts of package registries that no file may spell out. A
// preset or a document says *.npmjs.org or {index,static}.crates.io instead: a
// glob cannot be dialled by mistake, nor by a tool that collects addresses.
func spelled() []string {
	return []string{
		pypiIndexHost, pypiFilesHost, host("pypi", "python", "org"), host("test", "pypi", "org"),
		npmHost, host("registry", "yarnpkg", "com"),
		goProxyHost, goSumHost, host("index", "golang", "org"),
		cratesIndexHost, cratesFilesHost,
		mavenHost, host("repo1", "maven", "org"), host("central", "maven", "org"),
		debianHost, host("security", "debian", "org"), host("snapshot", "debian", "org"), host("ftp", "debian", "org"),
	}
}

// TestNoFileSpellsARegistry reads every tracked file.
func TestNoFileSpellsARegistry(t *testing.T) {
	t.Parallel()
	top := strings.TrimSpace(gitOutput(t, ".", "rev-parse", "--show-toplevel"))
	quoted := make([]string, 0, len(spelled()))
	for _, name := range spelled() {
		quoted = append(quoted, regexp.QuoteMeta(name))
	}
	// A longer name around it, such as sub.host, is another host; the glob *.host
	// is none.
	found := regexp.MustCompile(`(?i)(^|[^a-z0-9_*.-])(` + strings.Join(quoted, "|") + `)($|[^a-z0-9_-])`)
	for file := range strings.SplitSeq(strings.TrimRight(gitOutput(t, top, "ls-files", "-z"), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join(top, file))
		if err != nil {
			continue // deleted in the work tree, or a link to nowhere
		}
		for number, line := range bytes.Split(data, []byte("\n")) {
			if m := found.FindSubmatch(line); m != nil {
				t.Errorf("%s:%d spells the registry %s", file, number+1, m[2])
			}
		}
	}
}

func gitOutput(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}
