package warm

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Sources say where the packages of a lock file come from, as far as it does not
// say so itself. Bases may hold user information.
type Sources struct {
	// Indexes are simple indexes of Python packages (PEP 503), the main one first,
	// for files that name none.
	Indexes []string
	// NPM is the base URL of the npm registry. DefaultNPM is the host name that
	// stands in lock files for "the registry in use", whose URLs are moved to NPM.
	NPM        string
	DefaultNPM string
	// GoProxy is the base URL of the module proxy, GoPrivate the module paths that
	// are not fetched from it (patterns as of GOPRIVATE).
	GoProxy   string
	GoPrivate string
	// Crates is the base URL of the sparse index of the crates registry.
	Crates string
}

// Response is what a Planner learns from a fetch.
type Response struct {
	Status      int
	URL         string // after redirects
	ContentType string
	Body        []byte // without content coding
}

// Planner turns files into plans. It is used by one goroutine.
type Planner struct {
	Sources Sources
	// Get fetches an index.
	Get func(ctx context.Context, it Item) (Response, error)
	// Open opens a file, for those that others include. nil: os.Open.
	Open func(name string) (io.ReadCloser, error)
}

// maxFile bounds a file that is read; the largest package-lock.json seen in the wild
// has 12 MiB.
const maxFile = 256 << 20

// File makes the plan of one file. "-" is no special name.
func (p *Planner) File(ctx context.Context, name string, format Format) (Plan, error) {
	text, err := p.read(name)
	if err != nil {
		return Plan{}, err
	}
	var plan Plan
	switch format {
	case Requirements:
		plan, err = p.requirements(ctx, name, text)
	case NPM:
		plan, err = p.npm(name, text)
	case GoSum:
		plan, err = p.goSum(name, text)
	case CargoLock:
		plan, err = p.cargo(ctx, name, text)
	case URLs:
		plan = list(name, text)
	default:
		err = fmt.Errorf("unknown format %q", format)
	}
	if err != nil {
		return Plan{}, fmt.Errorf("read %s: %w", name, err)
	}
	return plan, nil
}

func (p *Planner) read(name string) (string, error) {
	open := p.Open
	if open == nil {
		open = func(name string) (io.ReadCloser, error) { return os.Open(name) }
	}
	f, err := open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxFile {
		return "", fmt.Errorf("read %s: it is larger than %d MiB", name, maxFile>>20)
	}
	return strings.TrimPrefix(string(text), "\ufeff"), nil
}

// beside is where a file names another one: relative to its own folder.
func beside(file, other string) string {
	if filepath.IsAbs(other) {
		return other
	}
	return filepath.Join(filepath.Dir(file), other)
}

// slashed is a base URL that ends in one slash.
func slashed(base string) string { return strings.TrimRight(base, "/") + "/" }
