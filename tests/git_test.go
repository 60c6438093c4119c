package tests

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"larder/tests/origin"
)

// forge is a host of the preset git, answered by git's own http-backend.
const forge = "codeberg.org"

// gitRoot holds the repositories of a test. project.git has one commit with three
// megabytes, two small ones after it, a tag, and sub.git as a submodule; hashed.git is
// the same with names of SHA-256.
type gitRoot struct{ root, work string }

// newGitRoot makes the repositories, which nobody else has.
func newGitRoot(t *testing.T) gitRoot {
	t.Helper()
	g := gitRoot{root: mkdir(t, privateDir(t), "repositories"), work: mkdir(t, privateDir(t), "work")}
	g.git(t, "", "init", "--quiet", "--initial-branch=main", "sub")
	g.commit(t, "sub", "of-sub.txt", "sub\n")
	g.publish(t, "sub")
	for name, format := range map[string]string{"project": "sha1", "hashed": "sha256"} {
		g.git(t, "", "init", "--quiet", "--initial-branch=main", "--object-format="+format, name)
		g.commit(t, name, "ballast.bin", string(readAll(t, origin.NewContent("git", 3<<20))))
		g.commit(t, name, "second.txt", "two\n")
		g.git(t, name, "-c", "user.name=t", "-c", "user.email=t@example.org", "tag", "-a", "-m", "one", "v1")
		if format == "sha1" {
			// Without a fetch, which would need the origin: an entry and the commit it names.
			g.git(t, name, "config", "-f", ".gitmodules", "submodule.sub.path", "sub")
			g.git(t, name, "config", "-f", ".gitmodules", "submodule.sub.url", "../sub.git")
			head := strings.TrimSpace(g.git(t, "sub", "rev-parse", "HEAD"))
			g.git(t, name, "add", ".gitmodules")
			g.git(t, name, "update-index", "--add", "--cacheinfo", "160000,"+head+",sub")
		}
		g.commit(t, name, "third.txt", "three\n")
		g.publish(t, name)
	}
	return g
}

// git runs git in a work tree and returns what it printed.
func (g gitRoot) git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	res := command{dir: filepath.Join(g.work, dir), argv: append([]string{"git"}, args...), env: gitAlone()}.run(t)
	if res.code != 0 {
		t.Fatalf("git %v: %v", args, res)
	}
	return res.stdout
}

// gitAlone keeps git from the settings of this machine, and from asking anybody.
func gitAlone() []string {
	return []string{"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_TERMINAL_PROMPT=0", "GIT_ADVICE=0"}
}

// commit adds a file to a work tree.
func (g gitRoot) commit(t testing.TB, dir, file, text string) {
	t.Helper()
	writeFile(t, filepath.Join(g.work, dir), file, text)
	g.git(t, dir, "add", file)
	g.git(t, dir, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "add "+file)
}

// publish makes a bare repository of a work tree, or brings it up to date.
func (g gitRoot) publish(t testing.TB, name string) {
	t.Helper()
	bare := filepath.Join(g.root, name+".git")
	if _, err := os.Stat(bare); err == nil {
		g.git(t, name, "push", "--quiet", "--all", bare)
		g.git(t, name, "push", "--quiet", "--tags", bare)
		return
	}
	g.git(t, "", "clone", "--quiet", "--bare", name, bare)
	for key, value := range map[string]string{
		"uploadpack.allowFilter": "true", "uploadpack.allowAnySHA1InWant": "true", "http.receivepack": "true",
	} {
		g.git(t, "", "-C", bare, "config", key, value)
	}
}

// head is the commit that a repository is at.
func (g gitRoot) head(t testing.TB, name string) string {
	t.Helper()
	return strings.TrimSpace(g.git(t, "", "-C", filepath.Join(g.root, name+".git"), "rev-parse", "main"))
}

// throughLarder is git's environment behind a service.
func (s *service) throughLarder() []string {
	return append(gitAlone(), "HTTPS_PROXY=http://"+s.proxy, "GIT_SSL_CAINFO="+filepath.Join(s.state, "trust", "bundle.pem"))
}

// runGit runs git behind larder.
func (s *service) runGit(t testing.TB, dir string, args ...string) result {
	t.Helper()
	return command{dir: dir, argv: append([]string{"git"}, args...), env: s.throughLarder()}.run(t)
}

