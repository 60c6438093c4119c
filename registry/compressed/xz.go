package compressed

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

var errXZ = errors.New("not an xz file that can be read")

// xzReader takes the xz format apart as far as its blocks
// (https://tukaani.org/xz/xz-file-format.txt). The library could do that too, but gives
// each block the memory that it asks for, up to 4 GiB.
type xzReader struct {
	b     *countingReader
	check int64 // bytes of a block's checksum
	block *lzma.Reader2
	began int64 // where the block's data began
}

// countingReader knows how much was read; it is an io.ByteReader, so that nobody reads
// ahead.
type countingReader struct {
	b *bufio.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.b.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *countingReader) ReadByte() (byte, error) {
	x, err := c.b.ReadByte()
	if err == nil {
		c.n++
	}
	return x, err
}

func newXZ(b *bufio.Reader) (*xzReader, error) {
	x := &xzReader{b: &countingReader{b: b}}
	return x, x.stream()
}

// stream reads the header of a stream.
func (x *xzReader) stream() error {
	var head [12]byte
	if _, err := io.ReadFull(x.b, head[:]); err != nil {
		return noEOF(err)
	}
	sizes := [...]int64{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}
	if string(head[:6]) != "\xfd7zXZ\x00" || head[6] != 0 || head[7] >= byte(len(sizes)) {
		return errXZ
	}
	x.check = sizes[head[7]]
	return nil
}

// Read reads what is in the first stream of the file; xz itself writes but one.
func (x *xzReader) Read(p []byte) (int, error) {
	for {
		if x.block == nil {
			if err := x.open(); err != nil {
				return 0, err
			}
		}
		n, err := x.block.Read(p)
		if n > 0 {
			return n, nil // an error comes again
		}
		if !errors.Is(err, io.EOF) || !x.block.EOS() {
			return 0, noEOF(err)
		}
		if err := x.close(); err != nil {
			return 0, err
		}
	}
}

// open reads the header of the next block; io.EOF: there is none.
func (x *xzReader) open() error {
	size, err := x.b.ReadByte()
	if err != nil {
		return noEOF(err)
	}
	if size == 0 {
		return io.EOF // the index follows
	}
	head := make([]byte, (int(size)+1)*4-1)
	if _, err := io.ReadFull(x.b, head); err != nil {
		return noEOF(err)
	}
	dictionary, err := dictionaryOf(head)
	if err != nil {
		return err
	}
	x.began = x.b.n
	x.block, err = lzma.Reader2Config{DictCap: dictionary}.NewReader2(x.b)
	return err
}

// dictionaryOf finds the one filter of a block, LZMA2, and the size of its dictionary.
func dictionaryOf(head []byte) (int, error) {
	flags, at := head[0], 1
	if flags&0x3f != 0 {
		return 0, fmt.Errorf("a block with several filters: %w", errXZ)
	}
	for _, there := range []bool{flags&0x40 != 0, flags&0x80 != 0} {
		for there && at < len(head) && head[at]&0x80 != 0 {
			at++
		}
		if there {
			at++
		}
	}
	if at+3 > len(head) || head[at] != 0x21 || head[at+1] != 1 {
		return 0, fmt.Errorf("a filter that is not LZMA2: %w", errXZ)
	}
	size, err := lzma.DecodeDictCap(head[at+2])
	if err != nil || size > maxWindow {
		return 0, fmt.Errorf("a dictionary of %d bytes: %w", size, errXZ)
	}
	return int(max(size, lzma.MinDictCap)), nil
}

// close reads away what follows a block's data: padding to four bytes, and the checksum.
func (x *xzReader) close() error {
	x.block = nil
	rest := -(x.b.n-x.began)&3 + x.check
	_, err := io.CopyN(io.Discard, x.b, rest)
	return noEOF(err)
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
