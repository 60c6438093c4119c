package policy

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// decoder walks the nodes of one file and collects everything that is wrong
// with it, rather than stopping at the first. Its methods take the context in
// which a value stands, which begins every message: `rule "pypi"`, or "".
type decoder struct {
	file     string
	lines    []string
	problems []Problem
	lists    bool // read the files that it names as lists
}

// problem records that something is wrong at a node.
func (d *decoder) problem(n *yaml.Node, context, hint, format string, args ...any) {
	d.problemAt(n.Line, n.Column, context, hint, fmt.Sprintf(format, args...))
}

func (d *decoder) problemAt(line, column int, context, hint, message string) {
	p := Problem{
		Position: Position{File: d.file, Line: line, Column: column},
		Context:  context, Message: message, Hint: hint,
	}
	if line >= 1 && line <= len(d.lines) {
		p.Source = d.lines[line-1]
	}
	d.problems = append(d.problems, p)
}

func (d *decoder) bad(n *yaml.Node, context, key string, err *valueError) {
	d.problem(n, context, err.hint, "%s: %s", key, err.message)
}

func (d *decoder) position(n *yaml.Node) Position {
	return Position{File: d.file, Line: n.Line, Column: n.Column}
}

// field is one key of a mapping, with what reads its value.
type field struct {
	key    string
	decode func(value *yaml.Node)
}

// mapping reads a mapping with these keys, each at most once, and returns the
// nodes of the keys that were there, or nil if the node is no mapping. The
// context is that of the keys inside; what names the mapping itself.
func (d *decoder) mapping(n *yaml.Node, context, what string, fields []field) map[string]*yaml.Node {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		outer := context
		if what == context {
			outer = ""
		}
		d.problem(n, outer, "", "%s must be a mapping of keys to values, found %s", what, describe(n))
		return nil
	}
	known := make([]string, len(fields))
	for i, f := range fields {
		known[i] = f.key
	}
	seen := make(map[string]*yaml.Node)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), resolve(n.Content[i+1])
		if key.Kind != yaml.ScalarNode {
			d.problem(key, context, "", "a key must be a word, found %s", describe(key))
			continue
		}
		if first, twice := seen[key.Value]; twice {
			d.problem(n.Content[i], context, "", "field %q appears twice, first in line %d", key.Value, first.Line)
			continue
		}
		seen[key.Value] = n.Content[i]
		if !d.field(fields, key.Value, value) {
			d.problem(n.Content[i], context, unknownKeyHint(key.Value, known), "unknown field %q", key.Value)
		}
	}
	return seen
}

func (d *decoder) field(fields []field, key string, value *yaml.Node) bool {
	for _, f := range fields {
		if f.key == key {
			f.decode(value)
			return true
		}
	}
	return false
}

func unknownKeyHint(key string, known []string) string {
	if key == "<<" {
		return "merge keys are not supported; an anchor and an alias for a single value are"
	}
	if hint := didYouMean(key, known); hint != "" {
		return hint
	}
	return "known here: " + strings.Join(known, ", ")
}

// sequence hands each item of a list to a function.
func (d *decoder) sequence(n *yaml.Node, context, key string, each func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		hint := ""
		if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
			hint = fmt.Sprintf("write [%s]", quoted(n))
			if n.Tag == "!!int" {
				hint = fmt.Sprintf("write [%s]", n.Value)
			}
		}
		d.problem(n, context, hint, "%s must be a list, found %s", key, describe(n))
		return
	}
	for _, item := range n.Content {
		each(resolve(item))
	}
}

// text reads a string.
func (d *decoder) text(n *yaml.Node, context, key string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		hint := ""
		if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
			hint = "quote it: " + quoted(n)
		}
		d.problem(n, context, hint, "%s must be a string, found %s", key, describe(n))
		return "", false
	}
	return n.Value, true
}

// texts reads a list of strings through a check, which may be nil.
func (d *decoder) texts(n *yaml.Node, context, key string, check func(string) *valueError) []string {
	var all []string
	d.sequence(n, context, key, func(item *yaml.Node) {
		s, ok := d.text(item, context, "each of "+key)
		if !ok {
			return
		}
		if check != nil {
			if err := check(s); err != nil {
				d.bad(item, context, key, err)
				return
			}
		}
		all = append(all, s)
	})
	return all
}

// scalar reads a string or number as it is written, for values such as 0 or 1GiB.
func (d *decoder) scalar(n *yaml.Node, context, key, what string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" && n.Tag != "!!int" && n.Tag != "!!float" {
		d.problem(n, context, "", "%s must be %s, found %s", key, what, describe(n))
		return "", false
	}
	return n.Value, true
}

func (d *decoder) integer(n *yaml.Node, context, key, what string, low, high int) (int, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" {
		hint := ""
		if _, err := strconv.Atoi(n.Value); err == nil {
			hint = "write it without quotes: " + n.Value
		}
		d.problem(n, context, hint, "%s must be %s, found %s", key, what, describe(n))
		return 0, false
	}
	i, err := strconv.Atoi(n.Value)
	if err != nil || i < low || i > high {
		d.problem(n, context, "", "%s must be %s from %d to %d, found %s", key, what, low, high, n.Value)
		return 0, false
	}
	return i, true
}

// resolve follows an alias to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	// The library resolves an alias to a real node, never to another alias.
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// describe says what a node is, in words for a message.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!null":
		return "nothing"
	case "!!bool":
		return "the boolean " + n.Value
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!timestamp":
		return "the date " + n.Value
	default:
		return "the string " + quoted(n)
	}
}

func quoted(n *yaml.Node) string { return strconv.Quote(n.Value) }
