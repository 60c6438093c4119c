package cache

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"larder/cache/digests"
	"larder/cache/integrity"
	"larder/cache/store"
)

// registryWorld is a world whose origin has files and indexes of them.
type registryWorld struct {
	*world
	table *digests.Table

	mu     sync.Mutex
	bodies map[string][]byte
}

func newRegistryWorld(t testing.TB) *registryWorld {
	t.Helper()
	table, err := digests.Open(filepath.Join(t.TempDir(), "digests"), 100)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { table.Close() })
	w := &registryWorld{table: table, bodies: make(map[string][]byte)}
	w.world = newWorldWith(t, immutable, func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		body, ok := w.bodies[r.URL.Path]
		w.mu.Unlock()
		if !ok {
			http.NotFound(rw, r)
			return
		}
		rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = rw.Write(body)
	}, Options{Digests: table}, store.Options{})
	return w
}

// put changes what the origin has.
func (w *registryWorld) put(path string, body []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bodies[path] = body
}

// index fetches a path under a rule for indexes.
func (w *registryWorld) index(path, kind string) answer {
	w.t.Helper()
	return w.under(&Rule{Name: "index", Mode: Revalidate, TTL: time.Minute, Index: &Index{Kind: kind}}, path)
}

// file fetches a path as one that never changes.
func (w *registryWorld) file(path string) answer {
	w.t.Helper()
	return w.under(&Rule{Name: "file", Mode: Immutable}, path)
}

func (w *registryWorld) under(rule *Rule, path string, fields ...string) answer {
	w.t.Helper()
	w.rule = rule
	got := w.get(path, fields...)
	w.last()
	return got
}

// has reports whether something is stored under a path.
func (w *registryWorld) has(path string) bool {
	s := w.cache.load(primaryKey(mustURL(w.t, w.origin.URL+path), immutable))
	defer s.release()
	return s != nil
}

// sums is a list of SHA-256 digests as sha256sum writes it.
func sums(files map[string][]byte) []byte {
	var b bytes.Buffer
	for name, body := range files {
		fmt.Fprintf(&b, "%s  %s\n", digest(body), name)
	}
	return b.Bytes()
}

// packument lists one tarball with its SHA-512.
func (w *registryWorld) packument(path string, body []byte) []byte {
	sum := sha512.Sum512(body)
	return fmt.Appendf(nil, `{"name":"a","versions":{"1.0.0":{"dist":{"tarball":"%s%s","integrity":"sha512-%s"}}}}`,
		w.origin.URL, path, base64.StdEncoding.EncodeToString(sum[:]))
}

func TestFileIsHeldToTheIndexBeforeIt(t *testing.T) {
	for _, size := range []int{1000, 1 << 20} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			w := newRegistryWorld(t)
			body := noise(size)
			w.put("/a", w.packument("/a/-/a-1.0.0.tgz", body))
			w.put("/a/-/a-1.0.0.tgz", tampered(body))
			w.index("/a", "npm")
			got := w.file("/a/-/a-1.0.0.tgz")
			if got.err == nil && got.StatusCode == http.StatusOK {
				t.Error("a tampered tarball went out")
			}
			if w.has("/a/-/a-1.0.0.tgz") {
				t.Error("a tampered tarball is stored")
			}
			w.wantDigests("index", "mismatch", 1)
			w.put("/a/-/a-1.0.0.tgz", body)
			w.file("/a/-/a-1.0.0.tgz").want(t, 200, body, "larder; fwd=uri-miss; stored")
			w.file("/a/-/a-1.0.0.tgz").want(t, 200, body, "larder; hit")
			w.mu.Lock()
			defer w.mu.Unlock()
			if out := w.outcomes[len(w.outcomes)-1]; out.Verified != "sha512 (index)" {
				t.Errorf("verified by %q", out.Verified)
			}
		})
	}
}

