package policy

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"larder/registry/npm"
	"larder/registry/pypi"
)

// Registry is a kind of package registry, whose requests larder understands.
type Registry string

// The kinds of registries.
const (
	// PyPI is an index with the Simple API and the files that it lists.
	PyPI Registry = "pypi"
	// NPM is a registry with packuments and tarballs.
	NPM Registry = "npm"
)

// Registries lists the kinds.
func Registries() []Registry { return []Registry{NPM, PyPI} }

// Curation is one entry of the key curation: it allows or denies packages of the
// registries that rules with the key registry are for. Of the entries in their order
// the first that matches a version of a package decides; what none matches is allowed.
// An index is served without what is denied, and the files are refused.
//
// The yaml tags are the keys of the file; the decoder is held to them by a test.
type Curation struct {
	// Name identifies the entry in logs, metrics and refusals: letters, digits, '.',
	// '_' and '-'.
	Name string `yaml:"name"`
	// Registry lists the kinds of registries that it is for. Absent: all.
	Registry []Registry `yaml:"registry"`
	// Packages lists names, in which * stands for any characters. Names of PyPI match in
	// all their spellings. Absent, without PackagesFile: any package.
	Packages []string `yaml:"packages"`
	// PackagesFile is a file with more of them, one a line, each with a range of
	// versions behind it if not all are meant; # begins a comment. A relative path is
	// relative to the file's folder. It is read again at a reload.
	PackagesFile string `yaml:"packages_file"`
	// Versions is the range of versions: specifiers of PEP 440 for pypi (">=2,<2.3"),
	// a semver range for npm ("<4.17.21 || 5.x"). Pre-releases between its ends are in
	// it. Absent: any version.
	Versions string `yaml:"versions"`
	// YoungerThan matches what was published less than this ago. Absent: any age.
	YoungerThan time.Duration `yaml:"younger_than"`
	// UnknownAge is what becomes under YoungerThan of what the index does not tell the
	// age of: deny, as if too young, or allow. Absent: deny.
	UnknownAge UnknownAge `yaml:"unknown_age"`
	// Action is deny or allow.
	Action CurationAction `yaml:"action"`
	// Mode of an entry that denies is enforce, report (go on with the next entry; log
	// and count it) or open (switched off, and only counted). Absent: enforce.
	Mode Mode `yaml:"mode"`

	// Position is where the entry begins in its file.
	Position Position `yaml:"-"`

	exact  map[packageName][]versionRange // of Packages and PackagesFile, without *
	globs  []packageGlob                  // the others
	ranges versionRange
}

// CurationAction is what an entry does with what it matches.
type CurationAction uint8

// The actions.
const (
	CurationDeny CurationAction = iota + 1
	CurationAllow
)

var curationActions = [...]string{CurationDeny: "deny", CurationAllow: "allow"}

// String returns the word of the policy file.
func (a CurationAction) String() string {
	if a == 0 || int(a) >= len(curationActions) {
		return fmt.Sprintf("CurationAction(%d)", uint8(a))
	}
	return curationActions[a]
}

// UnknownAge says what becomes of a version whose age nobody tells.
type UnknownAge uint8

// The choices.
const (
	// UnknownAgeDeny takes it for too young.
	UnknownAgeDeny UnknownAge = iota
	// UnknownAgeAllow takes it for old enough.
	UnknownAgeAllow
)

var unknownAges = [...]string{UnknownAgeDeny: "deny", UnknownAgeAllow: "allow"}

// String returns the word of the policy file.
func (u UnknownAge) String() string {
	if int(u) >= len(unknownAges) {
		return fmt.Sprintf("UnknownAge(%d)", uint8(u))
	}
	return unknownAges[u]
}

// Package is a version of a package.
type Package struct {
	Registry Registry
	// Name is as anybody writes it.
	Name string
	// Version is "" where it is not known. No range has such a one.
	Version string
	// Published is when it came into the registry; zero where it is not known.
	Published time.Time
}

// String names the package.
func (p Package) String() string {
	if p.Version == "" {
		return string(p.Registry) + " package " + p.Name
	}
	return string(p.Registry) + " package " + p.Name + " " + p.Version
}

// Verdict is what the curation makes of a package.
type Verdict struct {
	// By is the entry that denies it; nil if it may be had.
	By *Curation
	// Until is when it will be old enough for By; zero where age is not why.
	Until time.Time
	// AgeUnknown: By denies it for want of its age.
	AgeUnknown bool
	// Waived is an entry that would have denied it and by its mode did not; nil if none.
	Waived *Curation
}

// Denied reports whether it may not be had.
func (v Verdict) Denied() bool { return v.By != nil }

// Reason says in a clause why it may not be had.
func (v Verdict) Reason() string {
	switch {
	case v.By == nil:
		return ""
	case v.AgeUnknown:
		return fmt.Sprintf("no index says when it was published, and by curation %q it must be %s old", v.By.Name, duration(v.By.YoungerThan))
	case !v.Until.IsZero():
		return fmt.Sprintf("it is in quarantine until %s by curation %q", v.Until.UTC().Format(time.RFC3339), v.By.Name)
	}
	return fmt.Sprintf("denied by curation %q", v.By.Name)
}

