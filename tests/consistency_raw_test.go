package tests

import (
	"fmt"
	"testing"

	"larder/tests/origin"
)

// TestIndexesOfOneFileAreSeenAtOnce updates repositories whose index is one signed file,
// or one with its signature beside it, whose clients Debian does not have: apk and
// pacman ask as curl does here.
func TestIndexesOfOneFileAreSeenAtOnce(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl")
	for name, repo := range map[string]struct {
		host, folder string
		indexes      []string
		artifact     string // of a version
	}{
		"apk":    {"dl-cdn.alpinelinux.org", "/alpine/v3.20/main/x86_64", []string{"APKINDEX.tar.gz"}, "demo-%d.0-r0.apk"},
		"pacman": {"geo.mirror.pkgbuild.com", "/core/os/x86_64", []string{"core.db", "core.db.sig"}, "demo-%d.0-1-x86_64.pkg.tar.zst"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			origins := startOrigins(t)
			tree := origin.NewTree(origins, repo.host)
			in := newInstance(t, origins, "")
			in.endDaemon(t)
			publish := func(version int) {
				files := map[string][]byte{repo.folder + "/" + fmt.Sprintf(repo.artifact, version): fmt.Appendf(nil, "package %d", version)}
				for _, index := range repo.indexes {
					files[repo.folder+"/"+index] = fmt.Appendf(nil, "%s %d", index, version)
				}
				tree.Put(files)
			}
			wants := func(version int) {
				t.Helper()
				names := append(append([]string(nil), repo.indexes...), fmt.Sprintf(repo.artifact, version))
				for i, file := range names {
					res := in.run(t, command{dir: in.dir, argv: []string{"curl", "--silent", "--show-error", "--fail", "https://" + repo.host + repo.folder + "/" + file}})
					want := fmt.Sprintf("%s %d", file, version)
					if i == len(repo.indexes) {
						want = fmt.Sprintf("package %d", version)
					}
					if res.code != 0 || res.stdout != want {
						t.Errorf("%s is %q, want %q: %v", file, res.stdout, want, res)
					}
				}
			}
			publish(1)
			wants(1)
			publish(2)
			wants(2)
			origins.Down()
			wants(2)
			must(t, origins.Up())
			publish(3)
			wants(3)
		})
	}
}
