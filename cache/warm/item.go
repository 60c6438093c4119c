package warm

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
)

// Item is one thing to fetch.
type Item struct {
	// URL is absolute, http or https, without user information.
	URL string `json:"url"`
	// Header holds the request fields that matter: what the package manager would
	// send. Absent ones are left to the fetcher.
	Header http.Header `json:"header,omitempty"`
	// Digest is what the body must have, or "" where it is not known.
	Digest Digest `json:"digest,omitempty"`
}

// Note says of a part of a file why no Item stands for it.
type Note struct {
	File string
	Line int // 0: not known
	Text string
	// Failed: an install from the file would miss something. Otherwise it is
	// nothing that a larder could keep, such as a local path.
	Failed bool
}

// String is the note as a compiler would print it.
func (n Note) String() string {
	switch {
	case n.File == "":
		return n.Text
	case n.Line == 0:
		return n.File + ": " + n.Text
	}
	return fmt.Sprintf("%s:%d: %s", n.File, n.Line, n.Text)
}

// Plan is what a file asks for.
type Plan struct {
	Items []Item
	Notes []Note
}

// add appends an item unless it is there already.
func (p *Plan) add(seen map[string]bool, it Item) {
	key := it.URL + "\n" + string(it.Digest)
	if !seen[key] {
		seen[key] = true
		p.Items = append(p.Items, it)
	}
}

func (p *Plan) note(file string, line int, failed bool, format string, args ...any) {
	p.Notes = append(p.Notes, Note{File: file, Line: line, Text: fmt.Sprintf(format, args...), Failed: failed})
}

// Format is a kind of file.
type Format string

// The formats.
const (
	Requirements Format = "requirements" // pip's, with --hash
	NPM          Format = "npm"          // package-lock.json, npm-shrinkwrap.json
	GoSum        Format = "go.sum"
	CargoLock    Format = "cargo"
	URLs         Format = "urls" // one per line
)

// Formats lists all formats.
func Formats() []Format { return []Format{Requirements, NPM, GoSum, CargoLock, URLs} }

// FormatOf guesses the format from a file's name; what it does not know is a list
// of URLs.
func FormatOf(name string) Format {
	base := strings.ToLower(filepath.Base(name))
	switch {
	case base == "package-lock.json" || base == "npm-shrinkwrap.json" || base == ".package-lock.json":
		return NPM
	case base == "go.sum" || base == "go.work.sum":
		return GoSum
	case base == "cargo.lock":
		return CargoLock
	case strings.HasSuffix(base, ".txt") && strings.Contains(base, "requirements"),
		strings.HasSuffix(base, ".txt") && strings.Contains(base, "constraints"):
		return Requirements
	}
	return URLs
}

// target checks a URL and moves its user information, where private registries'
// users keep their passwords, to the Authorization that clients make of it.
func target(raw string) (Item, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The error of url.Parse repeats the URL, password and all.
		return Item{}, fmt.Errorf("%q is no URL", withoutUser(raw))
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return Item{}, fmt.Errorf("%q is no absolute http or https URL", withoutUser(raw))
	}
	var it Item
	if u.User != nil {
		password, _ := u.User.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password))
		it.Header = http.Header{"Authorization": {"Basic " + credentials}}
		u.User = nil
	}
	u.Fragment, u.RawFragment = "", ""
	it.URL = u.String()
	return it, nil
}

func withoutUser(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return raw
	}
	authority, path, _ := strings.Cut(rest, "/")
	if _, host, found := strings.Cut(authority, "@"); found {
		return scheme + "://" + host + "/" + path
	}
	return raw
}

// withHeader adds request fields to those that the URL's user made.
func (it Item) withHeader(fields map[string]string) Item {
	h := it.Header.Clone()
	if h == nil {
		h = make(http.Header, len(fields))
	}
	for name, value := range fields {
		h.Set(name, value)
	}
	it.Header = h
	return it
}
