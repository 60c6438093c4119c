package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// tunnelled is how much one request through a tunnel brings.
const tunnelled = 64 << 20

// tunnelBytes compares what carrying bytes through a tunnel costs.
func (b *bench) tunnelBytes(ctx context.Context) ([]figure, error) {
	crews, err := b.compare(ctx, b.tunnels(), func(t *target) (*crew, error) {
		k := &crew{target: t}
		for range 4 {
			w, err := openTunnel(ctx, t)
			if err != nil {
				k.close()
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			k.workers = append(k.workers, w)
		}
		return k, nil
	})
	if err != nil {
		return nil, err
	}
	return []figure{{
		name: "tunnels, bytes (bare: a relay with splice)", unit: "CPU s/GiB",
		values: values(crews, sample.perGiB), times: 1.05, note: idleNote(crews),
	}}, nil
}

// tunnelOpenings compares what opening a tunnel costs, with one byte through it.
func (b *bench) tunnelOpenings(ctx context.Context) ([]figure, error) {
	crews, err := b.compare(ctx, b.tunnels(), func(t *target) (*crew, error) {
		k := &crew{target: t}
		for range 8 {
			k.workers = append(k.workers, &opener{t})
		}
		return k, nil
	})
	if err != nil {
		return nil, err
	}
	return []figure{{
		name: "tunnels, opening one", unit: "CPU µs",
		values: values(crews, sample.perOp), times: 1.1, note: idleNote(crews),
	}}, nil
}

// tunnels are the servers that answer CONNECT, asked for the source.
func (b *bench) tunnels() map[string]*target {
	servers := map[string]*target{
		"bare":   b.bare[bareRelay].at(b.source.addr),
		"larder": b.larder.at(tunnelHost + ":443"),
	}
	if b.squid != nil {
		_, port, _ := net.SplitHostPort(b.source.addr) // an address of a listener
		servers["squid"] = b.squid.at(net.JoinHostPort(tunnelHost, port))
	}
	return servers
}

// tunneller fetches over one tunnel.
type tunneller struct {
	raw net.Conn
	in  *bufio.Reader
	buf []byte
}

func openTunnel(ctx context.Context, t *target) (*tunneller, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	w := &tunneller{raw: raw, in: bufio.NewReaderSize(raw, 4<<10), buf: make([]byte, 256<<10)}
	err = raw.SetDeadline(time.Now().Add(clientTimeout))
	if err == nil {
		_, err = fmt.Fprintf(raw, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", t.authority, t.authority)
	}
	if err == nil {
		err = readEstablished(w.in)
	}
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return w, nil
}

// fetch asks the source for n bytes.
func (w *tunneller) fetch(n int64) error {
	if err := w.raw.SetDeadline(time.Now().Add(clientTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w.raw, "%d\n", n); err != nil {
		return err
	}
	for n > 0 {
		k, err := w.in.Read(w.buf)
		n -= int64(k)
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

func (w *tunneller) run(ctx context.Context, end time.Time) (s sample, err error) {
	for time.Now().Before(end) && ctx.Err() == nil {
		if err := w.fetch(tunnelled); err != nil {
			return s, err
		}
		s.ops++
		s.bytes += tunnelled
	}
	return s, nil
}

func (w *tunneller) close() { _ = w.raw.Close() }

// opener opens a tunnel for each byte.
type opener struct{ target *target }

func (o *opener) run(ctx context.Context, end time.Time) (s sample, err error) {
	for time.Now().Before(end) && ctx.Err() == nil {
		began := time.Now()
		w, err := openTunnel(ctx, o.target)
		if err != nil {
			return s, err
		}
		err = w.fetch(1)
		w.close()
		if err != nil {
			return s, err
		}
		s.ops++
		s.bytes++
		s.latency = append(s.latency, time.Since(began))
	}
	return s, nil
}

func (*opener) close() {}
