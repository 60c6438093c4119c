package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"larder/daemon"
	"larder/mitm"
)

// capturer gives the admin listener recordings in its words.
type capturer struct{ node *node }

// Capture implements admin.Capturer.
func (c capturer) Capture(ctx context.Context, clients netip.Prefix) (io.WriterTo, error) {
	r := mitm.NewRecorder()
	stop, err := c.node.proxy.Capture(clients, r)
	if err != nil {
		return nil, err
	}
	c.node.logger.Info("capture begins", "clients", clients.String())
	<-ctx.Done()
	stop()
	c.node.logger.Info("capture ends", "clients", clients.String(), "over", r.Over())
	return r, nil
}

// writeHAR writes the record of a run. Its URLs are for the owner's eyes: of a secret
// in a path nobody can tell.
func writeHAR(ctx context.Context, path string, run *daemon.Run) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return withHint(fmt.Errorf("write the record of the run: %w", err), "choose another file with --har")
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return run.HAR(ctx, f)
}
