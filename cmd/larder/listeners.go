package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sync/errgroup"

	"larder/mitm"
	"larder/policy"
)

// entrance is a listener of the policy with its socket.
type entrance struct {
	net.Listener
	settings policy.Listener
	how      mitm.Entrance // once the node is open
}

// openListeners binds the addresses of the policy's listeners. On an error those
// that were bound are for the caller to close.
func (s *server) openListeners(ctx context.Context, all []policy.Listener) error {
	for _, l := range all {
		socket, err := mitm.Listen(ctx, l.Listen, l.Mode)
		if err != nil {
			return listenFailure(fmt.Sprintf("%s listener", l.Mode), l.Listen, "its entry in listeners", err)
		}
		s.entrances = append(s.entrances, entrance{Listener: socket, settings: l})
	}
	return nil
}

// listenFailure says what to do about an address that cannot be bound.
func listenFailure(what, addr, where string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return withHint(fmt.Errorf("%s address %s is in use", what, addr),
			"end what listens there (ss -ltnp shows it), or choose another address with %s", where)
	case errors.Is(err, syscall.EACCES):
		return withHint(fmt.Errorf("%s address %s: %w", what, addr, err),
			"ports below 1024 need CAP_NET_BIND_SERVICE; choose another with %s", where)
	case errors.Is(err, syscall.EPERM):
		return withHint(fmt.Errorf("%s address %s: %w", what, addr, err),
			"mode tproxy needs CAP_NET_ADMIN; mode redirect does not")
	default:
		return withHint(fmt.Errorf("%s address %s: %w", what, addr, err), "write %s as host:port or :port", where)
	}
}

// prepareListeners makes ready what connections begin with.
func (s *server) prepareListeners() error {
	for i := range s.entrances {
		e := &s.entrances[i]
		var err error
		if e.how, err = s.node.entranceOf(e.settings); err != nil {
			return errors.Join(usageError(fmt.Errorf("%s listener %s: %w", e.settings.Mode, e.settings.Listen, err)), s.node.close())
		}
	}
	return nil
}

// serveListeners serves each listener of the policy in a goroutine of g.
func (s *server) serveListeners(g *errgroup.Group) {
	for _, e := range s.entrances {
		s.logger.Info("listening", "listen", e.Addr().String(), "mode", e.settings.Mode.String())
		g.Go(func() error { return s.node.proxy.ServeEntrance(e.Listener, e.how, nil) })
	}
}

// checkListenerFiles reads the files that listeners name.
func checkListenerFiles(all []policy.Listener) error {
	for _, l := range all {
		if l.Mode != policy.ListenTLSProxy {
			continue
		}
		_, err := mitm.NewProxyTLS(mitm.ProxyTLSOptions{
			CertFile: l.CertFile, KeyFile: l.KeyFile, ClientCAFile: l.ClientCAFile,
			Names: append(l.Names, "localhost"), // the default is any machine's own
		})
		if err != nil {
			return fmt.Errorf("listener %s: %w", l.Listen, err)
		}
	}
	return nil
}

// entranceOf makes out of the settings how connections begin.
func (n *node) entranceOf(l policy.Listener) (mitm.Entrance, error) {
	e := mitm.Entrance{Mode: l.Mode, Balancers: l.ProxyProtocol}
	if l.Mode != policy.ListenTLSProxy {
		return e, nil
	}
	names, err := listenerNames(l)
	if err != nil {
		return e, err
	}
	e.TLS, err = mitm.NewProxyTLS(mitm.ProxyTLSOptions{
		CertFile: l.CertFile, KeyFile: l.KeyFile, Names: names,
		Certificates: n.ca, ClientCAFile: l.ClientCAFile, Logger: n.logger,
	})
	return e, err
}

// proxyNames are the names for which the authority must sign on account of
// listeners, besides those of the rules.
func proxyNames(all []policy.Listener) (names []string, err error) {
	for _, l := range all {
		of, err := listenerNames(l)
		if err != nil {
			return nil, err
		}
		names = append(names, of...)
	}
	return names, nil
}

// listenerNames are the names for which a listener shows leaves of the authority.
func listenerNames(l policy.Listener) ([]string, error) {
	switch {
	case l.Mode != policy.ListenTLSProxy || l.CertFile != "":
		return nil, nil
	case len(l.Names) > 0:
		return l.Names, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("find this machine's name for the certificate of the proxy: %w", err)
	}
	names := []string{host}
	// A sandbox without netlink lists none (RestrictAddressFamilies of systemd's):
	// there clients come by name, or names says more.
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
			names = append(names, p.Addr().Unmap().String())
		}
	}
	return names, nil
}
