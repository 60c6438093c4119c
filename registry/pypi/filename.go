package pypi

import (
	"net/url"
	"strings"
)

// Kind is what sort of distribution a file is.
type Kind int

// The kinds of files that an index lists. Sidecars lie beside another file: its
// metadata (PEP 658), attestations (PEP 740) or signature.
const (
	Unknown Kind = iota
	Wheel
	Sdist
	Installer // egg, wininst, msi, rpm, dmg: made for setuptools and people, no longer uploaded
)

// FileName is what the name of a distribution says.
type FileName struct {
	Kind Kind
	// Project is the name as it is written there, for example "ruamel.yaml" or
	// "ruamel_yaml"; see Normalize.
	Project string
	// Version is as it is written there.
	Version string
	// Build, Python, ABI and Platform are the tags of a wheel (PEP 425, 427), the
	// last three with "." between several.
	Build, Python, ABI, Platform string
}

// maxFileName is the most that file systems take.
const maxFileName = 255

// sdistEndings are those that PyPI took through the years; PEP 625 leaves the first.
var sdistEndings = [...]string{".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz", ".tar.z", ".tar"}

var installerEndings = [...]string{".egg", ".exe", ".msi", ".rpm", ".deb", ".dmg"}

var sidecarEndings = [...]string{".metadata", ".provenance", ".asc", ".sig"}

// CutSidecar takes the ending of a sidecar off a name, or off a path that ends in one.
func CutSidecar(name string) (file string, isSidecar bool) {
	for _, ending := range sidecarEndings {
		if file, ok := strings.CutSuffix(name, ending); ok {
			return file, true
		}
	}
	return name, false
}

// KindOf tells the kind of a file from its ending.
func KindOf(name string) Kind {
	lower := strings.ToLower(name)
	if strings.HasSuffix(lower, ".whl") {
		return Wheel
	}
	if ending(lower, sdistEndings[:]) != "" {
		return Sdist
	}
	if ending(lower, installerEndings[:]) != "" {
		return Installer
	}
	return Unknown
}

func ending(lower string, endings []string) string {
	for _, e := range endings {
		if strings.HasSuffix(lower, e) && len(lower) > len(e) {
			return e
		}
	}
	return ""
}

// ParseFileName reads the name of a file that belongs to a project. Old names of
// source distributions do not say where the project ends and the version begins, as in
// foo-2-1.tar.gz, which the project settles. ok is false for a name that is none of
// the project's.
func ParseFileName(name, project string) (f FileName, ok bool) {
	for _, f := range Readings(name) {
		if Normalize(f.Project) == Normalize(project) {
			return f, true
		}
	}
	return FileName{}, false
}

// Readings returns all that the name of a distribution can mean, the likeliest first:
// one for names that follow PEP 427 and 625, sometimes two for older ones, none for
// what is no distribution.
func Readings(name string) []FileName {
	if len(name) > maxFileName {
		return nil
	}
	lower := strings.ToLower(name)
	switch KindOf(name) {
	case Wheel:
		if f, ok := parseWheel(name[:len(name)-len(".whl")]); ok {
			return []FileName{f}
		}
	case Sdist:
		return split(name[:len(name)-len(ending(lower, sdistEndings[:]))], Sdist)
	case Installer:
		stem := name[:len(name)-len(ending(lower, installerEndings[:]))]
		// Behind the version: -py3.8 or .linux-x86_64, or -1.noarch.
		for cut, n := len(stem), 0; cut > 0 && n < 8; cut, n = strings.LastIndexAny(stem[:cut], "-."), n+1 {
			if all := split(stem[:cut], Installer); len(all) > 0 {
				return all
			}
		}
	}
	return nil
}

// parseWheel reads {distribution}-{version}(-{build})?-{python}-{abi}-{platform}.
func parseWheel(stem string) (FileName, bool) {
	parts := strings.Split(stem, "-")
	if len(parts) != 5 && len(parts) != 6 {
		return FileName{}, false
	}
	f := FileName{Kind: Wheel, Project: parts[0], Version: parts[1]}
	if len(parts) == 6 {
		f.Build = parts[2]
		if f.Build == "" || f.Build[0] < '0' || f.Build[0] > '9' {
			return FileName{}, false // PEP 427: a build tag starts with a digit
		}
	}
	tags := parts[len(parts)-3:]
	f.Python, f.ABI, f.Platform = tags[0], tags[1], tags[2]
	// PEP 427 escapes "-" in a version with "_", as in 1.0_1.
	valid := ValidName(f.Project) && isVersion(strings.ReplaceAll(f.Version, "_", "-")) &&
		f.Python != "" && f.ABI != "" && f.Platform != ""
	return f, valid
}

// split finds the places where a version can begin, from the right.
func split(stem string, kind Kind) []FileName {
	var all []FileName
	for at := strings.LastIndexByte(stem, '-'); at > 0; at = strings.LastIndexByte(stem[:at], '-') {
		f := FileName{Kind: kind, Project: stem[:at], Version: stem[at+1:]}
		if ValidName(f.Project) && isVersion(f.Version) {
			all = append(all, f)
		}
	}
	return all
}

func isVersion(s string) bool {
	_, err := ParseVersion(s)
	return err == nil && strings.TrimSpace(s) == s
}

// ParsedVersion is Version in its meaning; none if it has none.
func (f FileName) ParsedVersion() Version {
	text := f.Version
	if f.Kind == Wheel {
		text = strings.ReplaceAll(text, "_", "-")
	}
	v, err := ParseVersion(text)
	if err != nil {
		return Version{}
	}
	return v
}

// NameIn is the last segment of a URL's path, decoded as pip does: what an installer
// takes for the file's name, whatever an index says beside it. It is "" where that
// cannot be told.
func NameIn(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	path := strings.TrimRight(u.EscapedPath(), "/")
	name, err := url.PathUnescape(path[strings.LastIndexByte(path, '/')+1:])
	if err != nil {
		return ""
	}
	return name
}
