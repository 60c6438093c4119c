package rpm

import (
	"bufio"
	"bytes"
	"errors"
	"html"
	"io"
	"strings"
)

// maxTag bounds what is held of a document at once.
const maxTag = 64 << 10

var errTag = errors.New("a tag is longer than any can be")

// tags reads the tags of an XML document one by one. It understands what createrepo
// writes, knows no entities but those of HTML, and passes over comments and the like;
// encoding/xml would take a minute for the half gigabyte of a distribution.
type tags struct{ b *bufio.Reader }

func newTags(r io.Reader) *tags { return &tags{bufio.NewReaderSize(r, maxTag)} }

type tag struct {
	name string
	end  bool // </name>
	rest string
}

// next returns the next tag; io.EOF: there is none.
func (t *tags) next() (tag, error) {
	for {
		if err := t.skipTo('<'); err != nil {
			return tag{}, err
		}
		if head, _ := t.b.Peek(3); string(head) == "!--" {
			if err := t.comment(); err != nil {
				return tag{}, err
			}
			continue
		}
		raw, err := t.b.ReadSlice('>')
		if err != nil {
			return tag{}, errTag
		}
		text := strings.TrimSuffix(string(raw[:len(raw)-1]), "/")
		if text == "" || text[0] == '?' || text[0] == '!' {
			continue
		}
		name, end := strings.CutPrefix(text, "/")
		name, rest, _ := strings.Cut(name, " ")
		return tag{name: strings.TrimSpace(name), end: end, rest: rest}, nil
	}
}

// skipTo passes over everything up to c.
func (t *tags) skipTo(c byte) error {
	for {
		_, err := t.b.ReadSlice(c)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

func (t *tags) comment() error {
	var last [2]byte
	for {
		c, err := t.b.ReadByte()
		if err != nil {
			return err
		}
		if c == '>' && last == [2]byte{'-', '-'} {
			return nil
		}
		last[0], last[1] = last[1], c
	}
}

// text returns the text up to the next tag, if that is near.
func (t *tags) text() string {
	head, _ := t.b.Peek(256)
	if i := bytes.IndexByte(head, '<'); i >= 0 {
		return string(head[:i])
	}
	return ""
}

// attribute returns the value of an attribute, "" without one.
func (t tag) attribute(name string) string {
	rest := t.rest
	for {
		key, after, ok := strings.Cut(rest, "=")
		after = strings.TrimLeft(after, " \t\r\n")
		if !ok || after == "" || after[0] != '"' && after[0] != '\'' {
			return ""
		}
		value, next, ok := strings.Cut(after[1:], after[:1])
		if !ok {
			return ""
		}
		if strings.TrimSpace(key) == name {
			return html.UnescapeString(value)
		}
		rest = next
	}
}