// mustGit is runGit that succeeds, and returns what was printed.
func (s *service) mustGit(t testing.TB, dir string, args ...string) string {
	t.Helper()
	res := s.runGit(t, dir, args...)
	if res.code != 0 {
		t.Fatalf("git %v: %v", args, res)
	}
	return strings.TrimSpace(res.stdout)
}

// packs are the exchanges that brought a pack with the large file in it.
func packs(s *origin.Server) []origin.Exchange {
	return s.Exchanges(func(e origin.Exchange) bool {
		return e.Method == http.MethodPost && strings.HasSuffix(e.Path, "/git-upload-pack") && e.Bytes > 1<<20
	})
}

// posts are the exchanges that ask git-upload-pack for anything.
func posts(s *origin.Server) []origin.Exchange {
	return s.Exchanges(func(e origin.Exchange) bool { return e.Method == http.MethodPost })
}

// staleRules are the preset's for git.test, with refs that survive upstream.
const staleRules = `rules:
  - { name: packs, hosts: [git.test], methods: [POST], paths: ["/**/git-upload-pack"], request_body: git-fetch, action: immutable, ttl: 24h }
  - { name: refs, hosts: [git.test], methods: [POST], paths: ["/**/git-upload-pack"], request_body: git-refs, action: revalidate, stale_if_error: 24h }
  - name: advertisements
    hosts: [git.test]
    paths: ["/**/info/refs"]
    query: ["service=git-upload-pack"]
    action: revalidate
    vary: [Git-Protocol, User-Agent]
    stale_if_error: 24h
  - { name: bundles, hosts: [git.test], paths: ["/bundles/*"], action: immutable }
  - { name: rest, hosts: [git.test], action: pass }
`

// TestGitClonesComeFromTheCache clones in every way, twice, and then without upstream.
func TestGitClonesComeFromTheCache(t *testing.T) {
	t.Parallel()
	requireClient(t, "git")
	g := newGitRoot(t)
	for _, tt := range []struct {
		name, repository string
		args             []string
		versions         []int
	}{
		{"everything", "project", nil, []int{0, 1, 2}},
		{"one branch", "project", []string{"--single-branch", "--no-tags"}, []int{2}},
		{"as a mirror", "project", []string{"--mirror"}, []int{2}},
		{"shallow", "project", []string{"--depth=1"}, []int{0, 2}},
		{"shallow since", "project", []string{"--shallow-since=2001-01-01T00:00:00Z"}, []int{0, 2}},
		{"blobless, and the blobs later", "project", []string{"--filter=blob:none"}, []int{0, 2}},
		{"treeless", "project", []string{"--filter=tree:0"}, []int{2}},
		{"without large blobs", "project", []string{"--filter=blob:limit=1m"}, []int{2}},
		{"shallow and blobless", "project", []string{"--depth=1", "--filter=blob:none"}, []int{0, 2}},
		{"with submodules", "project", []string{"--recurse-submodules"}, []int{2}},
		{"with names of SHA-256", "hashed", nil, []int{0, 2}},
	} {
		for _, version := range tt.versions {
			t.Run(fmt.Sprintf("%s, version %d", tt.name, version), func(t *testing.T) {
				t.Parallel()
				origins := startOrigins(t)
				must(t, origin.Git(origins, "git.test", g.root))
				s := newInstance(t, origins, "presets: none\n"+staleRules).serve(t)
				clone := func() string {
					dir := privateDir(t)
					args := append([]string{"-c", fmt.Sprintf("protocol.version=%d", version), "clone", "--quiet"}, tt.args...)
					s.mustGit(t, dir, append(args, "https://git.test/"+tt.repository+".git", "c")...)
					c := filepath.Join(dir, "c")
					s.mustGit(t, c, "fsck", "--no-progress", "--connectivity-only")
					return s.mustGit(t, c, "rev-parse", "main")
				}
				want := g.head(t, tt.repository)
				if got := clone(); got != want {
					t.Errorf("cold: at %s, want %s", got, want)
				}
				if n := len(packs(origins)); n != 1 {
					t.Fatalf("the first clone fetched %d packs:\n%s", n, exchangeList(origins))
				}
				for _, e := range origins.Exchanges(nil) {
					if v, want := e.Header.Get("Git-Protocol"), fmt.Sprintf("version=%d", version); version > 0 && v != want {
						t.Errorf("%v came with Git-Protocol %q, want %q", e, v, want)
					}
				}
				origins.Forget()
				if got := clone(); got != want {
					t.Errorf("hot: at %s, want %s", got, want)
				}
				// Only what is true now is asked for again: the refs.
				refs := 0
				if version == 2 {
					refs = len(posts(origins))
				}
				for _, e := range posts(origins) {
					if e.Bytes > 4<<10 || version < 2 {
						t.Errorf("the second clone fetched %v", e)
					}
				}
				if version == 2 && refs == 0 {
					t.Errorf("the second clone did not ask for the refs:\n%s", exchangeList(origins))
				}
				origins.Down()
				if got := clone(); got != want {
					t.Errorf("upstream down: at %s, want %s", got, want)
				}
			})
		}
	}
}

