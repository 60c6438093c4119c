package pypi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// attributes are names and values, in their order.
type attributes []attribute

type attribute struct{ name, value string }

func (a attributes) get(name string) (string, bool) {
	for _, x := range a {
		if x.name == name {
			return x.value, true
		}
	}
	return "", false
}

const versionMeta = "pypi:repository-version" // PEP 629

// ParseHTML reads a project's page in its HTML form (PEP 503). Every anchor with an
// href is a file, as for pip, whatever is around it.
func ParseHTML(b []byte) (*Project, error) {
	p := &Project{}
	if err := p.parseHTML(b); err != nil {
		return nil, fmt.Errorf("read a project's page (PEP 503): %w", err)
	}
	return p, nil
}

func (p *Project) parseHTML(b []byte) error {
	return anchors(b, pageHead{p}, func(a attributes, text string) {
		if f, ok := anchored(a, text); ok {
			p.Files = append(p.Files, f)
		}
	})
}

// pageHead takes what is not an anchor.
type pageHead struct{ p *Project }

func (h pageHead) element(name atom.Atom, a attributes) error {
	switch name {
	case atom.Base:
		if href, ok := a.get("href"); ok && h.p.Base == "" {
			h.p.Base = strings.TrimSpace(href)
		}
	case atom.Meta:
		name, _ := a.get("name")
		content, _ := a.get("content")
		switch {
		case strings.EqualFold(name, versionMeta):
			h.p.APIVersion = content
			return supported(content)
		case name != "" && content != "":
			h.p.meta = append(h.p.meta, a)
		}
	}
	return nil
}

// anchors tokenizes a page: each anchor with an href goes to anchor, with its text.
func anchors(b []byte, head pageHead, anchor func(attributes, string)) error {
	z := html.NewTokenizer(bytes.NewReader(b))
	var open attributes // of the anchor that is open
	var text strings.Builder
	end := func() {
		if open != nil {
			anchor(open, strings.TrimSpace(text.String()))
		}
		open = nil
		text.Reset()
	}
	for {
		switch z.Next() {
		case html.ErrorToken:
			end()
			if err := z.Err(); !errors.Is(err, io.EOF) {
				return err
			}
			return nil
		case html.TextToken:
			if open != nil {
				text.Write(z.Text())
			}
		case html.EndTagToken:
			if name, _ := z.TagName(); atom.Lookup(name) == atom.A {
				end()
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			switch tag := atom.Lookup(name); tag {
			case atom.A:
				end()
				if a := tagAttributes(z, more); hasHref(a) {
					open = a
				}
			case atom.Base, atom.Meta:
				if err := head.element(tag, tagAttributes(z, more)); err != nil {
					return err
				}
			}
		}
	}
}

func hasHref(a attributes) bool { _, ok := a.get("href"); return ok }

// tagAttributes reads the attributes of a tag. Of two with one name, the first is
// meant (HTML, "attribute name state").
func tagAttributes(z *html.Tokenizer, more bool) attributes {
	a := attributes{}
	for more {
		var name, value []byte
		name, value, more = z.TagAttr()
		if _, twice := a.get(string(name)); !twice && plainName(name) {
			a = append(a, attribute{string(name), string(value)})
		}
	}
	return a
}

// plainName reports whether an attribute's name is one that all parsers read alike.
func plainName(name []byte) bool {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != ':' && c != '.' {
			return false
		}
	}
	return len(name) > 0
}

// anchored makes a file of an anchor.
func anchored(a attributes, text string) (File, bool) {
	f := File{Size: -1, text: text}
	for _, x := range a {
		switch x.name {
		case "href":
			f.URL, f.Hashes = cutHash(strings.TrimSpace(x.value))
		case "data-requires-python":
			f.RequiresPython = x.value
		case "data-yanked":
			f.Yanked, f.YankedReason = true, x.value
		case "data-gpg-sig":
			f.GPGSig = new(strings.EqualFold(x.value, "true"))
		case "data-provenance":
			f.Provenance = x.value
		case "data-core-metadata", "data-dist-info-metadata":
			if x.name == "data-core-metadata" || !f.Metadata.Available {
				f.Metadata = sidecarOf(x.value)
			}
		default:
			f.other = append(f.other, x)
		}
	}
	f.Name = NameIn(f.URL)
	return f, f.URL != "" && f.Name != ""
}

// sidecarOf reads "true", "false" or algorithm=digest.
func sidecarOf(value string) Sidecar {
	s := Sidecar{Available: !strings.EqualFold(value, "false")}
	if algorithm, digest, ok := strings.Cut(value, "="); ok && isAlgorithm(algorithm) && isHex(digest) {
		s.Hashes = Hashes{algorithm: digest}
	}
	return s
}

