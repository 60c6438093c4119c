package npm

import (
	"net/url"
	"strings"
)

// Page is what a path of a registry stands for.
type Page int

// The kinds of paths.
const (
	Other        Page = iota
	PackumentDoc      // /NAME
	ManifestDoc       // /NAME/VERSION or /NAME/TAG
	Tarball           // /NAME/-/FILE
	DistTags          // /-/package/NAME/dist-tags
)

// Path is a path taken apart.
type Path struct {
	Page Page
	// Name is the package's, with its scope.
	Name string
	// Version is what the path says, which for a ManifestDoc may be a tag, and for a
	// Tarball is "" where its file has a name of another kind.
	Version string
	// Prefix is what comes before the name, with a slash at its end.
	Prefix string
}

// ParsePath reads the path of a URL: of a registry at the root of its host, or below
// one of the paths where Artifactory, Nexus, GitLab and Azure DevOps have theirs. A
// scope's slash may be written as %2f.
func ParsePath(u *url.URL) Path { return ParseEscapedPath(u.EscapedPath()) }

// ParseEscapedPath is ParsePath of a path with its percent-encoding.
func ParseEscapedPath(escaped string) Path {
	if p := parseBelow(escaped, "/"); p.Page != Other {
		return p
	}
	if prefix := knownPrefix(escaped); prefix != "" {
		return parseBelow(escaped, prefix)
	}
	return Path{}
}

// knownPrefix returns what comes before the name in paths of registries that have no
// host for themselves; "" where nothing is known.
func knownPrefix(path string) string {
	segments := strings.SplitAfter(path, "/")
	join := func(n int) string { return strings.Join(segments[:n], "") }
	for i := 1; i+1 < len(segments); i++ {
		at := func(distance int, word string) bool { return i >= distance && segments[i-distance] == word+"/" }
		switch {
		case at(2, "api") && at(1, "npm"), // Artifactory: .../api/npm/REPOSITORY/
			i == 2 && at(1, "repository"),              // Nexus: /repository/REPOSITORY/
			at(1, "npm") && at(0, "registry"),          // Azure: .../npm/registry/
			at(1, "packages") && at(0, "npm") && i > 2: // GitLab: /api/v4/.../packages/npm/
			if segments[i] != "-/" {
				return join(i + 1)
			}
		}
	}
	return ""
}

func parseBelow(escaped, prefix string) Path {
	rest, ok := strings.CutPrefix(escaped, prefix)
	if !ok {
		return Path{}
	}
	decoded, err := url.PathUnescape(rest)
	if err != nil {
		return Path{}
	}
	if service, ok := strings.CutPrefix(decoded, "-/package/"); ok {
		name, rest, ok := cutName(service)
		if ok && strings.HasPrefix(rest, "dist-tags") {
			return Path{Page: DistTags, Name: name, Prefix: prefix}
		}
		return Path{}
	}
	name, rest, ok := cutName(decoded)
	if !ok {
		return Path{}
	}
	p := Path{Name: name, Prefix: prefix}
	switch rest = strings.TrimSuffix(rest, "/"); {
	case rest == "":
		p.Page = PackumentDoc
	case strings.HasPrefix(rest, "-/"):
		p.Page, p.Version = Tarball, tarballVersion(name, rest[len("-/"):])
	case !strings.Contains(rest, "/"):
		p.Page, p.Version = ManifestDoc, rest
	default:
		return Path{}
	}
	return p
}

// cutName takes a package's name off a decoded path.
func cutName(path string) (name, rest string, ok bool) {
	name, rest, _ = strings.Cut(path, "/")
	if strings.HasPrefix(name, "@") {
		var second string
		second, rest, _ = strings.Cut(rest, "/")
		name += "/" + second
	}
	return name, rest, ValidName(name)
}

// tarballVersion reads NAME-VERSION.tgz, where NAME is without its scope or, in some
// registries, with it; "" where the file is named otherwise.
func tarballVersion(name, file string) string {
	file, ok := strings.CutSuffix(file, ".tgz")
	if !ok {
		return ""
	}
	base := name[strings.LastIndexByte(name, '/')+1:]
	for _, before := range [...]string{name + "-", base + "-"} {
		if version, ok := strings.CutPrefix(file, before); ok && !strings.Contains(version, "/") {
			return version
		}
	}
	return ""
}

// ValidName reports whether a package can have this name: what is safe in a URL and
// does not begin with "." or "_", with a scope or without. Old packages have capitals.
func ValidName(name string) bool {
	if len(name) > 214 {
		return false
	}
	scope, base, scoped := strings.Cut(name, "/")
	if !scoped {
		return validPart(name, false)
	}
	return strings.HasPrefix(scope, "@") && validPart(scope[1:], true) && validPart(base, true)
}

// validPart follows validate-npm-package-name; names in scopes may begin with a dot
// or underscore.
func validPart(s string, inScope bool) bool {
	if s == "" || s == "." || s == ".." || s == "-" || !inScope && strings.IndexByte("._@", s[0]) >= 0 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && strings.IndexByte("-._~!'()*", c) < 0 {
			return false
		}
	}
	return true
}
