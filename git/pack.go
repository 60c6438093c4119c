package git

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the checksum that git's packs end with
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
)

// packHeader is what a pack has before its first object (gitformat-pack(5)): PACK,
// version, number of objects.
const packHeader = 12

var (
	errNoPack   = errors.New("no pack of version 2 or 3")
	errChecksum = errors.New("the pack does not have the checksum that it ends with")
)

// packCheck follows a pack as it comes: it begins as one and ends with the checksum of
// all that went before.
type packCheck struct {
	sum  hash.Hash
	size int64
	head []byte // the first bytes, until they are all there
	tail []byte // the latest bytes, which may be the checksum
}

func newPackCheck(sha256Names bool) *packCheck {
	if sha256Names {
		return &packCheck{sum: sha256.New()}
	}
	return &packCheck{sum: sha1.New()} //nolint:gosec // see the import
}

// add follows with p.
func (c *packCheck) add(p []byte) {
	c.size += int64(len(p))
	if missing := packHeader - len(c.head); missing > 0 {
		c.head = append(c.head, p[:min(missing, len(p))]...)
	}
	n := c.sum.Size()
	// All but the last n bytes of what is here are no part of the checksum.
	if over := len(c.tail) + len(p) - n; over > 0 {
		k := min(over, len(c.tail))
		c.sum.Write(c.tail[:k]) // a hash never fails
		c.tail = c.tail[:copy(c.tail, c.tail[k:])]
		c.sum.Write(p[:over-k])
		p = p[over-k:]
	}
	c.tail = append(c.tail, p...)
}

// finish judges the pack at its end.
func (c *packCheck) finish() error {
	if c.size < int64(packHeader+c.sum.Size()) {
		return fmt.Errorf("a pack of %d bytes: %w", c.size, io.ErrUnexpectedEOF)
	}
	if v := binary.BigEndian.Uint32(c.head[4:]); string(c.head[:4]) != "PACK" || v != 2 && v != 3 {
		return errNoPack
	}
	if !bytes.Equal(c.sum.Sum(nil), c.tail) {
		return errChecksum
	}
	return nil
}
