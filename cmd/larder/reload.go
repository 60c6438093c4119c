package main

import (
	"cmp"
	"context"
	"fmt"
	"reflect"

	"larder/policy"
)

// readPolicy reads the policy again. The running one stays when the new one is wrong.
func (s *server) readPolicy(context.Context) error {
	before := s.node.policy.Settings()
	p, err := policy.Load(s.config)
	if err == nil {
		err = s.node.setPolicy(p)
	}
	if err == nil {
		s.node.sweeper.begin(loaded(p, s.config))
	}
	if err != nil {
		s.logger.Error("reload failed, the old policy stays", "config", cmp.Or(s.config, "built in"), "err", err)
		return err
	}
	s.logger.Info("policy reloaded", "config", cmp.Or(s.config, "built in"))
	if late := startOnly(before, p.Settings()); len(late) > 0 {
		s.logger.Warn("settings changed that take effect at the next start", "settings", late)
	}
	return nil
}

// setPolicy makes p the policy of every request that comes from now on, and reads
// the files of credentials, certificates and roots again. Other settings of p but
// offline (addresses, store, upstream) take effect at the next start. Whatever can
// fail comes before anything is replaced: an error leaves everything in force that
// was. Only one call at a time.
func (n *node) setPolicy(p *policy.Policy) error {
	settings := p.Settings()
	access, err := n.readAccess(settings)
	if err != nil {
		return err
	}
	renewUpstream, err := n.rereadUpstream(settings.Upstream)
	if err != nil {
		return err
	}
	if err := n.refreshTrust(); err != nil {
		return err
	}
	// The last that can fail: what it permits, it permits at once.
	if err := n.ca.Permit(n.permitted(p)); err != nil {
		return fmt.Errorf("renew the issuing certificate for the new policy: %w", err)
	}
	// Before the credentials for upstream, which may be for those alone whom the new
	// policy lets through.
	n.proxy.SetPolicyAndAccess(p, access)
	renewUpstream()
	n.setOffline(settings)
	n.kit.Set(kitSettings(settings))
	return nil
}

// rereadUpstream reads the files of the upstream settings that are in force again,
// those of the start, and returns what puts their content in force too. Where the
// configuration has other settings by now, it may be right although these files are
// gone: then what they held stays.
func (n *node) rereadUpstream(configured policy.Upstream) (commit func(), err error) {
	commit, err = n.upstream.PrepareReload()
	if err == nil {
		return commit, nil
	}
	if reflect.DeepEqual(n.policy.Settings().Upstream, configured) {
		return nil, err
	}
	n.logger.Warn("upstream files cannot be read again, what they held stays in force until the next start", "err", err)
	return func() {}, nil
}

// startOnly names the settings in which two configurations differ and that a
// reload does not change.
func startOnly(a, b policy.Settings) []string {
	var names []string
	for _, s := range []struct {
		name string
		same bool
	}{
		{"listen", a.Listen == b.Listen},
		{"listeners", reflect.DeepEqual(a.Listeners, b.Listeners)},
		{"admin", reflect.DeepEqual(a.Admin, b.Admin)},
		{"state", a.State == b.State},
		{"store", reflect.DeepEqual(a.Store, b.Store)},
		{"wheels.max_size", a.Wheels.MaxSize == b.Wheels.MaxSize},
		{"kit.name", ownName(a) == ownName(b)},
		{"upstream", reflect.DeepEqual(a.Upstream, b.Upstream)},
	} {
		if !s.same {
			names = append(names, s.name)
		}
	}
	return names
}
