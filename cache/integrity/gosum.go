package integrity

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/mod/sumdb/dirhash"
)

// Go takes no module whose zip file, or what is in it, is larger (golang.org/x/mod/zip).
const maxGoZip = 500 << 20

// errNoModule says that a body is no zip file of a module, so it has no h1 digest.
var errNoModule = errors.New("not the zip file of a Go module")

// ParseH1 reads h1:base64 as go.sum writes it, for a zip file or, with mod, a go.mod.
func ParseH1(s string, mod bool) (Digest, bool) {
	value, ok := strings.CutPrefix(s, "h1:")
	sum, err := base64.StdEncoding.DecodeString(value)
	if !ok || err != nil {
		return Digest{}, false
	}
	if mod {
		return NewDigest(GoMod, sum)
	}
	return NewDigest(GoZip, sum)
}

// goMod returns the h1 digest of a go.mod with that SHA-256: dirhash.Hash1 of one file.
func goMod(sum [32]byte) Digest {
	h1 := sha256.Sum256(fmt.Appendf(nil, "%x  go.mod\n", sum))
	d, _ := NewDigest(GoMod, h1[:])
	return d
}

// goZip returns the h1 digest of a module's zip file.
func goZip(body io.ReaderAt, size int64) (Digest, error) {
	if size > maxGoZip {
		return Digest{}, fmt.Errorf("%d bytes: %w", size, errNoModule)
	}
	z, err := zip.NewReader(&blockReader{r: body, size: size}, size)
	if err != nil {
		return Digest{}, fmt.Errorf("%w: %w", errNoModule, err)
	}
	var files []string
	at := make(map[string]*zip.File, len(z.File))
	var total uint64
	for _, f := range z.File {
		total += f.UncompressedSize64
		files = append(files, f.Name)
		at[f.Name] = f
	}
	if total > maxGoZip || len(at) != len(files) {
		return Digest{}, errNoModule
	}
	sum, err := dirhash.Hash1(files, func(name string) (io.ReadCloser, error) {
		member, err := at[name].Open()
		if err != nil {
			return nil, err
		}
		// What unpacks to more than it says is no such file, however much more.
		return struct {
			io.Reader
			io.Closer
		}{io.LimitReader(member, int64(at[name].UncompressedSize64)+1), member}, nil
	})
	if err != nil {
		return Digest{}, fmt.Errorf("%w: %w", errNoModule, err)
	}
	d, _ := ParseH1(sum, false)
	return d, nil
}

// blockReader reads a store's blocks whole: each is verified as a whole at every read,
// and a zip reader reads a few KiB at a time.
type blockReader struct {
	r    io.ReaderAt
	size int64
	at   int64 // where buf begins
	buf  []byte
}

const goBlock = 256 << 10

// ReadAt is for one goroutine.
func (b *blockReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: %w", off, errNoModule) // as a broken zip file wants it
	}
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= b.size {
			return n, io.EOF
		}
		if len(b.buf) == 0 || at < b.at || at >= b.at+int64(len(b.buf)) {
			b.at = at - at%goBlock
			if cap(b.buf) == 0 {
				b.buf = make([]byte, 0, goBlock)
			}
			m, err := b.r.ReadAt(b.buf[:min(goBlock, b.size-b.at)], b.at)
			b.buf = b.buf[:m]
			if at >= b.at+int64(m) {
				if err == nil || errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return n, err
			}
		}
		n += copy(p[n:], b.buf[at-b.at:])
	}
	return n, nil
}
