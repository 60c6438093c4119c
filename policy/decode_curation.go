package policy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"larder/registry/npm"
	"larder/registry/pypi"
)

// curationDecoder reads one entry of curation.
type curationDecoder struct {
	*decoder
	entry   *Curation
	context string
	node    *yaml.Node
	keys    map[string]*yaml.Node
	// packages and versions are read when it is known for which registries they are.
	packages, versions *yaml.Node
}

func (d *decoder) curation(n *yaml.Node) []*Curation {
	var all []*Curation
	d.sequence(n, "", "curation", func(item *yaml.Node) {
		c := d.curationEntry(item, len(all)+1)
		if c == nil {
			return
		}
		for _, other := range all {
			if other.Name == c.Name && c.Name != "" {
				d.problem(item, fmt.Sprintf("curation %q", c.Name), "", "name %q is taken by the entry in line %d", c.Name, other.Position.Line)
			}
		}
		all = append(all, c)
	})
	return all
}

// curationEntry is nil only if the node is no mapping.
func (d *decoder) curationEntry(n *yaml.Node, number int) *Curation {
	context := fmt.Sprintf("curation %d", number)
	if name := nameIn(n); name != "" {
		context = fmt.Sprintf("curation %q", name)
	}
	e := &curationDecoder{decoder: d, context: context, node: n, entry: &Curation{Position: d.position(n)}}
	before := len(d.problems)
	e.keys = d.mapping(n, context, "an entry of curation", e.fields())
	if e.keys == nil {
		return nil
	}
	if len(d.problems) == before {
		e.required()
	}
	if len(d.problems) == before {
		e.combinations()
	}
	if len(d.problems) == before {
		e.compile()
	}
	return e.entry
}

func (d *curationDecoder) fields() []field {
	c := d.entry
	return []field{
		{"name", d.name},
		{"registry", d.registries},
		{"packages", func(v *yaml.Node) { d.packages = v }},
		{"packages_file", func(v *yaml.Node) { d.path(v, d.context, "packages_file", &c.PackagesFile) }},
		{"versions", func(v *yaml.Node) { d.versions = v }},
		{"younger_than", d.youngerThan},
		{"unknown_age", func(v *yaml.Node) {
			if i, ok := d.oneOf(v, "unknown_age", unknownAges[:]); ok {
				c.UnknownAge = UnknownAge(i)
			}
		}},
		{"action", func(v *yaml.Node) {
			if i, ok := d.oneOf(v, "action", curationActions[CurationDeny:]); ok {
				c.Action = CurationDeny + CurationAction(i)
			}
		}},
		{"mode", func(v *yaml.Node) { d.mode(v, d.context, "mode", &c.Mode) }},
	}
}

func (d *curationDecoder) name(v *yaml.Node) {
	if s, ok := d.text(v, d.context, "name"); ok {
		if !validName(s) {
			d.problem(v, d.context, "", "name %q must be 1 to 64 letters, digits, '.', '_' or '-'", s)
			return
		}
		d.entry.Name = s
	}
}

// oneOf reads one of words and returns its place among them.
func (d *curationDecoder) oneOf(v *yaml.Node, key string, words []string) (int, bool) {
	s, ok := d.text(v, d.context, key)
	if !ok {
		return 0, false
	}
	i := slices.Index(words, s)
	if i < 0 {
		hint := didYouMean(s, words)
		if hint == "" {
			hint = "known: " + strings.Join(words, ", ")
		}
		d.problem(v, d.context, hint, "%s must not be %q", key, s)
	}
	return i, i >= 0
}

func (d *curationDecoder) registries(v *yaml.Node) {
	if v.Kind == yaml.SequenceNode && len(v.Content) == 0 {
		d.problem(v, d.context, "leave the key out if all are meant", "registry is an empty list")
	}
	for _, s := range d.texts(v, d.context, "registry", checkRegistry) {
		d.entry.Registry = append(d.entry.Registry, Registry(s))
	}
}

func checkRegistry(s string) *valueError {
	var known []string
	for _, r := range Registries() {
		if string(r) == s {
			return nil
		}
		known = append(known, string(r))
	}
	hint := didYouMean(s, known)
	if hint == "" {
		hint = "known: " + strings.Join(known, ", ")
	}
	return badValue(hint, "unknown registry %q", s)
}

func (d *curationDecoder) youngerThan(v *yaml.Node) {
	s, ok := d.scalar(v, d.context, "younger_than", "a duration such as 3d")
	if !ok {
		return
	}
	age, err := parseDuration(s)
	switch {
	case err != nil:
		d.bad(v, d.context, "younger_than", err)
	case age == 0:
		d.problem(v, d.context, "leave it out for any age", "younger_than is 0, which nothing is")
	}
	d.entry.YoungerThan = age
}

