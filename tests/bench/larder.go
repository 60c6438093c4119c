package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// startLarder serves with a rule for the origin before all presets, a store of
// maxSize bytes below the run's folder, and a log without a line per request, as
// nginx and squid have none either.
func (b *bench) startLarder(name string, maxSize int64) (*target, error) {
	t, argv, err := b.larderCommand(name, maxSize)
	if err != nil {
		return nil, err
	}
	if t, err = b.launch(t, argv...); err != nil {
		return nil, err
	}
	return t, t.trustLarder(filepath.Join(b.dir, name))
}

// larderCommand writes the configuration and returns how to start larder with it.
func (b *bench) larderCommand(name string, maxSize int64) (*target, []string, error) {
	program, err := filepath.Abs(b.options.larder)
	if err != nil {
		return nil, nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, nil, err
	}
	config := filepath.Join(b.dir, name+".yaml")
	text := fmt.Sprintf(`listen: %q
admin: { listen: "" }
store: { max_size: %dMiB }
upstream:
  ca_file: %q
  allow_addresses: [127.0.0.0/8]
  connect_to: { %q: %q, %q: %q, %q: %q }
rules:
  - name: bench
    hosts: [%s, %s, "*.%s"]
    paths: ["/immutable/**"]
    action: immutable
`, addr, maxSize>>20, b.pki.caCert, benchHost+":443", b.origin.addr, benchHost2+":443", b.origin.addr2,
		tunnelHost+":443", b.source.addr, benchHost, benchHost2, freshDomain)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, nil, err
	}
	t := &target{name: name, addr: addr, authority: benchHost + ":443", proxy: true}
	return t, []string{program, "serve", "--config", config, "--state", filepath.Join(b.dir, name), "--log-level", "warn"}, nil
}

// trustLarder makes the load trust the authority that larder made in state.
func (t *target) trustLarder(state string) error {
	root, err := os.ReadFile(filepath.Join(state, "trust", "ca.pem"))
	if err != nil {
		return err
	}
	t.roots = x509.NewCertPool()
	if !t.roots.AppendCertsFromPEM(root) {
		return errors.New("larder's trust/ca.pem holds no certificate")
	}
	return nil
}
