package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"larder/tests/origin"
)

// ociWorld is a registry, a larder with the presets as they are shipped, and clients.
type ociWorld struct {
	*ociRegistry
	*service
	http *http.Client // through larder, trusting it and the origins
	env  []string     // of clients that are programs
}

func newOCIWorld(t *testing.T, origins *origin.Server) *ociWorld {
	t.Helper()
	return newOCIWorldAt(t, origins, dockerHub(), "")
}

// newOCIWorldAt is newOCIWorld for a registry at other hosts, with rules of its own.
func newOCIWorldAt(t *testing.T, origins *origin.Server, hosts [3]string, rules string) *ociWorld {
	t.Helper()
	w := &ociWorld{ociRegistry: startOCIRegistry(t, origins, hosts)}
	w.service = newInstance(t, origins, rules).serve(t)
	w.http = w.service.client(t)
	// The authorization server is tunnelled, so that clients see its own certificate.
	authority := origins.Authority.PEM()
	if !w.http.Transport.(*http.Transport).TLSClientConfig.RootCAs.AppendCertsFromPEM(authority) {
		t.Fatal("the origins have no authority")
	}
	both := readFile(t, filepath.Join(w.state, "trust", "ca.pem")) + string(authority)
	proxy := "http://" + w.service.proxy
	w.env = []string{"SSL_CERT_FILE=" + writeFile(t, w.dir, "both.pem", both), "SSL_CERT_DIR=/nowhere", "HTTPS_PROXY=" + proxy, "https_proxy=" + proxy}
	return w
}

// skopeo runs skopeo through larder.
func (w *ociWorld) skopeo(t *testing.T, args ...string) result {
	t.Helper()
	dir := privateDir(t)
	argv := append([]string{"skopeo", "--insecure-policy", "--tmpdir", dir}, args...)
	return command{argv: argv, dir: dir, env: w.env}.run(t)
}

// named is a reference as clients write it.
func (w *ociWorld) named(reference string) string {
	if w.host == dockerHub()[0] {
		return "docker.io/" + reference
	}
	return w.host + "/" + reference
}

// pull has skopeo pull an image in a fresh folder, and returns the digests of its files.
func (w *ociWorld) pull(t *testing.T, reference string, flags ...string) map[string]string {
	t.Helper()
	out := filepath.Join(privateDir(t), "image")
	res := w.skopeo(t, append(append([]string{"copy"}, flags...), "docker://"+w.named(reference), "dir:"+out)...)
	if res.code != 0 {
		t.Fatalf("pull %s: %v\n%s", reference, res, exchangeList(w.origins))
	}
	sums := make(map[string]string)
	files, err := os.ReadDir(out)
	must(t, err)
	for _, f := range files {
		sums[f.Name()] = fileSum(t, filepath.Join(out, f.Name()))
	}
	return sums
}

// push has skopeo push a random image, and returns it.
func (w *ociWorld) push(t *testing.T, reference string) v1.Image {
	t.Helper()
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for range 3 {
		layer, err := random.Layer(1<<20, types.OCILayer)
		must(t, err)
		image, err = mutate.AppendLayers(image, layer)
		must(t, err)
	}
	dir := filepath.Join(privateDir(t), "layout")
	path, err := layout.Write(dir, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Annotations: map[string]string{"org.opencontainers.image.ref.name": "x"}}}))
	must(t, err)
	res := w.skopeo(t, "copy", "--dest-creds", "ci:"+ociUsers["ci"], "oci:"+string(path)+":x", "docker://"+w.named(reference))
	if res.code != 0 {
		t.Fatalf("push %s: %v\n%s", reference, res, exchangeList(w.origins))
	}
	return image
}

// options are go-containerregistry's for a user, "" for nobody.
func (w *ociWorld) options(user string) []remote.Option {
	auth := authn.Anonymous
	if user != "" {
		auth = &authn.Basic{Username: user, Password: ociUsers[user]}
	}
	return []remote.Option{remote.WithTransport(w.http.Transport), remote.WithAuth(auth), remote.WithJobs(4), remote.WithRetryPredicate(func(error) bool { return false })}
}

