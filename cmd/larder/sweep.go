package main

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"larder/policy"
)

// sweeper removes from the store what the policy of now would not serve to anybody. No
// such object is served meanwhile either: it only takes room, and is on a disk where
// nobody wants it.
type sweeper struct {
	node    *node
	objects prometheus.Counter
	bytes   prometheus.Counter

	mu     sync.Mutex // guards the rest
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func newSweeper(n *node) *sweeper {
	s := &sweeper{
		node: n,
		objects: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "larder_refused_objects_removed_total",
			Help: "Objects that were removed from the store because a new policy refuses them.",
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "larder_refused_removed_bytes_total",
			Help: "Bytes of the bodies of objects that were removed from the store because a new policy refuses them.",
		}),
		cancel: func() {},
	}
	n.registry.MustRegister(s.objects, s.bytes)
	return s
}

// begin starts to go through the store, in place of a sweep that is under way, unless
// that was done under the same policy already. What it is done under is remembered in
// the state folder: a policy may change while larder does not run.
func (s *sweeper) begin(p loadedPolicy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel()
	s.done.Wait()
	under := daemonBuild(p)
	if before, err := os.ReadFile(s.file()); err == nil && string(before) == under {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.done.Go(func() { // ends when it is through, or with Close
		if !refusesAnything(p.Policy) || s.sweep(ctx) {
			s.remember(under)
		}
	})
}

func (s *sweeper) file() string { return filepath.Join(s.node.paths.Run(), "swept") }

func (s *sweeper) remember(under string) {
	if err := os.WriteFile(s.file(), []byte(under), 0o600); err != nil {
		s.node.logger.Warn("the store will be gone through again at the next start", "err", err)
	}
}

// refusesAnything reports whether a policy can refuse what another one let be stored.
func refusesAnything(p *policy.Policy) bool {
	settings := p.Settings()
	if settings.Default == policy.Deny && settings.DefaultMode == policy.Enforce || len(settings.Curation) > 0 {
		return true
	}
	return slices.ContainsFunc(p.Rules(), func(r *policy.Rule) bool {
		return r.Action == policy.Deny && r.Mode == policy.Enforce || r.MaxObject > 0
	})
}

// Close ends a sweep that is under way.
func (s *sweeper) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel()
	s.done.Wait()
	return nil
}

// sweep returns true when it went through all of the store.
func (s *sweeper) sweep(ctx context.Context) bool {
	n := s.node
	refused := func(raw string, size int64) bool {
		u, err := url.Parse(raw)
		return err == nil && n.proxy.Refuses(u, size)
	}
	done, err := n.cache.Catalogue(n.proxy.RuleFor).RemoveSized(ctx, refused, nil)
	s.objects.Add(float64(done.Removed))
	s.bytes.Add(float64(done.Bytes))
	switch {
	case ctx.Err() != nil:
	case err != nil:
		n.logger.Warn("what the policy refuses now could not be removed from the store", "removed", done.Removed, "err", err)
	case done.Removed > 0:
		n.logger.Info("what the policy refuses now was removed from the store", "objects", done.Removed, "bytes", done.Bytes, "scanned", done.Scanned)
	}
	return ctx.Err() == nil && err == nil
}
