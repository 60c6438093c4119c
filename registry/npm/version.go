package npm

import (
	"errors"
	"fmt"

	"github.com/Masterminds/semver/v3"
)

// maxVersion is what node-semver takes at most, in bytes.
const maxVersion = 256

// Version is a semantic version. The zero Version is none.
type Version struct{ v *semver.Version }

// ParseVersion parses a version, also the loose ones of before npm was strict, such as
// v1.2 or 01.2.3.
func ParseVersion(s string) (Version, error) {
	if len(s) > maxVersion {
		return Version{}, errors.New("a version of more than 256 bytes")
	}
	v, err := semver.StrictNewVersion(s)
	if err != nil {
		v, err = semver.NewVersion(s)
	}
	if err != nil {
		return Version{}, fmt.Errorf("%q is no semantic version", s)
	}
	return Version{v}, nil
}

// IsZero reports whether this is no version.
func (v Version) IsZero() bool { return v.v == nil }

// String is the version without a leading v, "" for none.
func (v Version) String() string {
	if v.v == nil {
		return ""
	}
	return v.v.String()
}

// Compare is -1, 0 or 1, as v comes before w, has the same precedence, or comes after
// it. None comes before all.
func (v Version) Compare(w Version) int {
	switch {
	case v.v != nil && w.v != nil:
		return v.v.Compare(w.v)
	case v.v != nil:
		return 1
	case w.v != nil:
		return -1
	}
	return 0
}

// IsPreRelease reports whether npm leaves this version aside unless it is asked for.
func (v Version) IsPreRelease() bool { return v.v != nil && v.v.Prerelease() != "" }

// Range is a set of versions as package.json writes it, such as ^1.2.3 or
// ">=1.2 <2 || 3.x". Unlike an installer's, it has the pre-releases between its ends.
type Range struct{ c *semver.Constraints }

// ParseRange parses a range.
func ParseRange(s string) (Range, error) {
	if len(s) > 16*maxVersion {
		return Range{}, errors.New("a range of more than 4096 bytes")
	}
	c, err := semver.NewConstraint(s)
	if err != nil {
		return Range{}, fmt.Errorf("%q is no range of semantic versions, such as \">=1.2 <2\" or ^1.2.3", s)
	}
	c.IncludePrerelease = true
	return Range{c}, nil
}

// Has reports whether a version is in the range. None never is.
func (r Range) Has(v Version) bool { return v.v != nil && r.c != nil && r.c.Check(v.v) }