// CuratesRegistry reports whether an entry is for a registry of this kind.
func (p *Policy) CuratesRegistry(r Registry) bool {
	return slices.ContainsFunc(p.settings.Curation, func(c *Curation) bool { return c.isFor(r) })
}

// Curate judges a version of a package.
func (p *Policy) Curate(pkg Package, now time.Time) Verdict {
	var v Verdict
	q := pkg.query()
	for _, c := range p.settings.Curation {
		m := c.match(&q, now)
		if !m.matches {
			continue
		}
		if c.Action == CurationAllow {
			return v
		}
		if c.Mode != Enforce {
			if v.Waived == nil || v.Waived.Mode == Open && c.Mode == Report {
				v.Waived = c
			}
			continue
		}
		v.By, v.Until, v.AgeUnknown = c, m.until, m.ageUnknown
		return v
	}
	return v
}

// CurateName returns the entry that denies all versions of a package, whatever their
// age; nil if some may be had.
func (p *Policy) CurateName(r Registry, name string) *Curation {
	q := Package{Registry: r, Name: name}.query()
	for _, c := range p.settings.Curation {
		switch named, all := c.named(&q); {
		case !named || c.Action == CurationDeny && (c.Mode != Enforce || !all || c.YoungerThan > 0):
		case c.Action == CurationDeny:
			return c
		default:
			return nil
		}
	}
	return nil
}

// AgeMatters reports whether it depends on their age which versions of a package may
// be had.
func (p *Policy) AgeMatters(r Registry, name string) bool {
	q := Package{Registry: r, Name: name}.query()
	for _, c := range p.settings.Curation {
		named, all := c.named(&q)
		switch {
		case !named:
		case c.YoungerThan > 0:
			return true
		case all && (c.Action == CurationAllow || c.Mode == Enforce):
			return false
		}
	}
	return false
}

func (c *Curation) isFor(r Registry) bool {
	return len(c.Registry) == 0 || slices.Contains(c.Registry, r)
}

// VersionMatters reports whether it depends on their version, and not on their age
// alone, which versions of a package may be had.
func (p *Policy) VersionMatters(r Registry, name string) bool {
	q := Package{Registry: r, Name: name}.query()
	for _, c := range p.settings.Curation {
		switch named, all := c.named(&q); {
		case !named:
		case !all:
			return true
		case c.YoungerThan == 0 && (c.Action == CurationAllow || c.Mode == Enforce):
			return false
		}
	}
	return false
}

// query is a Package with its name and version in the form that entries compare.
type query struct {
	Package
	name string
	// The version is parsed when the first range asks for it, which few do.
	parsed bool
	pypi   pypi.Version
	npm    npm.Version
}

func (p Package) query() query {
	return query{Package: p, name: normalName(p.Registry, p.Name)}
}

func (q *query) parse() {
	if q.parsed {
		return
	}
	q.parsed = true
	switch q.Registry {
	case PyPI:
		q.pypi, _ = pypi.ParseVersion(q.Version)
	case NPM:
		q.npm, _ = npm.ParseVersion(q.Version)
	}
}

// normalName is the spelling of a name by which all that name one package are equal.
// Names of npm are not told apart by case either: since 2017 new ones have no
// capitals, and who denies a name means its look-alikes too.
func normalName(r Registry, name string) string {
	if r == PyPI {
		return pypi.Normalize(name)
	}
	return strings.ToLower(name)
}

// matched says how an entry matches.
type matched struct {
	matches, ageUnknown bool
	until               time.Time
}

func (c *Curation) match(q *query, now time.Time) matched {
	if !c.isFor(q.Registry) || !c.matchesVersion(q) {
		return matched{}
	}
	if c.YoungerThan == 0 {
		return matched{matches: true}
	}
	if q.Published.IsZero() {
		return matched{matches: c.UnknownAge == UnknownAgeDeny, ageUnknown: true}
	}
	until := q.Published.Add(c.YoungerThan)
	return matched{matches: now.Before(until), until: until}
}

// matchesVersion compares name and version.
func (c *Curation) matchesVersion(q *query) bool {
	if !c.ranges.has(q) {
		return false
	}
	if c.anyName() {
		return true
	}
	for _, r := range c.exact[packageName{q.Registry, q.name}] {
		if r.has(q) {
			return true
		}
	}
	for i := range c.globs {
		if g := &c.globs[i]; g.match(q) && g.versions.has(q) {
			return true
		}
	}
	return false
}

// anyName reports whether the entry is for any package.
func (c *Curation) anyName() bool { return len(c.Packages) == 0 && c.PackagesFile == "" }

