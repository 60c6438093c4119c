package warm

import (
	"errors"
	"strings"

	"golang.org/x/mod/module"
)

// goSum reads a go.sum (https://go.dev/ref/mod#go-sum-files): for each module
// version the .mod file, and where the module itself is listed its .info and .zip.
func (p *Planner) goSum(name, text string) (Plan, error) {
	var plan Plan
	if p.Sources.GoProxy == "" {
		return plan, errors.New("no module proxy is named: GOPROXY holds none")
	}
	base, err := target(slashed(p.Sources.GoProxy))
	if err != nil {
		return plan, err
	}
	seen := make(map[string]bool)
	private := make(map[string]bool)
	number := 0
	for line := range strings.Lines(text) {
		number++
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) != 3 {
			plan.note(name, number, true, "not a line of go.sum: it has %d words, not 3", len(words))
			continue
		}
		path, version, sum := words[0], words[1], words[2]
		if module.MatchPrefixPatterns(p.Sources.GoPrivate, path) {
			if !private[path] {
				plan.note(name, number, false, "%s is private (GOPRIVATE, GONOPROXY): it does not come from the proxy", path)
			}
			private[path] = true
			continue
		}
		if err := goLine(&plan, seen, base, path, version, sum); err != nil {
			plan.note(name, number, true, "%v", err)
		}
	}
	return plan, nil
}

func goLine(plan *Plan, seen map[string]bool, base Item, path, version, sum string) error {
	version, onlyMod := strings.CutSuffix(version, "/go.mod")
	escapedPath, err := module.EscapePath(path)
	if err != nil {
		return err
	}
	escaped, err := module.EscapeVersion(version)
	if err != nil {
		return err
	}
	value, ok := strings.CutPrefix(sum, "h1:")
	if !ok {
		// Other algorithms are for future versions of Go, which ignores them.
		return nil
	}
	algorithm := h1Zip
	if onlyMod {
		algorithm = h1Mod
	}
	digest, err := ParseDigest(algorithm + ":" + value)
	if err != nil {
		return err
	}
	file := func(suffix string, d Digest) {
		it := base
		it.URL += escapedPath + "/@v/" + escaped + suffix
		it.Digest = d
		plan.add(seen, it)
	}
	if onlyMod {
		file(".mod", digest)
		return nil
	}
	file(".info", "")
	file(".zip", digest)
	return nil
}

// FirstProxy returns the first URL of a GOPROXY list, "" if there is none: "off",
// "direct" or only files.
func FirstProxy(list string) string {
	for one := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == '|' }) {
		if strings.HasPrefix(one, "https://") || strings.HasPrefix(one, "http://") {
			return one
		}
	}
	return ""
}
