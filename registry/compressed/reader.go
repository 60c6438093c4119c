package compressed

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	// MaxSize is the most that a file may unpack to. Ubuntu's largest index has 75 MB,
	// Fedora's 500.
	MaxSize = 2 << 30
	// maxWindow is the most memory that a file may ask for as its dictionary or window.
	// xz -9 has 64 MiB.
	maxWindow = 64 << 20
)

// ErrTooLarge: the file unpacks to more than MaxSize.
var ErrTooLarge = errors.New("unpacks to more than an index can have")

// NewReader returns what is in a file, which may be in gzip, xz, zstd, bzip2, or not
// compressed at all: its first bytes tell. Of xz, neither checksum nor index are looked
// at; the caller knows from elsewhere whether the file is right.
func NewReader(file io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(file, 64<<10)
	head, err := b.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	r, err := open(b, head)
	if err != nil {
		return nil, fmt.Errorf("open a compressed file: %w", err)
	}
	return &bounded{r, MaxSize}, nil
}

func open(b *bufio.Reader, head []byte) (io.Reader, error) {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(b)
	case bytes.Equal(head, []byte("\xfd7zXZ\x00")):
		return newXZ(b)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	case bytes.HasPrefix(head, []byte("BZh")):
		return bzip2.NewReader(b), nil
	}
	return b, nil
}

// bounded ends with ErrTooLarge.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, ErrTooLarge
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
