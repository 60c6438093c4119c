package npm

import (
	"time"

	"larder/registry/rawjson"
)

// Keep drops the versions for which keep is false, with their times, and moves
// dist-tags that named one of them: to the newest version before it that is left and
// of the same kind, release or pre-release, so that nobody is moved forward; latest
// else to the newest release that is left, or the newest at all. Other tags that find
// none are dropped. It returns how many versions went.
func (p *Packument) Keep(keep func(version string) bool) int {
	if p.versions == nil {
		return 0
	}
	gone := map[string]bool{}
	p.versions.Keep(func(version string, _ rawjson.Value) bool {
		gone[version] = !keep(version)
		return !gone[version]
	})
	// time also has unpublished versions, which stay, and created and modified.
	if p.times != nil {
		p.times.Keep(func(name string, _ rawjson.Value) bool { return !gone[name] })
		p.moveModified()
	}
	p.moveTags(gone)
	n := 0
	for _, is := range gone {
		if is {
			n++
		}
	}
	if n > 0 {
		p.dropTop()
	}
	return n
}

// moveModified keeps time.modified from telling of a version that went.
func (p *Packument) moveModified() {
	if !p.times.Has("modified") {
		return
	}
	var last time.Time
	for name, v := range p.times.All() {
		if name == "modified" {
			continue
		}
		text, _ := v.Text()
		if t, err := time.Parse(time.RFC3339Nano, text); err == nil && t.After(last) {
			last = t
		}
	}
	if !last.IsZero() {
		p.times.Set("modified", rawjson.OfString(last.UTC().Format("2006-01-02T15:04:05.000Z")))
	}
}

// moveTags follows Keep.
func (p *Packument) moveTags(gone map[string]bool) {
	if p.tags == nil {
		return
	}
	moved := &rawjson.Object{}
	for tag, v := range p.tags.All() {
		version, _ := v.Text()
		if !gone[version] {
			moved.Set(tag, v)
			continue
		}
		if to := p.instead(version, tag == "latest"); to != "" {
			moved.Set(tag, rawjson.OfString(to))
		}
	}
	p.tags = moved
}

// instead finds the version that a tag names now.
func (p *Packument) instead(of string, must bool) string {
	was, err := ParseVersion(of)
	if err != nil {
		was = Version{}
	}
	var before, release, newest best
	for name := range p.versions.All() {
		v, err := ParseVersion(name)
		if err != nil {
			continue
		}
		newest.take(name, v)
		if !v.IsPreRelease() {
			release.take(name, v)
		}
		if !was.IsZero() && v.Compare(was) < 0 && v.IsPreRelease() == was.IsPreRelease() {
			before.take(name, v)
		}
	}
	switch {
	case before.name != "" || !must:
		return before.name
	case release.name != "":
		return release.name
	}
	return newest.name
}

// best is the newest version among those shown to it.
type best struct {
	name string
	v    Version
}

func (b *best) take(name string, v Version) {
	if b.name == "" || v.Compare(b.v) > 0 {
		b.name, b.v = name, v
	}
}

// dropTop drops the revision, which is that of the document that upstream has, and the
// readme, which is that of the version published last. Clients send no revision back
// but to publish, which they do by PUT with a document of their own.
func (p *Packument) dropTop() {
	for _, key := range [...]string{"_rev", "readme", "readmeFilename"} {
		p.object.Delete(key)
	}
}

// abbreviated are the keys of a manifest that the abbreviated form has (npm/registry,
// package-metadata, "Abbreviated version object").
var abbreviated = map[string]bool{
	"name": true, "version": true, "deprecated": true, "dependencies": true, "optionalDependencies": true, "devDependencies": true,
	"bundleDependencies": true, "bundledDependencies": true, "acceptDependencies": true, "peerDependencies": true, "peerDependenciesMeta": true,
	"bin": true, "_hasShrinkwrap": true, "hasInstallScript": true, "dist": true, "engines": true, "os": true, "cpu": true, "libc": true,
	"funding": true, "directories": true,
}

// Abbreviated writes the abbreviated form of a full document.
func (p *Packument) Abbreviated() ([]byte, error) {
	o := &rawjson.Object{}
	if v := p.object.Get("name"); v != nil {
		o.Set("name", v)
	}
	if p.tags != nil {
		o.Set("dist-tags", p.tags.Value())
	}
	versions := &rawjson.Object{}
	if p.versions != nil {
		for version, v := range p.versions.All() {
			short, err := abbreviate(v)
			if err != nil {
				return nil, err
			}
			versions.Set(version, short)
		}
	}
	o.Set("versions", versions.Value())
	if v := p.object.Get("modified"); v != nil {
		o.Set("modified", v)
	} else if p.times != nil && p.times.Has("modified") {
		o.Set("modified", p.times.Get("modified"))
	}
	return o.Value(), nil
}

func abbreviate(v rawjson.Value) (rawjson.Value, error) {
	o, err := v.Object()
	if err != nil {
		return nil, err
	}
	if scripts, err := o.Get("scripts").Object(); err == nil && !o.Has("hasInstallScript") {
		if scripts.Has("install") || scripts.Has("preinstall") || scripts.Has("postinstall") {
			o.Set("hasInstallScript", rawjson.Value("true"))
		}
	}
	o.Keep(func(name string, _ rawjson.Value) bool { return abbreviated[name] })
	return o.Value(), nil
}
