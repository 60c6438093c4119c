package pypi

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"time"

	"larder/registry/rawjson"
)

// MaxPage is the most of an index page that a reader should take, in bytes. The
// largest pages have some tens of millions.
const MaxPage = 64 << 20

// Project is the page of one project.
type Project struct {
	// Name is the project's name, "" where an HTML page does not say.
	Name string
	// Files are in the page's order.
	Files []File
	// APIVersion is what the page says of itself (PEP 629), "" if nothing.
	APIVersion string
	// Base is the href of HTML's base element, against which the URLs of Files are to
	// be resolved, "" if the page's own URL serves. JSON has none.
	Base string

	object *rawjson.Object // of a page that came as JSON
	meta   []attributes    // of the meta elements of one that came as HTML
}

// Hashes are digests in hex by the name of their algorithm, as hashlib has it.
type Hashes map[string]string

// File is one file of a project.
type File struct {
	// Name is the file's name; see also NameIn.
	Name string
	// URL is as the page has it, maybe relative, without the digest that HTML adds.
	URL string
	// Hashes are empty if the page has none.
	Hashes Hashes
	// RequiresPython are specifiers, "" for none.
	RequiresPython string
	// Yanked tells installers to leave the file aside (PEP 592). YankedReason may be "".
	Yanked       bool
	YankedReason string
	// Metadata is the sidecar URL + ".metadata" (PEP 658, 714).
	Metadata Sidecar
	// GPGSig says whether URL + ".asc" is there; nil if the page does not say.
	GPGSig *bool
	// Provenance is the URL of attestations (PEP 740), "" for none.
	Provenance string
	// Size is in bytes, -1 if the page does not say. HTML never does.
	Size int64
	// UploadTime is zero if the page does not say. HTML never does.
	UploadTime time.Time

	object *rawjson.Object // of a file that came as JSON
	other  attributes      // of an anchor, which no field above stands for
	text   string          // of an anchor
}

// Sidecar says of metadata whether it is there.
type Sidecar struct {
	Available bool
	Hashes    Hashes // maybe empty
}

// Version is what the file's name says, none if nothing.
func (f File) Version(project string) Version {
	n, ok := ParseFileName(f.Name, project)
	if !ok {
		return Version{}
	}
	return n.ParsedVersion()
}

// Keep drops the files for which keep is false, and from the list of versions those
// that have no file any more.
func (p *Project) Keep(keep func(*File) bool) {
	kept := make([]File, 0, len(p.Files))
	var dropped []File
	for i := range p.Files {
		if f := p.Files[i]; keep(&p.Files[i]) {
			kept = append(kept, f)
		} else {
			dropped = append(dropped, f)
		}
	}
	p.Files = kept
	if len(dropped) == 0 || p.object == nil {
		return
	}
	left, gone := p.versionsOf(kept), p.versionsOf(dropped)
	p.keepVersions(func(text string) bool {
		v, err := ParseVersion(text)
		return err != nil || left[v.String()] || !gone[v.String()]
	})
}

func (p *Project) versionsOf(files []File) map[string]bool {
	all := make(map[string]bool)
	for i := range files {
		all[files[i].Version(p.Name).String()] = true
	}
	return all
}

// keepVersions drops from "versions" (PEP 700).
func (p *Project) keepVersions(keep func(string) bool) {
	if p.object == nil {
		return
	}
	all, err := p.object.Get("versions").Array()
	if err != nil {
		return // there is none
	}
	p.object.Set("versions", rawjson.OfArray(slices.DeleteFunc(all, func(v rawjson.Value) bool {
		text, ok := v.Text()
		return ok && !keep(text)
	})))
}

// Resolve returns the absolute URL of a file of a page that is at page; nil if it has
// none.
func (p *Project) Resolve(page *url.URL, f *File) *url.URL {
	base := page
	if p.Base != "" {
		b, err := page.Parse(p.Base)
		if err != nil {
			return nil
		}
		base = b
	}
	u, err := base.Parse(f.URL)
	if err != nil || u.Host == "" {
		return nil
	}
	return u
}

// Strongest is the digest under the best algorithm that the index gives, in the order
// sha512, sha384, sha256, blake2b, sha1, md5; "" for none.
func (h Hashes) Strongest() (algorithm, digest string) {
	for _, a := range [...]string{"sha512", "sha384", "sha256", "blake2b", "sha1", "md5"} {
		if d := h[a]; d != "" {
			return a, d
		}
	}
	return "", ""
}

// sorted are the algorithms in an order that does not change from one time to another.
func (h Hashes) sorted() []string {
	names := make([]string, 0, len(h))
	for a := range h {
		names = append(names, a)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(-cmp.Compare(boolInt(a == "sha256"), boolInt(b == "sha256")), strings.Compare(a, b))
	})
	return names
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
