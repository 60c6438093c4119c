package tests

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"larder/tests/origin"
)

// aptNode is a machine that updates its lists through larder again and again.
type aptNode struct {
	t      *testing.T
	in     *instance
	dir    string
	config string
}

// newAptNode has a node that takes the archive from host.
func newAptNode(t *testing.T, in *instance, a *origin.Archive, host string) *aptNode {
	t.Helper()
	n := &aptNode{t: t, in: in, dir: privateDir(t)}
	keyring := writeFile(t, n.dir, "archive.gpg", string(a.Keyring))
	n.config = aptTree(t, n.dir, fmt.Sprintf("deb [signed-by=%s] http://%s/debian stable main\n", keyring, host),
		// Of an index of a few hundred bytes a patch is no shorter.
		`Acquire::PDiffs::SizeLimit "1000";`, `Acquire::Retries "0";`)
	return n
}

// update runs apt-get update, which with a warning ends in success too.
func (n *aptNode) update() runResult {
	n.t.Helper()
	return n.in.run(n.t, command{dir: n.dir, argv: []string{"apt-get", "-c", n.config, "-o", "APT::Update::Error-Mode=any", "update"}})
}

// wants updates and finds this version to be the newest of larder-demo.
func (n *aptNode) wants(version string) runResult {
	n.t.Helper()
	res := n.update()
	if res.code != 0 {
		n.t.Fatalf("apt-get update failed: %v", res)
	}
	if got := n.candidate(); got != version {
		n.t.Errorf("apt knows larder-demo %s, want %s\n%+v", got, version, res.fetched)
	}
	return res
}

// candidate is the version of larder-demo that apt would install.
func (n *aptNode) candidate() string {
	n.t.Helper()
	res := command{dir: n.dir, argv: []string{"apt-cache", "-c", n.config, "show", "larder-demo"}}.run(n.t)
	_, version, _ := strings.Cut(res.stdout, "Version: ")
	version, _, _ = strings.Cut(version, "\n")
	return version
}

// download takes the package of the pool.
func (n *aptNode) download(version string) runResult {
	n.t.Helper()
	res := n.in.run(n.t, command{dir: n.dir, argv: []string{"apt-get", "-c", n.config, "download", "larder-demo"}})
	if res.code != 0 {
		n.t.Fatalf("apt-get download failed: %v", res)
	}
	wantFile(n.t, filepath.Join(n.dir, "larder-demo_"+version+"_amd64.deb"))
	return res
}

// demo is larder-demo in a version.
func demo(version string) origin.Package {
	return origin.Package{Name: "larder-demo", Version: version, Payload: 4 << 10}
}

// archives are what a suite may offer.
func archives() map[string]origin.ArchiveOptions {
	return map[string]origin.ArchiveOptions{
		"indexes by name": {},
		"by hash":         {ByHash: true},
		"with diffs":      {Diffs: true},
		"by hash, diffs":  {ByHash: true, Diffs: true},
	}
}

// TestAptSeesOneGeneration updates nodes through larder while the archive is published
// anew, in half and whole, and while it is gone: lists and packages always agree.
func TestAptSeesOneGeneration(t *testing.T) {
	t.Parallel()
	requireClient(t, "apt-get", "apt-cache", "curl")
	for name, options := range archives() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			origins := startOrigins(t)
			a, err := origin.NewArchive(origins, "/debian", options, debianHost)
			must(t, err)
			must(t, a.Publish(demo("1.0")))
			in := newInstance(t, origins, "")
			in.endDaemon(t)
			node := newAptNode(t, in, a, debianHost)
			node.wants("1.0")
			node.download("1.0")

			must(t, a.Publish(demo("2.0")))
			node.wants("2.0")
			newAptNode(t, in, a, debianHost).wants("2.0")
			must(t, a.Publish(demo("3.0"), demo("2.0")))
			origins.Forget()
			node.wants("3.0")
			diffs := origins.Exchanges(func(e origin.Exchange) bool { return strings.Contains(e.Path, "Packages.diff/T-") && e.Status == 200 })
			if options.Diffs != (len(diffs) > 0) {
				t.Errorf("patches were fetched: %v; origin saw:\n%s", !options.Diffs, exchangeList(origins))
			}
			node.download("3.0")

			// A mirror that is half way: apt is told what it would be told without larder,
			// and of that nothing is kept.
			rest, err := a.PublishHalf(demo("4.0"))
			must(t, err)
			if res := newAptNode(t, in, a, debianHost).update(); options.ByHash != (res.code == 0) {
				t.Errorf("update from a mirror that is half way: %v", res)
			}
			rest()
			newAptNode(t, in, a, debianHost).wants("4.0")
			node.wants("4.0")

			origins.Down()
			newAptNode(t, in, a, debianHost).wants("4.0")
			node.wants("4.0")
			must(t, origins.Up())

			// What is new is seen at once when it is back.
			must(t, a.Publish(demo("5.0")))
			node.wants("5.0")
			newAptNode(t, in, a, debianHost).wants("5.0")

			// Somebody takes the new InRelease, and upstream is gone before anybody has the
			// rest of it.
			must(t, a.Publish(demo("6.0")))
			release := in.run(t, command{dir: node.dir, argv: []string{
				"curl", "--silent", "--fail", "--header", "Accept: text/*", "http://" + debianHost + "/debian/dists/stable/InRelease",
			}})
			if release.code != 0 {
				t.Fatalf("curl failed: %v", release)
			}
			origins.Down()
			newAptNode(t, in, a, debianHost).wants("5.0")
			node.wants("5.0")
			must(t, origins.Up())
			node.wants("6.0")
			newAptNode(t, in, a, debianHost).wants("6.0")
			for _, e := range origins.Exchanges(nil) {
				if e.Status >= http.StatusInternalServerError {
					t.Errorf("the origin failed: %v", e)
				}
			}
		})
	}
}

// TestAptMirrorsShareContent takes an archive from one mirror and then from another:
// indexes by hash, and packages that the index of the mirror asked names, come from the
// store, whatever that mirror has in their place.
func TestAptMirrorsShareContent(t *testing.T) {
	t.Parallel()
	requireClient(t, "apt-get", "apt-cache")
	mirror := host("ftp", "xx", "debian", "org")
	origins := startOrigins(t)
	a, err := origin.NewArchive(origins, "/debian", origin.ArchiveOptions{ByHash: true}, debianHost, mirror)
	must(t, err)
	must(t, a.Publish(demo("1.0")))
	in := newInstance(t, origins, "")
	in.endDaemon(t)
	first := newAptNode(t, in, a, debianHost)
	first.wants("1.0")
	first.download("1.0")
	a.Spoil("pool/")
	origins.Forget()
	second := newAptNode(t, in, a, mirror)
	second.wants("1.0")
	second.download("1.0")
	for _, e := range origins.Exchanges(nil) {
		if !strings.HasSuffix(e.Path, "/InRelease") {
			t.Errorf("the second mirror was asked for what the first had sent: %v", e)
		}
	}
}
