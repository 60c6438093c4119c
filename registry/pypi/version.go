package pypi

import (
	"errors"
	"fmt"

	pep440 "github.com/aquasecurity/go-pep440-version"
)

// maxVersion bounds what is parsed as a version, in bytes: real ones have some tens.
const maxVersion = 256

// Version is a version as PEP 440 has it. The zero Version is none.
type Version struct {
	v      pep440.Version
	parsed bool
}

// ParseVersion parses a version in any of the spellings that PEP 440 takes for one.
func ParseVersion(s string) (Version, error) {
	if len(s) > maxVersion {
		return Version{}, errors.New("a version of more than 256 bytes")
	}
	v, err := pep440.Parse(s)
	if err != nil {
		return Version{}, fmt.Errorf("%q is no version (PEP 440)", s)
	}
	return Version{v, true}, nil
}

// IsZero reports whether this is no version.
func (v Version) IsZero() bool { return !v.parsed }

// String is the normalized spelling, "" for none.
func (v Version) String() string {
	if !v.parsed {
		return ""
	}
	return v.v.String()
}

// Compare is -1, 0 or 1, as v comes before w, is the same, or comes after it. None
// comes before all.
func (v Version) Compare(w Version) int {
	switch {
	case v.parsed && w.parsed:
		return v.v.Compare(w.v)
	case v.parsed:
		return 1
	case w.parsed:
		return -1
	}
	return 0
}

// IsPreRelease reports whether installers leave this version aside unless asked: an
// alpha, beta, release candidate or development release.
func (v Version) IsPreRelease() bool { return v.parsed && v.v.IsPreRelease() }

// Specifiers are conditions on a version, all of which must hold (PEP 440, "Version
// specifiers"), such as ">=1.2,<2". Alternatives are separated by "||", which PEP 440
// does not have.
type Specifiers struct {
	all pep440.Specifiers
}

// ParseSpecifiers parses conditions.
func ParseSpecifiers(s string) (Specifiers, error) {
	all, err := pep440.NewSpecifiers(s, pep440.WithPreRelease(true))
	if err != nil {
		return Specifiers{}, fmt.Errorf("%q are no version specifiers (PEP 440), such as >=1.2,<2", s)
	}
	return Specifiers{all}, nil
}

// Has reports whether a version meets the conditions. None never does.
func (s Specifiers) Has(v Version) bool { return v.parsed && s.all.Check(v.v) }
