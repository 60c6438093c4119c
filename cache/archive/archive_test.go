package archive_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"larder/cache/archive"
)

var at = time.Date(2026, 5, 1, 12, 0, 0, 123456789, time.UTC)

func response(url string) archive.Response {
	gzip := "gzip"
	return archive.Response{
		URL: url, Status: 200, Requested: at, Received: at.Add(time.Second),
		Header: http.Header{"Content-Type": {"text/plain"}, "Etag": {`"1"`}, "Link": {"<a>", "<b>"}},
		Select: map[string]*string{"accept-encoding": &gzip, "x-token": nil},
	}
}

// object is a body with the URLs that have it.
type object struct {
	body string
	urls []string
}

func write(t testing.TB, objects ...object) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := archive.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		sum := sha256.Sum256([]byte(o.body))
		if err := w.Body(sum, int64(len(o.body)), strings.NewReader(o.body)); err != nil {
			t.Fatal(err)
		}
		var rs []archive.Response
		for _, u := range o.urls {
			rs = append(rs, response(u))
		}
		if err := w.Responses(sum, rs); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// contents is all that a reader finds.
type contents struct {
	bodies    map[string]string // name in the archive → body
	responses []archive.Response
	refused   []string
	totals    archive.Totals
}

func read(r io.Reader) (contents, error) {
	c := contents{bodies: map[string]string{}}
	a := archive.NewReader(r)
	for {
		e, err := a.Next()
		if err == io.EOF {
			c.totals = a.Totals()
			return c, nil
		}
		if err != nil {
			return c, err
		}
		switch {
		case e.Err != nil:
			c.refused = append(c.refused, e.Err.Error())
		case e.Body != nil:
			b, err := io.ReadAll(e.Body)
			if err != nil {
				if _, ok := errors.AsType[*archive.DamagedError](err); !ok {
					return c, err
				}
				c.refused = append(c.refused, err.Error())
			} else {
				c.bodies[e.Name] = string(b)
			}
		default:
			c.responses = append(c.responses, e.Responses...)
		}
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 1<<16)
	data := write(
		t,
		object{"", []string{"https://a.test/empty"}},
		object{large, []string{"https://a.test/2", "https://a.test/1"}},
	)
	// One byte at a time, as a slow connection gives them.
	got, err := read(iotest.OneByteReader(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	want := contents{
		bodies: map[string]string{bodyName(""): "", bodyName(large): large},
		responses: []archive.Response{
			response("https://a.test/empty"), response("https://a.test/1"), response("https://a.test/2"),
		},
		totals: archive.Totals{Bodies: 2, Responses: 3, Bytes: int64(len(large))},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(contents{})); d != "" {
		t.Errorf("read something else than was written (-want +got):\n%s", d)
	}
}

func bodyName(body string) string {
	sum := sha256.Sum256([]byte(body))
	return "objects/" + hex.EncodeToString(sum[:]) + "/body"
}

func TestSameResponsesGiveTheSameArchive(t *testing.T) {
	one := write(t, object{"body", []string{"https://a.test/1", "https://b.test/2"}})
	two := write(t, object{"body", []string{"https://b.test/2", "https://a.test/1"}})
	if !bytes.Equal(one, two) {
		t.Error("two archives of the same responses differ")
	}
}

// TestArchivesAreReadByOtherTools unpacks with tar and checks with sha256sum, as
// the package comment tells people to do.
func TestArchivesAreReadByOtherTools(t *testing.T) {
	for _, tool := range []string{"tar", "sha256sum", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is needed: %v", tool, err)
		}
	}
	var objects []object
	for i := range 1500 { // more than one list of digests
		objects = append(objects, object{fmt.Sprint("body ", i), []string{fmt.Sprint("https://a.test/", i)}})
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.tar"), write(t, objects...), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-ec", "tar xf a.tar; cat SHA256SUMS.* | sha256sum -c --strict --quiet; cat SHA256SUMS.* | wc -l")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "3000" {
		t.Errorf("tar and sha256sum say %v, %q; want 3000 files, all good", err, out)
	}
}

func TestManyResponsesToOneBodyAreCutIntoFiles(t *testing.T) {
	var urls []string
	for i := range 20000 {
		urls = append(urls, fmt.Sprintf("https://a.test/%06d", i))
	}
	data := write(t, object{"not found\n", urls})
	files := 0
	for tr := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(h.Name, "objects/") && strings.HasSuffix(h.Name, ".json") {
			files++
			if h.Size > 2<<20 {
				t.Errorf("%s has %d bytes", h.Name, h.Size)
			}
		}
	}
	got, err := read(bytes.NewReader(data))
	if err != nil || len(got.responses) != len(urls) || files < 2 {
		t.Errorf("%d responses in %d files (%v), want %d in several", len(got.responses), files, err, len(urls))
	}
}

// TestEveryFlippedBitIsNoticed flips one bit in each byte of an archive in turn.
// Whatever a reader then takes for good must be what was written.
func TestEveryFlippedBitIsNoticed(t *testing.T) {
	data := write(t, object{"first body", []string{"https://a.test/1"}}, object{"second body", []string{"https://a.test/2"}})
	good, err := read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 1 << (i % 8)
		got, err := read(bytes.NewReader(bad))
		for name, body := range got.bodies {
			if good.bodies[name] != body {
				t.Fatalf("byte %d flipped: %s is read as %q (%v)", i, name, body, err)
			}
		}
		for _, r := range got.responses {
			if !cmp.Equal(r, response("https://a.test/1")) && !cmp.Equal(r, response("https://a.test/2")) {
				t.Fatalf("byte %d flipped: a response is read as %+v (%v)", i, r, err)
			}
		}
		if err == nil && len(got.refused) == 0 && !cmp.Equal(got, good, cmp.AllowUnexported(contents{})) {
			t.Fatalf("byte %d flipped: read without complaint, but not the same", i)
		}
	}
}

