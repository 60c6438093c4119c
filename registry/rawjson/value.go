package rawjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Value is the text of one JSON value, without space around it. Values are made by
// Parse, taken from other Values, or made of something by Of.
type Value []byte

// Null is the value null.
const Null = "null"

var (
	errUTF8   = errors.New("not UTF-8 (RFC 8259, section 8.1)")
	errSyntax = errors.New("not JSON")
)

// Parse checks a whole document. The Value refers to b.
func Parse(b []byte) (Value, error) {
	if !utf8.Valid(b) {
		return nil, errUTF8
	}
	if !json.Valid(b) {
		// Unmarshal says where; it is not asked first because it is slower.
		var discard json.RawMessage
		if err := json.Unmarshal(b, &discard); err != nil {
			return nil, err
		}
		return nil, errSyntax
	}
	return trim(b), nil
}

// Of makes a Value of a Go value as encoding/json does, without escaping HTML.
func Of(v any) (Value, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return trim(b.Bytes()), nil
}

// OfString makes a Value of a string. What is not UTF-8 in it becomes U+FFFD.
func OfString(s string) Value {
	v, err := Of(s)
	if err != nil {
		return Value(`""`) // a string always encodes
	}
	return v
}

// IsNull reports whether the value is null or not there at all.
func (v Value) IsNull() bool { return len(v) == 0 || string(v) == Null }

// Text is the value of a string; ok is false for any other value.
func (v Value) Text() (s string, ok bool) {
	if len(v) < 2 || v[0] != '"' {
		return "", false
	}
	if inner := v[1 : len(v)-1]; bytes.IndexByte(inner, '\\') < 0 && bytes.IndexByte(inner, '"') < 0 {
		return string(inner), true
	}
	err := json.Unmarshal(v, &s)
	return s, err == nil
}

// Object takes an object apart.
func (v Value) Object() (*Object, error) {
	if len(v) == 0 || v[0] != '{' {
		return nil, fmt.Errorf("an object was expected, not %s", v.kind())
	}
	o := &Object{}
	c := cursor{b: v, at: 1}
	for first := true; ; first = false {
		done, err := c.next('}', first)
		if err != nil {
			return nil, err
		}
		if done {
			o.index()
			return o, o.noNameTwice()
		}
		name, err := c.value()
		if err != nil {
			return nil, err
		}
		if c.space(); c.peek() != ':' {
			return nil, errSyntax
		}
		c.at++
		c.space()
		value, err := c.value()
		if err != nil {
			return nil, err
		}
		text, ok := name.Text()
		if !ok {
			return nil, errSyntax
		}
		o.members = append(o.members, member{name: text, key: name, value: value})
	}
}

// Array takes an array apart.
func (v Value) Array() ([]Value, error) {
	if len(v) == 0 || v[0] != '[' {
		return nil, fmt.Errorf("an array was expected, not %s", v.kind())
	}
	var all []Value
	c := cursor{b: v, at: 1}
	for first := true; ; first = false {
		done, err := c.next(']', first)
		if done || err != nil {
			return all, err
		}
		value, err := c.value()
		if err != nil {
			return nil, err
		}
		all = append(all, value)
	}
}

// OfArray puts an array together.
func OfArray(all []Value) Value {
	size := 2 + len(all)
	for _, v := range all {
		size += len(v)
	}
	b := append(make([]byte, 0, size), '[')
	for i, v := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, v...)
	}
	return append(b, ']')
}

func (v Value) kind() string {
	if len(v) == 0 {
		return "nothing"
	}
	switch v[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return Null
	}
	return "a number"
}

func trim(b []byte) Value { return bytes.Trim(b, " \t\r\n") }
