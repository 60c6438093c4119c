package curation

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"larder/policy"
	"larder/registry/npm"
	"larder/registry/pypi"
	"larder/registry/rawjson"
)

// MoreError says that for a rendering another document is needed: with it as more,
// Render succeeds.
type MoreError struct {
	URL    *url.URL
	Accept string
}

// Error implements error.
func (e *MoreError) Error() string { return "to render the index, " + e.URL.String() + " is needed" }

// Known returns the rendering of a source with this digest, if there is one; else nil.
func (c *Curator) Known(a *Ask, sum [32]byte) *Rendering {
	return c.rendered.get(c.key(a, sum), c.now())
}

// Learn takes in what the index of a Rendering says of the ages of files, as Render
// does: for a file of which nothing is remembered any more.
func (c *Curator) Learn(r *Rendering) { c.published.put(r.published) }

// key names a rendering. What is rendered depends on the target too, by the names in it
// and by relative URLs.
func (c *Curator) key(a *Ask, sum [32]byte) renderingKey {
	h := sha256.New()
	for _, s := range []string{string(a.Registry), a.target.String(), a.want.media} {
		_ = binary.Write(h, binary.BigEndian, uint32(len(s))) // a hash never fails
		_, _ = h.Write([]byte(s))
	}
	_, _ = h.Write(sum[:])
	for _, w := range c.wheels(a) {
		_, _ = h.Write([]byte(w.SHA256))
	}
	return renderingKey(h.Sum(nil))
}

// Render makes what goes out of what upstream sent. more is nil, or what a MoreError
// asked for. An error that is a *Refusal means that nothing of it may be had; with any
// other the source cannot be rendered.
func (c *Curator) Render(a *Ask, src, more *Source) (*Rendering, error) {
	body, err := src.decoded()
	if err != nil {
		return nil, err
	}
	m := &maker{
		c: c, a: a, src: src, now: c.now(), r: &Rendering{Status: http.StatusOK, Media: a.want.media},
		ages: c.policy.AgeMatters(a.Registry, a.Name), versions: c.policy.VersionMatters(a.Registry, a.Name),
	}
	switch {
	case a.Registry == policy.NPM:
		err = m.packument(body)
	case a.Kind == List:
		err = m.list(body)
	case a.Kind == Release:
		err = m.releases(body, more)
	default:
		err = m.project(body)
	}
	if err != nil {
		return nil, err
	}
	m.r.finish()
	c.Learn(m.r)
	if more == nil { // else the key does not say what it was made of
		c.rendered.put(c.key(a, src.SHA256), m.r)
	}
	return m.r, nil
}

// maker makes one rendering.
type maker struct {
	c   *Curator
	a   *Ask
	src *Source
	now time.Time
	r   *Rendering
	// ages and versions say whether these matter for what may be had.
	ages, versions bool
	// denied is the last verdict that hid something.
	denied *Refusal
}

// keeps judges a version and notes when the judgement changes.
func (m *maker) keeps(version string, published time.Time) bool {
	pkg := policy.Package{Registry: m.a.Registry, Name: m.a.Name, Version: version, Published: published}
	v := m.c.policy.Curate(pkg, m.now)
	if !v.Denied() {
		return true
	}
	m.r.Hidden++
	m.denied = &Refusal{pkg, v}
	if !v.Until.IsZero() && (m.r.until.IsZero() || v.Until.Before(m.r.until)) {
		m.r.until = v.Until
	}
	return false
}

// told notes the age of a file, where that may matter and the index may speak for it.
func (m *maker) told(file *url.URL, at time.Time) {
	if m.ages && file != nil && !at.IsZero() && m.mayVouch(file.Host) {
		m.r.published = append(m.r.published, m.c.published.entry(FileKey(m.a.Registry, file), at))
	}
}

func (m *maker) mayVouch(host string) bool {
	return host == m.src.URL.Host || m.a.Vouches != nil && m.a.Vouches(host)
}

// project renders the page of one project of PyPI.
func (m *maker) project(body []byte) error {
	form := pypi.FormOf(m.src.Header.Get("Content-Type"))
	parse := pypi.ParseHTML
	if form == pypi.JSON {
		parse = pypi.ParseJSON
	}
	p, err := parse(body)
	if err != nil {
		return err
	}
	if p.Name == "" {
		p.Name = m.a.Name
	}
	p.Keep(func(f *pypi.File) bool {
		if m.ages {
			m.told(p.Resolve(m.src.URL, f), f.UploadTime)
			if u, err := m.src.URL.Parse(f.Provenance); err == nil && f.Provenance != "" {
				m.told(u, f.UploadTime)
			}
		}
		if !m.versions {
			return m.keeps("", f.UploadTime)
		}
		// pip goes by the name in the URL, others by the name beside it.
		ok := m.keeps(f.Version(m.a.Name).String(), f.UploadTime)
		if inURL := pypi.NameIn(f.URL); ok && inURL != f.Name {
			ok = m.keeps((pypi.File{Name: inURL}).Version(m.a.Name).String(), f.UploadTime)
		}
		return ok
	})
	m.add(p)
	if m.r.Media == pypi.MediaJSON {
		m.r.Body = p.JSON(m.a.Name)
	} else {
		m.r.Body = p.HTML(m.a.Name)
	}
	return nil
}

