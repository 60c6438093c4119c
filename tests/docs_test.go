package tests

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// TestLinksInDocsResolve keeps the guides from naming files that are not there.
func TestLinksInDocsResolve(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)
	found := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "out" || d.Name() == "node_modules" || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			found++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 5 {
		t.Errorf("only %d links found: the test does not see the documents", found)
	}
}

// TestDocumentsNameTestsThatExist keeps the documents from promising what no test
// shows any more.
func TestDocumentsNameTestsThatExist(t *testing.T) {
	t.Parallel()
	there := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`")
	documents := make(map[string]string)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if strings.HasSuffix(path, "_test.go") || filepath.Ext(path) == ".md" {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if filepath.Ext(path) == ".md" {
				documents[path] = string(text)
			}
			for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
				there[m[1]] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range documents {
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			if !there[m[1]] {
				t.Errorf("%s names %s, which is no test", path, m[1])
			}
		}
	}
}

// TestSnippetsParse keeps the YAML and JSON of the guides from going wrong unseen.
func TestSnippetsParse(t *testing.T) {
	t.Parallel()
	block := regexp.MustCompile("(?ms)^```(yaml|json)\n(.*?)^```")
	found := 0
	for _, guide := range []string{"clients.md", "fleet.md", "egress.md", "upstream.md"} {
		text := readFile(t, filepath.Join("..", "docs", guide))
		for _, m := range block.FindAllStringSubmatch(text, -1) {
			found++
			var v any
			if err := yaml.Unmarshal([]byte(m[2]), &v); err != nil { // JSON is YAML too
				t.Errorf("%s: %v\n%s", guide, err, m[2])
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d snippets found: the test does not see the documents", found)
	}
}
