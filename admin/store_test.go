package admin

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// shelf is a StoreAPI over a map.
type shelf struct {
	objects map[string]Object

	fails   error         // what List, Remove, Verify and Export end with
	hold    chan struct{} // Verify waits for it, if not nil
	begun   chan struct{} // closed when Verify has begun
	running atomic.Int32
	most    atomic.Int32
}

func newShelf(urls ...string) *shelf {
	s := &shelf{objects: map[string]Object{}, begun: make(chan struct{})}
	for i, u := range urls {
		s.objects[u] = Object{URL: u, Status: 200, Size: int64(i + 1), SHA256: fmt.Sprintf("%064x", i), Stored: time.Unix(1e9, 0).UTC(), Fresh: true}
	}
	return s
}

func (s *shelf) api() StoreAPI { return StoreAPI{Objects: s, Scrubber: s, Carrier: s, Warmer: s} }

func (s *shelf) List(_ context.Context, match func(string) bool) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for u, o := range s.objects {
			if match(u) && !yield(o, nil) {
				return
			}
		}
		if s.fails != nil {
			yield(Object{}, s.fails)
		}
	}
}

func (s *shelf) Find(_ context.Context, url string) ([]Object, error) {
	if o, ok := s.objects[url]; ok {
		o.Header = http.Header{"Etag": {`"1"`}}
		return []Object{o}, nil
	}
	return nil, s.fails
}

func (s *shelf) Remove(_ context.Context, match func(string) bool, progress func(Removal)) (Removal, error) {
	var done Removal
	for u := range s.objects {
		done.Scanned++
		if match(u) {
			delete(s.objects, u)
			done.Removed++
		}
		progress(done)
	}
	return done, s.fails
}

func (s *shelf) Verify(ctx context.Context, rate int64, progress func(Scrub)) (Scrub, error) {
	progress(Scrub{Objects: 1})
	close(s.begun)
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return Scrub{}, ctx.Err()
		}
	}
	return Scrub{Objects: int64(len(s.objects)), Bytes: rate}, s.fails
}

func (s *shelf) Export(_ context.Context, match func(string) bool, w io.Writer) error {
	t := tar.NewWriter(w)
	for u := range s.objects {
		if match(u) {
			if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: u, Mode: 0o644}); err != nil {
				return err
			}
		}
	}
	if s.fails != nil {
		return s.fails
	}
	return t.Close()
}

func (s *shelf) Import(_ context.Context, r io.Reader, progress func(Imported), refused func(Refusal)) (Imported, error) {
	var done Imported
	buf := make([]byte, 1<<16)
	for {
		n, err := r.Read(buf)
		done.Bytes += int64(n)
		progress(done)
		if bytes.HasPrefix(buf[:n], []byte("bad")) {
			refused(Refusal{URL: "https://bad.test/", Reason: "damaged"})
			done.Refused++
		}
		if err == io.EOF {
			return done, nil
		}
		if err != nil {
			return done, err
		}
	}
}

func (s *shelf) Warm(ctx context.Context, it WarmItem) WarmResult {
	n := s.running.Add(1)
	defer s.running.Add(-1)
	for {
		most := s.most.Load()
		if n <= most || s.most.CompareAndSwap(most, n) {
			break
		}
	}
	select { // so that jobs overlap
	case <-ctx.Done():
	case <-time.After(time.Millisecond):
	}
	res := WarmResult{URL: it.URL, Status: 200, Bytes: 10, Stored: true}
	if it.Digest != "" {
		res.Error = "the body does not match " + it.Digest
	}
	return res
}

func (s *shelf) Fetch(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Accept", strings.Join(r.Header["Accept"], "|"))
	w.Header().Set("Location", "/elsewhere")
	w.WriteHeader(http.StatusFound)
	fmt.Fprintf(w, "%s %s", r.Method, r.URL)
}

// serveShelf serves on TCP and returns a client.
func serveShelf(t *testing.T, s *shelf, serverToken, clientToken string) *Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, New(Options{StoreAPI: s.api(), Token: serverToken})) }()
	c := NewClient(l.Addr().String(), clientToken, nil)
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return c
}

func TestListFindAndRemove(t *testing.T) {
	s := newShelf("https://a.test/1", "https://a.test/x/2", "https://b.test/3")
	c := serveShelf(t, s, "", "")
	got := map[string]Object{}
	for o, err := range c.List(t.Context(), "a.test/**") {
		if err != nil {
			t.Fatal(err)
		}
		got[o.URL] = o
	}
	want := map[string]Object{"https://a.test/1": s.objects["https://a.test/1"], "https://a.test/x/2": s.objects["https://a.test/x/2"]}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("listed (-want +got):\n%s", d)
	}
	found, err := c.Find(t.Context(), "https://b.test/3")
	if err != nil || len(found) != 1 || found[0].Header.Get("Etag") != `"1"` {
		t.Errorf("found %+v, %v", found, err)
	}
	_, err = c.Find(t.Context(), "https://c.test/")
	if no, ok := errors.AsType[*RefusedError](err); !ok || no.Status != http.StatusNotFound {
		t.Errorf("not stored: %v, want a *RefusedError with 404", err)
	}
	done, err := c.Remove(t.Context(), "a.test", nil)
	if err != nil || done != (Removal{Scanned: 3, Removed: 2}) || len(s.objects) != 1 {
		t.Errorf("removed %+v, %v; %d left", done, err, len(s.objects))
	}
}