func TestCutArchiveIsNoticed(t *testing.T) {
	data := write(t, object{"first body", []string{"https://a.test/1"}})
	// What follows the content of the last file is tar's own padding.
	for n := range bytes.LastIndexByte(data, '}') {
		_, err := read(bytes.NewReader(data[:n]))
		if err == nil {
			t.Fatalf("%d of %d bytes are read as a whole archive", n, len(data))
		}
	}
}

func TestDamagedBodyIsMarkedAndTheArchiveGoesOn(t *testing.T) {
	for _, tc := range []struct {
		name string
		body io.Reader
	}{
		{"other bytes", strings.NewReader("BODY")},
		{"ends early", strings.NewReader("bo")},
		{"fails", iotest.ErrReader(errors.New("bad sector"))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			w, err := archive.NewWriter(&out)
			if err != nil {
				t.Fatal(err)
			}
			bad, good := sha256.Sum256([]byte("body")), sha256.Sum256([]byte("good"))
			err = w.Body(bad, 4, tc.body)
			if _, ok := errors.AsType[*archive.DamagedError](err); !ok {
				t.Fatalf("Body returned %v, want a *DamagedError", err)
			}
			if err := w.Body(good, 4, strings.NewReader("good")); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Close(); err != nil {
				t.Fatal(err)
			}
			got, err := read(&out)
			if err != nil || len(got.refused) != 1 || got.bodies[bodyName("good")] != "good" || got.totals.Damaged != 1 {
				t.Errorf("read %+v, %v; want one refused and one good body", got, err)
			}
		})
	}
}

// TestWriterErrorIsNoDamage keeps a full disk of the reader's from being called
// damage in the store.
func TestWriterErrorIsNoDamage(t *testing.T) {
	full := errors.New("disk full")
	w, err := archive.NewWriter(&limited{n: 1000, err: full})
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("x", 5000)
	err = w.Body(sha256.Sum256([]byte(body)), int64(len(body)), strings.NewReader(body))
	if _, ok := errors.AsType[*archive.DamagedError](err); ok || !errors.Is(err, full) {
		t.Errorf("Body returned %v, want the writer's error", err)
	}
}

type limited struct {
	n   int
	err error
}

func (l *limited) Write(p []byte) (int, error) {
	if l.n -= len(p); l.n < 0 {
		return 0, l.err
	}
	return len(p), nil
}

func TestReaderRefusesWhatIsNoArchive(t *testing.T) {
	plain := func(name, content string) []byte {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644})
		_, _ = io.WriteString(w, content)
		_ = w.Close()
		return out.Bytes()
	}
	for _, tc := range []struct {
		name, want string
		data       []byte
	}{
		{"nothing", "it is empty", nil},
		{"an empty tar", "it is empty", make([]byte, 1024)},
		{"a text", "no tar file", []byte(strings.Repeat("text\n", 500))},
		{"another tar", "another kind of tar file", plain("README", "hello")},
		{"a newer version", "version 2, and this larder reads version 1", plain("larder-archive.json", `{"format":"larder archive","version":2}`)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := read(bytes.NewReader(tc.data))
			if _, ok := errors.AsType[*archive.FormatError](err); !ok || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want a *FormatError with %q", err, tc.want)
			}
		})
	}
}

func TestCheckRefusesWhatCannotBeServed(t *testing.T) {
	for _, tc := range []struct {
		want   string
		change func(*archive.Response)
	}{
		{"", func(*archive.Response) {}},
		{"absolute", func(r *archive.Response) { r.URL = "/etc/passwd" }},
		{"absolute", func(r *archive.Response) { r.URL = "file:///etc/passwd" }},
		{"absolute", func(r *archive.Response) { r.URL = "https://user:pw@a.test/" }},
		{"url", func(r *archive.Response) { r.URL = "https://a.test/%zz" }},
		{"status", func(r *archive.Response) { r.Status = 100 }},
		{"times", func(r *archive.Response) { r.Received = time.Time{} }},
		{"times", func(r *archive.Response) { r.Received = r.Requested.Add(-time.Second) }},
		{"not a canonical", func(r *archive.Response) { r.Header = http.Header{"etag": {"x"}} }},
		{"not a canonical", func(r *archive.Response) { r.Header = http.Header{"A\r\nB": {"x"}} }},
		{"does not allow", func(r *archive.Response) { r.Header = http.Header{"A": {"x\r\nSet-Cookie: y"}} }},
		{"validator", func(r *archive.Response) { r.ETag = "\n" }},
		{"selecting", func(r *archive.Response) { r.Select = map[string]*string{"a b": nil} }},
	} {
		r := response("https://a.test/x?y=%20")
		tc.change(&r)
		err := r.Check()
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want an error with %q", err, tc.want)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(write(f, object{"body", []string{"https://a.test/1"}}))
	f.Add(write(f))
	f.Add([]byte("no tar"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := read(bytes.NewReader(data))
		if err != nil && err != io.ErrUnexpectedEOF && !strings.HasPrefix(err.Error(), "read ") {
			t.Errorf("error without what was attempted: %v", err)
		}
		for name, body := range got.bodies {
			if name != bodyName(body) {
				t.Errorf("%s is not the digest of its content", name)
			}
		}
	})
}
