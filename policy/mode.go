package policy

import "fmt"

// Mode says how much of a refusal is carried out. The words are those of
// smokescreen, so that a list of refusals can be tried out before it bites.
type Mode uint8

// The modes of a rule that denies, from the most to the least.
const (
	// Enforce refuses.
	Enforce Mode = iota
	// Report lets pass what the next matching rule lets pass, and says in log and
	// metrics that it would have been refused. Where the rule looks at methods or
	// paths larder opens the TLS as it would to enforce it.
	Report
	// Open switches the rule off: what it would refuse is counted where larder sees
	// it anyway, and neither logged nor looked for.
	Open
)

var modeNames = [...]string{Enforce: "enforce", Report: "report", Open: "open"}

// String returns the word of the policy file.
func (m Mode) String() string {
	if int(m) >= len(modeNames) {
		return fmt.Sprintf("Mode(%d)", uint8(m))
	}
	return modeNames[m]
}

func parseMode(s string) (Mode, bool) {
	for m := Enforce; m <= Open; m++ {
		if modeNames[m] == s {
			return m, true
		}
	}
	return 0, false
}

// waives reports whether the rule would refuse and does not.
func (r *Rule) waives() bool { return r.Action == Deny && r.Mode != Enforce }

// waive notes a rule that would have refused. One that reports goes before one
// that is open, which is to be as if it were not there.
func (d *Decision) waive(r *Rule) {
	if d.Waived == nil || d.Waived.Mode == Open && r.Mode == Report {
		d.Waived = r
	}
}

// fallBack makes the decision that of the default.
func (p *Policy) fallBack(d Decision) Decision {
	d.Action = p.settings.Default
	if p.byDefault != nil {
		d.waive(p.byDefault)
		d.Action = Tunnel
	}
	return d
}

// defaultRule stands for a default that denies and is not enforced; nil for any
// other.
func defaultRule(s Settings) *Rule {
	if s.Default != Deny || s.DefaultMode == Enforce {
		return nil
	}
	return &Rule{Name: "default", Hosts: []string{"*"}, Action: Deny, Mode: s.DefaultMode}
}
