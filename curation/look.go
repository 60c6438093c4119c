package curation

import (
	"net/http"
	"net/url"
	"strings"

	"larder/policy"
	"larder/registry/npm"
	"larder/registry/pypi"
)

// Kind is what a request of a registry asks for.
type Kind uint8

// The kinds of requests.
const (
	Other   Kind = iota // nothing that is curated
	File                // a distribution, a tarball, or what lies beside one
	Index               // what lists the files of one package
	Release             // the document of one version; npm: or of a tag
	List                // the names of all packages
	Tags                // npm's dist-tags of one package
	Odd                 // what can be read in two ways
)

// Ask is a request of a registry, taken apart.
type Ask struct {
	Registry policy.Registry
	Kind     Kind
	// Name is the package's, "" for a List. Of a File of PyPI it is the likeliest.
	Name string
	// Version is that of a File, a Release (of npm also a tag), or "".
	Version string
	// Vouches reports whether the index may speak for files on a host besides its own;
	// nil: for none. It is for the caller to set.
	Vouches func(host string) bool

	target   *url.URL
	prefix   string           // of the registry's paths
	file     string           // name of a File
	readings []policy.Package // of a File
	want     form
}

// form is what the client wants to get.
type form struct {
	media string
	short bool // npm: the abbreviated document
}

// Form names what the client wants to get.
func (a *Ask) Form() string { return a.want.media }

// look is what one reading of a path says, without what differs between spellings.
type look struct {
	kind                        Kind
	name, version, file, prefix string
}

// Look says what a request asks for. It looks at the target and, of header, at Accept.
func Look(r policy.Registry, target *url.URL, header http.Header) Ask {
	a := Ask{Registry: r, target: target}
	paths, hidden := policy.Readings(target)
	first := lookAt(r, paths[0])
	if hidden {
		first.kind = Odd
	}
	for _, path := range paths[1:] {
		if other := lookAt(r, path); other != first && other.kind != Other {
			first.kind = Odd
		}
	}
	a.Kind, a.Name, a.Version, a.file, a.prefix = first.kind, first.name, first.version, first.file, first.prefix
	switch a.Kind {
	case File:
		a.read()
	case Index, Release, List, Tags:
		a.want = wanted(r, a.Kind, header["Accept"])
	}
	return a
}

func lookAt(r policy.Registry, path string) look {
	if r == policy.NPM {
		return lookAtNPM(npm.ParseEscapedPath(path))
	}
	return lookAtPyPI(pypi.ParseEscapedPath(path))
}

func lookAtNPM(p npm.Path) look {
	l := look{name: p.Name, version: p.Version, prefix: p.Prefix}
	switch p.Page {
	case npm.Tarball:
		l.kind = File
	case npm.PackumentDoc:
		l.kind = Index
	case npm.ManifestDoc:
		l.kind = Release
	case npm.DistTags:
		l.kind = Tags
	}
	return l
}

func lookAtPyPI(p pypi.Path) look {
	l := look{name: p.Project, version: p.Version, file: p.File, prefix: p.Prefix}
	switch p.Page {
	case pypi.FilePath:
		l.kind = File
	case pypi.ProjectPage:
		l.kind = Index
	case pypi.ReleasePage:
		l.kind = Release
	case pypi.ListPage:
		l.kind = List
	}
	return l
}

// read finds what the name of a file can mean. A name that says nothing, such as that
// of an archive of some other kind, is of a package without name, which only an entry
// for any package concerns.
func (a *Ask) read() {
	if a.Registry == policy.NPM {
		a.readings = []policy.Package{{Registry: a.Registry, Name: a.Name, Version: a.Version}}
		return
	}
	for _, f := range pypi.Readings(a.file) {
		a.readings = append(a.readings, policy.Package{Registry: a.Registry, Name: f.Project, Version: f.ParsedVersion().String()})
	}
	if len(a.readings) == 0 {
		a.readings = []policy.Package{{Registry: a.Registry}}
	}
	a.Name, a.Version = a.readings[0].Name, a.readings[0].Version
}

// wanted is the form that a client likes best.
func wanted(r policy.Registry, kind Kind, accept []string) form {
	if r == policy.NPM {
		header := strings.Join(accept, ",")
		// Whoever mentions the abbreviated document prefers it: npm, yarn, pnpm and bun
		// give it q=1.0 or none.
		if kind == Index && strings.Contains(header, npm.MediaAbbreviated) {
			return form{npm.MediaAbbreviated, true}
		}
		return form{npm.MediaFull, false}
	}
	if kind == Release {
		return form{"application/json", false}
	}
	media := pypi.Negotiate(accept)
	if media == "" {
		media = pypi.MediaText // RFC 9110, Section 12.5.1: better than 406
	}
	return form{media, false}
}

// IndexURL is where the index is that lists the file or version that a registry at the
// root of host, or below the ask's own prefix, is asked for.
func (a *Ask) IndexURL(name, scheme, host string) *url.URL {
	u := &url.URL{Scheme: scheme, Host: host}
	prefix := a.prefix
	if prefix == "" {
		prefix = "/"
	}
	if a.Registry == policy.NPM {
		u.Path = prefix + name
		u.RawPath = prefix + strings.Replace(name, "/", "%2f", 1)
		return u
	}
	u.Path = prefix + "simple/" + pypi.Normalize(name) + "/"
	return u
}

// FileKey identifies the file that a URL is for, whatever lies beside it: host and
// path, decoded.
func FileKey(r policy.Registry, u *url.URL) string {
	path := u.Path
	if r == policy.PyPI {
		path, _ = pypi.CutSidecar(path)
	}
	return strings.ToLower(u.Host) + path
}