// fetchAll pulls an image with go-containerregistry and checks each digest.
func (w *ociWorld) fetchAll(reference, user string) (v1.Hash, error) {
	ref, err := name.ParseReference(w.host + "/" + reference)
	if err != nil {
		return v1.Hash{}, err
	}
	image, err := remote.Image(ref, w.options(user)...)
	if err != nil {
		return v1.Hash{}, err
	}
	layers, err := image.Layers()
	if err != nil {
		return v1.Hash{}, err
	}
	for _, l := range layers {
		want, err := l.Digest()
		if err != nil {
			return v1.Hash{}, err
		}
		body, err := l.Compressed()
		if err != nil {
			return v1.Hash{}, err
		}
		got, _, err := v1.SHA256(body)
		_ = body.Close()
		if err != nil || got != want {
			return v1.Hash{}, fmt.Errorf("layer %s came as %s: %w", want, got, err)
		}
	}
	return image.Digest()
}

// firstLayer returns digest and size of an image's first layer.
func firstLayer(t *testing.T, image v1.Image) (string, int64) {
	t.Helper()
	layers, err := image.Layers()
	must(t, err)
	digest, err := layers[0].Digest()
	must(t, err)
	size, err := layers[0].Size()
	must(t, err)
	return digest.Hex, size
}

func digestOfImage(t *testing.T, image v1.Image) string {
	t.Helper()
	d, err := image.Digest()
	must(t, err)
	return d.Hex
}

// TestImagesAreServedFromTheCache: skopeo and go-containerregistry, distribution's
// registry, its tokens, TLS, and the preset for Docker Hub.
func TestImagesAreServedFromTheCache(t *testing.T) {
	t.Parallel()
	requireClient(t, "skopeo", "docker-registry")
	for _, redirects := range []bool{false, true} {
		t.Run(fmt.Sprintf("redirects %v", redirects), func(t *testing.T) {
			t.Parallel()
			origins := startOrigins(t)
			w := newOCIWorld(t, origins)
			w.redirects.Store(redirects)
			image := w.push(t, "team/app:v1")
			const ci = "--src-creds=ci:letmein"

			// Cold, then hot: each run has a token of its own.
			origins.Forget()
			cold := w.pull(t, "team/app:v1", ci)
			if n := w.pulled("blobs"); n != 4 {
				t.Errorf("%d blobs were fetched, want 3 layers and the configuration:\n%s", n, exchangeList(origins))
			}
			origins.Forget()
			hot := w.pull(t, "team/app:v1", ci)
			if b, m := w.pulled("blobs"), w.pulled("manifests"); b != 0 || m != 0 {
				t.Errorf("%d blobs and %d manifests were fetched again:\n%s", b, m, exchangeList(origins))
			}
			if w.heads() == 0 {
				t.Error("nobody asked whether the second run may have it")
			}
			if fmt.Sprint(cold) != fmt.Sprint(hot) {
				t.Errorf("pulled %v, then %v", cold, hot)
			}
			if got, err := w.fetchAll("team/app:v1", "ci"); err != nil || got.Hex != digestOfImage(t, image) {
				t.Errorf("go-containerregistry: %v, %v", got, err)
			}
			if n := w.pulled("blobs"); n != 0 {
				t.Errorf("%d blobs were fetched again", n)
			}

			// Who has no right to it, with a password or without, gets the registry's word.
			for _, flag := range []string{"--src-creds=stranger:whatever", "--src-no-creds"} {
				res := w.skopeo(t, "copy", flag, "docker://docker.io/team/app:v1", "dir:"+filepath.Join(privateDir(t), "image"))
				if res.code == 0 || !strings.Contains(res.stderr, "denied") && !strings.Contains(res.stderr, "unauthorized") && !strings.Contains(res.stderr, "authentication required") {
					t.Errorf("%s: %v", flag, res)
				}
			}
			for _, user := range []string{"stranger", ""} {
				_, err := w.fetchAll("team/app:v1", user)
				if e, ok := errors.AsType[*transport.Error](err); !ok || e.StatusCode != http.StatusUnauthorized && e.StatusCode != http.StatusForbidden {
					t.Errorf("go-containerregistry as %q: %v", user, err)
				}
			}
			w.refusesBlobs(t, image)

			// A tag that was moved is seen at once, by the next HEAD.
			moved := w.push(t, "team/app:v1")
			if got, err := w.fetchAll("team/app:v1", "ci"); err != nil || got.Hex != digestOfImage(t, moved) {
				t.Errorf("after the tag has moved: %v, %v, want %s", got, err, digestOfImage(t, moved))
			}
			w.noSecrets(t)
		})
	}
}

