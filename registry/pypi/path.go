package pypi

import (
	"net/url"
	"strings"
)

// Page is what a path of an index, or of a host of files, stands for.
type Page int

// The kinds of paths.
const (
	Other       Page = iota
	ProjectPage      // .../simple/PROJECT/
	ListPage         // .../simple/
	ReleasePage      // .../pypi/PROJECT/json, .../pypi/PROJECT/VERSION/json
	FilePath         // a distribution or its sidecar
)

// Path is a path taken apart.
type Path struct {
	Page Page
	// Project and Version are as they are written; Version is "" unless the path has
	// one of its own.
	Project, Version string
	// File is the name of the distribution, Sidecar whether one beside it is meant.
	File    string
	Sidecar bool
	// Prefix is what comes before simple/ or pypi/, with a slash at its end.
	Prefix string
}

// ParsePath reads the path of a URL. Indexes below any prefix are known by the words
// simple and pypi, as pip's --index-url and poetry have them; files by their endings.
func ParsePath(u *url.URL) Path { return ParseEscapedPath(u.EscapedPath()) }

// ParseEscapedPath is ParsePath of a path with its percent-encoding.
func ParseEscapedPath(escaped string) Path {
	segments := strings.Split(strings.TrimPrefix(escaped, "/"), "/")
	for i, s := range segments {
		decoded, err := url.PathUnescape(s)
		if err != nil {
			return Path{}
		}
		segments[i] = decoded
	}
	n := len(segments)
	if segments[n-1] == "" && n > 1 {
		n--
	}
	last := segments[n-1]
	prefix := func(count int) string {
		if count == 0 {
			return "/"
		}
		return "/" + strings.Join(segments[:count], "/") + "/"
	}
	if name, sidecar := CutSidecar(last); KindOf(name) != Unknown && !isBelow(segments, n, "simple", 2) {
		return Path{Page: FilePath, File: name, Sidecar: sidecar}
	}
	switch {
	case isBelow(segments, n, "simple", 2):
		return Path{Page: ProjectPage, Project: last, Prefix: prefix(n - 2)}
	case last == "simple":
		return Path{Page: ListPage, Prefix: prefix(n - 1)}
	case last == "json" && isBelow(segments, n, "pypi", 3):
		return Path{Page: ReleasePage, Project: segments[n-2], Prefix: prefix(n - 3)}
	case last == "json" && isBelow(segments, n, "pypi", 4):
		return Path{Page: ReleasePage, Project: segments[n-3], Version: segments[n-2], Prefix: prefix(n - 4)}
	case last == "provenance" && isBelow(segments, n, "integrity", 5):
		return Path{Page: FilePath, Project: segments[n-4], File: segments[n-2], Sidecar: true}
	}
	return Path{}
}

// isBelow reports whether word is the segment at that distance from the end.
func isBelow(segments []string, n int, word string, distance int) bool {
	return n >= distance && segments[n-distance] == word && (distance < 2 || segments[n-1] != "")
}