func (d *curationDecoder) required() {
	if d.entry.Name == "" {
		d.problem(d.node, d.context, "a name appears in refusals, logs and explanations", "entry has no name")
	}
	if d.entry.Action == 0 {
		d.problem(d.node, d.context, "one of deny, allow", "entry has no action")
	}
}

// complain reports a problem at a key, if the key is there.
func (d *curationDecoder) complain(key, hint, message string) {
	if n := d.keys[key]; n != nil {
		d.problem(n, d.context, hint, "%s", message)
	}
}

func (d *curationDecoder) combinations() {
	c := d.entry
	if c.Action == CurationAllow {
		d.complain("mode", "only an entry that denies has one", "mode has no effect under action allow, which refuses nothing")
		d.complain("younger_than", "deny what is younger, before or after this entry", "younger_than makes no sense under action allow")
	}
	if c.YoungerThan == 0 {
		d.complain("unknown_age", "", "unknown_age has no effect without younger_than")
	}
	if len(c.Registry) != 1 {
		d.complain("versions", "write registry: [pypi] or [npm], and an entry for each", "versions are written in another way for each registry, and this entry is not for one alone")
	}
}

// compile reads names and versions.
func (d *curationDecoder) compile() {
	c := d.entry
	if d.versions != nil {
		d.ranges()
	}
	c.exact = make(map[packageName][]versionRange)
	if d.packages != nil {
		if d.packages.Kind == yaml.SequenceNode && len(d.packages.Content) == 0 {
			d.problem(d.packages, d.context, "leave the key out if all are meant", "packages is an empty list")
		}
		c.Packages = d.texts(d.packages, d.context, "packages", func(s string) *valueError { return c.add(s, "") })
	}
	if c.PackagesFile != "" && d.lists {
		d.packagesFile()
	}
}

func (d *curationDecoder) ranges() {
	s, ok := d.text(d.versions, d.context, "versions")
	if !ok {
		return
	}
	r, err := parseRange(d.entry.Registry[0], s)
	if err != nil {
		d.bad(d.versions, d.context, "versions", err)
		return
	}
	d.entry.Versions, d.entry.ranges = s, r
}

// parseRange reads a range of versions; "" stands for all.
func parseRange(r Registry, s string) (versionRange, *valueError) {
	switch {
	case s == "":
		return versionRange{}, nil
	case r == PyPI:
		v, err := pypi.ParseSpecifiers(s)
		if err != nil {
			return versionRange{}, badValue("", "%s", err)
		}
		return versionRange{pypi: &v}, nil
	}
	v, err := npm.ParseRange(s)
	if err != nil {
		return versionRange{}, badValue("", "%s", err)
	}
	return versionRange{npm: &v}, nil
}

// add adds a name or pattern, with the versions that are meant, for each registry.
func (c *Curation) add(name, versions string) *valueError {
	registries := c.Registry
	if len(registries) == 0 {
		registries = Registries()
	}
	if versions != "" && len(registries) != 1 {
		return badValue("write registry: [pypi] or [npm], and an entry with a file for each",
			"%s has versions, which are written in another way for each registry", name)
	}
	fits := false
	for _, r := range registries {
		if !plausibleName(r, name) {
			continue
		}
		fits = true
		of, err := parseRange(r, versions)
		if err != nil {
			return err
		}
		if literals := strings.Split(name, "*"); len(literals) > 1 {
			for i := range literals {
				literals[i] = normalName(r, literals[i])
			}
			c.globs = append(c.globs, packageGlob{registry: r, literals: literals, versions: of})
			continue
		}
		key := packageName{r, normalName(r, name)}
		c.exact[key] = append(c.exact[key], of)
	}
	if !fits {
		return badValue("write a name as left-pad or @scope/name, or a pattern as @scope/*", "%q is no name of a package", name)
	}
	return nil
}

// plausibleName reports whether a name or pattern can be of a registry's packages.
func plausibleName(r Registry, name string) bool {
	plain := strings.ReplaceAll(name, "*", "x")
	if r == PyPI {
		return pypi.ValidName(plain)
	}
	return npm.ValidName(plain)
}

// maxPackages bounds a packages_file: the lists of known malware have some hundred
// thousand lines.
const maxPackages = 64 << 20

func (d *curationDecoder) packagesFile() {
	at := d.keys["packages_file"]
	data, err := readBounded(d.entry.PackagesFile, maxPackages)
	if err != nil {
		d.problem(at, d.context, "one package a line: NAME, or NAME and a range of its versions", "packages_file: %s", err)
		return
	}
	number := 0
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		number++
		line, _, _ := strings.Cut(lines.Text(), "#")
		name, versions, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" {
			continue
		}
		if err := d.entry.add(name, strings.TrimSpace(versions)); err != nil {
			d.problem(at, d.context, err.hint, "packages_file: %s:%d: %s", d.entry.PackagesFile, number, err.message)
			return
		}
	}
}

func readBounded(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s is larger than %d MiB", file, most>>20)
	}
	return data, err
}
