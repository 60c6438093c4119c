package tests

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"larder/tests/origin"
)

// TestLFSObjectsComeFromTheCache clones a repository with files in LFS, as GitHub has
// them and as Forgejo does, with the preset as it is shipped.
func TestLFSObjectsComeFromTheCache(t *testing.T) {
	t.Parallel()
	requireClient(t, "git", "git-lfs")
	const github, storage = "github.com", "github-cloud.githubusercontent.com"
	for _, tt := range []struct{ name, host, storage string }{
		{"signed URLs", github, storage},
		{"a token of the batch API", forge, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGitRoot(t)
			lfs := &origin.LFS{Storage: tt.storage}
			for i := range 3 {
				content := readAll(t, origin.NewContent(fmt.Sprint("lfs", i), 1<<20))
				oid := lfs.Add(content)
				g.commit(t, "project", fmt.Sprintf("large%d.dat", i),
					fmt.Sprintf("version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", oid, len(content)))
			}
			g.commit(t, "project", ".gitattributes", "*.dat filter=lfs diff=lfs merge=lfs -text\n")
			g.publish(t, "project")
			must(t, os.Symlink(".", filepath.Join(g.root, "owner")))
			backend, err := origin.GitBackend(g.root)
			must(t, err)
			origins := startOrigins(t)
			origins.Handle(tt.host, lfs.Wrap(backend))
			if tt.storage != "" {
				origins.Handle(tt.storage, lfs)
			}
			s := newInstance(t, origins, "").serve(t)
			clone := func() {
				dir := privateDir(t)
				s.mustGit(t, dir, "-c", "filter.lfs.process=git-lfs filter-process", "-c", "filter.lfs.required=true",
					"clone", "--quiet", "https://"+tt.host+"/owner/project.git", "c")
				for i := range 3 {
					got, err := os.ReadFile(filepath.Join(dir, "c", fmt.Sprintf("large%d.dat", i)))
					must(t, err)
					if want := readAll(t, origin.NewContent(fmt.Sprint("lfs", i), 1<<20)); string(got) != string(want) {
						t.Errorf("large%d.dat has %d bytes, want %d", i, len(got), len(want))
					}
				}
			}
			clone()
			large := func(e origin.Exchange) bool { return e.Method == http.MethodGet && e.Bytes >= 1<<20 }
			fetched := origins.Exchanges(large)
			if n := len(fetched); n != 3 {
				t.Errorf("the first clone fetched %d objects, want 3:\n%s", n, exchangeList(origins))
			}
			origins.Forget()
			clone()
			if n := len(origins.Exchanges(large)); n != 0 {
				t.Errorf("the second clone fetched %d objects:\n%s", n, exchangeList(origins))
			}
			batches := origins.Exchanges(func(e origin.Exchange) bool { return strings.HasSuffix(e.Path, "/objects/batch") })
			if len(batches) == 0 {
				t.Error("the second clone asked no batch API")
			}

			// Who has no right to a URL gets nothing by knowing the name of an object.
			for _, e := range fetched {
				path, _, _ := strings.Cut(e.Path, "?")
				for _, query := range []string{"", "?X-Amz-Signature=00"} {
					res, body := get(t, s.client(t), "https://"+e.Host+path+query)
					if res.StatusCode != http.StatusForbidden && res.StatusCode != http.StatusUnauthorized || len(body) > 1<<10 {
						t.Errorf("%s%s gave %d and %d bytes", path, query, res.StatusCode, len(body))
					}
				}
			}
		})
	}
}
