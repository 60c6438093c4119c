package integrity

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// zstdWindow is the largest window that the content coding zstd may have (RFC 9659).
const zstdWindow = 8 << 20

// Coding returns the one content coding of a Content-Encoding field, "" for none, and
// false where there are several, which is not looked into.
func Coding(lines []string) (coding string, ok bool) {
	s := strings.ToLower(strings.TrimSpace(strings.Join(lines, ",")))
	if s == "identity" {
		s = ""
	}
	return s, !strings.Contains(s, ",")
}

// Decode returns the content of a body in a content coding, "" for none. What it needs
// of memory does not depend on the length.
func Decode(coding string, body io.Reader) (io.Reader, error) {
	switch coding {
	case "":
		return body, nil
	case "gzip", "x-gzip":
		return gzip.NewReader(body)
	case "deflate":
		// RFC 9110, section 8.4.1.2, means zlib; some send deflate alone.
		b := bufio.NewReader(body)
		head, err := b.Peek(2)
		if err != nil {
			return nil, err
		}
		if head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
			return zlib.NewReader(b)
		}
		return flate.NewReader(b), nil
	case "br":
		return brotli.NewReader(body), nil
	case "zstd":
		d, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	return nil, fmt.Errorf("content coding %q is not known", coding)
}

// Decodes reports whether Decode knows a coding.
func Decodes(coding string) bool {
	switch coding {
	case "", "gzip", "x-gzip", "deflate", "br", "zstd":
		return true
	}
	return false
}
