package tests

import (
	"regexp"
	"testing"

	"larder/tests/origin"
)

// matrixRow is one client of the matrix: what it is told to do, and what it says
// when it lacks a part of what it needs.
type matrixRow struct {
	client string // as the table calls it
	// needs are its programs. Where all of its kind are promised (.ci/run) a row
	// whose programs are missing fails, unless optional: those are in no Debian
	// package, or in none that CI installs.
	needs    []string
	optional bool
	// version is a command whose output has the version in it.
	version []string
	// build is in that output too, unless this is another build of the client.
	build string
	// applies reports whether the row is about this version; nil: about any.
	applies func(version string) bool

	rules string // for the configuration; "" is pass for *.test
	// host is the one whose requests show that the client got through.
	host string
	// registry serves host and whatever else it takes, and returns variables that
	// stand for no setting of larder's, such as the key of a checksum database.
	registry func(t *testing.T, s *origin.Server) []string
	// fetch is the command, in a home of its own.
	fetch func(t *testing.T, dir string) command
	// verify looks at what became of it.
	verify func(t *testing.T, dir string, res result)
	// distrust is what the client says of a certificate whose root it does not know.
	distrust *regexp.Regexp

	// more is what it needs besides the variables; nil: nothing.
	more *matrixMore
}

// matrixMore is what a client needs besides the variables. Without it the client
// fails by distrust: of larder's certificate, or of the origin's past larder.
type matrixMore struct {
	text       string // for the table: what, and why
	pastLarder bool   // with the variables alone it does not come to larder
	// apply adds it to the command, with the values of larder's variables at hand;
	// trust is false where that part is to be left out. Nil: nothing helps.
	apply func(t *testing.T, c command, vars map[string]string, trust bool) command
}

// matrixRules open the hosts that no preset knows.
const matrixRules = `rules:
  - { name: matrix, hosts: ["*.test"], action: pass }
`

// matrixOf makes a row of a client that the tests drive anyway. Its own variables,
// which keep its caches apart, are left out: a home of its own does that too.
func matrixOf(c client, row matrixRow) matrixRow {
	if row.client == "" {
		row.client = c.name
	}
	row.needs, row.rules = c.needs, c.rules
	row.registry = c.registry
	if row.verify == nil {
		row.verify = c.verify
	}
	if row.fetch == nil {
		row.fetch = func(t *testing.T, dir string) command {
			cmd := c.fetch(t, dir)
			cmd.env = nil
			return cmd
		}
	}
	return row
}

// matrixRows is the matrix.
func matrixRows() []matrixRow {
	var rows []matrixRow
	for _, group := range [][]matrixRow{
		matrixFetchers(), matrixPython(), matrixNode(), matrixGo(), matrixRust(), matrixJava(), matrixSystem(), matrixRuby(), matrixPerl(), matrixPHP(),
	} {
		rows = append(rows, group...)
	}
	return rows
}