// TestIdenticalClonesCostOneFetch has twenty jobs clone one repository at the same
// time, with the preset as it is shipped.
func TestIdenticalClonesCostOneFetch(t *testing.T) {
	t.Parallel()
	requireClient(t, "git")
	g := newGitRoot(t)
	origins := startOrigins(t)
	must(t, origin.Git(origins, forge, g.root))
	s := newInstance(t, origins, "").serve(t)
	const jobs = 20
	var all sync.WaitGroup
	for range jobs {
		all.Go(func() {
			dir := privateDir(t)
			if res := s.runGit(t, dir, "clone", "--quiet", "https://"+forge+"/project.git", "c"); res.code != 0 {
				t.Errorf("clone: %v", res)
				return
			}
			wantFile(t, filepath.Join(dir, "c", "ballast.bin"))
		})
	}
	all.Wait()
	if n := len(packs(origins)); n != 1 {
		t.Errorf("%d jobs cost %d packs, want 1:\n%s", jobs, n, exchangeList(origins))
	}

	// What is stored can be seen, served without upstream, and removed.
	store := func(s *service, args ...string) string {
		t.Helper()
		argv := append([]string{s.larder, "store"}, args...)
		res := command{dir: s.dir, argv: append(argv, "--config", s.config, "--state", s.state)}.run(t)
		if res.code != 0 {
			t.Fatalf("larder store %v: %v", args, res)
		}
		return res.stdout
	}
	if list := store(s, "ls", forge+"/**"); strings.Count(list, ":content: git-fetch:") != 1 || strings.Count(list, ":content: git-refs:") != 1 {
		t.Errorf("stored:\n%s", list)
	}
	s.signal(t, syscall.SIGTERM)
	<-s.done
	origins.Down()
	s = s.instance.serve(t, "--offline")
	s.mustGit(t, privateDir(t), "clone", "--quiet", "https://"+forge+"/project.git", "c")
	store(s, "rm", "--match", forge+"/project.git/**")
	if res := s.runGit(t, privateDir(t), "clone", "--quiet", "https://"+forge+"/project.git", "c"); res.code == 0 {
		t.Error("what was removed is still served")
	}
}

// TestGitFetchesComeFromTheCache has jobs with the same old work tree fetch what is new.
func TestGitFetchesComeFromTheCache(t *testing.T) {
	t.Parallel()
	requireClient(t, "git")
	for _, version := range []int{0, 2} {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
			t.Parallel()
			g := newGitRoot(t)
			origins := startOrigins(t)
			must(t, origin.Git(origins, "git.test", g.root))
			s := newInstance(t, origins, "presets: none\n"+staleRules).serve(t)
			setting := fmt.Sprintf("protocol.version=%d", version)
			var jobs []string
			for range 3 {
				dir := privateDir(t)
				s.mustGit(t, dir, "-c", setting, "clone", "--quiet", "https://git.test/project.git", "c")
				jobs = append(jobs, filepath.Join(dir, "c"))
			}
			g.commit(t, "project", "new.bin", string(readAll(t, origin.NewContent("new", 2<<20))))
			g.publish(t, "project")
			origins.Forget()
			for i, dir := range jobs {
				if i == 2 {
					origins.Down()
				}
				s.mustGit(t, dir, "-c", setting, "fetch", "--quiet")
				if got, want := s.mustGit(t, dir, "rev-parse", "origin/main"), g.head(t, "project"); got != want {
					t.Errorf("job %d is at %s, want %s", i, got, want)
				}
				s.mustGit(t, dir, "fsck", "--no-progress", "--connectivity-only")
			}
			if n := len(packs(origins)); n != 1 {
				t.Errorf("three fetches cost %d packs, want 1:\n%s", n, exchangeList(origins))
			}
		})
	}
}

