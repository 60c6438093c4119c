package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// client is one HTTP/1.1 connection to a target, with as little between it and the
// socket as will do: the load shall not be what is measured.
type client struct {
	target *target
	raw    net.Conn
	tls    *tls.Conn
	buf    []byte // what was read and not yet used is buf[from:to]
	from   int
	to     int
	out    []byte
}

// clientTimeout bounds one request, so that a server that hangs ends the run.
const clientTimeout = 2 * time.Minute

// dial opens a connection: TCP, CONNECT where the target is a proxy, and a full
// TLS handshake with verification, since no session tickets are kept.
func (t *target) dial(ctx context.Context, protocol string) (*client, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	c := &client{target: t, raw: raw}
	if err := c.open(ctx, protocol); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return c, nil
}

func (c *client) open(ctx context.Context, protocol string) error {
	t := c.target
	if err := c.raw.SetDeadline(time.Now().Add(clientTimeout)); err != nil {
		return err
	}
	in := bufio.NewReaderSize(c.raw, 256<<10)
	if t.proxy {
		if _, err := fmt.Fprintf(c.raw, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", t.authority, t.authority); err != nil {
			return err
		}
		if err := readEstablished(in); err != nil {
			return err
		}
	}
	host, _, err := net.SplitHostPort(t.authority)
	if err != nil {
		return err
	}
	c.tls = tls.Client(&readAheadConn{c.raw, in}, &tls.Config{
		RootCAs: t.roots, ServerName: host, MinVersion: tls.VersionTLS13, NextProtos: []string{protocol},
		ClientSessionCache: t.sessions,
	})
	c.buf = make([]byte, 64<<10)
	return c.tls.HandshakeContext(ctx)
}

func readEstablished(in *bufio.Reader) error {
	line, err := in.ReadString('\n')
	if err != nil {
		return fmt.Errorf("read the answer to CONNECT: %w", err)
	}
	if len(line) < 12 || line[9:12] != "200" {
		return fmt.Errorf("CONNECT: %q", line)
	}
	for len(line) > 2 {
		if line, err = in.ReadString('\n'); err != nil {
			return err
		}
	}
	return nil
}

// readAheadConn reads from the socket as much at a time as there is: crypto/tls
// would ask for one record.
type readAheadConn struct {
	net.Conn
	in *bufio.Reader
}

// Read implements net.Conn.
func (c *readAheadConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// answer is what one request brought.
type answer struct {
	bytes int64
	first time.Duration // from request to the body's first byte
}

// limit makes get return early, without an error, when it has passed; the
// connection is then of no more use.
func (c *client) get(path string, limit time.Time) (answer, error) {
	start := time.Now()
	if err := c.raw.SetDeadline(start.Add(clientTimeout)); err != nil {
		return answer{}, err
	}
	c.out = append(append(append(c.out[:0], "GET "...), path...), " HTTP/1.1\r\nHost: "...)
	c.out = append(append(c.out, c.target.host()...), "\r\nUser-Agent: larder-bench\r\nAccept-Encoding: identity\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n"...)
	if _, err := c.tls.Write(c.out); err != nil {
		return answer{}, err
	}
	status, length, err := c.head()
	if err != nil {
		return answer{}, fmt.Errorf("GET %s: %w", path, err)
	}
	if status != 200 || length < prefixSize {
		return answer{}, fmt.Errorf("GET %s: status %d, %d bytes", path, status, length)
	}
	for c.to-c.from < prefixSize {
		if err := c.more(); err != nil {
			return answer{}, err
		}
	}
	a := answer{first: time.Since(start)}
	if err := checkPrefix(path, c.buf[c.from:c.from+prefixSize]); err != nil {
		return a, err
	}
	for a.bytes < length {
		if c.from == c.to {
			if !limit.IsZero() && time.Now().After(limit) {
				return a, errLimit
			}
			if err := c.more(); err != nil {
				return a, fmt.Errorf("GET %s: %d bytes of %d: %w", path, a.bytes, length, err)
			}
		}
		n := min(int64(c.to-c.from), length-a.bytes)
		c.from += int(n)
		a.bytes += n
	}
	return a, nil
}

// errLimit is returned by get when its time was over.
var errLimit = errors.New("the time for reading is over")

// more reads what there is.
func (c *client) more() error {
	if c.from == c.to {
		c.from, c.to = 0, 0
	}
	if c.to == len(c.buf) {
		c.to = copy(c.buf, c.buf[c.from:c.to])
		c.from = 0
		if c.to == len(c.buf) {
			return errors.New("a response head of more than 64 KiB")
		}
	}
	n, err := c.tls.Read(c.buf[c.to:])
	c.to += n
	if n > 0 {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// head reads a response head.
func (c *client) head() (status int, length int64, err error) {
	for {
		if i := bytes.Index(c.buf[c.from:c.to], []byte("\r\n\r\n")); i >= 0 {
			head := c.buf[c.from : c.from+i+2]
			c.from += i + 4
			return parseHead(head)
		}
		if err := c.more(); err != nil {
			return 0, 0, err
		}
	}
}

func parseHead(head []byte) (status int, length int64, err error) {
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	if len(line) < 12 {
		return 0, 0, fmt.Errorf("status line %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, err
	}
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		if len(name) == len("content-length") && bytes.EqualFold(name, []byte("content-length")) {
			length, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
			return status, length, err
		}
	}
	return status, -1, nil
}

func (c *client) close() {
	if c.tls != nil {
		_ = c.tls.Close() // the other side may have gone first
		return
	}
	_ = c.raw.Close()
}
