package git

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // git's
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"strings"
)

const (
	one = "1111111111111111111111111111111111111111"
	two = "2222222222222222222222222222222222222222"
	big = "3333333333333333333333333333333333333333333333333333333333333333"
)

// lines writes pkt-lines. "0000", "0001" and "0002" stand for themselves.
func lines(all ...string) string {
	var b strings.Builder
	for _, l := range all {
		switch l {
		case "0000", "0001", "0002":
			b.WriteString(l)
		default:
			fmt.Fprintf(&b, "%04x%s", len(l)+4, l)
		}
	}
	return b.String()
}

// packOf returns a pack whose objects are no objects.
func packOf(h hash.Hash, objects string) string {
	b := []byte("PACK")
	b = binary.BigEndian.AppendUint32(b, 2)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = append(b, objects...)
	h.Write(b)
	return string(h.Sum(b))
}

func pack1(objects string) string   { return packOf(sha1.New(), objects) } //nolint:gosec // git's
func pack256(objects string) string { return packOf(sha256.New(), objects) }

// banded cuts a pack into packets of sideband 1.
func banded(pack string, size int) string {
	var b strings.Builder
	for data := []byte(pack); len(data) > 0; {
		n := min(size, len(data))
		b.WriteString(lines("\x01" + string(data[:n])))
		data = data[n:]
	}
	return b.String()
}

func flipped(s string, at int) string {
	b := bytes.Clone([]byte(s))
	b[at] ^= 1
	return string(b)
}