// refusesBlobs asks for a blob that is stored, by its digest alone, with every kind of
// request that has no right to it.
func (w *ociWorld) refusesBlobs(t *testing.T, image v1.Image) {
	t.Helper()
	sum, _ := firstLayer(t, image)
	app, public := "repository:team/app:pull", "repository:public/any:pull"
	for _, r := range []struct{ title, repository, token string }{
		{"no token", "team/app", ""},
		{"a stranger's", "team/app", w.token("stranger", time.Minute, app)},
		{"one of another repository", "team/app", w.token("stranger", time.Minute, public)},
		{"one that has expired", "team/app", w.token("ci", -2*time.Minute, app)},
		{"one that nobody has signed", "team/app", strings.TrimRight(w.token("ci", time.Minute, app), "abcdefghijklmnopqrstuvwxyz") + "AAAA"},
		{"a good one for a repository without it", "public/any", w.token("ci", time.Minute, public)},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			res, body := w.ask(t, w.http, method, "https://"+w.host+"/v2/"+r.repository+"/blobs/sha256:"+sum, r.token)
			if res.StatusCode != http.StatusUnauthorized && res.StatusCode != http.StatusForbidden && res.StatusCode != http.StatusNotFound {
				t.Errorf("%s %s: %s", method, r.title, res.Status)
			}
			var said struct{ Errors []struct{ Code string } }
			if err := json.Unmarshal(body, &said); method == "GET" && (err != nil || len(said.Errors) == 0) {
				t.Errorf("%s: the answer is not the registry's: %q", r.title, body)
			}
			if res.StatusCode == http.StatusUnauthorized && res.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s: no challenge", r.title)
			}
		}
	}
}

// noSecrets looks for tokens, passwords and signatures where they could have been left.
func (w *ociWorld) noSecrets(t *testing.T) {
	t.Helper()
	res, err := http.Get("http://" + w.service.admin + "/metrics")
	must(t, err)
	metrics := string(readAll(t, res.Body))
	_ = res.Body.Close()
	for where, text := range map[string]string{"log": w.log(), "metrics": metrics} {
		for _, secret := range []string{"letmein", "Signature=", "eyJ", "Bearer"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows %q", where, secret)
			}
		}
	}
	secrets := [][]byte{[]byte("Signature="), []byte("eyJ0eXAiOiJKV1Q"), []byte("bGV0bWVpbg")}
	must(t, filepath.WalkDir(filepath.Join(w.state, "store"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data := []byte(readFile(t, path))
		for _, s := range secrets {
			if bytes.Contains(data, s) {
				t.Errorf("%s holds %q", path, s)
			}
		}
		return nil
	}))
}

// TestPushesPass, whole and with blobs mounted from another repository.
func TestPushesPass(t *testing.T) {
	t.Parallel()
	requireClient(t, "skopeo", "docker-registry")
	origins := startOrigins(t)
	w := newOCIWorld(t, origins)
	w.push(t, "team/app:v1")
	from, err := name.ParseReference(w.host + "/team/app:v1")
	must(t, err)
	to, err := name.ParseReference(w.host + "/public/app:v1")
	must(t, err)
	image, err := remote.Image(from, w.options("ci")...)
	must(t, err)
	must(t, remote.Write(to, image, w.options("ci")...))
	mounts := origins.Exchanges(func(e origin.Exchange) bool {
		return e.Method == http.MethodPost && strings.Contains(e.Path, "mount=") && e.Status == http.StatusCreated
	})
	if len(mounts) == 0 {
		t.Errorf("no blob was mounted:\n%s", exchangeList(origins))
	}
	// What was fetched for one repository is served in the other, to whoever may there.
	origins.Forget()
	if _, err := w.fetchAll("team/app:v1", "ci"); err != nil {
		t.Fatal(err)
	}
	if n := w.pulled("blobs"); n == 0 {
		t.Fatal("nothing was fetched")
	}
	origins.Forget()
	if _, err := w.fetchAll("public/app:v1", ""); err != nil {
		t.Errorf("pull what was mounted, without a name: %v", err)
	}
	if n := w.pulled("blobs"); n != 0 {
		t.Errorf("%d blobs were fetched again for another repository:\n%s", n, exchangeList(origins))
	}
	if _, err := w.fetchAll("team/app:v1", ""); err == nil {
		t.Error("who may pull the one may pull the other")
	}
	// Deleted there, it is gone there.
	digest, err := image.Digest()
	must(t, err)
	must(t, remote.Delete(to.Context().Digest(digest.String()), w.options("ci")...))
	if _, err := w.fetchAll("public/app:v1", ""); err == nil {
		t.Error("what was deleted is pulled")
	}
}

