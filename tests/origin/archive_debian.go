package origin

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// ArchiveOptions says what a Debian archive offers besides the plain indexes.
type ArchiveOptions struct {
	// ByHash: the indexes are there under their digests too, those of older
	// generations included, and InRelease says so.
	ByHash bool
	// Diffs: Packages.diff/Index leads from each older Packages to the newest.
	Diffs bool
}

// Archive is a Debian archive that is published anew while clients use it: the
// suite "stable" with the component main for amd64. It is safe for concurrent use.
type Archive struct {
	// Keyring is for signed-by.
	Keyring []byte

	prefix  string
	options ArchiveOptions
	key     *archiveKey

	tree *Tree

	mu         sync.Mutex // guards what follows
	old        [][]byte   // every Packages before the newest
	newest     []byte
	generation int
}

// NewArchive serves an archive below prefix on hosts, mirrors of each other. It is
// empty until something is published.
func NewArchive(s *Server, prefix string, o ArchiveOptions, hosts ...string) (*Archive, error) {
	key, err := newArchiveKey()
	if err != nil {
		return nil, err
	}
	a := &Archive{prefix: prefix, options: o, key: key, tree: NewTree(s, hosts...)}
	if a.Keyring, err = key.keyring(); err != nil {
		return nil, err
	}
	return a, nil
}

// Publish replaces what the archive offers by these packages, all at once. Files of
// the pool and indexes under their digest stay.
func (a *Archive) Publish(packages ...Package) error {
	next, err := a.next(packages)
	if err != nil {
		return err
	}
	a.tree.put(next)
	return nil
}

// PublishHalf does the same as a mirror that is in the middle of its update: InRelease
// and what is new is there, the indexes by name are those of before. The function that
// it returns brings the rest.
func (a *Archive) PublishHalf(packages ...Package) (rest func(), err error) {
	next, err := a.next(packages)
	if err != nil {
		return nil, err
	}
	later := make(map[string]dated)
	for name, f := range next {
		if strings.Contains(name, "/binary-amd64/Packages") {
			later[name] = f
			delete(next, name)
		}
	}
	a.tree.put(next)
	return func() { a.tree.put(later) }, nil
}

// Delay has requests for a path below the prefix answered so much later.
func (a *Archive) Delay(path string, by time.Duration) { a.tree.Delay(a.prefix+path, by) }

// Spoil has other bytes in the place of all files below a folder.
func (a *Archive) Spoil(folder string) { a.tree.spoil(a.prefix + "/" + folder) }

// next makes the files of the next generation.
func (a *Archive) next(packages []Package) (map[string]dated, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	modified := published.Add(time.Duration(a.generation) * time.Hour)
	a.generation++
	g := generation{archive: a, modified: modified, files: make(map[string]dated)}
	index, err := g.pool(packages)
	if err != nil {
		return nil, err
	}
	g.index("main/binary-amd64/Packages", index)
	g.index("main/binary-amd64/Packages.gz", compressed(index))
	if a.options.Diffs {
		g.diffs(index)
	}
	return g.files, g.release()
}

// generation is one state of the archive while it is made.
type generation struct {
	archive  *Archive
	modified time.Time
	files    map[string]dated
	sums     strings.Builder
}

func (g *generation) add(path, kind, cacheControl string, body []byte) {
	g.files[g.archive.prefix+"/"+path] = dated{
		file: file{body: body, kind: kind, header: http.Header{"Cache-Control": {cacheControl}}}, modified: g.modified,
	}
}

// pool adds the packages and returns the index that lists them.
func (g *generation) pool(packages []Package) ([]byte, error) {
	var index strings.Builder
	for _, p := range packages {
		deb, err := makeDeb(p)
		if err != nil {
			return nil, fmt.Errorf("make deb of %s: %w", p.Name, err)
		}
		where := fmt.Sprintf("pool/main/%s/%s/%s_%s_amd64.deb", p.Name[:1], p.Name, p.Name, p.Version)
		g.add(where, "application/vnd.debian.binary-package", "public, max-age=2592000", deb)
		fmt.Fprintf(&index, "%sFilename: %s\nSize: %d\nSHA256: %s\n\n", debControl(p), where, len(deb), hexSHA256(deb))
	}
	return []byte(index.String()), nil
}

// index adds a file that InRelease names.
func (g *generation) index(name string, body []byte) {
	sum := hexSHA256(body)
	g.add("dists/stable/"+name, "application/octet-stream", "public, max-age=120", body)
	if g.archive.options.ByHash {
		folder := name[:strings.LastIndexByte(name, '/')]
		g.add("dists/stable/"+folder+"/by-hash/SHA256/"+sum, "application/octet-stream", "public, max-age=2592000", body)
	}
	fmt.Fprintf(&g.sums, " %s %d %s\n", sum, len(body), name)
}

// diffs adds Packages.diff/Index with a patch from every older Packages to this one.
func (g *generation) diffs(index []byte) {
	a := g.archive
	if a.newest != nil {
		a.old = append(a.old, a.newest)
	}
	a.newest = index
	if len(a.old) == 0 {
		return
	}
	var history, patches, downloads strings.Builder
	for i, old := range a.old {
		// Each version differs from the newest by its whole text: ed(1)'s 1,Nc.
		patch := fmt.Appendf(nil, "1,%dc\n%s.\n", strings.Count(string(old), "\n"), index)
		name := fmt.Sprintf("T-%02d-F-%02d", a.generation, i)
		packed := compressed(patch)
		g.add("dists/stable/main/binary-amd64/Packages.diff/"+name+".gz", "application/gzip", "public, max-age=120", packed)
		fmt.Fprintf(&history, " %s %d %s\n", hexSHA256(old), len(old), name)
		fmt.Fprintf(&patches, " %s %d %s\n", hexSHA256(patch), len(patch), name)
		fmt.Fprintf(&downloads, " %s %d %s.gz\n", hexSHA256(packed), len(packed), name)
	}
	g.index("main/binary-amd64/Packages.diff/Index", fmt.Appendf(nil,
		"SHA256-Current: %s %d\nSHA256-History:\n%sSHA256-Patches:\n%sSHA256-Download:\n%sX-Patch-Precedence: merged\n",
		hexSHA256(index), len(index), history.String(), patches.String(), downloads.String()))
}

// release adds InRelease over all indexes.
func (g *generation) release() error {
	byHash := ""
	if g.archive.options.ByHash {
		byHash = "Acquire-By-Hash: yes\n"
	}
	signed, err := g.archive.key.clearsign(fmt.Appendf(nil, "Origin: larder\nLabel: larder\nSuite: stable\nCodename: stable\nDate: %s\n"+
		"Architectures: amd64\nComponents: main\n%sSHA256:\n%s", g.modified.Format("Mon, 02 Jan 2006 15:04:05 UTC"), byHash, g.sums.String()))
	if err != nil {
		return err
	}
	g.add("dists/stable/InRelease", "text/plain", "public, max-age=120", signed)
	return nil
}