// list renders the names of all projects.
func (m *maker) list(body []byte) error {
	parse := pypi.ParseListHTML
	if pypi.FormOf(m.src.Header.Get("Content-Type")) == pypi.JSON {
		parse = pypi.ParseListJSON
	}
	l, err := parse(body)
	if err != nil {
		return err
	}
	l.Keep(func(name string) bool {
		if m.c.policy.CurateName(m.a.Registry, name) == nil {
			return true
		}
		m.r.Hidden++
		return false
	})
	if m.r.Media == pypi.MediaJSON {
		m.r.Body = l.JSON()
	} else {
		m.r.Body = l.HTML()
	}
	return nil
}

// releases renders a document of PyPI's older API.
func (m *maker) releases(body []byte, more *Source) error {
	r, err := pypi.ParseReleases(body)
	if err != nil {
		return err
	}
	newest, left := pypi.Version{}, ""
	infoLeft, infoGone := false, false
	err = r.Keep(func(version string, f pypi.ReleaseFile) bool {
		if u, err := m.src.URL.Parse(f.URL); err == nil {
			m.told(u, f.UploadTime)
		}
		ok := m.keeps(version, f.UploadTime)
		if version == r.Version {
			infoLeft, infoGone = infoLeft || ok, infoGone || !ok
		}
		if v, err := pypi.ParseVersion(version); ok && err == nil && (left == "" || newer(v, newest)) {
			newest, left = v, version
		}
		return ok
	})
	if err != nil {
		return err
	}
	if infoLeft || !infoGone {
		m.r.Body = r.JSON()
		return nil
	}
	// The release that it is about is hidden whole: another takes its place, of which
	// only a document of its own tells.
	if left == "" || m.a.Version != "" {
		return m.denied
	}
	if more == nil {
		u := *m.a.target
		u.Path = m.a.prefix + "pypi/" + pypi.Normalize(m.a.Name) + "/" + left + "/json"
		u.RawPath, u.RawQuery = "", ""
		return &MoreError{URL: &u, Accept: "application/json"}
	}
	other, err := more.decoded()
	if err != nil {
		return err
	}
	instead, err := pypi.ParseReleases(other)
	if err != nil {
		return err
	}
	if instead.Version != left || pypi.Normalize(instead.Name) != pypi.Normalize(r.Name) {
		return fmt.Errorf("asked for version %s of %s, the index has sent %s of %s", left, r.Name, instead.Version, instead.Name)
	}
	if err := instead.Keep(func(version string, f pypi.ReleaseFile) bool { return m.keeps(version, f.UploadTime) }); err != nil {
		return err
	}
	r.Take(instead)
	m.r.Body = r.JSON()
	return nil
}

// newer puts releases before pre-releases, as installers do.
func newer(v, than pypi.Version) bool {
	if v.IsPreRelease() != than.IsPreRelease() {
		return than.IsPreRelease()
	}
	return v.Compare(than) > 0
}

// packument renders a packument, or of it the manifest of one version.
func (m *maker) packument(body []byte) error {
	p, err := npm.Parse(body)
	if err != nil {
		return err
	}
	if p.Name != "" && p.Name != m.a.Name {
		return fmt.Errorf("asked for the packument of %s, the registry has sent that of %s", m.a.Name, p.Name)
	}
	if err := m.tell(p); err != nil {
		return err
	}
	asked := policy.Package{Registry: policy.NPM, Name: m.a.Name, Version: m.a.Version, Published: p.Time(m.a.Version)}
	had := p.Has(m.a.Version)
	p.Keep(func(version string) bool { return m.keeps(version, p.Time(version)) })
	switch {
	case m.a.Kind == Release && had && !p.Has(m.a.Version):
		return &Refusal{asked, m.c.policy.Curate(asked, m.now)}
	case m.a.Kind == Release:
		m.manifest(p)
	case m.a.Kind == Tags:
		m.r.Body = p.TagsJSON()
	case m.a.want.short && p.HasTimes():
		m.r.Body, err = p.Abbreviated()
	default:
		m.r.Media = m.src.Header.Get("Content-Type")
		m.r.Body = p.JSON()
	}
	return err
}

// tell notes the ages of all tarballs, where they are and where a registry has them by
// convention.
func (m *maker) tell(p *npm.Packument) error {
	if !p.HasTimes() || !m.ages {
		return nil
	}
	base := m.a.Name[strings.LastIndexByte(m.a.Name, '/')+1:]
	for version, err := range p.Versions() {
		if err != nil {
			return err
		}
		at := p.Time(version)
		own := *m.src.URL
		own.Path = m.a.prefix + m.a.Name + "/-/" + base + "-" + version + ".tgz"
		m.told(&own, at)
		manifest, err := p.Manifest(version)
		if err != nil {
			return err
		}
		if u, err := m.src.URL.Parse(manifest.Dist.Tarball); err == nil && FileKey(policy.NPM, u) != FileKey(policy.NPM, &own) {
			m.told(u, at)
		}
	}
	return nil
}

// manifest renders what a packument, from which everything denied is gone, says of the
// version or tag that was asked for.
func (m *maker) manifest(p *npm.Packument) {
	version := m.a.Version
	for tag, named := range p.Tags() {
		if tag == version {
			version = named
			break
		}
	}
	if p.Has(version) {
		m.r.Body = slices.Clone(p.ManifestJSON(version)) // not to keep all the others
		return
	}
	m.r.Status = http.StatusNotFound
	m.r.Body = rawjson.OfString("version not found: " + m.a.Version)
}
