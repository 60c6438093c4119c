package wheels

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// wheelOf makes a wheel whose METADATA is what is given.
func wheelOf(t testing.TB, folder, metadata string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, file := range [][2]string{{folder + ".dist-info/METADATA", metadata}, {folder + ".dist-info/WHEEL", "Wheel-Version: 1.0\n"}, {"foo.py", ""}} {
		w, err := z.Create(file[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, file[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const fooMetadata = "Metadata-Version: 2.1\nName: Foo.Bar\nVersion: 1.0\nRequires-Python: >=3.8\n\nA readme.\n"

func openStore(t testing.TB, dir string, size int64) *Store {
	t.Helper()
	s, err := Open(dir, size, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func hexOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestStoreKeepsWheels(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, 0)
	content := wheelOf(t, "foo_bar-1.0", fooMetadata)
	source := &Source{File: "foo_bar-1.0.tar.gz", SHA256: strings.Repeat("a", 64)}
	w, err := s.Add("foo_bar-1.0-py3-none-any.whl", bytes.NewReader(content), source)
	if err != nil {
		t.Fatal(err)
	}
	want := &Wheel{
		File: "foo_bar-1.0-py3-none-any.whl", Project: "foo-bar", Version: "1.0", SHA256: hexOf(content), MetadataSHA256: hexOf([]byte(fooMetadata)),
		Size: int64(len(content)), RequiresPython: ">=3.8", Source: source,
	}
	if diff := cmp.Diff(want, w, cmpopts.IgnoreFields(Wheel{}, "Added")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Half of an addition, as kill -9 may leave it.
	if err := os.WriteFile(filepath.Join(dir, "1.part"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, strings.Repeat("b", 64)+".whl"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	again := openStore(t, dir, 0)
	if diff := cmp.Diff([]Wheel{*w}, again.Of("foo-bar")); diff != "" {
		t.Errorf("after opening it anew (-want +got):\n%s", diff)
	}
	found, err := again.Find(w.SHA256, w.File)
	if err != nil {
		t.Fatal(err)
	}
	for metadata, want := range map[bool][]byte{false: content, true: []byte(fooMetadata)} {
		f, err := again.Content(found, metadata)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if err = errors.Join(err, f.Close()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("content is %d bytes, %v", len(got), err)
		}
	}
	for _, no := range [][2]string{{strings.Repeat("a", 64), w.File}, {w.SHA256, "foo_bar-1.1-py3-none-any.whl"}, {w.SHA256, "../x"}, {"", ""}} {
		if _, err := again.Find(no[0], no[1]); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Find(%q) = %v", no, err)
		}
	}
}

func TestAddReplacesWhatHasTheSameName(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), 0)
	add := func(name, metadata string, source *Source) *Wheel {
		w, err := s.Add(name, bytes.NewReader(wheelOf(t, "foo_bar-1.0", metadata)), source)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	add("foo_bar-1.0-py3-none-any.whl", fooMetadata, &Source{File: "a"})
	second := add("foo_bar-1.0-py3-none-any.whl", fooMetadata+"More.\n", nil)
	third := add("foo_bar-1.0-1-py3-none-any.whl", fooMetadata+"Other.\n", nil)
	if diff := cmp.Diff([]Wheel{*third, *second}, s.Of("foo-bar")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// The same content again is not there twice, and keeps what is known of its source.
	add("foo_bar-1.0-1-py3-none-any.whl", fooMetadata+"Other.\n", &Source{File: "b"})
	again := add("foo_bar-1.0-1-py3-none-any.whl", fooMetadata+"Other.\n", nil)
	if all := s.All(); len(all) != 2 || again.Source == nil || again.Source.File != "b" {
		t.Errorf("there are %v", all)
	}
	removed, err := s.Remove("foo_bar-1.0-py3-*")
	if err != nil || len(removed) != 1 || removed[0].File != second.File {
		t.Errorf("Remove = %v, %v", removed, err)
	}
	if _, err := s.Content(second, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the content of what was removed: %v", err)
	}
	if removed, err := s.Remove(third.SHA256); err != nil || len(removed) != 1 || len(s.All()) != 0 || s.size != 0 {
		t.Errorf("Remove by digest = %v, %v; %d bytes are left", removed, err, s.size)
	}
}

func TestAddRefusesWhatIsNoWheelOfThatName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, 4096)
	good := wheelOf(t, "foo_bar-1.0", fooMetadata)
	for _, row := range []struct {
		name    string
		file    string
		content []byte
		want    string
	}{
		{"another project", "bar-1.0-py3-none-any.whl", good, `of the project "Foo.Bar"`},
		{"another version", "foo_bar-2.0-py3-none-any.whl", good, `of the version "1.0"`},
		{"no wheel's name", "foo_bar-1.0.tar.gz", good, "no name of a wheel"},
		{"a path", "../foo_bar-1.0-py3-none-any.whl", good, "no name of a wheel"},
		{"no archive", "foo_bar-1.0-py3-none-any.whl", []byte("hello"), "is no wheel"},
		{"no metadata", "foo_bar-1.0-py3-none-any.whl", wheelOf(t, "a/foo_bar-1.0", fooMetadata), "has no METADATA"},
		{"too large", "foo_bar-1.0-py3-none-any.whl", make([]byte, 4097), "at most 4096 bytes together"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, err := s.Add(row.file, bytes.NewReader(row.content), nil); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("Add = %v, want %q", err, row.want)
			}
		})
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("what was refused left %v, %v", entries, err)
	}
	for n := 0; ; n++ {
		if _, err := s.Add("foo_bar-1.0-"+string(rune('0'+n))+"-py3-none-any.whl", bytes.NewReader(wheelOf(t, "foo_bar-1.0", fooMetadata+strings.Repeat("x", n))), nil); err != nil {
			if !errors.Is(err, ErrFull) || n == 0 {
				t.Errorf("number %d: %v", n, err)
			}
			break
		}
	}
}

func FuzzInspect(f *testing.F) {
	f.Add([]byte("PK"), "foo_bar-1.0-py3-none-any.whl")
	f.Add(wheelOf(f, "foo_bar-1.0", fooMetadata), "foo_bar-1.0-py3-none-any.whl")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		w, metadata, err := inspect(name, bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if w.SHA256 != hexOf(b) || w.MetadataSHA256 != hexOf(metadata) || w.File != name || strings.Contains(w.RequiresPython, "\n") {
			t.Errorf("%q: %+v", name, w)
		}
	})
}
