package helm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"larder/cache/integrity"
)

// maxLine bounds what is held of an index at once; longer lines, as of an icon in the
// file itself, are passed over.
const maxLine = 64 << 10

// Index reads an index.yaml of any length and calls yield with the URL, which may be
// relative to its folder, and the SHA-256 of each chart. It knows the YAML that helm
// writes, one key or item a line, and finds nothing in other styles.
func Index(body io.Reader, yield func(chart string, d integrity.Digest) error) error {
	b := bufio.NewReaderSize(body, maxLine)
	var c chart
	for {
		line, err := b.ReadSlice('\n')
		long := false
		for errors.Is(err, bufio.ErrBufferFull) {
			long = true
			_, err = b.ReadSlice('\n')
		}
		if !long {
			if err := c.line(string(line), yield); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return c.flush(yield)
		}
		if err != nil {
			return fmt.Errorf("read an index of charts: %w", err)
		}
	}
}

// maxURLs bounds how many places of one chart are looked at.
const maxURLs = 16

// chart is one item below a name of entries.
type chart struct {
	indent int // of its keys
	digest integrity.Digest
	urls   []string
	inURLs bool
}

func (c *chart) line(line string, yield func(string, integrity.Digest) error) error {
	text := strings.TrimRight(line, " \r\n")
	trimmed := strings.TrimLeft(text, " ")
	indent := len(text) - len(trimmed)
	if trimmed == "" || trimmed[0] == '#' {
		return nil
	}
	item, isItem := strings.CutPrefix(trimmed, "- ")
	switch {
	case isItem && c.inURLs && (indent == c.indent || indent == c.indent+2):
		if len(c.urls) < maxURLs {
			c.urls = append(c.urls, plain(item))
		}
		return nil
	case isItem && strings.Contains(item, ":") && (c.indent == 0 || indent == c.indent-2):
		// The next version of a chart.
		err := c.flush(yield)
		*c = chart{indent: indent + 2}
		c.key(item)
		return err
	case indent < c.indent:
		// The next chart, or what follows the entries.
		err := c.flush(yield)
		*c = chart{}
		return err
	case indent == c.indent:
		c.key(trimmed)
	}
	return nil
}

// key takes a key of the chart.
func (c *chart) key(text string) {
	name, value, _ := strings.Cut(text, ":")
	c.inURLs = name == "urls" && value == ""
	if name == "digest" {
		value = strings.TrimPrefix(plain(value), "sha256:")
		if d, err := integrity.ParseDigest("sha256:" + value); err == nil {
			c.digest = d
		}
	}
}

func (c *chart) flush(yield func(string, integrity.Digest) error) error {
	for _, u := range c.urls {
		if c.digest.IsZero() || u == "" {
			break
		}
		if err := yield(u, c.digest); err != nil {
			return err
		}
	}
	return nil
}

// plain takes quotation marks away. A scalar with anything to be undone is none.
func plain(value string) string {
	value = strings.TrimSpace(value)
	for _, mark := range []string{`"`, `'`} {
		if len(value) >= 2 && strings.HasPrefix(value, mark) && strings.HasSuffix(value, mark) {
			value = value[1 : len(value)-1]
			if strings.ContainsAny(value, `\`+mark) {
				return ""
			}
			return value
		}
	}
	if strings.ContainsAny(value, " \"'{}[]|>&*!") {
		return ""
	}
	return value
}
