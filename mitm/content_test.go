package mitm

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"larder/cache"
	"larder/git"
	"larder/policy"
)

const questions = `
presets: none
rules:
  - { name: packs, hosts: [a.test], paths: ["/**/git-upload-pack"], methods: [POST], request_body: git-fetch, action: immutable, ttl: 24h }
  - { name: refs, hosts: [a.test], paths: ["/**/git-upload-pack"], methods: [POST], request_body: git-refs, action: revalidate }
  - { name: queries, hosts: [a.test], paths: ["/query"], methods: [POST], request_body: any, action: immutable, ttl: 1h }
  - { name: rest, hosts: [a.test], action: pass }
`

// asking is a world whose origin says how many bytes came, and their digest.
func asking(t *testing.T, originH2 bool) *world {
	t.Helper()
	roots := newAuthorityKey(t, "origins")
	addr := tlsOrigin(t, roots, originH2, func(w http.ResponseWriter, r *http.Request) {
		digest := sha256.New()
		n, err := io.Copy(digest, r.Body)
		if err != nil {
			return
		}
		fmt.Fprintf(w, "%d %x length %d encoding %v accepts %q trailer %q", n, digest.Sum(nil), r.ContentLength,
			r.Header["Content-Encoding"], r.Header.Get("Accept-Encoding"), r.Trailer.Get("X-End"))
	}, "a.test")
	return newWorld(t, questions, map[string]string{"a.test:443": addr}, roots)
}

// fetching is a request for an object, and refsOf one for the refs.
func fetching(object byte) string {
	lines := ""
	for _, l := range []string{"command=fetch", "agent=git/2.39.5", "0001", "want " + strings.Repeat(string(object), 40), "done", "0000"} {
		if l != "0001" && l != "0000" {
			l = fmt.Sprintf("%04x%s", len(l)+4, l)
		}
		lines += l
	}
	return lines
}

const askingRefs = "0014command=ls-refs\n0000"

