package warm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/BurntSushi/toml"
)

// cargoLock is the part of a Cargo.lock that says what is fetched.
type cargoLock struct {
	Version  int            `toml:"version"`
	Packages []cargoPackage `toml:"package"`
	// Metadata holds the checksums of version 1.
	Metadata map[string]string `toml:"metadata"`
}

type cargoPackage struct {
	Name     string `toml:"name"`
	Version  string `toml:"version"`
	Source   string `toml:"source"`
	Checksum string `toml:"checksum"`
}

// defaultCrates is what Cargo.lock calls the default registry, whatever protocol it
// is read by: the index's repository, which is not where anything is fetched from.
const defaultCrates = "registry+https://github.com/rust-lang/crates.io-index"

// cargoFields are what cargo sends with requests to a sparse index.
func cargoFields() map[string]string {
	return map[string]string{
		"Accept": "text/plain", "Accept-Encoding": "gzip",
		"Cargo-Protocol": "version=1",
	}
}

// registry is a sparse index that has been asked for its config.json
// (https://doc.rust-lang.org/cargo/reference/registry-index.html).
type registry struct {
	base Item
	dl   string
	err  error
}

// cargo reads a Cargo.lock: for each crate of a registry its line in the index,
// without which cargo does not resolve, and its .crate file.
func (p *Planner) cargo(ctx context.Context, name, text string) (Plan, error) {
	var plan Plan
	var lock cargoLock
	if _, err := toml.Decode(text, &lock); err != nil {
		return plan, fmt.Errorf("it is no Cargo.lock: %w", err)
	}
	if lock.Version == 0 && len(lock.Packages) == 0 {
		return plan, errors.New("it is no Cargo.lock: it holds no packages")
	}
	seen := make(map[string]bool)
	registries := make(map[string]*registry)
	for _, c := range lock.Packages {
		base, ok := p.cratesIndex(c.Source)
		switch {
		case c.Source == "":
			continue // a member of the workspace, or a path
		case !ok && strings.HasPrefix(c.Source, "registry+"):
			plan.note(name, 0, true, "%s: the registry's index is a Git repository, which is not read; name its sparse index as sparse+https://…", c.Name)
			continue
		case !ok:
			plan.note(name, 0, false, "%s comes from %s, not from a registry", c.Name, withoutUser(c.Source))
			continue
		}
		r := registries[base]
		if r == nil {
			r = p.registry(ctx, base)
			registries[base] = r
			if r.err != nil {
				plan.note(name, 0, true, "%v", r.err)
			} else {
				plan.add(seen, r.item("config.json"))
			}
		}
		if r.err != nil {
			continue
		}
		if c.Checksum == "" {
			c.Checksum = lock.Metadata[fmt.Sprintf("checksum %s %s (%s)", c.Name, c.Version, c.Source)]
		}
		if err := r.crate(&plan, seen, c); err != nil {
			plan.note(name, 0, true, "%s: %v", c.Name, err)
		}
	}
	return plan, nil
}

// cratesIndex is the base URL of the sparse index behind a source.
func (p *Planner) cratesIndex(source string) (string, bool) {
	if source == defaultCrates {
		return slashed(p.Sources.Crates), p.Sources.Crates != ""
	}
	base, ok := strings.CutPrefix(source, "sparse+")
	return slashed(base), ok
}

func (p *Planner) registry(ctx context.Context, base string) *registry {
	r := new(registry)
	if r.base, r.err = target(base); r.err != nil {
		return r
	}
	it := r.item("config.json")
	res, err := p.Get(ctx, it)
	if err == nil && res.Status != http.StatusOK {
		err = fmt.Errorf("status %d", res.Status)
	}
	var config struct {
		DL string `json:"dl"`
	}
	if err == nil {
		err = json.Unmarshal(res.Body, &config)
	}
	if err == nil && config.DL == "" {
		err = errors.New(`it has no "dl"`)
	}
	if err != nil {
		r.err = fmt.Errorf("get %s of the crates index: %w", it.URL, err)
	}
	r.dl = config.DL
	return r
}

func (r *registry) item(path string) Item {
	it := r.base
	it.URL += path
	return it.withHeader(cargoFields())
}

func (r *registry) crate(plan *Plan, seen map[string]bool, c cargoPackage) error {
	if c.Name == "" || c.Version == "" || strings.Trim(c.Name, crateChars) != "" ||
		strings.Trim(c.Version, crateChars+".+") != "" {
		return fmt.Errorf("%q in version %q is no crate", c.Name, c.Version)
	}
	var digest Digest
	if c.Checksum != "" && c.Checksum != "<none>" {
		var err error
		if digest, err = ParseDigest("sha256:" + c.Checksum); err != nil {
			return err
		}
	}
	it, err := target(downloadURL(r.dl, c))
	if err != nil {
		return err
	}
	if it.Header == nil && r.base.Header != nil && sameOrigin(it.URL, r.base.URL) {
		it.Header = r.base.Header
	}
	it.Digest = digest
	plan.add(seen, r.item(indexPath(c.Name)))
	plan.add(seen, it)
	return nil
}

// crateChars are those that crates' names are made of.
const crateChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

// downloadURL is what "dl" of config.json makes of a crate.
func downloadURL(dl string, c cargoPackage) string {
	filled := strings.NewReplacer(
		"{crate}", c.Name, "{version}", c.Version,
		"{prefix}", cratePrefix(c.Name), "{lowerprefix}", cratePrefix(strings.ToLower(c.Name)),
		"{sha256-checksum}", c.Checksum,
	).Replace(dl)
	if filled == dl {
		return strings.TrimRight(dl, "/") + "/" + c.Name + "/" + c.Version + "/download"
	}
	return filled
}

// cratePrefix is the folder of a crate in the index.
func cratePrefix(name string) string {
	switch len(name) {
	case 1, 2:
		return fmt.Sprint(len(name))
	case 3:
		return "3/" + name[:1]
	}
	return name[:2] + "/" + name[2:4]
}

func indexPath(name string) string {
	name = strings.ToLower(name)
	return cratePrefix(name) + "/" + name
}

// sameOrigin reports whether two URLs share scheme and authority: the credentials of
// one are then meant for the other.
func sameOrigin(a, b string) bool {
	cut := func(s string) string {
		scheme, rest, _ := strings.Cut(s, "://")
		authority, _, _ := strings.Cut(rest, "/")
		return scheme + "://" + authority
	}
	return cut(a) == cut(b)
}
