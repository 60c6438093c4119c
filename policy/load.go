package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxFile bounds the size of a policy file: no list of hosts written by hand
// comes near it.
const maxFile = 8 << 20

// Load reads and compiles the policy file at path; "" stands for the built-in
// defaults with every preset. An error about what the file says is an *Errors.
func Load(path string) (*Policy, error) {
	if path == "" {
		presets, err := Presets()
		if err != nil {
			return nil, err
		}
		return compile(configFile{settings: defaultSettings(), presets: presetChoice{all: true}}, presets), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load policy: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("load policy: %w", err)
	}
	return Parse(path, data)
}

// Parse compiles the text of a policy file. The name stands in positions and
// messages; relative paths in the text are relative to its folder. Lists that it names
// (packages_file) are read. An error is an *Errors that holds all that is wrong.
func Parse(name string, data []byte) (*Policy, error) {
	presets, err := Presets()
	if err != nil {
		return nil, err
	}
	return parse(name, data, presets, true)
}

func parse(name string, data []byte, presets []Preset, lists bool) (*Policy, error) {
	names := make([]string, len(presets))
	for i, p := range presets {
		names[i] = p.Name
	}
	d := &decoder{file: name, lists: lists}
	root := d.document(data)
	var f configFile
	if root != nil {
		f = d.config(root, names)
	}
	if len(d.problems) > 0 {
		sortProblems(d.problems)
		return nil, &Errors{Problems: d.problems}
	}
	return compile(f, presets), nil
}

// compile puts the file's own rules before those of the presets it chose.
func compile(f configFile, presets []Preset) *Policy {
	rules := f.rules
	chosen := f.presets.names
	if f.presets.all {
		for _, p := range presets {
			chosen = append(chosen, p.Name)
		}
	}
	for _, c := range chosen {
		// The decoder has checked that the name is known.
		i := slices.IndexFunc(presets, func(p Preset) bool { return p.Name == c })
		rules = append(rules, presets[i].rules...)
	}
	f.settings.Presets = chosen
	return &Policy{settings: f.settings, index: newIndex(rules), byDefault: defaultRule(f.settings)}
}

// document parses the text to its one document and returns the root value, or
// nil after recording what is wrong.
func (d *decoder) document(data []byte) *yaml.Node {
	d.lines = strings.Split(strings.ReplaceAll(string(data[:min(len(data), maxFile)]), "\r\n", "\n"), "\n")
	if len(data) > maxFile {
		d.problemAt(0, 0, "", "", fmt.Sprintf("file is larger than %d MiB", maxFile>>20))
		return nil
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		d.syntax(err)
		return nil
	}
	var first, second yaml.Node
	err = loader.Load(&first)
	if errors.Is(err, io.EOF) || err == nil && (len(first.Content) == 0 || isNull(first.Content[0])) {
		d.problemAt(0, 0, "", `the smallest file is "presets: all"; no file at all means the same`, "file is empty")
		return nil
	}
	if err != nil {
		d.syntax(err)
		return nil
	}
	switch err = loader.Load(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		d.syntax(err)
	default:
		d.problem(&second, "", "remove the --- or split the file", "a second document begins here, a policy file holds one")
	}
	return first.Content[0]
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// syntax records that the text is no YAML.
func (d *decoder) syntax(err error) {
	message, line, column := err.Error(), 0, 0
	if several, ok := errors.AsType[*yaml.LoadErrors](err); ok && len(several.Errors) > 0 {
		err = several.Errors[0]
	}
	if one, ok := errors.AsType[*yaml.LoadError](err); ok {
		message, line, column = one.Message, one.Mark.Line, one.Mark.Column
		if one.ContextMsg != "" {
			message += " " + one.ContextMsg
		}
	}
	source := ""
	if line >= 1 && line <= len(d.lines) {
		source = d.lines[line-1]
	}
	d.problemAt(line, column, "", syntaxHint(source, message), "not valid YAML: "+message)
}

// syntaxHint knows the slips that host patterns invite.
func syntaxHint(source, message string) string {
	switch {
	case strings.Contains(message, "anchor") || strings.Contains(message, "alias"):
		return `quote patterns that begin with a *, as "*.example.org"`
	case strings.HasPrefix(strings.TrimLeft(source, " "), "\t"):
		return "indent with spaces; YAML refuses tabs"
	case strings.ContainsAny(source, "{}"):
		return `quote patterns with braces, as "{a,b}.example.org"`
	}
	return ""
}
