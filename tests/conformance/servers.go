package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"larder/tests/origin"
)

// testHost is the name of the origin; it exists only in larder's connect_to.
const testHost = "cache-tests.test"

// mode is a way through larder to the origin.
type mode struct {
	name, title, scheme, port string
}

func modes() []mode {
	return []mode{
		{"http", "http:// through the proxy", "http", "80"},
		{"connect", "https:// through CONNECT, intercepted", "https", "443"},
	}
}

// run starts an origin and a larder of their own and runs the tests through them.
func (m mode) run(ctx context.Context, s *suite, o options) (tests []test, err error) {
	dir := filepath.Join(o.work, m.name)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "tests.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	to, stopOrigin, err := m.startOrigin(ctx, s, dir)
	if err != nil {
		return nil, fmt.Errorf("start the origin: %w", err)
	}
	defer func() { err = errors.Join(err, stopOrigin()) }()
	proxy, stopLarder, err := m.startLarder(ctx, o.larder, dir, to)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", o.larder, err)
	}
	defer func() { err = errors.Join(err, stopLarder()) }()
	settings := []string{"SUITE=" + s.dir, "BASE=" + m.scheme + "://" + testHost, "PROXY=http://" + proxy, "ID=" + o.id}
	if m.scheme == "https" {
		settings = append(settings, "CA="+filepath.Join(dir, "state", "trust", "ca.pem"))
	}
	if tests, err = s.runTests(ctx, log, settings...); err != nil || o.id == "" {
		return tests, err
	}
	return tests, dump(log.Name())
}

func dump(file string) error {
	text, err := os.ReadFile(file)
	if err == nil {
		_, err = os.Stdout.Write(text)
	}
	return err
}

// startOrigin returns the address of the suite's server.
func (m mode) startOrigin(ctx context.Context, s *suite, dir string) (addr string, stop func() error, err error) {
	cmd := exec.CommandContext(ctx, "node", "--no-warnings", "origin.mjs")
	cmd.Dir = s.scripts
	cmd.Env = append(environment(), "SUITE="+s.dir)
	if m.scheme == "https" {
		certificate, err := newCertificate(dir)
		if err != nil {
			return "", nil, err
		}
		cmd.Env = append(cmd.Env, certificate...)
	}
	log, err := os.Create(filepath.Join(dir, "origin.log"))
	if err != nil {
		return "", nil, err
	}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() error { return errors.Join(end(cmd), log.Close()) }
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("it names no port: %w; see %s", err, log.Name()), stop())
	}
	return net.JoinHostPort("127.0.0.1", strings.TrimSpace(port)), stop, nil
}

// newCertificate writes a certificate for the origin, its key and the authority that
// larder shall trust, and returns the settings for origin.mjs.
func newCertificate(dir string) ([]string, error) {
	authority, err := origin.NewAuthority()
	if err != nil {
		return nil, err
	}
	leaf, err := authority.Leaf(testHost)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		return nil, err
	}
	var chain []byte
	for _, der := range leaf.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	certFile, keyFile := filepath.Join(dir, "origin.crt"), filepath.Join(dir, "origin.key")
	return []string{"CERT=" + certFile, "KEY=" + keyFile}, errors.Join(
		os.WriteFile(certFile, chain, 0o644),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600),
		os.WriteFile(filepath.Join(dir, "authority.pem"), authority.PEM(), 0o644),
	)
}

// startLarder serves with one rule, which leaves freshness to HTTP.
func (m mode) startLarder(ctx context.Context, program, dir, to string) (addr string, stop func() error, err error) {
	text := fmt.Sprintf(`listen: "127.0.0.1:0"
admin: { listen: "" }
store: { max_size: 1GiB }
presets: none
default: deny
upstream:
  allow_addresses: [127.0.0.0/8]
  connect_to: { "%s:%s": %q }
`, testHost, m.port, to)
	if m.scheme == "https" {
		text += fmt.Sprintf("  ca_file: %q\n", filepath.Join(dir, "authority.pem"))
	}
	// Two tests send a Content-MD5 that is not the body's.
	text += fmt.Sprintf("rules:\n  - { name: tests, hosts: [%s], action: http, verify: off }\n", testHost)
	config := filepath.Join(dir, "larder.yaml")
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return "", nil, err
	}
	log, err := os.Create(filepath.Join(dir, "larder.log"))
	if err != nil {
		return "", nil, err
	}
	if addr, err = freeAddr(); err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, program, "serve", "--config", config, "--state", filepath.Join(dir, "state"), "--listen", addr, "--drain", "1s")
	cmd.Env, cmd.Stdout, cmd.Stderr = environment(), log, log
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() error { return errors.Join(end(cmd), log.Close()) }
	if err := waitFor(ctx, addr); err != nil {
		return "", nil, errors.Join(fmt.Errorf("%w; see %s", err, log.Name()), stop())
	}
	return addr, stop, nil
}

// end asks a process to end and waits until it has.
func end(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_ = cmd.Wait() // a node process that is asked to end has no exit code worth reading
	return nil
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// waitFor waits until somebody listens at addr.
func waitFor(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("nobody listens at %s: %w", addr, err)
		}
	}
}
