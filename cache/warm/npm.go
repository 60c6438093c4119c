package warm

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
)

// npmLock is the part of a package-lock.json that says what is fetched
// (https://docs.npmjs.com/cli/configuring-npm/package-lock-json): packages since
// lockfileVersion 2, dependencies before.
type npmLock struct {
	Version  int                   `json:"lockfileVersion"`
	Packages map[string]npmPackage `json:"packages"`

	// Dependencies is read where there are no packages; version 2 has both.
	Dependencies json.RawMessage `json:"dependencies"`
}

type npmPackage struct {
	Name      string `json:"name"` // where it differs from the folder's
	Version   string `json:"version"`
	Integrity string `json:"integrity"`
	// Resolved is a string; some versions of npm have written false.
	Resolved any  `json:"resolved"`
	Link     bool `json:"link"`
	InBundle bool `json:"inBundle"`
	Bundled  bool `json:"bundled"`
	// Dependencies is the tree of lockfileVersion 1; later the key means something
	// else.
	Dependencies json.RawMessage `json:"dependencies"`
}

// npm reads a package-lock.json or npm-shrinkwrap.json.
func (p *Planner) npm(name, text string) (Plan, error) {
	var plan Plan
	var lock npmLock
	if err := json.Unmarshal([]byte(text), &lock); err != nil {
		return plan, fmt.Errorf("it is no package-lock.json: %w", err)
	}
	if lock.Version == 0 && lock.Packages == nil && lock.Dependencies == nil {
		return plan, errors.New("it is no package-lock.json: it has no lockfileVersion")
	}
	seen := make(map[string]bool)
	if lock.Packages == nil {
		return plan, p.npmTree(&plan, seen, name, lock.Dependencies, 0)
	}
	for _, where := range slices.Sorted(maps.Keys(lock.Packages)) {
		// The root, and the workspaces, which are folders of the project.
		if !strings.Contains(where, "node_modules/") {
			continue
		}
		pkg := lock.Packages[where]
		if pkg.Name == "" {
			pkg.Name = where[strings.LastIndex(where, "node_modules/")+len("node_modules/"):]
		}
		p.npmPackage(&plan, seen, name, &pkg)
	}
	return plan, nil
}

// maxDepth bounds the nesting of lockfileVersion 1.
const maxDepth = 1000

func (p *Planner) npmTree(plan *Plan, seen map[string]bool, file string, text json.RawMessage, depth int) error {
	if len(text) == 0 {
		return nil
	}
	var tree map[string]*npmPackage
	if err := json.Unmarshal(text, &tree); err != nil {
		return fmt.Errorf("its dependencies cannot be read: %w", err)
	}
	if depth > maxDepth {
		return errors.New("its dependencies are nested too deeply")
	}
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		pkg := tree[key]
		if pkg == nil {
			plan.note(file, 0, true, "%s: nothing is said of it", key)
			continue
		}
		if alias, ok := strings.CutPrefix(pkg.Version, "npm:"); ok {
			if at := strings.LastIndexByte(alias, '@'); at > 0 {
				pkg.Name, pkg.Version = alias[:at], alias[at+1:]
			}
		}
		pkg.Name = cmp.Or(pkg.Name, key)
		p.npmPackage(plan, seen, file, pkg)
		if err := p.npmTree(plan, seen, file, pkg.Dependencies, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (p *Planner) npmPackage(plan *Plan, seen map[string]bool, file string, pkg *npmPackage) {
	if pkg.Link || pkg.InBundle || pkg.Bundled {
		return // a folder of the project, or part of another tarball
	}
	resolved, _ := pkg.Resolved.(string)
	if resolved == "" && strings.Contains(pkg.Version, ":") {
		resolved = pkg.Version // version 1 has URLs of Git and files there
	}
	if resolved == "" {
		var err error
		if resolved, err = p.npmTarball(pkg.Name, pkg.Version); err != nil {
			plan.note(file, 0, true, "%s: %v", pkg.Name, err)
			return
		}
	}
	if !strings.HasPrefix(resolved, "https://") && !strings.HasPrefix(resolved, "http://") {
		plan.note(file, 0, false, "%s comes from %s, not from a registry", pkg.Name, withoutUser(resolved))
		return
	}
	it, err := target(p.npmMoved(resolved))
	if err != nil {
		plan.note(file, 0, true, "%s: %v", pkg.Name, err)
		return
	}
	it.Digest = fromIntegrity(pkg.Integrity)
	plan.add(seen, it)
}

// npmTarball composes the address of a package's tarball, for locks without it (npm
// config omit-lockfile-registry-resolved).
func (p *Planner) npmTarball(name, version string) (string, error) {
	switch {
	case p.Sources.NPM == "":
		return "", errors.New("the lock file does not say where it is, and no registry is named")
	case version == "":
		return "", errors.New("the lock file says neither where it is nor which version")
	case !npmName(name) || strings.ContainsAny(version, "/?#% \\"):
		return "", fmt.Errorf("%q in version %q is no package of a registry", name, version)
	}
	return slashed(p.Sources.NPM) + name + "/-/" + path.Base(name) + "-" + version + ".tgz", nil
}

// npmName reports whether a name is one that a registry may have.
func npmName(name string) bool {
	if scope, rest, ok := strings.Cut(name, "/"); ok {
		bare, scoped := strings.CutPrefix(scope, "@")
		return scoped && plainName(bare) && plainName(rest)
	}
	return plainName(name)
}

func plainName(s string) bool {
	return s != "" && s[0] != '.' && !strings.ContainsAny(s, "/?#%@ \\")
}

// npmMoved does what npm's config replace-registry-host does by default: URLs at the
// default registry mean the registry in use.
func (p *Planner) npmMoved(resolved string) string {
	u, err := url.Parse(resolved)
	if err != nil || p.Sources.NPM == "" || p.Sources.DefaultNPM == "" || u.Host != p.Sources.DefaultNPM {
		return resolved
	}
	base, err := url.Parse(slashed(p.Sources.NPM))
	if err != nil {
		return resolved
	}
	u.Scheme, u.Host, u.User = base.Scheme, base.Host, base.User
	// Escapes stay as they are: EscapedPath of the joined forms.
	if prefix := strings.TrimSuffix(base.EscapedPath(), "/"); prefix != "" {
		joined := prefix + u.EscapedPath()
		if u.Path, err = url.PathUnescape(joined); err != nil {
			return resolved
		}
		u.RawPath = joined
	}
	return u.String()
}
