package compressed

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

func text(n int) []byte {
	var b strings.Builder
	r := rand.New(rand.NewPCG(1, 2))
	for b.Len() < n {
		b.WriteString("Package: p")
		b.WriteByte(byte('a' + r.IntN(26)))
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

func compress(t testing.TB, how string, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch how {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zstd":
		w, err = zstd.NewWriter(&b)
	case "xz":
		w, err = xz.NewWriter(&b)
	case "xz in blocks":
		w, err = xz.WriterConfig{BlockSize: 10_000, CheckSum: xz.CRC32}.NewWriter(&b)
	case "plain":
		return body
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFilesAreReadWhateverTheirCompression(t *testing.T) {
	for _, size := range []int{0, 1, 5, 300_000} {
		body := text(size)[:size]
		for _, how := range []string{"gzip", "zstd", "xz", "xz in blocks", "plain"} {
			r, err := NewReader(bytes.NewReader(compress(t, how, body)))
			if err != nil {
				t.Errorf("%s of %d bytes: %v", how, size, err)
				continue
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%s of %d bytes: read %d, %v", how, size, len(got), err)
			}
		}
	}
}

// TestFilesOfTheToolsAreRead: what the tools of distributions write, with threads and
// with checksums of other kinds.
func TestFilesOfTheToolsAreRead(t *testing.T) {
	body := text(3 << 20)
	for _, command := range []string{"xz -c", "xz -9 -c", "xz -T2 --block-size=1MiB -c", "xz --check=sha256 -c", "xz --check=none -c", "bzip2 -c", "gzip -c", "zstd -c -q"} {
		args := strings.Fields(command)
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Logf("no %s", args[0])
			continue
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = bytes.NewReader(body)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		r, err := NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Errorf("%s: %v", command, err)
			continue
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: read %d bytes, %v", command, len(got), err)
		}
	}
}

func TestFilesThatAreCutShortAreErrors(t *testing.T) {
	body := text(30_000)
	for _, how := range []string{"gzip", "zstd", "xz", "xz in blocks"} {
		packed := compress(t, how, body)
		for _, n := range []int{7, 20, len(packed) / 2} {
			r, err := NewReader(bytes.NewReader(packed[:n]))
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if err == nil {
				t.Errorf("%s: %d of %d bytes are taken for the whole", how, n, len(packed))
			}
		}
	}
}

func TestDictionaryIsBounded(t *testing.T) {
	var b bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 2 * maxWindow}.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, errXZ) {
		t.Errorf("a dictionary of %d bytes: %v", 2*maxWindow, err)
	}
}

func TestLengthIsBounded(t *testing.T) {
	r := &bounded{strings.NewReader("0123456789"), 5}
	got, err := io.ReadAll(r)
	if string(got) != "01234" || !errors.Is(err, ErrTooLarge) {
		t.Errorf("read %q, %v", got, err)
	}
}

func FuzzReader(f *testing.F) {
	for _, how := range []string{"gzip", "zstd", "xz", "xz in blocks", "plain"} {
		f.Add(compress(f, how, text(500)))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := NewReader(bytes.NewReader(file))
		if err != nil {
			return
		}
		_, _ = io.CopyN(io.Discard, r, 1<<20)
	})
}
