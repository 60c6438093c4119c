package curation

import (
	"slices"
	"time"

	"larder/policy"
	"larder/registry/pypi"
	"larder/wheels"
)

// Policy judges packages. *policy.Policy is one.
type Policy interface {
	Curate(pkg policy.Package, now time.Time) policy.Verdict
	CurateName(r policy.Registry, name string) *policy.Curation
	AgeMatters(r policy.Registry, name string) bool
	VersionMatters(r policy.Registry, name string) bool
	Concerns(r policy.Registry, name string) bool
	CuratesRegistry(r policy.Registry) bool
}

// Curator applies the curation of one policy, and the wheels of an overlay. It is safe
// for concurrent use.
type Curator struct {
	policy    Policy
	overlay   Overlay // nil: none
	published *Published
	rendered  *renderings
	now       func() time.Time
}

// New returns a Curator; nil if there is nothing to do for one. published is shared by
// all that follow one another.
func New(p Policy, overlay Overlay, published *Published) *Curator {
	curates := false
	for _, r := range policy.Registries() {
		curates = curates || p.CuratesRegistry(r)
	}
	if !curates && overlay == nil {
		return nil
	}
	return &Curator{policy: p, overlay: overlay, published: published, rendered: newRenderings(), now: time.Now}
}

// Refusal is why something may not be had.
type Refusal struct {
	// Package is what was asked for.
	Package policy.Package
	Verdict policy.Verdict
}

// Error implements error.
func (r *Refusal) Error() string { return r.Package.String() + ": " + r.Verdict.Reason() }

// OddError is a path that can be read in two ways, of which one may be denied.
type OddError struct{}

// Error implements error.
func (*OddError) Error() string {
	return "denied: the path can be read in two ways, and the curation of this registry denies some packages"
}

// Overlay has wheels that are added to indexes. *wheels.Store is one.
type Overlay interface {
	// Of returns the wheels of a project, whose name is normalized, in an order of
	// their own.
	Of(project string) []wheels.Wheel
}

// UnversionedError is a file whose name does not say its version, of a package of which
// some versions are denied.
type UnversionedError struct{ Name string }

// Error implements error.
func (e *UnversionedError) Error() string {
	return "denied: the name of the file does not say its version, and the curation denies some of " + e.Name
}

// Judgement is what becomes of a request.
type Judgement struct {
	// Refused is the reason to refuse it, a *Refusal, *OddError or *UnversionedError; nil if
	// there is none.
	Refused error
	// Waived is an entry that would have refused and by its mode did not; nil if none.
	Waived *policy.Curation
	// NeedsAge: of a File it depends on when it was published, which nobody has told
	// yet. Refused is then what holds if nobody can.
	NeedsAge bool
}

// Judge says whether what is asked for may be had at all: a file, or the index of a
// package of which no version may be had.
func (c *Curator) Judge(a *Ask) Judgement {
	switch a.Kind {
	case File:
		return c.judgeFile(a)
	case Release:
		if a.Registry == policy.PyPI && a.Version == "" {
			return c.judgeName(a)
		}
		// Its age is known when it is read; see Render.
		j := c.judgeName(a)
		if j.Refused == nil && !c.policy.AgeMatters(a.Registry, a.Name) {
			j.take(c, policy.Package{Registry: a.Registry, Name: a.Name, Version: a.Version}, c.now())
		}
		return j
	case Index, Tags:
		return c.judgeName(a)
	case Odd:
		if c.policy.CuratesRegistry(a.Registry) {
			return Judgement{Refused: &OddError{}}
		}
	}
	return Judgement{}
}

func (c *Curator) judgeName(a *Ask) Judgement {
	if by := c.policy.CurateName(a.Registry, a.Name); by != nil {
		return Judgement{Refused: &Refusal{policy.Package{Registry: a.Registry, Name: a.Name}, policy.Verdict{By: by}}}
	}
	return Judgement{}
}

// judgeFile refuses what any reading of the name says is denied.
func (c *Curator) judgeFile(a *Ask) Judgement {
	published := c.published.Of(FileKey(a.Registry, a.target))
	now := c.now()
	var j Judgement
	for _, pkg := range a.readings {
		pkg.Published = published
		j.take(c, pkg, now)
		j.NeedsAge = j.NeedsAge || published.IsZero() && c.policy.AgeMatters(pkg.Registry, pkg.Name)
	}
	if r, ok := j.Refused.(*Refusal); ok && !r.Verdict.AgeUnknown {
		j.NeedsAge = false
	}
	if j.Refused == nil && a.Version == "" && a.Name != "" && c.policy.VersionMatters(a.Registry, a.Name) {
		return Judgement{Refused: &UnversionedError{a.Name}, Waived: j.Waived}
	}
	return j
}

// take notes what becomes of one reading. One that is denied whatever its age goes
// before one that is denied for want of it.
func (j *Judgement) take(c *Curator, pkg policy.Package, now time.Time) {
	v := c.policy.Curate(pkg, now)
	if j.Waived == nil {
		j.Waived = v.Waived
	}
	before, refused := j.Refused.(*Refusal)
	if v.Denied() && (!refused || before.Verdict.AgeUnknown) {
		j.Refused = &Refusal{pkg, v}
	}
}

// Names lists the names that a File may be of, each once.
func (a *Ask) Names() []string {
	var all []string
	for _, p := range a.readings {
		if p.Name != "" && !slices.Contains(all, p.Name) {
			all = append(all, p.Name)
		}
	}
	return all
}

// Knows reports whether an index has told the age of a File.
func (c *Curator) Knows(a *Ask) bool {
	return !c.published.Of(FileKey(a.Registry, a.target)).IsZero()
}

// Renders reports whether what upstream answers has to go through Render.
func (c *Curator) Renders(a *Ask) bool {
	switch a.Kind {
	case Index, Release, Tags:
		return c.policy.Concerns(a.Registry, a.Name) || a.Kind == Index && len(c.wheels(a)) > 0
	case List:
		return c.policy.CuratesRegistry(a.Registry)
	}
	return false
}

func (c *Curator) wheels(a *Ask) []wheels.Wheel {
	if c.overlay == nil || a.Registry != policy.PyPI {
		return nil
	}
	return c.overlay.Of(pypi.Normalize(a.Name))
}

// Must reports whether what cannot be rendered must not go out as it is: when
// something of it may be denied.
func (c *Curator) Must(a *Ask) bool {
	return a.Kind == List || c.policy.Concerns(a.Registry, a.Name)
}