func packed(t testing.TB, parts ...string) string {
	t.Helper()
	var b bytes.Buffer
	for _, p := range parts {
		z := gzip.NewWriter(&b)
		if _, err := io.WriteString(z, p); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func TestBodiesLeadToRules(t *testing.T) {
	const repo, zip = "https://a.test/o/r.git/git-upload-pack", "gzip"
	many := strings.Repeat("want", maxContent/4)
	for _, tt := range []struct {
		name, url, body string
		fields          []string // name: value
		rule, class     string
	}{
		{"objects", repo, fetching('1'), nil, "packs", ClassMiss},
		{"objects, compressed", repo, packed(t, fetching('1')), []string{"Content-Encoding: " + zip}, "packs", ClassMiss},
		{"refs", repo, askingRefs, nil, "refs", ClassMiss},
		{"something else", repo, "0014command=bundle-uri0000", nil, "rest", ClassPass},
		{"nothing", repo, "", nil, "rest", ClassPass},
		{"version 0 of what is version 2", repo, fetching('1'), []string{"Git-Protocol: version=0"}, "rest", ClassPass},
		{"two versions", repo, fetching('1'), []string{"Git-Protocol: version=2", "Git-Protocol: version=1"}, "rest", ClassPass},
		{"of another type", repo, fetching('1'), []string{"Content-Type: text/plain"}, "rest", ClassPass},
		{"in a coding nobody knows", repo, fetching('1'), []string{"Content-Encoding: br"}, "rest", ClassPass},
		{"in a coding that it is not in", repo, fetching('1'), []string{"Content-Encoding: " + zip}, "rest", ClassPass},
		{"compressed twice", repo, packed(t, packed(t, fetching('1'))), []string{"Content-Encoding: gzip, gzip"}, "rest", ClassPass},
		{"in two members", repo, packed(t, fetching('1')[:20], fetching('1')[20:]), []string{"Content-Encoding: " + zip}, "rest", ClassPass},
		{"with an empty member behind", repo, packed(t, fetching('1'), ""), []string{"Content-Encoding: " + zip}, "rest", ClassPass},
		{"with a byte behind", repo, packed(t, fetching('1')) + "\n", []string{"Content-Encoding: " + zip}, "rest", ClassPass},
		{"cut", repo, packed(t, fetching('1'))[:30], []string{"Content-Encoding: " + zip}, "rest", ClassPass},
		{"that unpacks to too much", repo, packed(t, strings.Repeat(strings.TrimSuffix(fetching('1'), "0000"), 1<<18)), []string{"Content-Encoding: " + zip}, "rest", ClassPass},
		{"too large", repo, many + "x", nil, "rest", ClassPass},
		{"a push", "https://a.test/o/r.git/git-receive-pack", fetching('1'), nil, "rest", ClassPass},
		{"any question", "https://a.test/query", "{}", nil, "queries", ClassMiss},
		{"any question that git asks", "https://a.test/query", fetching('1'), nil, "queries", ClassMiss},
		{"the largest question", "https://a.test/query", many, nil, "queries", ClassMiss},
		{"too large a question", "https://a.test/query", many + "x", nil, "rest", ClassPass},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pairings(t, func(t *testing.T, clientH2, originH2 bool) {
				w := asking(t, originH2)
				for _, length := range []bool{true, false} {
					req, err := http.NewRequest("POST", tt.url, iotest.HalfReader(strings.NewReader(tt.body)))
					if err != nil {
						t.Fatal(err)
					}
					if length {
						req.ContentLength = int64(len(tt.body))
					}
					req.Header.Set("Content-Type", git.RequestType)
					req.Header.Set("Git-Protocol", "version=2")
					for _, f := range tt.fields {
						req.Header.Del(f[:strings.Index(f, ":")])
					}
					for _, f := range tt.fields {
						name, value, _ := strings.Cut(f, ": ")
						req.Header.Add(name, value)
					}
					res, err := w.client(clientH2).Do(req)
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(res.Body)
					_ = res.Body.Close()
					if err != nil {
						t.Fatal(err)
					}
					want := fmt.Sprintf("%d %x length ", len(tt.body), sha256.Sum256([]byte(tt.body)))
					if !strings.HasPrefix(string(got), want) {
						t.Errorf("the origin got %s, want %s", got, want)
					}
					if x := w.exchange(); x.Rule != tt.rule || x.Class != tt.class {
						t.Errorf("rule %q, class %s, want %q, %s", x.Rule, x.Class, tt.rule, tt.class)
					}
					w.wantNothingHeld()
				}
			})
		})
	}
}

// wantNothingHeld wants all of what was held of request bodies given back.
func (w *world) wantNothingHeld() {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for w.server.contents.left.Load() != maxContents {
		if time.Now().After(deadline) {
			w.t.Fatalf("%d bytes are still held", maxContents-w.server.contents.left.Load())
		}
		time.Sleep(time.Millisecond)
	}
}

func (f *fakeCache) taken() []*cache.Content {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.contents
	f.contents = nil
	return all
}