// named compares the name alone. all is true where all versions of the package match,
// as far as name and version say.
func (c *Curation) named(q *query) (named, all bool) {
	if !c.isFor(q.Registry) {
		return false, false
	}
	whole := c.ranges.everything()
	if c.anyName() {
		return true, whole
	}
	for _, r := range c.exact[packageName{q.Registry, q.name}] {
		named, all = true, all || whole && r.everything()
	}
	for i := range c.globs {
		if g := &c.globs[i]; g.match(q) {
			named, all = true, all || whole && g.versions.everything()
		}
	}
	return named, all
}

// versionRange is a range of one registry's versions, or all.
type versionRange struct {
	pypi *pypi.Specifiers
	npm  *npm.Range
}

func (r *versionRange) everything() bool { return r.pypi == nil && r.npm == nil }

func (r *versionRange) has(q *query) bool {
	if r.everything() {
		return true
	}
	q.parse()
	switch {
	case r.pypi != nil:
		return r.pypi.Has(q.pypi)
	case r.npm != nil:
		return r.npm.Has(q.npm)
	}
	return true
}

// packageName is a normalized name.
type packageName struct {
	registry Registry
	name     string
}

// packageGlob is a pattern for normalized names: literals with any run of characters
// between them.
type packageGlob struct {
	registry Registry
	literals []string // two or more
	versions versionRange
}

func (g *packageGlob) match(q *query) bool {
	if g.registry != q.Registry {
		return false
	}
	name, ok := strings.CutPrefix(q.name, g.literals[0])
	if !ok {
		return false
	}
	last := len(g.literals) - 1
	for _, literal := range g.literals[1:last] {
		i := strings.Index(name, literal)
		if i < 0 {
			return false
		}
		name = name[i+len(literal):]
	}
	return strings.HasSuffix(name, g.literals[last])
}

// Concerns reports whether an entry that is enforced may deny something of a package.
func (p *Policy) Concerns(r Registry, name string) bool {
	q := Package{Registry: r, Name: name}.query()
	for _, c := range p.settings.Curation {
		switch named, all := c.named(&q); {
		case !named:
		case c.Action == CurationDeny && c.Mode == Enforce:
			return true
		case c.Action == CurationAllow && all:
			return false
		}
	}
	return false
}

// Readings lists what an origin may make of the path of a URL: as sent first, then
// decoded however often it was encoded, without dot segments and repeated slashes. In
// all of them a slash that was encoded is / or %2f. hidden is true where dot segments
// beside an encoded slash leave open what the origin makes of it.
func Readings(u *url.URL) (all []string, hidden bool) {
	path := sentPath(u)
	if !strings.ContainsAny(path, `%\`) && !strings.Contains(path, "/.") && !strings.Contains(path, "//") {
		return []string{path}, false
	}
	r := readPath(path)
	return r.texts, r.hidden
}

// IndexHosts lists the hosts of indexes of a registry that may speak for files on a
// host: those that a rule names one by one and that vouch for it.
func (p *Policy) IndexHosts(r Registry, host string) []string {
	var all []string
	for _, rule := range p.Rules() {
		if rule.Registry != r || rule.Index != string(r) || !rule.Vouches(host) {
			continue
		}
		for _, pattern := range rule.hosts {
			for _, g := range pattern.globs {
				if g.lead == leadNone && len(g.middle) == 0 && !slices.Contains(all, g.suffix) {
					all = append(all, g.suffix)
				}
			}
		}
	}
	// The shortest is likelier to be the index that people mean than one for tests.
	slices.SortStableFunc(all, func(a, b string) int { return cmp.Compare(len(a), len(b)) })
	return all
}

// OverlaysWheels reports whether the operator's wheels are added to indexes.
func (p *Policy) OverlaysWheels() bool { return p.settings.Wheels.Overlay }

// Concerning lists the entries that may decide about versions of a package, in their
// order: up to the first that decides about all of them.
func (p *Policy) Concerning(r Registry, name string) []*Curation {
	q := Package{Registry: r, Name: name}.query()
	var of []*Curation
	for _, c := range p.settings.Curation {
		named, all := c.named(&q)
		if !named {
			continue
		}
		of = append(of, c)
		if all && c.YoungerThan == 0 && (c.Action == CurationAllow || c.Mode == Enforce) {
			break
		}
	}
	return of
}

// Words says what the entry does with versions of a package that it names.
func (c *Curation) Words() string {
	what := "all versions"
	switch {
	case !c.ranges.everything():
		what = "versions " + c.Versions
	case c.PackagesFile != "":
		what = "the versions that " + c.PackagesFile + " lists"
	}
	if c.YoungerThan > 0 {
		what += " that are younger than " + duration(c.YoungerThan)
		if c.UnknownAge == UnknownAgeDeny {
			what += ", or of unknown age"
		}
	}
	verb := "denies"
	switch {
	case c.Action == CurationAllow:
		verb = "allows"
	case c.Mode != Enforce:
		verb = "would deny"
		what += fmt.Sprintf(" (its mode is %s)", c.Mode)
	}
	return fmt.Sprintf("curation %q at %s %s %s", c.Name, c.Position, verb, what)
}
