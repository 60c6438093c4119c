package main

import (
	"context"
	"errors"
	"os"

	"larder/certs"
	"larder/daemon"
)

// pipEnvironment is an environment in which pip goes through the larder that the flags
// name: "larder serve" by its proxy address, or the background larder of "larder run",
// which is started if there is none. end gives back what that took.
func (f *storeFlags) pipEnvironment(ctx context.Context, proxy string) (env []string, end func(), err error) {
	end = func() {}
	if f.admin != "" && proxy == "" {
		return nil, end, usageError(withHint(errors.New("--admin names a larder whose proxy is not known"), "give its URL with --proxy, as http://cache.example:3128"))
	}
	if proxy == "" && !f.serves(ctx) {
		r, err := startRun(ctx, runFlags{config: f.config, state: f.state, idle: defaultIdle}, []string{"larder wheels build"})
		if err != nil {
			return nil, end, err
		}
		return r.environment(), func() { _ = r.run.Close() }, nil // it has no account that anybody asked for
	}
	vars, err := serverEnvironment(envFlags{config: f.config, state: f.state, proxy: proxy, format: "sh"})
	if err != nil {
		return nil, end, err
	}
	return certs.Apply(os.Environ(), vars), end, nil
}

// serves reports whether the state folder is that of a running "larder serve".
func (f *storeFlags) serves(ctx context.Context) bool {
	paths, err := f.paths()
	if err != nil {
		return false
	}
	return daemon.Serves(ctx, paths)
}
