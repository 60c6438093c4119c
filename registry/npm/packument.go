package npm

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"larder/registry/rawjson"
)

// MaxPackument is the most of a packument that a reader should take, in bytes. The
// largest full ones have some tens of millions.
const MaxPackument = 64 << 20

// Media types of packuments.
const (
	MediaAbbreviated = "application/vnd.npm.install-v1+json"
	MediaFull        = "application/json"
)

// Packument is the document of one package.
type Packument struct {
	// Name is the package's name with its scope, "" if the document does not say.
	Name string

	object, versions, tags, times *rawjson.Object // all but the first may be nil
}

// Manifest is what a packument, or a document of its own, says of one version.
type Manifest struct {
	Name, Version string
	Dist          Dist
	// Deprecated is the publisher's warning, "" if there is none.
	Deprecated string

	object *rawjson.Object
}

// Dist says where a version's tarball is and what it must be.
type Dist struct {
	// Tarball is the absolute URL.
	Tarball string
	// Integrity is as SRI has it, one or several of algorithm-base64; Shasum is SHA-1
	// in hex. Either may be "".
	Integrity, Shasum string
}

// Parse reads a packument, full or abbreviated.
func Parse(b []byte) (*Packument, error) {
	p, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("read a packument: %w", err)
	}
	return p, nil
}

func parse(b []byte) (*Packument, error) {
	v, err := rawjson.Parse(b)
	if err != nil {
		return nil, err
	}
	p := &Packument{}
	if p.object, err = v.Object(); err != nil {
		return nil, err
	}
	p.Name, _ = p.object.Get("name").Text()
	for key, o := range map[string]**rawjson.Object{"versions": &p.versions, "dist-tags": &p.tags, "time": &p.times} {
		v := p.object.Get(key)
		if v.IsNull() {
			continue
		}
		if *o, err = v.Object(); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	if p.versions == nil && p.times == nil && p.tags == nil {
		return nil, errors.New("neither versions nor dist-tags nor time: no packument")
	}
	return p, nil
}

// Versions yields the versions in the document's order. An error is about one version
// whose manifest is not as it must be; the others follow.
func (p *Packument) Versions() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if p.versions == nil {
			return
		}
		for version, v := range p.versions.All() {
			var err error
			if len(v) == 0 || v[0] != '{' {
				err = fmt.Errorf("the manifest of %q is no object", version)
			}
			if !yield(version, err) {
				return
			}
		}
	}
}

// Len is the number of versions.
func (p *Packument) Len() int {
	if p.versions == nil {
		return 0
	}
	return p.versions.Len()
}

// Has reports whether the document lists a version.
func (p *Packument) Has(version string) bool { return p.versions != nil && p.versions.Has(version) }

// Manifest returns what the document says of a version.
func (p *Packument) Manifest(version string) (*Manifest, error) {
	if !p.Has(version) {
		return nil, fmt.Errorf("version %q is not in the packument", version)
	}
	m, err := manifestOf(p.versions.Get(version))
	if err != nil {
		return nil, fmt.Errorf("version %q: %w", version, err)
	}
	return m, nil
}

// ManifestJSON is what the document says of a version, as it is written there; nil if
// it does not list it.
func (p *Packument) ManifestJSON(version string) []byte {
	if p.versions == nil {
		return nil
	}
	return p.versions.Get(version)
}

// ParseManifest reads the document of one version.
func ParseManifest(b []byte) (*Manifest, error) {
	v, err := rawjson.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("read a manifest: %w", err)
	}
	m, err := manifestOf(v)
	if err != nil {
		return nil, fmt.Errorf("read a manifest: %w", err)
	}
	if m.Name == "" || m.Version == "" {
		return nil, errors.New("read a manifest: it has no name and version")
	}
	return m, nil
}

func manifestOf(v rawjson.Value) (*Manifest, error) {
	o, err := v.Object()
	if err != nil {
		return nil, err
	}
	m := &Manifest{object: o}
	m.Name, _ = o.Get("name").Text()
	m.Version, _ = o.Get("version").Text()
	m.Deprecated, _ = o.Get("deprecated").Text()
	if dist := o.Get("dist"); !dist.IsNull() {
		d, err := dist.Object()
		if err != nil {
			return nil, fmt.Errorf("dist: %w", err)
		}
		m.Dist.Tarball, _ = d.Get("tarball").Text()
		m.Dist.Integrity, _ = d.Get("integrity").Text()
		m.Dist.Shasum, _ = d.Get("shasum").Text()
	}
	return m, nil
}

// HasTimes reports whether the document says when its versions were published;
// abbreviated ones do not.
func (p *Packument) HasTimes() bool { return p.times != nil }

// Time is when a version was published, zero if the document does not say.
func (p *Packument) Time(version string) time.Time {
	if p.times == nil {
		return time.Time{}
	}
	text, _ := p.times.Get(version).Text()
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// Tags yields the dist-tags with the versions that they name.
func (p *Packument) Tags() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		if p.tags == nil {
			return
		}
		for tag, v := range p.tags.All() {
			if version, ok := v.Text(); ok && !yield(tag, version) {
				return
			}
		}
	}
}

// TagsJSON writes the dist-tags alone.
func (p *Packument) TagsJSON() []byte {
	if p.tags == nil {
		return []byte("{}")
	}
	return p.tags.Value()
}

// JSON writes the document.
func (p *Packument) JSON() []byte {
	for _, part := range [...]struct {
		key string
		o   *rawjson.Object
	}{{"versions", p.versions}, {"dist-tags", p.tags}, {"time", p.times}} {
		if part.o != nil {
			p.object.Set(part.key, part.o.Value())
		}
	}
	return p.object.Value()
}