// post sends a body as git does.
func (w *world) post(path, body string, fields ...string) string {
	w.t.Helper()
	req, err := http.NewRequest("POST", "https://a.test"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", git.RequestType)
	req.Header.Set("Accept-Encoding", "deflate, gzip, br, zstd")
	req.Header.Set("Git-Protocol", "version=2")
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	res, err := w.client(true).Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	w.exchange()
	return string(got)
}

func TestKeysAreOfWhatIsAsked(t *testing.T) {
	w := asking(t, true)
	const repo = "/o/r.git/git-upload-pack"
	if got := w.post(repo, fetching('1')); !strings.Contains(got, `accepts "identity"`) {
		t.Errorf("the origin got %s: an answer in a coding could not be read", got)
	}
	w.post(repo, packed(t, fetching('1')), "Content-Encoding", "gzip")
	w.post(repo, fetching('2'))
	keys := w.cache.taken()
	if len(keys) != 3 || keys[0].Key != keys[1].Key || keys[0].Key == keys[2].Key {
		t.Errorf("compressed and not, and another: %+v", keys)
	}
	if keys[0].Kind != "git-fetch" || keys[0].Check == nil || len(keys[0].Fields) != 3 {
		t.Errorf("content is %+v", keys[0])
	}

	w.post("/query", "q", "Content-Type", "text/a")
	w.post("/query", "q", "Content-Type", "text/a")
	w.post("/query", "q", "Content-Type", "text/b")
	w.post("/query", "r", "Content-Type", "text/a")
	w.post("/query", "q", "Content-Type", "text/a", "Content-Encoding", "x")
	keys = w.cache.taken()
	seen := map[[32]byte]bool{}
	for _, k := range keys {
		seen[k.Key] = true
		if k.Kind != "any" || k.Check != nil {
			t.Errorf("content is %+v", k)
		}
	}
	if len(keys) != 5 || len(seen) != 4 || keys[0].Key != keys[1].Key {
		t.Errorf("%d keys of %d questions, want 4 of 5", len(seen), len(keys))
	}
}

func TestAnswersOfGitAreChecked(t *testing.T) {
	request := readGit(http.Header{"Content-Type": {git.RequestType}, "Git-Protocol": {"version=2"}}, []byte(fetching('1')))
	c := &content{kind: policy.BodyGitFetch, git: request}
	out, as := c.question(policy.BodyGitFetch, &http.Request{Header: http.Header{}})
	if out.Header.Get("Accept-Encoding") != "identity" {
		t.Errorf("header %v", out.Header)
	}
	for _, tt := range []struct {
		name   string
		header http.Header
		why    string
		cut    bool
	}{
		{"an answer that is cut short", http.Header{"Content-Type": {git.ResultType}}, "", true},
		{"one of another type", http.Header{"Content-Type": {"text/html"}}, "content-type", false},
		{"one in a coding", http.Header{"Content-Type": {git.ResultType}, "Content-Encoding": {"gzip"}}, "content-type", false},
	} {
		check := as.Check(tt.header)
		_, _ = io.WriteString(check, "000dpackfile\n")
		if why, err := check.Done(); why != tt.why || (err != nil) != tt.cut {
			t.Errorf("%s: %q, %v", tt.name, why, err)
		}
	}
}

// TestBodiesArePassedWhereMemoryIsTaken takes all of it.
func TestBodiesArePassedWhereMemoryIsTaken(t *testing.T) {
	w := asking(t, true)
	body := fetching('1')
	if !w.server.contents.take(maxContents) {
		t.Fatal("something is held")
	}
	got := w.post("/o/r.git/git-upload-pack", body)
	if want := fmt.Sprintf("%d %x", len(body), sha256.Sum256([]byte(body))); !strings.HasPrefix(got, want) {
		t.Errorf("the origin got %s, want %s", got, want)
	}
	if n := len(w.cache.taken()); n != 0 {
		t.Errorf("the cache was asked %d times", n)
	}
	w.server.contents.give(maxContents)
	w.post("/o/r.git/git-upload-pack", body)
	if n := len(w.cache.taken()); n != 1 {
		t.Errorf("the cache was asked %d times", n)
	}
	w.wantNothingHeld()
}

// TestBodyThatIsHeldBackIsAskedForByTheOrigin has a client that waits for 100.
func TestBodyThatIsHeldBackIsAskedForByTheOrigin(t *testing.T) {
	mayAsk := make(chan struct{})
	roots := newAuthorityKey(t, "origins")
	addr := tlsOrigin(t, roots, false, func(w http.ResponseWriter, r *http.Request) {
		<-mayAsk
		b, _ := io.ReadAll(r.Body) // sends 100
		fmt.Fprintf(w, "got %d", len(b))
	}, "a.test")
	w := newWorld(t, questions, map[string]string{"a.test:443": addr}, roots)
	c := w.open("a.test:443", "a.test")
	r := bufio.NewReader(c)
	body := fetching('1')
	fmt.Fprintf(c, "POST /o/r.git/git-upload-pack HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nGit-Protocol: version=2\r\n"+
		"Content-Type: %s\r\nContent-Length: %d\r\n\r\n", git.RequestType, len(body))
	_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if b, err := r.ReadByte(); err == nil {
		t.Fatalf("got %q before the origin asked", b)
	}
	_ = c.SetReadDeadline(time.Now().Add(60 * time.Second))
	close(mayAsk)
	if head, err := readHead(r); err != nil || head != "HTTP/1.1 100 Continue\r\n\r\n" {
		t.Fatalf("got %q, %v", head, err)
	}
	fmt.Fprint(c, body)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(res.Body); string(b) != fmt.Sprintf("got %d", len(body)) {
		t.Errorf("got %s", b)
	}
	if x := w.exchange(); x.Class != ClassPass || x.Rule != "rest" {
		t.Errorf("exchange %+v", x)
	}
}

func TestTrailersOfBodiesArePassed(t *testing.T) {
	for _, announced := range []bool{true, false} {
		w := asking(t, true)
		c := w.open("a.test:443", "a.test")
		head := "POST /query HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n"
		if announced {
			head += "Trailer: X-End\r\n"
		}
		fmt.Fprint(c, head+"\r\n1\r\nq\r\n0\r\nX-End: here\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(res.Body); !strings.HasPrefix(string(b), "1 ") || !strings.HasSuffix(string(b), `trailer "here"`) {
			t.Errorf("announced %v: the origin got %s", announced, b)
		}
		if x := w.exchange(); x.Class != ClassPass {
			t.Errorf("announced %v: exchange %+v", announced, x)
		}
		w.wantNothingHeld()
	}
}

// TestBodyThatBreaksOffGoesNowhere has a client that leaves in its middle.
func TestBodyThatBreaksOffGoesNowhere(t *testing.T) {
	asked := false
	roots := newAuthorityKey(t, "origins")
	addr := tlsOrigin(t, roots, true, func(http.ResponseWriter, *http.Request) { asked = true }, "a.test")
	w := newWorld(t, questions, map[string]string{"a.test:443": addr}, roots)
	c := w.open("a.test:443", "a.test")
	fmt.Fprint(c, "POST /query HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhalf")
	_ = c.Close()
	if x := w.exchange(); x.Class != ClassError {
		t.Errorf("exchange %+v", x)
	}
	w.wantNothingHeld()
	if asked {
		t.Error("half a body went upstream")
	}
}

func TestPushOutdatesTheRefs(t *testing.T) {
	w := passing(t, true, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused.git/git-receive-pack" {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	w.post("/refused.git/git-receive-pack", "x")
	w.post("/o/r%2Fs.git/git-receive-pack", "x")
	if want := []string{"git-refs https://a.test/o/r%2Fs.git/git-upload-pack"}; !slices.Equal(w.cache.outdated, want) {
		t.Errorf("outdated %q, want %q", w.cache.outdated, want)
	}
	want := []string{"https://a.test/o/r%2Fs.git/git-receive-pack", "https://a.test/o/r%2Fs.git/info/refs?service=git-upload-pack"}
	if got := w.cache.invalidated(); !slices.Equal(got, want) {
		t.Errorf("invalidated %q, want %q", got, want)
	}
}

// FuzzReadGit holds that a body is understood only if there is one way to read it.
func FuzzReadGit(f *testing.F) {
	f.Add([]byte(fetching('1')), false)
	f.Add([]byte(packed(f, fetching('1'))), true)
	f.Add([]byte(packed(f, fetching('1'), "")), true)
	f.Add([]byte(askingRefs), false)
	f.Fuzz(func(t *testing.T, body []byte, compressed bool) {
		h := http.Header{"Content-Type": {git.RequestType}, "Git-Protocol": {"version=2"}}
		if compressed {
			h["Content-Encoding"] = []string{"gzip"}
		}
		request := readGit(h, body)
		if request.Kind == git.Other || !compressed {
			return
		}
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(z) // all members there are
		if err != nil {
			t.Fatalf("what was understood cannot be unpacked: %v", err)
		}
		delete(h, "Content-Encoding")
		if again := readGit(h, plain); again.Digest != request.Digest {
			t.Fatal("another reader finds another request")
		}
	})
}
