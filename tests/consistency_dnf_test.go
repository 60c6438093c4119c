package tests

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"larder/tests/origin"
)

// rpmHost is one that the preset rpm names.
const rpmHost = "dl.rockylinux.org"

// rpmRepository makes a repository of larder-demo in these versions and returns its
// files below prefix.
func rpmRepository(t *testing.T, prefix string, options []string, versions ...string) map[string][]byte {
	t.Helper()
	dir := privateDir(t)
	for _, version := range versions {
		spec := writeFile(t, dir, "demo-"+version+".spec", lines(
			"Name: larder-demo", "Version: "+version, "Release: 1", "Summary: made for a test", "License: none", "BuildArch: noarch",
			"%description", "Made for a test.",
			"%install", "mkdir -p %{buildroot}/usr/share/larder-demo; echo "+version+" > %{buildroot}/usr/share/larder-demo/version",
			"%files", "/usr/share/larder-demo/version",
		))
		build := command{dir: dir, argv: []string{
			"rpmbuild", "-bb", "--quiet", "--define", "_topdir " + dir + "/build", "--define", "_rpmdir " + dir + "/repo",
			"--define", "_build_name_fmt Packages/%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm", spec,
		}}
		if res := build.run(t); res.code != 0 {
			t.Fatalf("rpmbuild failed: %v", res)
		}
	}
	index := command{dir: dir, argv: append(append([]string{"createrepo_c", "--quiet"}, options...), dir+"/repo")}
	if res := index.run(t); res.code != 0 {
		t.Fatalf("createrepo_c failed: %v", res)
	}
	files := make(map[string][]byte)
	must(t, filepath.WalkDir(dir+"/repo", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		files[prefix+strings.TrimPrefix(path, dir+"/repo")] = body
		return err
	}))
	return files
}

// dnfNode is a machine that takes packages through larder, with nothing of its own
// from before.
type dnfNode struct {
	t   *testing.T
	in  *instance
	dir string
}

func newDNFNode(t *testing.T, in *instance) *dnfNode {
	t.Helper()
	n := &dnfNode{t: t, in: in, dir: privateDir(t)}
	mkdir(t, n.dir, "log")
	writeFile(t, n.dir, "dnf.conf", lines("[main]", "gpgcheck=0", "retries=1", "timeout=20", "zchunk=0", "reposdir="+mkdir(t, n.dir, "repos")))
	writeFile(t, n.dir, "repos/demo.repo", lines("[demo]", "name=demo", fmt.Sprintf("baseurl=http://%s/pub/rocky/demo", rpmHost), "enabled=1"))
	return n
}

func (n *dnfNode) dnf(args ...string) runResult {
	n.t.Helper()
	return n.in.run(n.t, command{dir: n.dir, argv: append([]string{
		"dnf", "-y", "--config", n.dir + "/dnf.conf", "--installroot", n.dir + "/root", "--releasever", "9",
		"--setopt=cachedir=" + n.dir + "/cache", "--setopt=logdir=" + n.dir + "/log", "--setopt=persistdir=" + n.dir + "/persist",
	}, args...)})
}

// wants refreshes the metadata and downloads what is newest.
func (n *dnfNode) wants(version string) runResult {
	n.t.Helper()
	res := n.dnf("--refresh", "install", "--downloadonly", "larder-demo")
	if res.code != 0 {
		n.t.Fatalf("dnf failed: %v", res)
	}
	if found, err := filepath.Glob(n.dir + "/cache/*/packages/larder-demo-" + version + "-1.noarch.rpm"); err != nil || len(found) != 1 {
		n.t.Errorf("dnf did not take %s: %v", version, res)
	}
	return res
}

// TestDnfSeesOneGeneration is TestAptSeesOneGeneration for repomd.xml and what it names,
// under names with their digest and without.
func TestDnfSeesOneGeneration(t *testing.T) {
	t.Parallel()
	requireClient(t, "dnf", "createrepo_c", "rpmbuild")
	for name, options := range map[string][]string{
		"names with a digest": {"--unique-md-filenames"},
		"plain names":         {"--simple-md-filenames"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const prefix = "/pub/rocky/demo"
			origins := startOrigins(t)
			tree := origin.NewTree(origins, rpmHost)
			tree.Put(rpmRepository(t, prefix, options, "1.0"))
			in := newInstance(t, origins, "")
			in.endDaemon(t)
			node := newDNFNode(t, in)
			node.wants("1.0")

			tree.Put(rpmRepository(t, prefix, options, "1.0", "2.0"))
			node.wants("2.0")
			newDNFNode(t, in).wants("2.0")

			// repomd.xml of the next generation, and the rest of it later.
			next := rpmRepository(t, prefix, options, "1.0", "2.0", "3.0")
			repomd := prefix + "/repodata/repomd.xml"
			tree.Put(map[string][]byte{repomd: next[repomd]})
			if res := newDNFNode(t, in).dnf("makecache"); res.code == 0 {
				t.Errorf("dnf took a repository that is half there: %v", res)
			}
			tree.Put(next)
			newDNFNode(t, in).wants("3.0")

			origins.Forget()
			res := newDNFNode(t, in).wants("3.0")
			for _, e := range origins.Exchanges(nil) {
				if e.Status == 200 {
					t.Errorf("sent again: %v", e)
				}
			}
			if !strings.Contains(fmt.Sprint(res.fetched), "hit") {
				t.Errorf("no hit: %+v", res.fetched)
			}

			origins.Down()
			newDNFNode(t, in).wants("3.0")
		})
	}
}
