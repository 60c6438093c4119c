package indexes

import (
	"fmt"
	"io"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"

	"larder/cache/integrity"
	"larder/registry/checksums"
	"larder/registry/compressed"
	"larder/registry/conda"
	"larder/registry/debian"
	"larder/registry/gosum"
	"larder/registry/helm"
	"larder/registry/nix"
	"larder/registry/rpm"
	"larder/registry/rubygems"
)

// Index is a response that is an index.
type Index struct {
	// URL is where it came from.
	URL *url.URL
	// ContentType is the value of that field, "" without one.
	ContentType string
	// Body is the content, without any content coding.
	Body io.Reader
	// Hosts lists the names of hosts, besides that of URL, for whose files the index may
	// speak, as far as they are known by name.
	Hosts []string
	// Stored returns what the cache has for a URL, if that is small.
	Stored func(target *url.URL) ([]byte, bool)
}

// Yield is told the digest of a file. An error ends the reading.
type Yield func(file *url.URL, d integrity.Digest) error

// Reader reads indexes. It is safe for concurrent use.
type Reader struct {
	kinds map[string]kind

	mu sync.Mutex
	// downloads are the templates of config.json of crate indexes, by its URL.
	downloads map[string]string
}

// NewReader returns a Reader.
func NewReader() *Reader { return &Reader{kinds: kinds()} }

// maxDownloads bounds how many crate indexes are remembered.
const maxDownloads = 64

// kind is how the indexes of one kind are read.
type kind struct {
	// wants tells by the path whether a response may be such an index.
	wants func(escapedPath string) bool
	read  func(r *Reader, in *Index, at place, yield Yield) error
}

func kinds() map[string]kind {
	always := func(string) bool { return true }
	return map[string]kind{
		"npm":       {always, readNPM},
		"pypi":      {always, readPyPI},
		"crates":    {wantsCrates, readCrates},
		"debian":    {wantsDebian, readDebian},
		"go":        {gosum.IsLookup, readGo},
		"sidecar":   {wantsSidecar, readSidecar},
		"checksums": {wantsChecksums, readChecksums},
		"rubygems":  {wantsRubyGems, readRubyGems},
		"helm":      {func(p string) bool { return path.Base(p) == "index.yaml" }, readHelm},
		"conda":     {conda.IsRepodata, readConda},
		"rpm":       {wantsRPM, readRPM},
		"nix":       {func(p string) bool { return strings.HasSuffix(p, ".narinfo") }, readNix},
	}
}

// Kinds lists the kinds of indexes that are known, sorted.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds())) }

// Wants reports whether a response to a GET of target may be an index of a kind.
func (r *Reader) Wants(name string, target *url.URL) bool {
	k, ok := r.kinds[name]
	return ok && k.wants(target.EscapedPath())
}

// Read calls yield with each file that an index names and a digest of it. The files may
// be on any host: whether the index may speak for them is for the caller.
func (r *Reader) Read(name string, in *Index, yield Yield) error {
	k, ok := r.kinds[name]
	if !ok {
		return fmt.Errorf("indexes of kind %q are not known", name)
	}
	return k.read(r, in, place{in.URL}, yield)
}

// place is where an index is.
type place struct{ *url.URL }

// path is the escaped path of the index.
func (p place) path() string { return p.EscapedPath() }

// folder is that of the index, with a slash at its end.
func (p place) folder() string {
	s := p.path()
	return s[:strings.LastIndexByte(s, '/')+1]
}

// link yields a reference as an index writes it, relative to where that is. What cannot
// be read leads nowhere.
func (p place) link(ref string, d integrity.Digest, yield Yield) error {
	to, err := p.Parse(ref)
	if err != nil {
		return nil //nolint:nilerr // nobody can follow it
	}
	to.Fragment, to.RawFragment = "", ""
	return yield(to, d)
}

// file yields a file at a path on the host of the index, as clients spell it: + may be
// sent as it is or encoded (apt does so), which are two URLs for a cache.
func (p place) file(escapedPath string, d integrity.Digest, yield Yield) error {
	return p.on(p.Host, escapedPath, d, yield)
}

// on is file for any host.
func (p place) on(host, escapedPath string, d integrity.Digest, yield Yield) error {
	spellings := []string{escapedPath}
	if strings.Contains(escapedPath, "+") {
		spellings = append(spellings, strings.ReplaceAll(escapedPath, "+", "%2B"))
	}
	for _, s := range spellings {
		to, err := url.Parse(p.Scheme + "://" + host + s)
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		if err := yield(to, d); err != nil {
			return err
		}
	}
	return nil
}

