package rawjson

import "bytes"

// cursor walks over JSON that was found valid. On other text it ends with an error
// and never runs over the end.
type cursor struct {
	b  []byte
	at int
}

func (c *cursor) peek() byte {
	if c.at >= len(c.b) {
		return 0
	}
	return c.b[c.at]
}

func (c *cursor) space() {
	for {
		switch c.peek() {
		case ' ', '\t', '\r', '\n':
			c.at++
		default:
			return
		}
	}
}

// next goes to the next element of an object or array that ends with end.
func (c *cursor) next(end byte, first bool) (done bool, err error) {
	c.space()
	switch {
	case c.peek() == end:
		c.at++
		return true, nil
	case first:
		return false, nil
	case c.peek() != ',':
		return false, errSyntax
	}
	c.at++
	c.space()
	return false, nil
}

// value returns the value that begins here and goes behind it.
func (c *cursor) value() (Value, error) {
	start := c.at
	switch c.peek() {
	case '"':
		if !c.text() {
			return nil, errSyntax
		}
	case '{', '[':
		if !c.nested() {
			return nil, errSyntax
		}
	default:
		n := bytes.IndexAny(c.b[c.at:], ",]} \t\r\n:")
		if n < 0 {
			n = len(c.b) - c.at
		}
		if n == 0 {
			return nil, errSyntax
		}
		c.at += n
	}
	return c.b[start:c.at:c.at], nil
}

// text goes behind a string.
func (c *cursor) text() bool {
	for c.at++; c.at < len(c.b); c.at++ {
		switch c.b[c.at] {
		case '\\':
			c.at++
		case '"':
			c.at++
			return true
		}
	}
	return false
}

// nested goes behind an object or array.
func (c *cursor) nested() bool {
	for depth := 0; c.at < len(c.b); {
		switch c.b[c.at] {
		case '"':
			if !c.text() {
				return false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		c.at++
		if depth == 0 {
			return true
		}
	}
	return false
}
