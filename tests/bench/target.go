package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// target is one server under test as the load sees it.
type target struct {
	name      string
	process   *process // nil: the origin, which is the load's own
	addr      string   // where to connect
	authority string   // host:port of the target URI
	proxy     bool     // reached through CONNECT
	roots     *x509.CertPool
	sessions  tls.ClientSessionCache // nil: every handshake is a full one
}

// at is the same server asked for another authority.
func (t *target) at(authority string) *target {
	other := *t
	other.authority = authority
	return &other
}

// host is the authority as clients write it: without the default port.
func (t *target) host() string { return strings.TrimSuffix(t.authority, ":443") }

// cpu is the time that the server has used.
func (t *target) cpu() (time.Duration, error) {
	if t.process == nil {
		return 0, nil
	}
	return t.process.cpu()
}

// settled waits until the server has been idle for a moment, so that what it does
// behind the response's back is counted, and returns its CPU time.
func (t *target) settled(ctx context.Context) (time.Duration, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last, err := t.cpu()
	for range 200 {
		if err != nil {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
		var now time.Duration
		if now, err = t.cpu(); err == nil && now-last < time.Millisecond {
			return now, nil
		}
		last = now
	}
	return last, err
}

// fetch gets path once over a connection of its own.
func (t *target) fetch(ctx context.Context, path string) (answer, error) {
	c, err := t.dial(ctx, "http/1.1")
	if err != nil {
		return answer{}, err
	}
	defer c.close()
	return c.get(path, time.Time{})
}

// warm makes a cache hold path, and fails unless it then answers without the
// origin.
func (t *target) warm(ctx context.Context, o *origin, path string) error {
	for range 3 {
		if _, err := t.fetch(ctx, path); err != nil {
			return fmt.Errorf("warm %s: %w", t.name, err)
		}
		// A cache may answer before it has stored.
		if _, err := t.settled(ctx); err != nil {
			return err
		}
	}
	before := o.fetched(path)
	if _, err := t.fetch(ctx, path); err != nil {
		return err
	}
	if o.fetched(path) != before {
		return fmt.Errorf("%s asks the origin for %s again and again", t.name, path)
	}
	return nil
}

// freeAddr returns a loopback address that nothing listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// await asks the target until it answers and returns how long that took.
func (t *target) await(ctx context.Context, longest time.Duration) (time.Duration, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := t.answers(ctx)
		if err == nil {
			return time.Since(start), nil
		}
		select {
		case <-ctx.Done():
			return 0, errors.Join(fmt.Errorf("%s does not answer on %s: %w", t.name, t.addr, err), errors.New(t.process.said()))
		case <-tick.C:
		}
	}
}

// answers reports whether a proxy says something, whatever it is, and whether
// others accept: a proxy may listen long before it has opened its store.
func (t *target) answers(ctx context.Context) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if !t.proxy || strings.HasSuffix(t.name, bareRelay) { // a relay waits for a CONNECT
		return nil
	}
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: larder\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	return err
}