func TestStoredFileIsHeldToTheIndexAfterIt(t *testing.T) {
	body := noise(100_000)
	for _, c := range []struct {
		name  string
		index func(w *registryWorld, body []byte) answer
	}{
		{"SHA-256", func(w *registryWorld, body []byte) answer {
			w.put("/SHA256SUMS", sums(map[string][]byte{"f": body}))
			return w.index("/SHA256SUMS", "checksums")
		}},
		{"SHA-512", func(w *registryWorld, body []byte) answer {
			w.put("/a", w.packument("/f", body))
			return w.index("/a", "npm")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newRegistryWorld(t)
			w.put("/f", body)
			w.file("/f").want(t, 200, body, "larder; fwd=uri-miss; stored")
			c.index(w, body)
			w.file("/f").want(t, 200, body, "larder; hit")
			w.file("/f").want(t, 200, body, "larder; hit")
			w.wantGets(2)

			other := noise(100_001)
			w.put("/f", other)
			w.clock.advance(time.Hour)
			c.index(w, other)
			w.file("/f").want(t, 200, other, "larder; fwd=uri-miss; stored")
			w.wantDigests("index", "mismatch", 1)
			w.file("/f").want(t, 200, other, "larder; hit")
		})
	}
}

func TestRereadBodyIsToldInItsRecord(t *testing.T) {
	w := newRegistryWorld(t)
	body := noise(1000)
	w.put("/f", body)
	w.put("/a", w.packument("/f", body))
	w.file("/f")
	w.index("/a", "npm")
	w.file("/f")
	w.wantDigests("index", "verified", 1)
	s := w.cache.load(primaryKey(mustURL(t, w.origin.URL+"/f"), w.rule))
	if s == nil {
		t.Fatal("nothing is stored")
	}
	defer s.release()
	if proof := proofOf(s.rec.verified); proof != "sha512 (index)" {
		t.Errorf("verified by %q", proof)
	}
}

func TestWhatMayChangeIsComparedWithTheNewestIndex(t *testing.T) {
	w := newRegistryWorld(t)
	packages := &Rule{Name: "packages", Mode: Revalidate, TTL: time.Hour}
	one, two, three := noise(1000), noise(1001), noise(1002)
	w.put("/Packages", one)
	w.put("/SHA256SUMS", sums(map[string][]byte{"Packages": one}))
	w.index("/SHA256SUMS", "checksums")
	w.under(packages, "/Packages").want(t, 200, one, "larder; fwd=uri-miss; stored")
	w.under(packages, "/Packages").want(t, 200, one, "larder; hit; ttl=3600")

	// The mirror has moved on, and the index tells.
	w.put("/Packages", two)
	w.put("/SHA256SUMS", sums(map[string][]byte{"Packages": two}))
	w.clock.advance(2 * time.Minute)
	w.index("/SHA256SUMS", "checksums")
	got := w.under(packages, "/Packages")
	if !bytes.Equal(got.body, two) {
		t.Errorf("%d bytes, Cache-Status %s", len(got.body), got.Header.Get("Cache-Status"))
	}

	// The mirror is in the midst of moving: what does not fit is passed on, not kept.
	w.put("/SHA256SUMS", sums(map[string][]byte{"Packages": three}))
	w.clock.advance(2 * time.Minute)
	w.index("/SHA256SUMS", "checksums")
	if got := w.under(packages, "/Packages"); !bytes.Equal(got.body, two) || got.err != nil {
		t.Errorf("%d bytes, %v", len(got.body), got.err)
	}
	w.put("/Packages", three)
	if got := w.under(packages, "/Packages"); !bytes.Equal(got.body, three) {
		t.Errorf("%d bytes, Cache-Status %s", len(got.body), got.Header.Get("Cache-Status"))
	}
	w.under(packages, "/Packages").want(t, 200, three, "larder; hit; ttl=3600")
}

