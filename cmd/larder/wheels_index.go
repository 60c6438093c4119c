package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"larder/admin"
	"larder/cache/warm"
	"larder/registry/pypi"
	"larder/wheels"
)

// pypiIndexes are the indexes that pip would look at, with base URLs.
func pypiIndexes(index string) []string {
	w := warmFlags{index: index}
	all := w.sources(os.Getenv).Indexes
	for i, base := range all {
		all[i] = strings.TrimSuffix(base, "/") + "/"
	}
	return all
}

// projectPage is a page of an index, and where it is.
type projectPage struct {
	*pypi.Project
	url string
}

// readProject gets the page of a project through the larder; nil if the index has none.
func readProject(ctx context.Context, c *admin.Client, index, project string) (*projectPage, error) {
	target := index + pypi.Normalize(project) + "/"
	res, err := fetchIndex(ctx, c, warm.Item{URL: target, Header: http.Header{
		"Accept":          {pypi.MediaJSON + ", " + pypi.MediaHTML + "; q=0.1, " + pypi.MediaText + "; q=0.01"},
		"Accept-Encoding": {"gzip"},
	}})
	switch {
	case err != nil:
		return nil, err
	case res.Status == http.StatusNotFound:
		return nil, nil
	case res.Status != http.StatusOK:
		return nil, fmt.Errorf("get %s: status %d: %s", target, res.Status, strings.TrimSpace(string(res.Body[:min(len(res.Body), 500)])))
	}
	parse := pypi.ParseHTML
	if pypi.FormOf(res.ContentType) == pypi.JSON {
		parse = pypi.ParseJSON
	}
	p, err := parse(res.Body)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", target, err)
	}
	return &projectPage{p, res.URL}, nil
}

// sdist is a source distribution that an index lists.
type sdist struct {
	project, version string
	file             pypi.File
	url              string
}

// findSdist finds the source distribution of a version, or, without one, of the newest
// version that has one and is neither yanked nor a pre-release.
func findSdist(ctx context.Context, c *admin.Client, indexes []string, project, version string) (*sdist, error) {
	for _, index := range indexes {
		page, err := readProject(ctx, c, index, project)
		if err != nil {
			return nil, err
		}
		if page == nil {
			continue
		}
		if s := page.sdist(project, version); s != nil {
			return s, nil
		}
		return nil, withHint(fmt.Errorf("%s lists no source distribution of %s with a SHA-256", page.url, strings.TrimSuffix(project+" "+version, " ")),
			"write NAME==VERSION as on the page")
	}
	return nil, fmt.Errorf("no index has the project %s", project)
}

func (p *projectPage) sdist(project, version string) *sdist {
	want, _ := pypi.ParseVersion(version) // none, where there is none
	var best *sdist
	var of pypi.Version
	for _, f := range p.Files {
		v := f.Version(project)
		if pypi.KindOf(f.Name) != pypi.Sdist || v.IsZero() || len(f.Hashes["sha256"]) != 64 {
			continue
		}
		switch {
		case want.IsZero() && (f.Yanked || v.IsPreRelease() || best != nil && v.Compare(of) < 0):
			continue
		case !want.IsZero() && v.Compare(want) != 0:
			continue
		}
		target, err := parseTarget(p.url)
		if err != nil {
			return nil
		}
		if u := p.Resolve(target, &f); u != nil {
			best, of = &sdist{project: pypi.Normalize(project), version: v.String(), file: f, url: u.String()}, v
		}
	}
	return best
}

// wheelsOf says what wheels an index has of a version: none, some, or one that suits
// one of the interpreters on this machine.
func (p *projectPage) wheelsOf(project, version string, pythons []wheels.Python) string {
	want, err := pypi.ParseVersion(version)
	if err != nil {
		return "unknown"
	}
	found := "none"
	for _, f := range p.Files {
		name, ok := pypi.ParseFileName(f.Name, project)
		if !ok || name.Kind != pypi.Wheel || name.ParsedVersion().Compare(want) != 0 || strings.Contains(f.URL, "/larder/wheels/") {
			continue
		}
		suits := func(python wheels.Python) bool { return python.Suits(name) }
		if suitsPlatform(name.Platform) && (len(pythons) == 0 || slices.ContainsFunc(pythons, suits)) {
			return "usable"
		}
		found = "other"
	}
	return found
}

// suitsPlatform is as exact as a look at a tag can be: which C library is not asked.
func suitsPlatform(tags string) bool {
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64", "386": "i686"}[runtime.GOARCH]
	for tag := range strings.SplitSeq(tags, ".") {
		if tag == "any" || runtime.GOOS == "linux" && strings.Contains(tag, "linux") && strings.HasSuffix(tag, "_"+arch) {
			return true
		}
	}
	return false
}

// uploaded is when the source distribution was, zero if unknown.
func (s *sdist) uploaded() time.Time { return s.file.UploadTime }
