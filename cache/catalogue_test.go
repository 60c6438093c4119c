package cache

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"larder/cache/archive"
	"larder/cache/store"
)

// library answers what the tests below store.
func library(rw http.ResponseWriter, r *http.Request) {
	h := rw.Header()
	switch {
	case strings.HasPrefix(r.URL.Path, "/coded/"):
		h.Set("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(rw)
			fmt.Fprint(z, "coded "+r.URL.Path)
			z.Close()
			return
		}
		fmt.Fprint(rw, "coded "+r.URL.Path)
	case strings.HasPrefix(r.URL.Path, "/same/"):
		fmt.Fprint(rw, "the same for all")
	case strings.HasPrefix(r.URL.Path, "/large/"):
		rw.Write(noise(3 << 20))
	case r.URL.Path == "/gone":
		rw.WriteHeader(http.StatusGone)
	default:
		h.Set("Etag", `"`+r.URL.Path+`"`)
		fmt.Fprint(rw, "body of "+r.URL.Path)
	}
}

// catalogue is the catalogue of w, whose rule holds for all URLs.
func (w *world) catalogue() *Catalogue {
	return w.cache.Catalogue(func(*url.URL) *Rule { return w.rule })
}

// fillUp stores what library has and waits until it is there.
func (w *world) fillUp(paths ...string) {
	w.t.Helper()
	for _, p := range paths {
		w.get(p, "Accept-Encoding", "identity")
		if strings.HasPrefix(p, "/coded/") {
			w.get(p, "Accept-Encoding", "gzip")
		}
	}
	w.cache.wg.Wait()
}

// list returns what is stored: path and size of each object.
func (w *world) list(c *Catalogue, match func(string) bool) []string {
	w.t.Helper()
	var all []string
	for o, err := range c.List(w.t.Context(), match) {
		if err != nil {
			w.t.Fatal(err)
		}
		line := fmt.Sprintf("%s %d %d", strings.TrimPrefix(o.URL, w.origin.URL), o.Status, o.Size)
		if v, ok := o.Select["accept-encoding"]; ok {
			line += " " + *v
		}
		all = append(all, line)
	}
	slices.Sort(all)
	return all
}

func everything(string) bool { return true }

