package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// bench is the origin and the servers of one run.
type bench struct {
	options options
	dir     string
	pki     *pki
	origin  *origin
	source  *source
	direct  *target            // the origin itself
	bare    map[string]*target // by kind
	larder  *target
	nginx   *target // nil: not installed
	squid   *target
	running []*process
}

// startTime is how long a server may take to listen.
const startTime = 20 * time.Second

func newBench(o options, dir string) (b *bench, err error) {
	b = &bench{options: o, dir: dir, bare: map[string]*target{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.pki, err = newPKI(dir); err != nil {
		return b, fmt.Errorf("make the benchmark's certificates: %w", err)
	}
	if b.origin, err = newOrigin(b.pki); err != nil {
		return b, fmt.Errorf("start the origin: %w", err)
	}
	if b.source, err = newSource(); err != nil {
		return b, fmt.Errorf("start the source of the tunnels: %w", err)
	}
	b.direct = &target{name: "direct", addr: b.origin.addr, authority: benchHost + ":443", roots: b.pki.roots}
	for _, kind := range []string{bareHTTP, bareLoop, bareH2, bareConnect, bareRelay} {
		if b.bare[kind], err = b.startBare(kind); err != nil {
			return b, fmt.Errorf("start the bare server %q: %w", kind, err)
		}
	}
	if b.larder, err = b.startLarder("larder", max(4<<30, 3*int64(o.huge))); err != nil {
		return b, fmt.Errorf("start %s: %w", o.larder, err)
	}
	if !o.others {
		return b, nil
	}
	if b.nginx, err = b.startNginx(); err != nil {
		return b, fmt.Errorf("start nginx: %w", err)
	}
	if b.squid, err = b.startSquid(); err != nil {
		return b, fmt.Errorf("start squid: %w", err)
	}
	return b, nil
}

func (b *bench) close() error {
	for _, p := range b.running {
		p.stop()
	}
	if b.origin != nil {
		b.origin.close()
	}
	if b.source != nil {
		b.source.close()
	}
	return nil
}

// launch starts a server for t and waits until it listens.
func (b *bench) launch(t *target, argv ...string) (*target, error) {
	p, err := startProcess(b.dir, t.name, argv)
	if err != nil {
		return nil, err
	}
	b.running = append(b.running, p)
	t.process = p
	_, err = t.await(context.Background(), startTime)
	return t, err
}

// startBare runs this program again as a bare server.
func (b *bench) startBare(kind string) (*target, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	t := &target{
		name: "bare-" + filepath.Base(kind), addr: addr, authority: benchHost + ":443",
		proxy: kind == bareConnect || kind == bareRelay, roots: b.pki.roots,
	}
	return b.launch(t, exe, bareCommand, kind, addr, b.pki.cert, b.pki.key)
}

// caches are the servers that fetch from the origin.
func (b *bench) caches() []*target {
	all := []*target{b.larder}
	for _, t := range []*target{b.nginx, b.squid} {
		if t != nil {
			all = append(all, t)
		}
	}
	return all
}