// TestGitPushGoesThrough pushes more than git sends in one piece, and fetches it back
// by way of refs that had been asked for before.
func TestGitPushGoesThrough(t *testing.T) {
	t.Parallel()
	requireClient(t, "git")
	g := newGitRoot(t)
	origins := startOrigins(t)
	must(t, origin.Git(origins, forge, g.root))
	s := newInstance(t, origins, "").serve(t)
	url := "https://" + forge + "/project.git"
	dir := privateDir(t)
	s.mustGit(t, dir, "clone", "--quiet", url, "mine")
	s.mustGit(t, dir, "clone", "--quiet", url, "theirs")
	mine, theirs := filepath.Join(dir, "mine"), filepath.Join(dir, "theirs")
	writeFile(t, mine, "pushed.bin", string(readAll(t, origin.NewContent("pushed", 5<<20))))
	s.mustGit(t, mine, "add", ".")
	s.mustGit(t, mine, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "pushed")
	s.mustGit(t, mine, "push", "--quiet", "origin", "main")
	head := s.mustGit(t, mine, "rev-parse", "HEAD")
	if got := g.head(t, "project"); got != head {
		t.Errorf("the origin is at %s after the push of %s", got, head)
	}
	s.mustGit(t, theirs, "pull", "--quiet", "--ff-only")
	if got := s.mustGit(t, theirs, "rev-parse", "HEAD"); got != head {
		t.Errorf("another clone is at %s, want %s", got, head)
	}
	sent := origins.Exchanges(func(e origin.Exchange) bool { return strings.Contains(e.Path, "git-receive-pack") })
	for _, e := range sent {
		if e.Header.Get("Cache-Status") != "" || e.Status != http.StatusOK {
			t.Errorf("a push made %v", e)
		}
	}
	if len(sent) < 2 {
		t.Errorf("the origin saw no push:\n%s", exchangeList(origins))
	}
	if strings.Contains(s.log(), `git-receive-pack","status":200,"class":"miss"`) {
		t.Errorf("a push went through the cache:\n%s", s.log())
	}
}

// TestGitAnswersThatAreNotWholeAreNotStored has an origin that damages packs in ways
// that HTTP does not show, as a proxy before it might.
func TestGitAnswersThatAreNotWholeAreNotStored(t *testing.T) {
	t.Parallel()
	requireClient(t, "git")
	g := newGitRoot(t)
	backend, err := origin.GitBackend(g.root)
	must(t, err)
	for name, harm := range map[string]func(body []byte) []byte{
		"cut short":       func(b []byte) []byte { return b[:len(b)/2] },
		"without its end": func(b []byte) []byte { return b[:len(b)-4] },
		"with a byte that is another": func(b []byte) []byte {
			b[len(b)/2] ^= 1
			return b
		},
		"an error instead": func([]byte) []byte { return []byte("001eERR upload-pack: not well\n") },
		"a page":           func([]byte) []byte { return []byte("<html>") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			origins := startOrigins(t)
			var mu sync.Mutex
			harmed := 0
			origins.Handle(forge, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				whole := httptest.NewRecorder()
				backend.ServeHTTP(whole, r)
				body := whole.Body.Bytes()
				mu.Lock()
				if len(body) > 1<<20 && harmed == 0 {
					harmed++
					body = harm(body)
				}
				mu.Unlock()
				maps.Copy(w.Header(), whole.Header())
				w.Header().Set("Content-Length", strconv.Itoa(len(body)))
				w.WriteHeader(whole.Code)
				_, _ = w.Write(body)
			}))
			s := newInstance(t, origins, "").serve(t)
			dir := privateDir(t)
			if res := s.runGit(t, dir, "clone", "--quiet", "https://"+forge+"/project.git", "a"); res.code == 0 {
				t.Error("git took the answer for whole")
			}
			s.mustGit(t, dir, "clone", "--quiet", "https://"+forge+"/project.git", "b")
			s.mustGit(t, filepath.Join(dir, "b"), "fsck", "--no-progress")
			if harmed != 1 || len(packs(origins)) == 0 {
				t.Errorf("%d answers were harmed:\n%s", harmed, exchangeList(origins))
			}
			origins.Forget()
			s.mustGit(t, dir, "clone", "--quiet", "https://"+forge+"/project.git", "c")
			if n := len(packs(origins)); n != 0 {
				t.Errorf("the whole pack was fetched %d times more", n)
			}
		})
	}
}

