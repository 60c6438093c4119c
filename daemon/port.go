package daemon

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
)

// port is the loopback port of one run. It knows its open connections, so that a
// run can cut what is left of them.
type port struct {
	*net.TCPListener
	guard   guard
	id      string // of the run
	label   string // of the run
	offline bool
	har     bool
	logger  *slog.Logger
	refused atomic.Bool // a connection was

	mu     sync.Mutex         // guards what follows
	record io.WriterTo        // nil: none
	open   map[*conn]struct{} // accepted and not yet closed
	closed bool
}

func listenPort(g guard, logger *slog.Logger) (*port, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	return &port{TCPListener: l, guard: g, logger: logger, open: map[*conn]struct{}{}}, nil
}

// Offline tells the proxy that what comes over this port is to be answered without
// asking upstream.
func (p *port) Offline() bool { return p.offline }

// Run tells the proxy whose connections these are.
func (p *port) Run() (id, command string) { return p.id, p.label }

// Recorded implements Recorded.
func (p *port) Recorded() bool { return p.har }

// Keep implements Recorded.
func (p *port) Keep(record io.WriterTo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.record = record
}

func (p *port) kept() io.WriterTo {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.record
}

// Accept returns connections that have every method of a *net.TCPConn. Those of
// other users are closed.
func (p *port) Accept() (net.Conn, error) {
	for {
		tcp, err := p.AcceptTCP()
		if err != nil {
			return nil, err
		}
		err = p.guard.admit(tcp)
		if err == nil {
			return p.take(tcp)
		}
		tcp.Close()
		level := slog.LevelDebug
		if !p.refused.Swap(true) {
			level = slog.LevelWarn // once for a run: whoever it is shall not fill the log
		}
		p.logger.Log(context.Background(), level, "connection refused", "client", tcp.RemoteAddr(), "err", err)
	}
}

func (p *port) take(tcp *net.TCPConn) (net.Conn, error) {
	c := &conn{TCPConn: tcp, port: p}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		tcp.Close()
		return nil, net.ErrClosed
	}
	p.open[c] = struct{}{}
	return c, nil
}

// Close stops accepting. It may be called any number of times.
func (p *port) Close() error {
	err := p.TCPListener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	return err
}

// cut resets the connections that are still open, since a clean end would make a
// part of a body look like the whole, and says how many there were.
func (p *port) cut() int {
	p.mu.Lock()
	left := make([]*conn, 0, len(p.open))
	for c := range p.open {
		left = append(left, c)
	}
	p.mu.Unlock()
	for _, c := range left {
		_ = c.SetLinger(0) // of a closed one nothing is left to reset
		c.Close()
	}
	return len(left)
}

func (p *port) forget(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

// conn embeds the concrete type, for CloseWrite, ReadFrom (splice) and
// SyscallConn must not get lost on the way to the proxy.
type conn struct {
	*net.TCPConn
	port *port
}

func (c *conn) Close() error {
	err := c.TCPConn.Close()
	c.port.forget(c)
	return err
}
