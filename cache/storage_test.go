package cache

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"larder/cache/store"
)

// quick makes a broken store be tried, and a good one be looked at, without delay.
func quick(o Options) Options {
	o.storeDelay = func(int) time.Duration { return 5 * time.Millisecond }
	o.storeCheck = 5 * time.Millisecond
	return o
}

// logbook keeps what is logged.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// errorsIn returns the lines of level error.
func (l *logbook) errorsIn() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, "level=ERROR") {
			lines = append(lines, line)
		}
	}
	return lines
}

// breakStore puts a file in the place of the store's folder, and returns what takes
// it back.
func breakStore(t *testing.T, dir string) (mend func()) {
	t.Helper()
	away := dir + ".away"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Rename(dir, away))
	must(os.WriteFile(dir, nil, 0o600))
	return func() {
		must(os.Remove(dir))
		must(os.Rename(away, dir))
	}
}

func paths(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, "body of "+r.URL.Path) }

func TestRequestsFlowWhileTheStoreIsBroken(t *testing.T) {
	var book logbook
	w := newWorldWith(t, &Rule{Mode: Immutable}, paths, quick(Options{Logger: slog.New(slog.NewTextHandler(&book, nil))}), store.Options{})
	w.get("/stored").want(t, 200, []byte("body of /stored"), "larder; fwd=uri-miss; stored")
	w.get("/dropped").want(t, 200, []byte("body of /dropped"), "larder; fwd=uri-miss; stored")
	eventually(t, "both are stored", func() bool { return w.stored() == 2 })

	mend := breakStore(t, w.dir)
	eventually(t, "the trouble is noticed", func() bool { return w.cache.StoreTrouble() != nil })
	before := w.all.Load()
	for range 3 {
		w.get("/new").want(t, 200, []byte("body of /new"), "larder; fwd=uri-miss; detail=store-failure")
	}
	if n := w.all.Load() - before; n != 3 {
		t.Errorf("%d requests upstream, want 3", n)
	}
	// What can be read is served, what is invalidated is not served any more.
	w.get("/stored").want(t, 200, []byte("body of /stored"), "larder; hit")
	w.cache.Invalidate(mustURL(t, w.origin.URL+"/dropped"))
	w.get("/dropped").want(t, 200, []byte("body of /dropped"), "larder; fwd=uri-miss; detail=store-failure")
	if up := testutil.ToFloat64(w.cache.metrics.storeUp); up != 0 {
		t.Errorf("larder_cache_store_up is %v", up)
	}
	eventually(t, "four requests are counted as passed", func() bool {
		return testutil.ToFloat64(w.cache.metrics.withoutStore.WithLabelValues("passed")) == 4
	})

	mend()
	eventually(t, "the store works again", func() bool { return w.cache.StoreTrouble() == nil })
	w.get("/new").want(t, 200, []byte("body of /new"), "larder; fwd=uri-miss; stored")
	eventually(t, "it is stored", func() bool { return w.stored() == 2 })
	w.get("/new").want(t, 200, []byte("body of /new"), "larder; hit")
	w.get("/dropped").want(t, 200, []byte("body of /dropped"), "larder; fwd=uri-miss; stored")
	if up := testutil.ToFloat64(w.cache.metrics.storeUp); up != 1 {
		t.Errorf("larder_cache_store_up is %v", up)
	}
	if lines := book.errorsIn(); len(lines) != 1 || !strings.Contains(lines[0], "the store is broken") {
		t.Errorf("logged at level error: %q, want one line", lines)
	}
}

func TestRequestsAreRefusedWhileTheStoreIsBrokenIfSoWanted(t *testing.T) {
	w := newWorldWith(t, &Rule{Mode: Immutable}, paths, quick(Options{RefuseWithoutStore: true}), store.Options{})
	w.get("/stored").want(t, 200, []byte("body of /stored"), "larder; fwd=uri-miss; stored")
	eventually(t, "it is stored", func() bool { return w.stored() == 1 })
	mend := breakStore(t, w.dir)
	eventually(t, "the trouble is noticed", func() bool { return w.cache.StoreTrouble() != nil })
	before := w.all.Load()
	w.get("/stored").want(t, 200, []byte("body of /stored"), "larder; hit")
	w.get("/new")
	w.mu.Lock()
	err := w.errs[len(w.errs)-1]
	w.mu.Unlock()
	if !errors.Is(err, ErrStoreBroken) {
		t.Errorf("got %v, want ErrStoreBroken", err)
	}
	if n := w.all.Load() - before; n != 0 {
		t.Errorf("%d requests upstream", n)
	}
	eventually(t, "one request is counted as refused", func() bool {
		return testutil.ToFloat64(w.cache.metrics.withoutStore.WithLabelValues("refused")) == 1
	})
	mend()
	eventually(t, "the store works again", func() bool { return w.cache.StoreTrouble() == nil })
	w.get("/new").want(t, 200, []byte("body of /new"), "larder; fwd=uri-miss; stored")
}

