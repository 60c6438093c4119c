package tests

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const matrixBegin, matrixEnd = "<!-- matrix -->\n", "<!-- /matrix -->"

// matrixTable writes the table. Versions that this machine does not know are those of
// the table before.
func matrixTable(versions map[string]string) string {
	var b strings.Builder
	b.WriteString("Each was run behind larder, in an empty home, with what `larder env` prints and nothing\n" +
		"else, and then with what it needs besides, if there is such a thing. Without the part\n" +
		"about trust it failed for that reason, without the part about the proxy it went past\n" +
		"larder. `make matrix` does it again.\n\n" +
		"| client | tried | variables alone | what it needs besides, and why |\n|---|---|---|---|\n")
	for _, row := range matrixRows() {
		alone, more := "yes", ""
		if row.more != nil {
			alone, more = "no", row.more.text
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", row.client, cmp.Or(versions[row.client], "–"), alone, more)
	}
	return b.String()
}

// matrixSection cuts a document into what is before the table, the table, and what is
// after it.
func matrixSection(document string) (before, table, after string, ok bool) {
	before, rest, ok := strings.Cut(document, matrixBegin)
	table, after, found := strings.Cut(rest, matrixEnd)
	return before + matrixBegin, table, matrixEnd + after, ok && found
}

// triedVersions are those of a table, by client.
func triedVersions(table string) map[string]string {
	versions := make(map[string]string)
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, " | "); len(cells) > 2 && strings.ContainsAny(cells[1], "0123456789") {
			versions[strings.TrimPrefix(cells[0], "| ")] = cells[1]
		}
	}
	return versions
}

func updateMatrix(path string, found map[string]string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, table, after, ok := matrixSection(string(data))
	if !ok {
		return fmt.Errorf("%s has no %s", path, strings.TrimSpace(matrixBegin))
	}
	versions := triedVersions(table)
	for client, version := range found {
		versions[client] = withVersion(versions[client], version)
	}
	return os.WriteFile(path, []byte(before+matrixTable(versions)+after), 0o644)
}

// withVersion adds a version to those of a cell, in the place of another of the same
// first two numbers.
func withVersion(cell, version string) string {
	series := func(v string) string { return strings.Join(strings.SplitN(v, ".", 3)[:2], ".") }
	versions := []string{version}
	for v := range strings.SplitSeq(cell, ", ") {
		if v != "" && series(v) != series(version) {
			versions = append(versions, v)
		}
	}
	slices.SortFunc(versions, func(a, b string) int {
		return slices.Compare(numbers(a), numbers(b))
	})
	return strings.Join(versions, ", ")
}

func numbers(version string) (list []int) {
	for part := range strings.SplitSeq(version, ".") {
		n, _ := strconv.Atoi(part) // installed takes nothing else for a version
		list = append(list, n)
	}
	return list
}

func TestVersionsOfACell(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ cell, version, want string }{
		{"", "3.8.7", "3.8.7"},
		{"3.8.7", "3.8.9", "3.8.9"},
		{"3.8.7", "3.10.1", "3.8.7, 3.10.1"},
		{"3.8.7, 4.0.0", "3.9", "3.8.7, 3.9, 4.0.0"},
	} {
		if got := withVersion(tt.cell, tt.version); got != tt.want {
			t.Errorf("%s and %s: %s, want %s", tt.cell, tt.version, got, tt.want)
		}
	}
}

// TestMatrixTable holds docs/clients.md against the rows, whatever the versions.
func TestMatrixTable(t *testing.T) {
	t.Parallel()
	_, table, _, ok := matrixSection(readFile(t, "../docs/clients.md"))
	if !ok {
		t.Fatal("docs/clients.md has no place for the table")
	}
	versions := triedVersions(table)
	if want := matrixTable(versions); table != want {
		t.Errorf("docs/clients.md is behind the rows: make matrix\ngot:\n%s\nwant:\n%s", table, want)
	}
	for _, row := range matrixRows() {
		if versions[row.client] == "" {
			t.Errorf("%s was tried in no version", row.client)
		}
	}
}
