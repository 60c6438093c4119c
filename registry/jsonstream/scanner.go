package jsonstream

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxString is the length in bytes, as written, of the longest string that is given to a
// caller; one that is longer is passed over like a value of another kind.
const MaxString = 64 << 10

// ErrSyntax: what is read is not JSON.
var ErrSyntax = errors.New("not JSON")

// Scanner reads one document. Each of its methods takes the next value. One goroutine
// uses it.
type Scanner struct {
	b   *bufio.Reader
	buf []byte // of the string that is being read
}

// NewScanner returns a Scanner that reads from r.
func NewScanner(r io.Reader) *Scanner { return &Scanner{b: bufio.NewReaderSize(r, 64<<10)} }

// next returns the next byte that is no white space.
func (s *Scanner) next() (byte, error) {
	for {
		c, err := s.b.ReadByte()
		if err != nil {
			return 0, noEOF(err)
		}
		switch c {
		case ' ', '\t', '\r', '\n':
		default:
			return c, nil
		}
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// peek returns the first byte of the next value.
func (s *Scanner) peek() (byte, error) {
	c, err := s.next()
	if err == nil {
		err = s.b.UnreadByte()
	}
	return c, err
}

// Object calls member for each member of an object; member takes the value, or leaves it
// and returns false. A value that is no object is passed over.
func (s *Scanner) Object(member func(name string) (taken bool, err error)) error {
	return s.list('{', '}', func() error {
		name, ok, err := s.Text()
		if err != nil {
			return err
		}
		if c, err := s.next(); err != nil || c != ':' {
			return syntax(c, err)
		}
		taken := false
		if ok {
			taken, err = member(name)
		}
		if err == nil && !taken {
			err = s.Skip()
		}
		return err
	})
}

// Array calls element for each element of an array; element takes the value. A value that
// is no array is passed over.
func (s *Scanner) Array(element func() error) error { return s.list('[', ']', element) }

func (s *Scanner) list(open, end byte, item func() error) error {
	c, err := s.peek()
	if err != nil {
		return err
	}
	if c != open {
		return s.Skip()
	}
	_, _ = s.next()
	if c, err = s.peek(); err != nil {
		return err
	}
	if c == end {
		_, err = s.next()
		return err
	}
	for {
		if err := item(); err != nil {
			return err
		}
		switch c, err := s.next(); {
		case err != nil:
			return err
		case c == end:
			return nil
		case c != ',':
			return syntax(c, nil)
		}
	}
}

func syntax(c byte, err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%q where it cannot be: %w", c, ErrSyntax)
}

// Text takes a string; ok is false, and the value passed over, where it is none or too
// long.
func (s *Scanner) Text() (text string, ok bool, err error) {
	c, err := s.peek()
	if err != nil {
		return "", false, err
	}
	if c != '"' {
		return "", false, s.Skip()
	}
	_, _ = s.next()
	s.buf = append(s.buf[:0], '"')
	plain, err := s.quoted(true)
	switch {
	case err != nil:
		return "", false, err
	case len(s.buf) > MaxString:
		return "", false, nil
	case plain:
		return string(s.buf[1 : len(s.buf)-1]), true, nil
	}
	if err := json.Unmarshal(s.buf, &text); err != nil {
		return "", false, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return text, true, nil
}

// quoted reads up to the end of a string whose first quotation mark was read, and keeps
// it. plain: there is no escape in it.
func (s *Scanner) quoted(keep bool) (plain bool, err error) {
	plain = true
	for escaped := false; ; {
		c, err := s.b.ReadByte()
		if err != nil {
			return false, noEOF(err)
		}
		if keep && len(s.buf) <= MaxString {
			s.buf = append(s.buf, c)
		}
		switch {
		case escaped:
			escaped = false
		case c == '\\':
			escaped, plain = true, false
		case c == '"':
			return plain, nil
		case c < ' ' || c > '~':
			plain = false // let the standard library see to it
		}
	}
}

// Skip passes over a value, however deep.
func (s *Scanner) Skip() error {
	for depth := 0; ; {
		c, err := s.next()
		if err != nil {
			return err
		}
		switch c {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			if _, err := s.quoted(false); err != nil {
				return err
			}
		case ',', ':':
			if depth == 0 {
				return syntax(c, nil)
			}
		default:
			if err := s.word(); err != nil {
				return err
			}
		}
		if depth < 0 {
			return syntax(c, nil)
		}
		if depth == 0 {
			return nil
		}
	}
}

// word passes over the rest of a number, true, false or null.
func (s *Scanner) word() error {
	for {
		c, err := s.b.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil // a document may be one number
		}
		if err != nil {
			return err
		}
		switch c {
		case ',', ']', '}', ' ', '\t', '\r', '\n':
			return s.b.UnreadByte()
		case '"', '{', '[', ':':
			return syntax(c, nil)
		}
	}
}