// TestSignedURLsOfAStorage: what is stored goes to who has a URL that is good now.
func TestSignedURLsOfAStorage(t *testing.T) {
	t.Parallel()
	requireClient(t, "skopeo", "docker-registry")
	origins := startOrigins(t)
	w := newOCIWorld(t, origins)
	image := w.push(t, "team/app:v1")
	sum, size := firstLayer(t, image)
	w.redirects.Store(true)
	blob := "https://" + w.host + "/v2/team/app/blobs/sha256:" + sum
	token := w.token("ci", time.Minute, "repository:team/app:pull")

	// A client that follows redirects itself, as after a HEAD.
	res, _ := w.ask(t, w.http, "HEAD", blob, token)
	given := res.Header.Get("Location")
	if res.StatusCode != http.StatusTemporaryRedirect || !strings.Contains(given, "Signature=") {
		t.Fatalf("HEAD of what is not stored: %s to %q", res.Status, given)
	}
	storage := func() int { return w.pulledFrom(w.storage) }
	want := func(target string, status int, cacheStatus string, requests int) {
		t.Helper()
		before := storage()
		res, body := w.ask(t, w.http, "GET", target, "")
		if res.StatusCode != status || status == 200 && int64(len(body)) != size || !strings.HasPrefix(res.Header.Get("Cache-Status"), cacheStatus) {
			t.Errorf("%s, %d bytes, %s; want %d, %s", res.Status, len(body), res.Header.Get("Cache-Status"), status, cacheStatus)
		}
		if n := storage() - before; n != requests {
			t.Errorf("the storage got %d requests, want %d", n, requests)
		}
	}
	want(given, 200, "larder; fwd=uri-miss; stored", 1)
	want(given, 200, "larder; hit", 0)
	// One that did not come through larder is tried with a byte, once.
	other := w.signed(sum, time.Now().Add(30*time.Second))
	want(other, 200, "larder; hit; detail=recheck", 1)
	want(other, 200, "larder; hit", 0)
	// One that has expired, or that somebody has made up, is the storage's to refuse.
	want(w.signed(sum, time.Now().Add(-time.Second)), 403, "larder; fwd=request; detail=recheck", 2)
	want(given[:len(given)-len("&Key-Pair-Id=K1")-4]+"0000", 403, "larder; fwd=request; detail=recheck", 2)
	want(strings.SplitN(given, "?", 2)[0], 403, "larder; fwd=request; detail=recheck", 2)
	// One that expires here is refused from then on, though larder has what it names.
	short := w.signed(sum, time.Now().Add(2*time.Second))
	want(short, 200, "larder; hit; detail=recheck", 1)
	if !eventually(func() bool {
		res, _ := w.ask(t, w.http, "GET", short, "")
		return res.StatusCode == http.StatusForbidden
	}, nil) {
		t.Error("an expired URL goes on being served")
	}
	// And what came from the storage is the registry's blob.
	res, body := w.ask(t, w.http, "GET", blob, token)
	if res.StatusCode != 200 || int64(len(body)) != size || !strings.HasPrefix(res.Header.Get("Cache-Status"), "larder; hit") {
		t.Errorf("at the registry: %s, %d bytes, %s", res.Status, len(body), res.Header.Get("Cache-Status"))
	}
	w.noSecrets(t)
}

// pulledFrom counts the requests that a host got.
func (w *ociWorld) pulledFrom(host string) int {
	n, _ := origin.Sum(w.origins.Exchanges(func(e origin.Exchange) bool { return e.Host == host }))
	return n
}

