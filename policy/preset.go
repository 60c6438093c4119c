package policy

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"go.yaml.in/yaml/v4"
)

//go:embed presets/*.yaml
var presetFiles embed.FS

// Preset is a set of rules for one ecosystem that comes with larder, written in
// the words of a policy file.
type Preset struct {
	// Name is what the key presets of a policy file calls it, and the name of
	// its file.
	Name string `yaml:"name"`
	// Summary is one line about what it covers.
	Summary string `yaml:"summary"`
	// Docs lists the documents that its rules rest on.
	Docs []string `yaml:"docs"`
	// Limits lists what a user might expect and does not get, one sentence each.
	Limits []string `yaml:"limits"`
	// Text is the file as embedded: to be read, or copied and changed.
	Text string `yaml:"-"`

	rules []*Rule
}

// Rules returns the preset's rules in order. The caller must not change them.
func (p Preset) Rules() []*Rule { return p.rules }

// Presets returns the embedded presets by name. An error means that larder was
// built with a broken preset.
func Presets() ([]Preset, error) {
	names, err := fs.Glob(presetFiles, "presets/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list presets: %w", err)
	}
	presets := make([]Preset, 0, len(names))
	for _, name := range names {
		data, err := presetFiles.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read preset: %w", err)
		}
		p, err := parsePreset(name, data)
		if err != nil {
			return nil, fmt.Errorf("embedded preset: %w", err)
		}
		presets = append(presets, p)
	}
	return presets, nil
}

func parsePreset(file string, data []byte) (Preset, error) {
	d := &decoder{file: file}
	p := Preset{Name: strings.TrimSuffix(path.Base(file), ".yaml"), Text: string(data)}
	if root := d.document(data); root != nil {
		d.preset(root, &p)
	}
	if len(d.problems) > 0 {
		sortProblems(d.problems)
		return p, &Errors{Problems: d.problems}
	}
	if p.Summary == "" || len(p.rules) == 0 {
		return p, errors.New(file + ": preset without summary or rules")
	}
	return p, nil
}

func (d *decoder) preset(n *yaml.Node, p *Preset) {
	d.mapping(n, "", "the preset", []field{
		{"name", func(v *yaml.Node) {
			if s, ok := d.text(v, "", "name"); ok && s != p.Name {
				d.problem(v, "", "", "name %q is not that of the file, %q", s, p.Name)
			}
		}},
		{"summary", func(v *yaml.Node) { p.Summary, _ = d.text(v, "", "summary") }},
		{"docs", func(v *yaml.Node) { p.Docs = d.texts(v, "", "docs", nil) }},
		{"limits", func(v *yaml.Node) { p.Limits = d.texts(v, "", "limits", nil) }},
		{"rules", func(v *yaml.Node) { p.rules = d.rules(v, p.Name) }},
	})
}
