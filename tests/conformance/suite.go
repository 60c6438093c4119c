package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// scripts are copied to where npm installs, since node looks for packages beside the
// module that imports them.
//
//go:embed package.json run.mjs origin.mjs
var scripts embed.FS

// suite is the tests on disk.
type suite struct {
	dir     string // the suite itself
	scripts string // run.mjs and origin.mjs with their packages
	foreign bool   // not npm's
}

// openSuite installs the npm packages below work unless they are there already. dir
// names another version of the suite, "" the installed one.
func openSuite(ctx context.Context, work, dir string) (*suite, error) {
	s := &suite{scripts: filepath.Join(work, "npm")}
	if err := s.install(ctx); err != nil {
		return nil, fmt.Errorf("install the tests with npm: %w", err)
	}
	if dir == "" {
		s.dir = filepath.Join(s.scripts, "node_modules", "http-cache-tests")
		return s, nil
	}
	var err error
	s.dir, err = filepath.Abs(dir)
	s.foreign = true
	return s, err
}

// install lets npm fetch what package.json names. The suite's own dependencies are of
// its browser and docker tools, and are replaced by an empty package.
func (s *suite) install(ctx context.Context) error {
	none := filepath.Join(s.scripts, "none")
	if err := os.MkdirAll(none, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(none, "package.json"), []byte(`{"name":"none","version":"1.0.0"}`), 0o644); err != nil {
		return err
	}
	wanted, err := scripts.ReadFile("package.json")
	if err != nil {
		return err
	}
	had, err := os.ReadFile(filepath.Join(s.scripts, "package.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range []string{"package.json", "run.mjs", "origin.mjs"} {
		text, err := scripts.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.scripts, name), text, 0o644); err != nil {
			return err
		}
	}
	installed := filepath.Join(s.scripts, "node_modules")
	if _, err := os.Stat(installed); err == nil && bytes.Equal(had, wanted) {
		return nil
	}
	if err := os.RemoveAll(installed); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
	cmd.Dir = s.scripts
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("%w: %s", err, bytes.TrimSpace(out)), os.RemoveAll(installed))
	}
	return nil
}

// version is the suite's own.
func (s *suite) version() (string, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, "package.json"))
	if err != nil {
		return "", err
	}
	var p struct{ Version string }
	if err := json.Unmarshal(text, &p); err != nil {
		return "", fmt.Errorf("read package.json of the suite: %w", err)
	}
	return p.Version, nil
}

// published returns what the suite's authors measured of other caches: by name, by
// test, whether it passed.
func (s *suite) published() (map[string]map[string]bool, error) {
	all := make(map[string]map[string]bool)
	for file, name := range map[string]string{
		"apache": "Apache httpd", "trafficserver": "ATS", "squid": "Squid",
		"varnish": "Varnish", "caddy": "Caddy", "nginx": "nginx",
	} {
		text, err := os.ReadFile(filepath.Join(s.dir, "results", file+".json"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // older versions have fewer
		}
		if err != nil {
			return nil, err
		}
		var results map[string]json.RawMessage
		if err := json.Unmarshal(text, &results); err != nil {
			return nil, fmt.Errorf("read the published results of %s: %w", name, err)
		}
		passed := make(map[string]bool, len(results))
		for id, result := range results {
			passed[id] = string(result) == "true"
		}
		all[name] = passed
	}
	return all, nil
}

// runTests runs run.mjs with settings "NAME=value" and returns what it prints.
func (s *suite) runTests(ctx context.Context, log *os.File, settings ...string) ([]test, error) {
	cmd := exec.CommandContext(ctx, "node", "--no-warnings", "run.mjs")
	cmd.Dir = s.scripts
	cmd.Env = append(environment(), settings...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, log
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("node run.mjs: %w; see %s", err, log.Name())
	}
	var tests []test
	if err := json.Unmarshal(out.Bytes(), &tests); err != nil {
		return nil, fmt.Errorf("read what run.mjs printed: %w", err)
	}
	return tests, nil
}

// environment is this process's without what would send requests elsewhere.
func environment() []string {
	var kept []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch strings.ToLower(name) {
		case "http_proxy", "https_proxy", "all_proxy", "no_proxy", "node_extra_ca_certs", "node_options":
		default:
			kept = append(kept, v)
		}
	}
	return kept
}