// TestParallelRangesOfALayer are fed from one fetch.
func TestParallelRangesOfALayer(t *testing.T) {
	t.Parallel()
	requireClient(t, "skopeo", "docker-registry")
	origins := startOrigins(t)
	w := newOCIWorld(t, origins)
	w.redirects.Store(true)
	sum, size := firstLayer(t, w.push(t, "team/app:v1"))
	origins.Forget()
	const parts = 32
	got := make([][]byte, parts)
	var wg sync.WaitGroup
	for i := range parts {
		wg.Go(func() {
			// Each has a token of its own, as from different jobs.
			token := w.token("ci", time.Minute, "repository:team/app:pull")
			from, to := int64(i)*size/parts, int64(i+1)*size/parts-1
			res, body := w.ask(t, w.http, "GET", "https://"+w.host+"/v2/team/app/blobs/sha256:"+sum, token, "Range", fmt.Sprintf("bytes=%d-%d", from, to))
			if res.StatusCode != http.StatusPartialContent || int64(len(body)) != to-from+1 {
				t.Errorf("part %d: %s, %d bytes", i, res.Status, len(body))
			}
			got[i] = body
		})
	}
	wg.Wait()
	if h, _, _ := v1.SHA256(bytes.NewReader(bytes.Join(got, nil))); h.Hex != sum {
		t.Errorf("the parts make %s, want %s", h.Hex, sum)
	}
	// Besides the whole, the ranges of those who came before anybody had begun it.
	if _, sent := origin.Sum(origins.Exchanges(func(e origin.Exchange) bool { return e.Host == w.storage })); sent > 2*size {
		t.Errorf("the storage sent %d bytes of a layer of %d:\n%s", sent, size, exchangeList(origins))
	}
}

// TestPullsWithoutTheOrigin: without its storage everything that is stored is pulled;
// without the registry too by who was let pull lately, and by nobody else.
func TestPullsWithoutTheOrigin(t *testing.T) {
	t.Parallel()
	requireClient(t, "skopeo", "docker-registry")
	origins := startOrigins(t)
	w := newOCIWorld(t, origins)
	w.redirects.Store(true)
	image := w.push(t, "team/app:v1")
	w.pull(t, "team/app:v1", "--src-creds=ci:letmein")
	w.broken.Store(true)
	w.pull(t, "team/app:v1", "--src-creds=ci:letmein")

	sum, size := firstLayer(t, image)
	blob, tag := "https://"+w.host+"/v2/team/app/blobs/sha256:"+sum, "https://"+w.host+"/v2/team/app/manifests/v1"
	known, unknown := w.token("ci", time.Minute, "repository:team/app:pull"), w.token("ci", time.Minute, "repository:team/app:pull")
	accept := []string{"Accept", "application/vnd.oci.image.manifest.v1+json"}
	for _, target := range []string{blob, tag} {
		if res, _ := w.ask(t, w.http, "GET", target, known, accept...); res.StatusCode != 200 {
			t.Fatalf("GET %s: %s", target, res.Status)
		}
	}
	origins.Down()
	for target, length := range map[string]int64{blob: size, tag: -1} {
		res, body := w.ask(t, w.http, "GET", target, known, accept...)
		if res.StatusCode != 200 || length >= 0 && int64(len(body)) != length {
			t.Errorf("GET %s by who was let pull: %s, %d bytes, %s", target, res.Status, len(body), res.Header.Get("Cache-Status"))
		}
		for _, token := range []string{unknown, ""} {
			if res, _ := w.ask(t, w.http, "GET", target, token, accept...); res.StatusCode < 500 {
				t.Errorf("GET %s by who was not: %s", target, res.Status)
			}
		}
	}
}

// TestTheGuideToRegistries: the rules that docs/oci.md gives for a registry of one's own.
func TestTheGuideToRegistries(t *testing.T) {
	t.Parallel()
	requireClient(t, "skopeo", "docker-registry")
	_, rules, found := strings.Cut(readFile(t, "../docs/oci.md"), "```yaml\n")
	rules, _, ended := strings.Cut(rules, "```\n")
	if !found || !ended {
		t.Fatal("the guide has no rules")
	}
	origins := startOrigins(t)
	w := newOCIWorldAt(t, origins, [3]string{"registry.corp.example", "tokens.corp.example", "storage.corp.example"}, rules)
	w.redirects.Store(true)
	image := w.push(t, "team/app:v1")
	w.pull(t, "team/app:v1", "--src-creds=ci:letmein")
	origins.Forget()
	w.pull(t, "team/app:v1", "--src-creds=ci:letmein")
	if b, m := w.pulled("blobs"), w.pulled("manifests"); b != 0 || m != 0 {
		t.Errorf("%d blobs and %d manifests were fetched again:\n%s", b, m, exchangeList(origins))
	}
	if _, err := w.fetchAll("team/app:v1", "stranger"); err == nil {
		t.Error("a stranger may pull")
	}
	w.refusesBlobs(t, image)
}

