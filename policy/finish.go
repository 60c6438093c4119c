package policy

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// FinishFill says what becomes of a fetch that is being stored when the last
// client that waits for it has left.
type FinishFill uint8

const (
	// FinishNear goes on when more than half is there or less than a minute is
	// left at the present pace.
	FinishNear FinishFill = iota
	// FinishAlways goes on.
	FinishAlways
	// FinishNever ends it.
	FinishNever
)

var finishNames = [...]string{FinishNear: "near", FinishAlways: "always", FinishNever: "never"}

// String returns the word of the policy file.
func (f FinishFill) String() string {
	if int(f) >= len(finishNames) {
		return "invalid"
	}
	return finishNames[f]
}

func (d *ruleDecoder) finishFill(v *yaml.Node) {
	s, ok := d.text(v, d.context, "finish_fill")
	if !ok {
		return
	}
	for f, name := range finishNames {
		if s == name {
			d.rule.FinishFill = FinishFill(f)
			return
		}
	}
	d.problem(v, d.context, "known: "+strings.Join(finishNames[:], ", "), "finish_fill must not be %q", s)
}

func (d *ruleDecoder) flag(v *yaml.Node, key string, into *bool) { d.boolean(v, d.context, key, into) }

func (d *decoder) boolean(v *yaml.Node, context, key string, into *bool) {
	if v.Kind != yaml.ScalarNode || v.Tag != "!!bool" || v.Decode(into) != nil {
		d.problem(v, context, "", "%s must be true or false, found %s", key, describe(v))
	}
}