func TestIndexInTheStoreIsReadWhenNobodyHas(t *testing.T) {
	for _, c := range []struct {
		name  string
		first func(w *registryWorld)
	}{
		{"it was stored before there was a table", func(w *registryWorld) {
			w.cache.learning.table = nil
			w.index("/a", "npm")
			w.cache.learning.table = w.table
		}},
		{"too many were being read", func(w *registryWorld) {
			for range maxLearning {
				w.cache.learning.slots <- struct{}{}
			}
			w.index("/a", "npm")
			for range maxLearning {
				<-w.cache.learning.slots
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newRegistryWorld(t)
			body := noise(1000)
			w.put("/a", w.packument("/f", body))
			w.put("/f", tampered(body))
			c.first(w)
			w.index("/a", "npm")
			eventually(t, "the index is read", func() bool { return w.table.Epoch() > 0 })
			if got := w.file("/f"); got.StatusCode == http.StatusOK {
				t.Error("a tampered file went out")
			}
		})
	}
}

func TestLargeIndexIsReadFromTheStore(t *testing.T) {
	if testing.Short() {
		t.Skip("131,000 files")
	}
	w := newRegistryWorld(t)
	var b bytes.Buffer
	for i := range maxLearnt + 1 {
		fmt.Fprintf(&b, "%x  %d\n", sha256.Sum256([]byte(strconv.Itoa(i))), i)
	}
	w.put("/SHA256SUMS", b.Bytes())
	w.index("/SHA256SUMS", "checksums")
	last := fileKey(mustURL(t, fmt.Sprintf("%s/%d", w.origin.URL, maxLearnt)), &Rule{})
	eventually(t, "the last file is known", func() bool {
		known, err := w.table.Lookup(last)
		return err == nil && len(known) == 1
	})
}

func TestIndexThatCannotBeReadTeachesNothing(t *testing.T) {
	w := newRegistryWorld(t)
	w.put("/a", []byte(`{"versions":{"1":{"dist":`))
	w.index("/a", "npm").want(t, 200, w.bodies["/a"], "larder; fwd=uri-miss; stored")
	if n := testutil.ToFloat64(w.cache.metrics.unreadable); n != 1 {
		t.Errorf("%v indexes were unreadable", n)
	}
	w.index("/a", "npm").want(t, 200, w.bodies["/a"], "larder; hit; ttl=60")
}

// TestIndexOfAPrivateResponseTeachesNothing: whoever may not have it could find out, or
// be told lies.
func TestIndexOfAPrivateResponseTeachesNothing(t *testing.T) {
	w := newRegistryWorld(t)
	w.put("/a", w.packument("/f", noise(1000)))
	w.under(&Rule{Name: "index", Mode: Revalidate, Index: &Index{Kind: "npm"}}, "/a", "Authorization", "Basic eDp5")
	if w.table.Epoch() != 0 || w.stored() != 0 {
		t.Error("a private index was learnt from")
	}
}

func TestIndexThatWasTamperedWithTeachesNothing(t *testing.T) {
	w := newRegistryWorld(t)
	index := sums(map[string][]byte{"f": noise(5)})
	w.put("/SHA256SUMS", index)
	w.put("/SHA512SUMS", fmt.Appendf(nil, "%s  SHA256SUMS\n", hex.EncodeToString(make([]byte, 64))))
	w.index("/SHA512SUMS", "checksums")
	epoch := w.table.Epoch()
	w.under(&Rule{Name: "index", Mode: Immutable, Index: &Index{Kind: "checksums"}}, "/SHA256SUMS")
	if w.table.Epoch() != epoch {
		t.Error("an index that was refused was learnt from")
	}
}

func TestReadyKnowsWhatIndexesSay(t *testing.T) {
	w := newRegistryWorld(t)
	body := noise(1000)
	w.put("/f", body)
	for range 5 {
		w.file("/f")
	}
	target, rule := mustURL(t, w.origin.URL+"/f"), &Rule{Name: "file", Mode: Immutable}
	if _, ok := w.cache.Ready(target, rule); !ok {
		t.Fatal("it is not ready")
	}
	w.put("/SHA256SUMS", sums(map[string][]byte{"f": body}))
	w.index("/SHA256SUMS", "checksums")
	if _, ok := w.cache.Ready(target, rule); !ok {
		t.Error("it is not ready once an index has confirmed it")
	}
	w.put("/SHA256SUMS", sums(map[string][]byte{"f": noise(3)}))
	w.clock.advance(time.Hour)
	w.index("/SHA256SUMS", "checksums")
	if _, ok := w.cache.Ready(target, rule); ok {
		t.Error("it is ready though an index speaks against it")
	}
	if _, ok := w.cache.Ready(target, &Rule{Name: "file", Mode: Immutable, Verify: VerifyRequired}); ok {
		t.Error("it is ready though nothing has proved it")
	}
}

func TestIndexSpeaksForItsOwnHostAndThoseOfItsRule(t *testing.T) {
	rule := &Index{Kind: "x", Vouches: func(host string) bool { return host == "files.test" }}
	for _, c := range []struct {
		index, file string
		want        bool
	}{
		{"https://a.test/i", "https://a.test/f", true},
		{"https://a.test/i", "https://A.test:443/f", true},
		{"https://a.test/i", "http://a.test/f", true},
		{"https://a.test/i", "https://a.test:8443/f", false},
		{"https://a.test:8443/i", "https://a.test:8443/f", true},
		{"https://a.test/i", "https://files.test/f", true},
		{"https://a.test/i", "https://files.test:444/f", false},
		{"https://a.test:444/i", "https://files.test:444/f", true},
		{"https://a.test/i", "https://evil.test/f", false},
		{"http://a.test/i", "http://a.test/f", true},
		{"http://a.test/i", "https://a.test/f", false},
		{"http://a.test/i", "https://files.test/f", false},
		{"https://a.test/i", "ftp://a.test/f", false},
		{"https://a.test/i", "https://u:p@a.test/f", false},
	} {
		index, file := mustURL(t, c.index), mustURL(t, c.file)
		if got := mayVouch(index, rule, file); got != c.want {
			t.Errorf("mayVouch(%s, %s) = %v", c.index, c.file, got)
		}
	}
	if mayVouch(&url.URL{Scheme: "https", Host: "a.test"}, &Index{}, mustURL(t, "https://b.test/")) {
		t.Error("an index without a list of hosts speaks for another")
	}
}

func TestLateDigestKeepsAFileOut(t *testing.T) {
	w := newRegistryWorld(t)
	body := noise(100_000)
	target := mustURL(t, w.origin.URL+"/f")
	sum := sha256.Sum256(body)
	d, _ := integrity.NewDigest(integrity.SHA256, sum[:])
	w.put("/f", tampered(body))
	transport := w.cache.upstream
	w.cache.upstream = roundTripFunc(func(r *http.Request) (*http.Response, error) {
		resp, err := transport.RoundTrip(r)
		if err == nil {
			resp.Body = &afterRead{resp.Body, func() {
				if _, err := w.table.Add([]digests.Entry{{Key: fileKey(target, &Rule{}), Digest: d}}); err != nil {
					t.Error(err)
				}
			}}
		}
		return resp, err
	})
	w.file("/f")
	if n := w.stored(); n != 0 {
		t.Errorf("%d objects are stored", n)
	}
	w.wantDigests("index", "mismatch", 1)
}

// afterRead does something once the body is being read.
type afterRead struct {
	body interface {
		Read([]byte) (int, error)
		Close() error
	}
	then func()
}

func (a *afterRead) Read(p []byte) (int, error) {
	if a.then != nil {
		a.then()
		a.then = nil
	}
	return a.body.Read(p)
}

func (a *afterRead) Close() error { return a.body.Close() }

func sri(body []byte) string {
	sum := sha512.Sum512(body)
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

// TestClientThatExpectsAnotherBodyGetsUpstreams: what is stored stays, and is given to
// everybody else.
func TestClientThatExpectsAnotherBodyGetsUpstreams(t *testing.T) {
	w := newRegistryWorld(t)
	old, now := noise(1000), noise(1001)
	w.put("/f", old)
	w.file("/f")
	w.put("/f", now)
	w.under(immutable, "/f", "Pacote-Integrity", sri(old)).want(t, 200, old, "larder; hit")
	w.under(immutable, "/f", "Pacote-Integrity", sri(now)).want(t, 200, now, "larder; fwd=request; detail=client-digest")
	w.wantDigests("client", "contradicted", 1)
	w.file("/f").want(t, 200, old, "larder; hit")
	w.under(&Rule{Mode: Immutable, Verify: VerifyOff}, "/f", "Pacote-Integrity", sri(now)).want(t, 200, old, "larder; hit")

	// Once a registry has named the digest, no client's word counts.
	w.put("/a", w.packument("/f", old))
	w.index("/a", "npm")
	w.file("/f")
	w.under(immutable, "/f", "Pacote-Integrity", sri(now)).want(t, 200, old, "larder; hit")
}

func TestWhatIsKnownToBeWrongIsNotServedOffline(t *testing.T) {
	w := newRegistryWorld(t)
	w.put("/f", noise(1000))
	w.put("/SHA256SUMS", sums(map[string][]byte{"f": noise(3)}))
	w.file("/f")
	w.index("/SHA256SUMS", "checksums")
	w.cache.SetOffline(true)
	if got := w.file("/f"); got.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("status %d", got.StatusCode)
	}
}