// TestHomebrewAndHelm: artifacts of other kinds than images, and a bearer that is none.
func TestHomebrewAndHelm(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	registry := host("ghcr", "io")
	chart := readAll(t, origin.NewContent("chart", 300_000))
	h, _, err := v1.SHA256(bytes.NewReader(chart))
	must(t, err)
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[{"mediaType":"application/vnd.cncf.helm.chart.content.v1.tar+gzip","digest":%q,"size":%d}]}`, h, len(chart))
	m, _, err := v1.SHA256(strings.NewReader(manifest))
	must(t, err)
	origins.Handle(registry, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer QQ==" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+registry+`/token"`)
			http.Error(w, "UNAUTHORIZED", http.StatusUnauthorized)
			return
		}
		body, kind := string(chart), "application/octet-stream"
		if strings.Contains(r.URL.Path, "/manifests/") {
			body, kind = manifest, "application/vnd.oci.image.manifest.v1+json"
			w.Header().Set("Docker-Content-Digest", m.String())
		}
		w.Header().Set("Content-Type", kind)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
	}))
	s := newInstance(t, origins, "").serve(t)
	r := &ociRegistry{}
	client := s.client(t)
	base := "https://" + registry + "/v2/homebrew/core/jq/"
	for i, statuses := range [][3]string{
		{"larder; fwd=uri-miss; stored", "larder; fwd=uri-miss; stored", "larder; fwd=uri-miss; stored"},
		{"larder; fwd=stale; ttl=0; detail=unchanged", "larder; hit", "larder; hit"},
	} {
		for n, path := range []string{"manifests/1.7.1", "manifests/" + m.String(), "blobs/" + h.String()} {
			res, body := r.ask(t, client, "GET", base+path, "QQ==", "Accept", "application/vnd.oci.image.index.v1+json")
			if res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Cache-Status"), statuses[n]) || n == 2 && !bytes.Equal(body, chart) {
				t.Errorf("%d: %s: %s, %s, %d bytes", i, path, res.Status, res.Header.Get("Cache-Status"), len(body))
			}
		}
	}
}

// TestContainerd pulls as Kubernetes nodes do: HEAD for the tag, then by digest.
func TestContainerd(t *testing.T) {
	t.Parallel()
	requireClient(t, "skopeo", "docker-registry", "containerd", "ctr")
	if os.Getuid() != 0 {
		t.Skip("containerd wants root")
	}
	origins := startOrigins(t)
	w := newOCIWorld(t, origins)
	w.redirects.Store(true)
	image := w.push(t, "team/app:v1")
	pull := func(password string) result {
		t.Helper()
		at := w.containerd(t)
		return command{argv: []string{"ctr", "--address", at, "content", "fetch", "--user", "ci:" + password, "docker.io/team/app:v1"}, dir: privateDir(t), env: w.env}.run(t)
	}
	origins.Forget()
	for i, blobs := range []int{4, 0} {
		if res := pull(ociUsers["ci"]); res.code != 0 || !strings.Contains(res.stdout, digestOfImage(t, image)) {
			t.Fatalf("pull %d: %v\n%s", i, res, exchangeList(origins))
		}
		if n := w.pulled("blobs"); n != blobs {
			t.Errorf("pull %d fetched %d blobs, want %d:\n%s", i, n, blobs, exchangeList(origins))
		}
		origins.Forget()
	}
	if res := pull("wrong"); res.code == 0 {
		t.Errorf("pulled with another password: %v", res)
	}
}

// containerd starts a containerd with nothing in its store and returns its socket.
func (w *ociWorld) containerd(t *testing.T) string {
	t.Helper()
	dir := privateDir(t)
	at := filepath.Join(dir, "c.sock")
	config := writeFile(t, dir, "config.toml", fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = %q
[debug]
  level = "error"
`, filepath.Join(dir, "root"), filepath.Join(dir, "run"), at))
	cmd := exec.Command("containerd", "--config", config)
	cmd.Dir, cmd.Env = dir, hermetic(dir, w.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	done := make(chan struct{})
	go func() { // ends with the process
		defer close(done)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-done
	})
	ready := func() bool {
		c, err := net.Dial("unix", at)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
	if !eventually(ready, done) {
		t.Fatal("containerd does not start")
	}
	return at
}