func TestCatalogueLists(t *testing.T) {
	w := newWorld(t, &Rule{Name: "r", Mode: Revalidate, TTL: time.Minute, NegativeTTL: time.Minute, DropQuery: []string{"sig"}}, library)
	w.fillUp("/a", "/b?x=1&sig=2", "/coded/c", "/gone")
	c := w.catalogue()
	want := []string{"/a 200 10", "/b?x=1 200 10", "/coded/c 200 32 gzip", "/coded/c 200 8 identity", "/gone 410 0"}
	got := w.list(c, everything)
	for i, line := range got { // how long gzip makes it is no matter
		if strings.HasSuffix(line, " gzip") {
			got[i] = "/coded/c 200 32 gzip"
		}
		if strings.HasSuffix(line, " identity") {
			got[i] = "/coded/c 200 8 identity"
		}
	}
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("listed (-want +got):\n%s", d)
	}
	if got := w.list(c, func(u string) bool { return strings.HasSuffix(u, "/a") }); len(got) != 1 {
		t.Errorf("listed %v", got)
	}

	w.get("/a")
	w.get("/a")
	w.clock.advance(15 * time.Second)
	found, err := c.Find(t.Context(), mustURL(t, w.origin.URL+"/a?sig=9"))
	if err != nil || len(found) != 1 {
		t.Fatalf("found %v, %v", found, err)
	}
	o := found[0]
	if o.Rule != "r" || !o.Fresh || o.TTL != 45*time.Second || o.Uses < 2 || o.Header.Get("Etag") != `"/a"` || digest([]byte("body of /a")) != fmt.Sprintf("%x", o.SHA256) {
		t.Errorf("found %+v", o)
	}
	w.clock.advance(time.Hour)
	if found, err = c.Find(t.Context(), mustURL(t, w.origin.URL+"/coded/c")); err != nil || len(found) != 2 || found[0].Fresh || found[0].TTL >= 0 {
		t.Errorf("found %+v, %v; want two variants, both stale", found, err)
	}
	if found, err = c.Find(t.Context(), mustURL(t, w.origin.URL+"/none")); err != nil || len(found) != 0 {
		t.Errorf("found %+v, %v", found, err)
	}
	none := w.cache.Catalogue(func(*url.URL) *Rule { return nil })
	for o, err := range none.List(t.Context(), everything) {
		if err != nil || o.Rule != "" || o.Fresh {
			t.Errorf("without a rule: %+v, %v", o, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Verify(ctx, 0, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("verify: %v", err)
	}
}

func TestRemoveByURL(t *testing.T) {
	w := newWorld(t, &Rule{Mode: Revalidate, TTL: time.Hour}, library)
	w.fillUp("/x/a", "/x/b", "/coded/c", "/y")
	c := w.catalogue()
	var reports int
	done, err := c.Remove(t.Context(), func(u string) bool { return !strings.HasSuffix(u, "/y") }, func(Removed) { reports++ })
	if err != nil || done.Removed != 4 || done.Scanned != 5 || reports == 0 {
		t.Errorf("removed %+v, %v in %d reports", done, err, reports)
	}
	if got := w.list(c, everything); len(got) != 1 {
		t.Errorf("left: %v", got)
	}
	if n := w.cache.Store().Stats().Objects; n != 2 {
		t.Errorf("%d records are left, want 2, those of one URL: the lists of variants go as well", n)
	}
	asked := w.gets.Load()
	w.get("/x/a", "Accept-Encoding", "identity").want(t, 200, []byte("body of /x/a"), "larder; fwd=uri-miss; stored")
	w.get("/coded/c", "Accept-Encoding", "identity").want(t, 200, []byte("coded /coded/c"), "larder; fwd=uri-miss; stored")
	w.get("/y", "Accept-Encoding", "identity").want(t, 200, []byte("body of /y"), "larder; hit; ttl=3600")
	if n := w.gets.Load() - asked; n != 2 {
		t.Errorf("%d requests upstream, want 2", n)
	}
}

// TestRemoveOutdatesRunningFills removes a URL while it is being fetched.
func TestRemoveOutdatesRunningFills(t *testing.T) {
	for _, private := range []bool{false, true} {
		t.Run(fmt.Sprintf("private %v", private), func(t *testing.T) {
			s := newStepper(1000)
			var n atomic.Int64
			w := newWorld(t, &Rule{Mode: Immutable}, func(rw http.ResponseWriter, r *http.Request) {
				if private && n.Add(1) == 1 {
					rw.Header().Set("Cache-Control", "private")
					return
				}
				s.ServeHTTP(rw, r)
			})
			if private {
				w.get("/a") // from now on nobody waits for others
			}
			running := w.open(t.Context(), "/a")
			if _, err := w.catalogue().Remove(t.Context(), everything, nil); err != nil {
				t.Fatal(err)
			}
			close(s.allowed)
			if b, err := io.ReadAll(running.Body); !bytes.Equal(b, s.body) || err != nil {
				t.Errorf("the client got %d bytes, %v", len(b), err)
			}
			w.cache.wg.Wait()
			if n := w.stored(); n != 0 {
				t.Errorf("%d objects are stored, want none", n)
			}
		})
	}
}

// export writes an archive of all that is stored.
func export(t *testing.T, c *Catalogue) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := c.Export(t.Context(), everything, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// carry imports data and returns the counts and what was refused.
func carry(t *testing.T, c *Catalogue, data []byte) (Imported, []string, error) {
	t.Helper()
	var refused []string
	done, err := c.Import(t.Context(), bytes.NewReader(data), nil, func(what string, why error) {
		refused = append(refused, what+": "+why.Error())
	})
	return done, refused, err
}

// TestExportAndImport carries everything to a larder without an upstream.
func TestExportAndImport(t *testing.T) {
	rule := &Rule{Name: "r", Mode: Revalidate, TTL: time.Hour, DropQuery: []string{"sig"}}
	w := newWorld(t, rule, library)
	paths := []string{"/a", "/q?x=1&sig=2", "/coded/c", "/same/1", "/same/2", "/same/3", "/large/l"}
	w.fillUp(paths...)
	data := export(t, w.catalogue())
	if again := export(t, w.catalogue()); !bytes.Equal(data, again) {
		t.Error("two exports of the same differ")
	}
	for o := range w.catalogue().List(t.Context(), everything) {
		if o.Uses != 0 && !strings.Contains(o.URL, "/coded/") {
			t.Errorf("%s was used %d times by the export", o.URL, o.Uses)
		}
	}

	site := newWorld(t, rule, func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) })
	done, refused, err := carry(t, site.catalogue(), data)
	if err != nil || len(refused) != 0 || done.Responses != 8 || done.Bodies != 6 {
		t.Errorf("imported %+v, refused %v, %v; want 8 responses to 6 bodies", done, refused, err)
	}
	// The site's clients ask for the URLs of the first world.
	site.origin.URL = w.origin.URL
	site.cache.now = w.clock.now
	site.cache.SetOffline(true)
	for _, p := range append(paths, "/q?x=1&sig=another") {
		for _, coding := range []string{"identity", "gzip"} {
			if coding == "gzip" && !strings.HasPrefix(p, "/coded/") {
				continue
			}
			want, got := w.get(p, "Accept-Encoding", coding), site.get(p, "Accept-Encoding", coding)
			if got.StatusCode != 200 || !bytes.Equal(want.body, got.body) || got.Header.Get("Cache-Status") != "larder; hit; ttl=3600" {
				t.Errorf("%s (%s): %d, %d bytes, %s", p, coding, got.StatusCode, len(got.body), got.Header.Get("Cache-Status"))
			}
			if d := cmp.Diff(want.Header, got.Header, cmpopts.IgnoreMapEntries(func(k string, _ []string) bool { return k == "Age" })); d != "" {
				t.Errorf("%s: other fields (-first +site):\n%s", p, d)
			}
		}
	}
	if again := export(t, site.catalogue()); !bytes.Equal(data, again) {
		t.Error("an export of what was imported differs from the first")
	}
	done, refused, err = carry(t, site.catalogue(), data)
	if err != nil || len(refused) != 0 || done.Responses != 0 || done.Present != 8 {
		t.Errorf("imported once more: %+v, %v, %v; want all present", done, refused, err)
	}
}

// TestDamagedArchivesAreRefusedInPart flips a bit in each body and in each file of
// responses of an archive, and expects exactly their responses to be missing.
func TestDamagedArchivesAreRefusedInPart(t *testing.T) {
	rule := &Rule{Name: "r", Mode: Immutable}
	w := newWorld(t, rule, library)
	w.fillUp("/a", "/b", "/same/1", "/same/2")
	data := export(t, w.catalogue())
	for name, tc := range map[string]struct {
		mark  string
		wants []string
	}{
		"a body":                    {"body of /a", []string{"/a"}},
		"a body with two responses": {"the same for all", []string{"/same/1", "/same/2"}},
		"a file with its responses": {`"` + w.origin.URL + `/b"`, []string{".json"}},
	} {
		t.Run(name, func(t *testing.T) {
			bad := bytes.Clone(data)
			at := bytes.Index(bad, []byte(tc.mark))
			if at < 0 {
				t.Fatalf("%q is not in the archive", tc.mark)
			}
			bad[at+3] ^= 4
			site := newWorld(t, rule, library)
			done, refused, err := carry(t, site.catalogue(), bad)
			if err != nil || int(done.Refused) != len(tc.wants) || len(refused) != len(tc.wants) {
				t.Fatalf("%+v, %v, %v; want %v refused", done, refused, err, tc.wants)
			}
			for i, want := range tc.wants {
				if !strings.Contains(refused[i], want) || !strings.Contains(refused[i], "damaged") {
					t.Errorf("refused %q, want %q", refused[i], want)
				}
			}
			if n := site.stored(); n != int(done.Responses) {
				t.Errorf("%d are stored, %d were counted", n, done.Responses)
			}
		})
	}
	t.Run("cut short", func(t *testing.T) {
		site := newWorld(t, rule, library)
		if _, _, err := carry(t, site.catalogue(), data[:len(data)/2]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("another file", func(t *testing.T) {
		site := newWorld(t, rule, library)
		if _, _, err := carry(t, site.catalogue(), []byte("hello")); err == nil || !strings.Contains(err.Error(), "archive") {
			t.Errorf("got %v", err)
		}
	})
}

func TestImportFollowsThePolicyOfTheSite(t *testing.T) {
	w := newWorld(t, &Rule{Name: "r", Mode: Immutable}, library)
	w.fillUp("/a", "/coded/c", "/large/l")
	data := export(t, w.catalogue())
	for name, tc := range map[string]struct {
		rule *Rule
		want []string // parts of the reasons
	}{
		"no rule":        {nil, []string{"no rule", "no rule", "no rule"}},
		"too large":      {&Rule{Name: "small", Mode: Immutable, MaxObject: 1000}, []string{"rule small stores bodies of up to 1000 bytes"}},
		"another vary":   {&Rule{Name: "v", Mode: Immutable, Vary: []string{"X-Team"}}, []string{"x-team", "x-team", "x-team"}},
		"the same again": {&Rule{Name: "same", Mode: Immutable}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			site := newWorld(t, &Rule{Mode: Immutable}, library)
			c := site.cache.Catalogue(func(*url.URL) *Rule { return tc.rule })
			_, refused, err := carry(t, c, data)
			if err != nil || len(refused) != len(tc.want) {
				t.Fatalf("refused %q, %v; want %d", refused, err, len(tc.want))
			}
			for i, want := range tc.want {
				if !strings.Contains(refused[i], want) {
					t.Errorf("refused %q, want %q", refused[i], want)
				}
			}
		})
	}
}

// TestImportTakesNoOldResponse imports an archive of yesterday over what was
// fetched today.
func TestImportTakesNoOldResponse(t *testing.T) {
	edition := "old"
	w := newWorld(t, &Rule{Mode: Revalidate}, func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, edition) })
	w.fillUp("/a")
	data := export(t, w.catalogue())
	w.clock.advance(time.Hour)
	edition = "new"
	w.fillUp("/a")
	if done, _, err := carry(t, w.catalogue(), data); err != nil || done.Present != 1 || done.Responses != 0 {
		t.Errorf("imported %+v, %v", done, err)
	}
	w.cache.SetOffline(true)
	if a := w.get("/a", "Accept-Encoding", "identity"); string(a.body) != "new" {
		t.Errorf("served %q", a.body)
	}
}

// TestVariantsWithoutSelectorsAreNotImported has an archive that does not say for
// which requests a coded response is, as those of records of the first version.
func TestVariantsWithoutSelectorsAreNotImported(t *testing.T) {
	w := newWorld(t, &Rule{Mode: Immutable}, library)
	var out bytes.Buffer
	a, err := archive.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	sum := [32]byte{0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55}
	if err := a.Body(sum, 0, strings.NewReader("")); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	good := archive.Response{URL: "https://a.test/", Status: 200, Requested: now, Received: now, Header: http.Header{}}
	coded, evil := good, good
	coded.Header = http.Header{"Content-Encoding": {"gzip"}}
	evil.URL = "https://a.test/2"
	evil.Header = http.Header{"Connection": {"X-Bad"}, "X-Bad": {"1"}, "Set-Cookie": {"a=b"}}
	if err := a.Responses(sum, []archive.Response{good, coded, evil}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Close(); err != nil {
		t.Fatal(err)
	}
	done, refused, err := carry(t, w.catalogue(), out.Bytes())
	if err != nil || done.Responses != 2 || len(refused) != 1 || !strings.Contains(refused[0], "accept-encoding") {
		t.Errorf("imported %+v, %q, %v", done, refused, err)
	}
	found, err := w.catalogue().Find(t.Context(), mustURL(t, "https://a.test/2"))
	if err != nil || len(found) != 1 || len(found[0].Header) != 1 {
		t.Errorf("found %+v, %v; want no field but Date", found, err)
	}
}

// TestExportMarksWhatIsDamaged flips a bit in the store.
func TestExportMarksWhatIsDamaged(t *testing.T) {
	rule := &Rule{Mode: Immutable}
	w := newWorldWith(t, rule, library, Options{}, store.Options{MaxSize: 64 << 20})
	w.fillUp("/large/l", "/a")
	large := noise(3 << 20)
	damaged := false
	logs, err := filepath.Glob(filepath.Join(w.dir, "*", "*.vlog"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(text, large[:64]); at >= 0 {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{^large[10]}, int64(at+10)); err != nil {
				t.Fatal(err)
			}
			f.Close()
			damaged = true
		}
	}
	if !damaged {
		t.Fatal("the body was not found in the store's files")
	}
	var out bytes.Buffer
	totals, err := w.catalogue().Export(t.Context(), everything, &out)
	if err != nil || totals.Damaged != 1 || totals.Responses != 2 {
		t.Errorf("exported %+v, %v", totals, err)
	}
	site := newWorld(t, rule, library)
	done, refused, err := carry(t, site.catalogue(), out.Bytes())
	if err != nil || done.Responses != 1 || len(refused) != 1 || !strings.Contains(refused[0], "/large/l") {
		t.Errorf("imported %+v, %q, %v", done, refused, err)
	}
}

func TestCatalogueWithoutAStore(t *testing.T) {
	c, err := New(quick(Options{
		Upstream: http.DefaultTransport, StoreError: errors.New("no disk"),
		OpenStore: func() (*store.Store, error) { return nil, errors.New("still no disk") },
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cat := c.Catalogue(func(*url.URL) *Rule { return nil })
	var list error
	for _, list = range cat.List(t.Context(), everything) {
	}
	_, find := cat.Find(t.Context(), mustURL(t, "https://a.test/"))
	_, remove := cat.Remove(t.Context(), everything, nil)
	_, verify := cat.Verify(t.Context(), 0, nil)
	_, exp := cat.Export(t.Context(), everything, io.Discard)
	_, imp := cat.Import(t.Context(), strings.NewReader(""), nil, nil)
	for _, err := range []error{list, find, remove, verify, exp, imp} {
		if err == nil || !strings.Contains(err.Error(), "no disk") {
			t.Errorf("got %v, want the reason", err)
		}
	}
}