func TestBadRequestsSayWhy(t *testing.T) {
	c := serveShelf(t, newShelf(), "", "")
	for what, call := range map[string]func() error{
		"the pattern is empty": func() error { _, err := c.Remove(t.Context(), "", nil); return err },
		"is not closed":        func() error { _, err := c.Remove(t.Context(), "a.test/{x", nil); return err },
		"no absolute":          func() error { _, err := c.Find(t.Context(), "a.test"); return err },
		"number of bytes":      func() error { _, err := c.Verify(t.Context(), -1, nil); return err },
		"from 1 to 64":         func() error { _, err := c.Warm(t.Context(), nil, 100, nil); return err },
	} {
		err := call()
		if no, ok := errors.AsType[*RefusedError](err); !ok || no.Status != http.StatusBadRequest || !strings.Contains(no.Text, what) {
			t.Errorf("got %v, want 400 with %q", err, what)
		}
	}
}

func TestErrorsInTheMiddleReachTheCaller(t *testing.T) {
	s := newShelf("https://a.test/1")
	s.fails = errors.New("disk gone")
	c := serveShelf(t, s, "", "")
	var last error
	for _, err := range c.List(t.Context(), "") {
		last = err
	}
	if !errors.Is(last, ErrCutShort) {
		t.Errorf("list: %v, want ErrCutShort", last)
	}
	for _, err := range c.List(t.Context(), "none.test") {
		last = err
	}
	if last == nil || last.Error() != "disk gone" {
		t.Errorf("list that fails before its first line: %v", last)
	}
	if _, err := c.Verify(t.Context(), 0, nil); err == nil || err.Error() != "disk gone" {
		t.Errorf("verify: %v", err)
	}
	if _, err := c.Remove(t.Context(), "**", nil); err == nil || err.Error() != "disk gone" {
		t.Errorf("remove: %v", err)
	}
	body, err := c.Export(t.Context(), "")
	if err == nil {
		_, err = io.Copy(io.Discard, body)
		body.Close()
	}
	if err == nil {
		t.Error("an export that failed looks whole")
	}
}

func TestTokenIsAskedFor(t *testing.T) {
	s := newShelf("https://a.test/1")
	for _, tc := range []struct {
		server, client string
		let            bool
	}{{"", "", true}, {"secret", "secret", true}, {"secret", "", false}, {"secret", "Secret", false}} {
		c := serveShelf(t, s, tc.server, tc.client)
		var list error
		for _, err := range c.List(t.Context(), "") {
			list = err
		}
		_, remove := c.Remove(t.Context(), "none.test", nil)
		_, export := c.Export(t.Context(), "")
		_, fetch := c.Fetch(t.Context(), WarmItem{URL: "https://a.test/"})
		for _, err := range []error{list, remove, export, fetch} {
			no, refused := errors.AsType[*RefusedError](err)
			if refused == tc.let || refused && (no.Status != http.StatusUnauthorized || no.Hint() == "") {
				t.Errorf("server %q, client %q: %v", tc.server, tc.client, err)
			}
		}
		if _, err := c.Stats(t.Context()); err != nil {
			t.Errorf("statistics need no token: %v", err)
		}
	}
}

// TestPagesOfOthersCannotChangeTheStore sends what a browser sends for a page of
// another site.
func TestPagesOfOthersCannotChangeTheStore(t *testing.T) {
	s := newShelf("https://a.test/1")
	h := New(Options{StoreAPI: s.api()})
	for _, call := range [][2]string{
		{"DELETE", "/api/v1/store/objects?match=**"},
		{"POST", "/api/v1/store/verify"},
		{"POST", "/api/v1/store/import"},
		{"POST", "/api/v1/store/warm"},
		{"POST", "/api/v1/store/fetch"},
	} {
		if got := ask(t, h, call[0], call[1], "Sec-Fetch-Site", "cross-site"); got.Code != http.StatusForbidden {
			t.Errorf("%s %s: %d, want 403", call[0], call[1], got.Code)
		}
		if got := ask(t, h, call[0], call[1], "Host", "evil.test"); got.Code != http.StatusMisdirectedRequest {
			t.Errorf("%s %s as evil.test: %d, want 421", call[0], call[1], got.Code)
		}
		if got := ask(t, h, "GET", call[1]); call[0] == "POST" && got.Code != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: %d, want 405", call[1], got.Code)
		}
	}
	if len(s.objects) != 1 {
		t.Error("something was removed")
	}
}

func TestWithoutAStoreThereIsNoStoreAPI(t *testing.T) {
	if got := ask(t, New(Options{}), "GET", "/api/v1/store/objects"); got.Code != http.StatusNotFound {
		t.Errorf("%d, want 404", got.Code)
	}
}

