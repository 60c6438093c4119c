package main

import (
	"fmt"

	"larder/kit"
	"larder/policy"
)

// openKit prepares what the proxy answers when it is addressed as an origin. What
// another package has to show there is a route.
func (n *node) openKit(settings policy.Settings) (err error) {
	n.kit, err = kit.New(kit.Options{
		Roots: n.ca.RootPEM,
		Routes: []kit.Route{
			{Path: doctorPath, Handler: n.doctorPage(ownName(settings)), Summary: "whether the proxy is used, and larder trusted"},
		},
		Logger:     n.logger,
		Registerer: n.registry,
	}, kitSettings(settings))
	if err != nil {
		return fmt.Errorf("prepare the kit for nodes: %w", err)
	}
	return nil
}

func kitSettings(s policy.Settings) kit.Settings {
	return kit.Settings{Enabled: s.Kit.Enabled, Proxy: s.Kit.ProxyURL, NoProxy: s.NoProxy}
}
