package pypi

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/html"

	"larder/registry/rawjson"
)

// List is the root of an index, which names all projects.
type List struct {
	projects []listed
	version  string
	base     string
	meta     []attributes
	object   *rawjson.Object
}

type listed struct {
	name string
	raw  rawjson.Value // as it came in JSON
	a    attributes    // as it came in HTML
}

// ParseListJSON reads the root in its JSON form (PEP 691).
func ParseListJSON(b []byte) (*List, error) {
	l, err := parseListJSON(b)
	if err != nil {
		return nil, fmt.Errorf("read the list of projects (PEP 691): %w", err)
	}
	return l, nil
}

func parseListJSON(b []byte) (*List, error) {
	v, err := rawjson.Parse(b)
	if err != nil {
		return nil, err
	}
	o, err := v.Object()
	if err != nil {
		return nil, err
	}
	l := &List{object: o}
	if l.version, err = apiVersion(o); err != nil {
		return nil, err
	}
	all, err := o.Get("projects").Array()
	if err != nil {
		return nil, fmt.Errorf("projects: %w", err)
	}
	l.projects = make([]listed, 0, len(all))
	for i, raw := range all {
		project, err := raw.Object()
		if err != nil {
			return nil, fmt.Errorf("projects, number %d: %w", i+1, err)
		}
		name, ok := project.Get("name").Text()
		if !ok {
			return nil, fmt.Errorf("projects, number %d: it has no name", i+1)
		}
		l.projects = append(l.projects, listed{name: name, raw: raw})
	}
	return l, nil
}

// ParseListHTML reads the root in its HTML form (PEP 503).
func ParseListHTML(b []byte) (*List, error) {
	var page Project
	l := &List{}
	err := anchors(b, pageHead{&page}, func(a attributes, text string) {
		l.projects = append(l.projects, listed{name: text, a: a})
	})
	if err != nil {
		return nil, fmt.Errorf("read the list of projects (PEP 503): %w", err)
	}
	l.version, l.base, l.meta = page.APIVersion, page.Base, page.meta
	return l, nil
}

// Names are the names of the projects, as they are written.
func (l *List) Names() []string {
	names := make([]string, len(l.projects))
	for i, p := range l.projects {
		names[i] = p.name
	}
	return names
}

// Keep drops the projects for which keep is false. An anchor of HTML that points to
// another project than its text says is asked for by both names.
func (l *List) Keep(keep func(name string) bool) {
	l.projects = slices.DeleteFunc(l.projects, func(p listed) bool {
		if !keep(p.name) {
			return true
		}
		href, _ := p.a.get("href")
		name := NameIn(strings.TrimSpace(href))
		return name != "" && Normalize(name) != Normalize(p.name) && !keep(name)
	})
}

// JSON writes the list in its JSON form.
func (l *List) JSON() []byte {
	o := l.object
	if o == nil {
		o = &rawjson.Object{}
		o.Set("meta", rawjson.Value(`{"api-version":"1.0"}`))
	}
	all := make([]rawjson.Value, len(l.projects))
	for i, p := range l.projects {
		all[i] = p.raw
		if p.raw == nil {
			all[i] = rawjson.Value(`{"name":` + string(rawjson.OfString(p.name)) + `}`)
		}
	}
	o.Set("projects", rawjson.OfArray(all))
	return o.Value()
}

// HTML writes the list in its HTML form.
func (l *List) HTML() []byte {
	var b bytes.Buffer
	b.Grow(512 + 64*len(l.projects))
	version := l.version
	if version == "" {
		version = "1.0"
	}
	writeHead(&b, "Simple index", version, l.base, l.meta)
	for _, p := range l.projects {
		a := p.a
		if a == nil {
			a = attributes{{"href", Normalize(p.name) + "/"}}
		}
		writeElement(&b, "    <a", a, ">"+html.EscapeString(p.name)+"</a><br />\n")
	}
	b.WriteString("  </body>\n</html>\n")
	return b.Bytes()
}