func TestOneVerificationAtATime(t *testing.T) {
	s := newShelf()
	s.hold = make(chan struct{})
	c := serveShelf(t, s, "", "")
	first := make(chan error, 1)
	go func() {
		_, err := c.Verify(t.Context(), 0, nil)
		first <- err
	}()
	<-s.begun
	_, err := c.Verify(t.Context(), 0, nil)
	if no, ok := errors.AsType[*RefusedError](err); !ok || no.Status != http.StatusConflict {
		t.Errorf("second: %v, want 409", err)
	}
	close(s.hold)
	if err := <-first; err != nil {
		t.Errorf("first: %v", err)
	}
}

// TestLeavingClientEndsItsCall cancels a call whose server side waits for nothing
// else.
func TestLeavingClientEndsItsCall(t *testing.T) {
	s := newShelf()
	s.hold = make(chan struct{})
	c := serveShelf(t, s, "", "")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := c.Verify(ctx, 0, nil)
		ended <- err
	}()
	<-s.begun
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// Serve, in the cleanup, waits for the handler: it ends only if its context does.
}

// TestImportReadsWhileItAnswers sends more than buffers hold, and stops reading the
// source in between until a refusal has come back.
func TestImportReadsWhileItAnswers(t *testing.T) {
	c := serveShelf(t, newShelf(), "", "")
	came := make(chan struct{})
	var refusals []Refusal
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write([]byte("bad"))
		<-came
		for range 64 {
			_, _ = w.Write(make([]byte, 1<<20))
		}
		w.Close()
	}()
	done, err := c.Import(t.Context(), r, nil, func(no Refusal) {
		refusals = append(refusals, no)
		close(came)
	})
	if err != nil || done.Bytes != 64<<20+3 || done.Refused != 1 || len(refusals) != 1 {
		t.Errorf("imported %+v, %v, %v", done, refusals, err)
	}
}

func TestImportOfWhatCannotBeReadNamesTheReason(t *testing.T) {
	c := serveShelf(t, newShelf(), "", "")
	bad := errors.New("input/output error")
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write([]byte("x"))
		w.CloseWithError(bad)
	}()
	if _, err := c.Import(t.Context(), r, nil, nil); !errors.Is(err, bad) {
		t.Errorf("got %v, want the reader's error", err)
	}
}

func TestWarmIsBoundedAndTellsEachResult(t *testing.T) {
	s := newShelf()
	c := serveShelf(t, s, "", "")
	var items []WarmItem
	for i := range 200 {
		items = append(items, WarmItem{URL: fmt.Sprint("https://a.test/", i)})
	}
	items[7].Digest = "sha256:no"
	var mu sync.Mutex
	urls := map[string]string{}
	done, err := c.Warm(t.Context(), items, 5, func(r WarmResult) {
		mu.Lock()
		defer mu.Unlock()
		urls[r.URL] = r.Error
	})
	if err != nil || done != (Warmed{Items: 200, Stored: 199, Failed: 1, Bytes: 2000}) {
		t.Errorf("warmed %+v, %v", done, err)
	}
	if len(urls) != 200 || urls["https://a.test/7"] == "" {
		t.Errorf("%d results, %q", len(urls), urls["https://a.test/7"])
	}
	if most := s.most.Load(); most > 5 || most < 2 {
		t.Errorf("%d at once, want at most 5 and more than one", most)
	}
}

func TestFetchGivesTheAnswerItself(t *testing.T) {
	c := serveShelf(t, newShelf(), "", "")
	res, err := c.Fetch(t.Context(), WarmItem{URL: "https://a.test/x#y", Header: http.Header{"Accept": {"a", "b"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusFound || string(text) != "GET https://a.test/x" || res.Header.Get("X-Accept") != "a|b" || err != nil {
		t.Errorf("got %s, %q, %v, %v", res.Status, text, res.Header, err)
	}
}

func TestClientOverAUnixSocket(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, New(Options{Version: "v9"})) }()
	c := NewClient("localhost", "", func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", l.Addr().String())
	})
	st, err := c.Stats(t.Context())
	if err != nil || st.Version != "v9" {
		t.Errorf("got %+v, %v", st, err)
	}
	c.Close()
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestAnswersOfOthersAreNotUnderstood(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "who are you?", http.StatusTeapot)
	})}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	_, err = NewClient(l.Addr().String(), "", nil).Stats(t.Context())
	if no, ok := errors.AsType[*RefusedError](err); !ok || no.Status != http.StatusTeapot || no.Hint() == "" || !strings.Contains(no.Text, "who are you?") {
		t.Errorf("got %v", err)
	}
}

func TestAdvisoryChecksWarn(t *testing.T) {
	h := New(Options{Checks: []Check{{Name: "store", Advisory: true, Ready: func(context.Context) error { return errors.New("disk gone") }}}})
	got := ask(t, h, "GET", "/-/ready")
	if got.Code != http.StatusOK || !strings.Contains(got.Body.String(), "disk gone") {
		t.Errorf("%d %s, want 200 with the warning", got.Code, got.Body)
	}
	if page := ask(t, h, "GET", "/"); !strings.Contains(page.Body.String(), "warning: store: disk gone") {
		t.Errorf("the page does not warn:\n%s", page.Body)
	}
}
