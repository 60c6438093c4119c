package pypi

import (
	"errors"
	"fmt"
	"time"

	"larder/registry/rawjson"
)

// Releases is a document of the older JSON API, /pypi/PROJECT/json or
// /pypi/PROJECT/VERSION/json: one release in full, and in the first form a list of
// all.
type Releases struct {
	// Name and Version are of the release that info and urls are about.
	Name, Version string

	object *rawjson.Object
}

// ReleaseFile is what the older API says of a file.
type ReleaseFile struct {
	Name, URL  string
	Hashes     Hashes
	UploadTime time.Time // zero if unknown
}

// ParseReleases reads a document of the older JSON API.
func ParseReleases(b []byte) (*Releases, error) {
	r, err := parseReleases(b)
	if err != nil {
		return nil, fmt.Errorf("read a document of the older JSON API: %w", err)
	}
	return r, nil
}

func parseReleases(b []byte) (*Releases, error) {
	v, err := rawjson.Parse(b)
	if err != nil {
		return nil, err
	}
	o, err := v.Object()
	if err != nil {
		return nil, err
	}
	info, err := o.Get("info").Object()
	if err != nil {
		return nil, fmt.Errorf("info: %w", err)
	}
	r := &Releases{object: o}
	r.Name, _ = info.Get("name").Text()
	r.Version, _ = info.Get("version").Text()
	if r.Name == "" || r.Version == "" {
		return nil, errors.New("info has no name and version")
	}
	return r, nil
}

// Keep drops the files for which keep is false, and releases that lose all files.
func (r *Releases) Keep(keep func(version string, f ReleaseFile) bool) error {
	if v := r.object.Get("urls"); !v.IsNull() {
		kept, _, err := keepFiles(v, r.Version, keep)
		if err != nil {
			return fmt.Errorf("urls: %w", err)
		}
		r.object.Set("urls", kept)
	}
	if !r.object.Has("releases") {
		return nil
	}
	all, err := r.object.Get("releases").Object()
	if err != nil {
		return fmt.Errorf("releases: %w", err)
	}
	left := &rawjson.Object{}
	for version, v := range all.All() {
		kept, gone, err := keepFiles(v, version, keep)
		if err != nil {
			return fmt.Errorf("releases, %q: %w", version, err)
		}
		if len(kept) > len("[]") || !gone {
			left.Set(version, kept)
		}
	}
	r.object.Set("releases", left.Value())
	return nil
}

func keepFiles(v rawjson.Value, version string, keep func(string, ReleaseFile) bool) (kept rawjson.Value, gone bool, err error) {
	all, err := v.Array()
	if err != nil {
		return nil, false, err
	}
	var left []rawjson.Value
	for _, raw := range all {
		o, err := raw.Object()
		if err != nil {
			return nil, false, err
		}
		var f ReleaseFile
		f.Name, _ = o.Get("filename").Text()
		f.URL, _ = o.Get("url").Text()
		f.Hashes = hashesOf(o.Get("digests"))
		f.UploadTime = instant(o.Get("upload_time_iso_8601"))
		if keep(version, f) {
			left = append(left, raw)
		}
	}
	return rawjson.OfArray(left), len(left) < len(all), nil
}

// Lists reports whether the document lists all releases.
func (r *Releases) Lists() bool { return r.object.Has("releases") }

// Take replaces what the document says of one release in full by what another says.
func (r *Releases) Take(other *Releases) {
	for _, key := range [...]string{"info", "urls", "vulnerabilities"} {
		if v := other.object.Get(key); v != nil {
			r.object.Set(key, v)
		}
	}
	r.Version = other.Version
}

// JSON writes the document.
func (r *Releases) JSON() []byte { return r.object.Value() }