// TestGitBundlesComeFromTheCache clones by way of a bundle that a rule names.
func TestGitBundlesComeFromTheCache(t *testing.T) {
	t.Parallel()
	requireClient(t, "git")
	g := newGitRoot(t)
	bundle := filepath.Join(privateDir(t), "project.bundle")
	g.git(t, "project", "bundle", "create", "--quiet", bundle, "main")
	origins := startOrigins(t)
	backend, err := origin.GitBackend(g.root)
	must(t, err)
	origins.Handle("git.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/bundles/") {
			http.ServeFile(w, r, bundle)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	s := newInstance(t, origins, "presets: none\n"+staleRules).serve(t)
	clone := func() {
		dir := privateDir(t)
		s.mustGit(t, dir, "clone", "--quiet", "--bundle-uri=https://git.test/bundles/project.bundle", "https://git.test/project.git", "c")
		wantFile(t, filepath.Join(dir, "c", "ballast.bin"))
	}
	clone()
	if n := len(packs(origins)); n != 0 {
		t.Errorf("%d packs were fetched beside the bundle", n)
	}
	origins.Forget()
	clone()
	for _, e := range origins.Exchanges(nil) {
		if strings.HasPrefix(e.Path, "/bundles/") {
			t.Errorf("the second clone made %v", e)
		}
	}
	origins.Down()
	clone()
}

// TestGitOverDumbHTTPComesFromTheCache serves a repository as files.
func TestGitOverDumbHTTPComesFromTheCache(t *testing.T) {
	t.Parallel()
	requireClient(t, "git")
	const dumb = "git.kernel.org" // which serves files as well
	g := newGitRoot(t)
	bare := filepath.Join(g.root, "project.git")
	g.git(t, "", "-C", bare, "repack", "-adq")
	g.git(t, "", "-C", bare, "update-server-info")
	origins := startOrigins(t)
	origins.Handle(dumb, http.FileServer(http.Dir(g.root)))
	s := newInstance(t, origins, "").serve(t)
	clone := func() {
		dir := privateDir(t)
		s.mustGit(t, dir, "clone", "--quiet", "https://"+dumb+"/project.git", "c")
		s.mustGit(t, filepath.Join(dir, "c"), "fsck", "--no-progress")
	}
	clone()
	origins.Forget()
	clone()
	for _, e := range origins.Exchanges(func(e origin.Exchange) bool { return e.Status == http.StatusOK }) {
		if strings.Contains(e.Path, "/objects/pack/pack-") {
			t.Errorf("the second clone made %v", e)
		}
	}
}

// TestPushOfMoreThanAGigabyteTakesNoMemory sends one as git does: chunked, and of a
// length that nobody knows.
func TestPushOfMoreThanAGigabyteTakesNoMemory(t *testing.T) {
	t.Parallel()
	const size, heapMost = 1100 << 20, 64 << 20
	origins := startOrigins(t)
	origins.Handle(forge, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r.Body}, make([]byte, 256<<10))
		fmt.Fprint(w, n, err)
	}))
	s := newInstance(t, origins, "").serve(t)
	stop := make(chan struct{})
	heap := watchHeap(t, s, stop)
	for _, path := range []string{"git-receive-pack", "git-upload-pack"} {
		req, err := http.NewRequest(http.MethodPost, "https://"+forge+"/o/r.git/"+path, io.LimitReader(zeros{}, size))
		must(t, err)
		req.Header.Set("Content-Type", "application/x-"+path+"-request")
		res, err := s.client(t).Do(req)
		must(t, err)
		if body := readAll(t, res.Body); string(body) != fmt.Sprint(int64(size), " <nil>") {
			t.Errorf("%s: the origin counted %s bytes, want %d", path, body, size)
		}
		res.Body.Close()
	}
	close(stop)
	most := <-heap
	t.Logf("heap in use at most %d MiB", most>>20)
	if most == 0 || most >= heapMost {
		t.Errorf("heap in use reached %d bytes, want less than %d", most, heapMost)
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
