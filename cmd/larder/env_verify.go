package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"larder/certs"
	"larder/daemon"
	"larder/kit"
)

// verifiedEnvironment is the environment for a larder on another machine, whose root
// is fetched from it and held against fingerprints that came by another way.
func verifiedEnvironment(ctx context.Context, f envFlags, notes io.Writer) ([]certs.Var, error) {
	p, err := loadPolicy(f.config)
	if err != nil {
		return nil, err
	}
	settings := p.Settings()
	from := strings.TrimSuffix(cmp.Or(f.from, f.proxy, os.Getenv("http_proxy"), os.Getenv("https_proxy")), "/")
	if from == "" {
		if from, err = localProxy(settings.Listen); err != nil {
			return nil, err
		}
	}
	roots, err := verifiedRoots(ctx, from, f.verify, notes)
	if err != nil {
		return nil, err
	}
	dir := f.files
	if dir == "" {
		paths, err := daemon.DefaultPaths(cmp.Or(f.state, settings.State), os.Getenv, os.Getuid())
		if err != nil {
			return nil, err
		}
		// Not where the larder of this machine has the files for its own root.
		dir = filepath.Join(paths.State, "kit")
	}
	files, err := certs.Write(dir, roots, certs.CallerBundles(os.Getenv))
	if err != nil {
		return nil, fmt.Errorf("write the trust files: %w", err)
	}
	proxy := certs.Proxy{URL: cmp.Or(f.proxy, from), NoProxy: settings.NoProxy}
	return certs.Environment(files, proxy, os.Getenv), nil
}

// verifiedRoots fetches larder's roots and returns those that a fingerprint is given
// for.
func verifiedRoots(ctx context.Context, from string, fingerprints []string, notes io.Writer) ([]byte, error) {
	for _, s := range fingerprints {
		if _, err := certs.ParseFingerprint(s); err != nil {
			return nil, usageError(withHint(fmt.Errorf("--verify: %w", err), "'larder ca show' on the proxy prints it"))
		}
	}
	data, err := kit.FetchRoots(ctx, from)
	if err != nil {
		return nil, withHint(fmt.Errorf("fetch larder's root: %w", err), "--from is the address of the proxy, such as http://larder.example:3128")
	}
	roots, others, err := certs.Verify(data, fingerprints)
	if _, ok := errors.AsType[*certs.FingerprintError](err); ok {
		return nil, withHint(fmt.Errorf("verify larder's root from %s: %w", from, err),
			"'larder ca show' on the proxy prints the right one; somebody may be between you and it")
	}
	if err != nil {
		return nil, fmt.Errorf("read larder's root from %s: %w", from, err)
	}
	for _, other := range others {
		fmt.Fprintf(notes, "larder: note: a root is left out that no --verify vouches for: SHA256:%s\n", other)
	}
	return roots, nil
}
