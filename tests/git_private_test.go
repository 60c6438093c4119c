package tests

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"larder/tests/origin"
)

// recheckRules keep packs of private repositories for who may read them. Refs are asked
// for by each client itself.
const recheckRules = `presets: none
rules:
  - name: packs
    hosts: [git.test]
    methods: [POST]
    paths: ["/**/git-upload-pack"]
    request_body: git-fetch
    action: immutable
    ttl: 24h
    authorized: recheck
    recheck_ttl: 1s
    recheck_scope: '^/(.+)/git-upload-pack$'
    recheck_at: "/$1/info/refs?service=git-upload-pack"
  - { name: rest, hosts: [git.test], action: pass }
`

// guardedGit lets in by Basic authentication, and notes what was asked of
// git-upload-pack.
type guardedGit struct {
	backend  http.Handler
	gitolite bool // refuses with 200 and a line

	mu     sync.Mutex      // guards the rest
	may    map[string]bool // user:password
	bodies []gitRequest
}

// gitRequest is a POST as it came.
type gitRequest struct {
	header http.Header
	body   []byte
}

func (g *guardedGit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	user, password, has := r.BasicAuth()
	g.mu.Lock()
	if r.Method == http.MethodPost {
		g.bodies = append(g.bodies, gitRequest{r.Header.Clone(), body})
	}
	ok := g.may[user+":"+password]
	g.mu.Unlock()
	switch {
	case ok:
		g.backend.ServeHTTP(w, r)
	case !has:
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		w.WriteHeader(http.StatusUnauthorized)
	case g.gitolite && strings.HasSuffix(r.URL.Path, "/info/refs"):
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		_, _ = io.WriteString(w, "001e# service=git-upload-pack\n0000000eERR DENIED0000")
	case g.gitolite:
		w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
		_, _ = io.WriteString(w, "000eERR DENIED")
	default:
		w.WriteHeader(http.StatusForbidden)
	}
}

func (g *guardedGit) let(who string, may bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.may[who] = may
}

// fetch is the last request for objects.
func (g *guardedGit) fetch(t *testing.T) gitRequest {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := len(g.bodies) - 1; i >= 0; i-- {
		if len(g.bodies[i].body) > 250 {
			return g.bodies[i]
		}
	}
	t.Fatal("nobody asked for objects")
	return gitRequest{}
}

// TestPrivatePacksAreForWhoMayFetch has one user who may, one who may not, and nobody,
// who all ask for the same objects by name.
func TestPrivatePacksAreForWhoMayFetch(t *testing.T) {
	t.Parallel()
	requireClient(t, "git")
	const alice, carol, bob = "alice:a", "carol:c", "bob:b"
	for _, gitolite := range []bool{false, true} {
		t.Run(fmt.Sprintf("refused by a line %v", gitolite), func(t *testing.T) {
			t.Parallel()
			g := newGitRoot(t)
			backend, err := origin.GitBackend(g.root)
			must(t, err)
			guard := &guardedGit{backend: backend, gitolite: gitolite, may: map[string]bool{alice: true, carol: true}}
			origins := startOrigins(t)
			origins.Handle("git.test", guard)
			s := newInstance(t, origins, recheckRules).serve(t)
			clone := func(who string) result {
				return s.runGit(t, privateDir(t), "clone", "--quiet", "https://"+who+"@git.test/project.git", "c")
			}
			for _, who := range []string{alice, alice, carol} {
				if res := clone(who); res.code != 0 {
					t.Fatalf("%s may clone: %v", who, res)
				}
			}
			if n := len(packs(origins)); n != 1 {
				t.Errorf("three clones by who may cost %d packs, want 1:\n%s", n, exchangeList(origins))
			}
			if res := clone(bob); res.code == 0 {
				t.Error("bob has cloned what he may not read")
			}

			// Who knows what was asked for can ask for it without asking for the refs.
			ask := guard.fetch(t)
			post := func(who string) (status int, body []byte, cacheStatus string) {
				t.Helper()
				req, err := http.NewRequest(http.MethodPost, "https://git.test/project.git/git-upload-pack", bytes.NewReader(ask.body))
				must(t, err)
				for _, name := range []string{"Content-Type", "Content-Encoding", "Git-Protocol", "Accept"} {
					if v := ask.header.Get(name); v != "" {
						req.Header.Set(name, v)
					}
				}
				if user, password, ok := strings.Cut(who, ":"); ok {
					req.SetBasicAuth(user, password)
				}
				res, err := s.client(t).Do(req)
				must(t, err)
				defer res.Body.Close()
				return res.StatusCode, readAll(t, res.Body), res.Header.Get("Cache-Status")
			}
			origins.Forget()
			if status, body, cs := post(alice); status != http.StatusOK || len(body) < 3<<20 || !strings.Contains(cs, "larder; hit") {
				t.Errorf("alice got %d, %d bytes, %s", status, len(body), cs)
			}
			for who, want := range map[string]int{bob: http.StatusForbidden, "": http.StatusUnauthorized} {
				status, body, cs := post(who)
				if gitolite && who == bob {
					want = http.StatusOK
				}
				if status != want || len(body) > 1<<10 {
					t.Errorf("%q got %d and %d bytes, %s", who, status, len(body), cs)
				}
			}
			// A refusal in a 200 has proved nothing.
			if status, body, cs := post(bob); len(body) > 1<<10 {
				t.Errorf("bob got %d and %d bytes at last, %s", status, len(body), cs)
			}
			if n := len(packs(origins)); n != 0 {
				t.Errorf("%d packs were fetched once more", n)
			}

			// What was withdrawn is gone when recheck_ttl is over.
			guard.let(carol, false)
			if !eventually(func() bool { _, body, _ := post(carol); return len(body) < 1<<10 }, nil) {
				t.Error("carol still gets what she may no longer read")
			}
		})
	}
}

// TestPrivatePacksAreNotStoredWithoutRecheck has the preset, and credentials.
func TestPrivatePacksAreNotStoredWithoutRecheck(t *testing.T) {
	t.Parallel()
	requireClient(t, "git")
	g := newGitRoot(t)
	backend, err := origin.GitBackend(g.root)
	must(t, err)
	origins := startOrigins(t)
	origins.Handle(forge, &guardedGit{backend: backend, may: map[string]bool{"alice:a": true}})
	in := newInstance(t, origins, "")
	s := in.serve(t)
	for range 2 {
		s.mustGit(t, privateDir(t), "clone", "--quiet", "https://alice:a@"+forge+"/project.git", "c")
	}
	if n := len(packs(origins)); n != 2 {
		t.Errorf("two clones with credentials fetched %d packs, want 2", n)
	}
	res := command{dir: in.dir, argv: []string{in.larder, "store", "ls", "--config", in.config, "--state", in.state, "-q"}}.run(t)
	if res.code != 0 || strings.Contains(res.stdout, "project.git") {
		t.Errorf("stored of a private repository: %v", res)
	}
	if strings.Contains(s.log(), "alice") {
		t.Errorf("a credential is in the log:\n%s", s.log())
	}
}