// cutHash takes #algorithm=digest off a URL; the rest of a fragment stays.
func cutHash(href string) (string, Hashes) {
	before, fragment, ok := strings.Cut(href, "#")
	if !ok {
		return href, nil
	}
	var hashes Hashes
	var rest []string
	for part := range strings.SplitSeq(fragment, "&") {
		algorithm, digest, ok := strings.Cut(part, "=")
		if ok && hashes == nil && isAlgorithm(algorithm) && isHex(digest) {
			hashes = Hashes{algorithm: digest}
		} else {
			rest = append(rest, part)
		}
	}
	if len(rest) > 0 {
		before += "#" + strings.Join(rest, "&")
	}
	return before, hashes
}

// isAlgorithm knows those that PEP 503 and pip take in a fragment.
func isAlgorithm(s string) bool {
	switch s {
	case "md5", "sha1", "sha224", "sha256", "sha384", "sha512":
		return true
	}
	return false
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return s != ""
}

// HTML writes the page in its HTML form. name stands for a Name that the page does not
// have.
func (p *Project) HTML(name string) []byte {
	if p.Name != "" {
		name = p.Name
	}
	var b bytes.Buffer
	b.Grow(512 + 320*len(p.Files))
	version := p.APIVersion
	if version == "" {
		version = "1.0"
	}
	writeHead(&b, "Links for "+name, version, p.Base, p.metaElements())
	for i := range p.Files {
		p.Files[i].writeAnchor(&b)
	}
	b.WriteString("  </body>\n</html>\n")
	return b.Bytes()
}

func writeHead(b *bytes.Buffer, title, version, base string, meta []attributes) {
	b.WriteString("<!DOCTYPE html>\n<html>\n  <head>\n")
	writeElement(b, "    <meta", attributes{{"name", versionMeta}, {"content", version}}, ">\n")
	for _, m := range meta {
		writeElement(b, "    <meta", m, ">\n")
	}
	if base != "" {
		writeElement(b, "    <base", attributes{{"href", base}}, ">\n")
	}
	title = html.EscapeString(title)
	b.WriteString("    <title>" + title + "</title>\n  </head>\n  <body>\n    <h1>" + title + "</h1>\n")
}

// metaElements are those that came with a page of HTML, or stand for the keys of JSON
// that HTML has elements for: PEP 708 and 792.
func (p *Project) metaElements() []attributes {
	if p.object == nil {
		return p.meta
	}
	var all []attributes
	add := func(name, content string) {
		if content != "" {
			all = append(all, attributes{{"name", name}, {"content", content}})
		}
	}
	if status, err := p.object.Get("project-status").Object(); err == nil {
		text, _ := status.Get("status").Text()
		add("pypi:project-status", text)
		text, _ = status.Get("reason").Text()
		add("pypi:project-status-reason", text)
	}
	if meta, err := p.object.Get("meta").Object(); err == nil {
		if tracks, err := meta.Get("tracks").Array(); err == nil {
			for _, v := range tracks {
				text, _ := v.Text()
				add("pypi:tracks", text)
			}
		}
	}
	if locations, err := p.object.Get("alternate-locations").Array(); err == nil {
		for _, v := range locations {
			text, _ := v.Text()
			add("pypi:alternate-locations", text)
		}
	}
	return all
}

func (f *File) writeAnchor(b *bytes.Buffer) {
	a := attributes{{"href", withHash(f.URL, f.Hashes)}}
	if f.RequiresPython != "" {
		a = append(a, attribute{"data-requires-python", f.RequiresPython})
	}
	if f.Metadata.Available {
		value := "true"
		if algorithm, digest := f.Metadata.Hashes.Strongest(); isAlgorithm(algorithm) && isHex(digest) {
			value = algorithm + "=" + digest
		}
		a = append(a, attribute{"data-dist-info-metadata", value}, attribute{"data-core-metadata", value})
	}
	if f.Yanked {
		a = append(a, attribute{"data-yanked", f.YankedReason})
	}
	if f.GPGSig != nil {
		a = append(a, attribute{"data-gpg-sig", strconv.FormatBool(*f.GPGSig)})
	}
	if f.Provenance != "" {
		a = append(a, attribute{"data-provenance", f.Provenance})
	}
	text := f.text
	if text == "" {
		text = f.Name
	}
	writeElement(b, "    <a", append(a, f.other...), ">"+html.EscapeString(text)+"</a><br />\n")
}

// withHash puts a digest into a fragment. pip before 23 knows no others than those of
// isAlgorithm, and PEP 503 prefers sha256.
func withHash(url string, h Hashes) string {
	algorithm, digest := "sha256", h["sha256"]
	if !isHex(digest) {
		if algorithm, digest = h.Strongest(); !isAlgorithm(algorithm) || !isHex(digest) {
			return url
		}
	}
	if strings.ContainsRune(url, '#') {
		return url + "&" + algorithm + "=" + digest
	}
	return url + "#" + algorithm + "=" + digest
}

func writeElement(b *bytes.Buffer, before string, a attributes, after string) {
	b.WriteString(before)
	for _, x := range a {
		b.WriteByte(' ')
		b.WriteString(x.name)
		b.WriteString(`="`)
		b.WriteString(html.EscapeString(x.value))
		b.WriteByte('"')
	}
	b.WriteString(after)
}