// links and below make the callback of a parser out of a Yield.
func (p place) links(yield Yield) func(string, integrity.Digest) error {
	return func(ref string, d integrity.Digest) error { return p.link(ref, d, yield) }
}

func (p place) below(root string, yield Yield) func(string, integrity.Digest) error {
	return func(name string, d integrity.Digest) error { return p.file(root+name, d, yield) }
}

func readNPM(_ *Reader, in *Index, at place, yield Yield) error {
	return npmDigests(in.Body, at.links(yield))
}

func readPyPI(_ *Reader, in *Index, at place, yield Yield) error {
	if strings.Contains(in.ContentType, "json") {
		return pypiJSON(in.Body, at.links(yield))
	}
	return pypiHTML(in.Body, at.links(yield))
}

func wantsDebian(p string) bool {
	name := path.Base(p)
	return name == "InRelease" || name == "Release" || strings.Contains(p, "/by-hash/") ||
		strings.HasPrefix(name, "Packages") || strings.HasPrefix(name, "Sources")
}

func readDebian(_ *Reader, in *Index, at place, yield Yield) error {
	if name := path.Base(at.path()); name == "InRelease" || name == "Release" {
		return debian.Release(in.Body, at.below(at.folder(), yield))
	}
	body, err := compressed.NewReader(in.Body)
	if err != nil {
		return err
	}
	return debian.Packages(body, at.below(debian.Root(at.path()), yield))
}

func readGo(_ *Reader, in *Index, at place, yield Yield) error {
	root, through := gosum.Root(at.path())
	return gosum.Lookup(in.Body, func(file string, d integrity.Digest) error {
		if through {
			return at.file(root+file, d, yield)
		}
		// From the database's own host: the proxies are elsewhere.
		for _, host := range append([]string{at.Host}, in.Hosts...) {
			if err := at.on(host, "/"+file, d, yield); err != nil {
				return err
			}
		}
		return nil
	})
}

func wantsSidecar(p string) bool {
	_, _, ok := checksums.Sidecar(p)
	return ok
}

func readSidecar(_ *Reader, in *Index, at place, yield Yield) error {
	of, a, ok := checksums.Sidecar(at.path())
	if !ok {
		return nil
	}
	first := true
	return checksums.Lines(in.Body, a, func(name string, d integrity.Digest) error {
		if !first || name != "" && path.Base(name) != path.Base(of) {
			return nil
		}
		first = false
		return at.file(of, d, yield)
	})
}

func wantsChecksums(p string) bool {
	_, ok := checksums.IsList(p)
	return ok
}

func readChecksums(_ *Reader, in *Index, at place, yield Yield) error {
	a, _ := checksums.IsList(at.path())
	return checksums.Lines(in.Body, a, func(name string, d integrity.Digest) error {
		if name == "" {
			return nil
		}
		return at.file(at.folder()+(&url.URL{Path: name}).EscapedPath(), d, yield)
	})
}

func wantsRubyGems(p string) bool {
	_, _, ok := rubygems.Gem(p)
	return ok
}

func readRubyGems(_ *Reader, in *Index, at place, yield Yield) error {
	root, gem, _ := rubygems.Gem(at.path())
	return rubygems.Info(gem, in.Body, at.below(root+"gems/", yield))
}

func readHelm(_ *Reader, in *Index, at place, yield Yield) error {
	return helm.Index(in.Body, at.links(yield))
}

func readConda(_ *Reader, in *Index, at place, yield Yield) error {
	body, err := compressed.NewReader(in.Body)
	if err != nil {
		return err
	}
	return conda.Repodata(body, at.below(at.folder(), yield))
}

func wantsRPM(p string) bool {
	_, ok := rpm.Root(p)
	return ok && (path.Base(p) == "repomd.xml" || rpm.IsPrimary(p))
}

func readRPM(_ *Reader, in *Index, at place, yield Yield) error {
	root, _ := rpm.Root(at.path())
	to := func(location string, d integrity.Digest) error {
		if strings.Contains(location, "://") {
			return at.link(location, d, yield)
		}
		return at.file(root+location, d, yield)
	}
	if path.Base(at.path()) == "repomd.xml" {
		return rpm.Repomd(in.Body, to)
	}
	body, err := compressed.NewReader(in.Body)
	if err != nil {
		return err
	}
	return rpm.Primary(body, to)
}

func readNix(_ *Reader, in *Index, at place, yield Yield) error {
	return nix.NarInfo(in.Body, at.links(yield))
}
