package curation

import (
	"net/url"
	"slices"

	"larder/registry/pypi"
	"larder/wheels"
)

// WheelPath is where on every host of an index the wheels of the overlay are:
// WheelPath + SHA-256 in hex + "/" + file name.
const WheelPath = "/larder/wheels/"

// add adds the wheels of the overlay to a project's page: those of versions that the
// page lists and under names that it does not. One that was built of a source
// distribution is added where the page lists that one, by its digest, and is yanked
// where that is; any other where the page has its version, and is yanked where all
// files of that are.
func (m *maker) add(p *pypi.Project) {
	for _, w := range m.c.wheels(m.a) {
		of, ok := standsFor(p, &w)
		if !ok || slices.ContainsFunc(p.Files, func(f pypi.File) bool {
			return f.Name == w.File || pypi.NameIn(f.URL) == w.File
		}) {
			continue
		}
		requires := w.RequiresPython
		if requires == "" {
			requires = of.RequiresPython
		}
		p.Files = append(p.Files, pypi.File{
			Name: w.File, URL: m.wheelURL(&w).String(), Hashes: pypi.Hashes{"sha256": w.SHA256},
			RequiresPython: requires, Yanked: of.Yanked, YankedReason: of.YankedReason,
			Metadata: pypi.Sidecar{Available: true, Hashes: pypi.Hashes{"sha256": w.MetadataSHA256}},
			Size:     w.Size, UploadTime: of.UploadTime,
		})
		m.told(m.wheelURL(&w), of.UploadTime)
		m.r.Added++
	}
}

// standsFor finds the file of the page that a wheel is of.
func standsFor(p *pypi.Project, w *wheels.Wheel) (of *pypi.File, ok bool) {
	version, err := pypi.ParseVersion(w.Version)
	if err != nil {
		return nil, false
	}
	for i := range p.Files {
		f := &p.Files[i]
		if w.Source != nil {
			if f.Hashes["sha256"] == w.Source.SHA256 {
				return f, true
			}
			continue
		}
		if f.Version(p.Name).Compare(version) == 0 && (of == nil || of.Yanked && !f.Yanked) {
			of = f
		}
	}
	return of, of != nil
}

// wheelURL is absolute: a page of HTML may have a base on another host.
func (m *maker) wheelURL(w *wheels.Wheel) *url.URL {
	return &url.URL{Scheme: m.src.URL.Scheme, Host: m.src.URL.Host, Path: WheelPath + w.SHA256 + "/" + w.File}
}