// TestStoreIsOpenedAnewWhenItsFolderWasReplaced takes the disk away and mounts an
// empty one.
func TestStoreIsOpenedAnewWhenItsFolderWasReplaced(t *testing.T) {
	w := newWorldWith(t, &Rule{Mode: Immutable}, paths, quick(Options{}), store.Options{})
	w.get("/a").want(t, 200, []byte("body of /a"), "larder; fwd=uri-miss; stored")
	eventually(t, "it is stored", func() bool { return w.stored() == 1 })
	if err := os.Rename(w.dir, w.dir+".away"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the trouble is noticed", func() bool { return w.cache.StoreTrouble() != nil })
	w.get("/a").want(t, 200, []byte("body of /a"), "larder; hit") // its files are still open
	w.get("/b").want(t, 200, []byte("body of /b"), "larder; fwd=uri-miss; detail=store-failure")
	if _, err := os.Stat(w.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder was made in the place of the one that is gone: %v", err)
	}
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the store works again", func() bool { return w.cache.StoreTrouble() == nil })
	if s := w.cache.Store(); s == nil || s == w.store {
		t.Errorf("store in use: %p, at first %p", s, w.store)
	}
	w.get("/a").want(t, 200, []byte("body of /a"), "larder; fwd=uri-miss; stored")
	eventually(t, "it is stored", func() bool { return w.cache.Store().Stats().Objects == 1 })
	w.get("/a").want(t, 200, []byte("body of /a"), "larder; hit")
}

// TestStartWithoutAStore begins while the store cannot be opened.
func TestStartWithoutAStore(t *testing.T) {
	dir := t.TempDir()
	var ready atomic.Bool
	o := quick(Options{
		Upstream:   http.DefaultTransport,
		StoreError: errors.New("the disk is not there"),
		OpenStore: func() (*store.Store, error) {
			if !ready.Load() {
				return nil, errors.New("the disk is still not there")
			}
			return store.Open(store.Options{Dir: dir, MaxSize: 1 << 30})
		},
	})
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StoreTrouble(); err == nil || !strings.Contains(err.Error(), "the disk is not there") {
		t.Errorf("trouble is %v", err)
	}
	if c.Store() != nil {
		t.Error("there is a store")
	}
	ready.Store(true)
	eventually(t, "the store works again", func() bool { return c.StoreTrouble() == nil })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	// It was closed with the cache, or this would be refused.
	s, err := store.Open(store.Options{Dir: dir, MaxSize: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNoBrokenStore(t *testing.T) {
	w := newWorld(t, &Rule{Mode: Immutable}, paths)
	for _, err := range []error{
		nil, errAway, fmt.Errorf("x: %w", store.ErrNoSpace), os.ErrNotExist, &store.CorruptError{}, errMeta, os.ErrClosed, t.Context().Err(),
	} {
		w.cache.store.judge("test", err)
		if trouble := w.cache.StoreTrouble(); trouble != nil {
			t.Fatalf("%v is taken for a broken store", err)
		}
	}
	w.cache.store.judge("test", errors.New("input/output error"))
	if w.cache.StoreTrouble() == nil {
		t.Error("an input/output error is not taken for a broken store")
	}
}

// TestOwedDeletionsAreDoneWhileTheStoreWorks owes a deletion to a store that nothing
// else is wrong with: nobody will find it broken, and mended.
func TestOwedDeletionsAreDoneWhileTheStoreWorks(t *testing.T) {
	w := newWorldWith(t, &Rule{Mode: Immutable}, paths, quick(Options{}), store.Options{})
	w.get("/a").want(t, 200, []byte("body of /a"), "larder; fwd=uri-miss; stored")
	eventually(t, "it is stored", func() bool { return w.stored() == 1 })
	var key store.Key
	for info, err := range w.cache.Store().All() {
		if err != nil {
			t.Fatal(err)
		}
		key = info.Key
	}
	g := w.cache.store
	g.mu.Lock()
	g.owed[key] = struct{}{}
	g.mu.Unlock()
	eventually(t, "it is removed", func() bool { return w.stored() == 0 })
}
