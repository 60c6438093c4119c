package main

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
)

// source is what tunnels lead to: it answers a line with a number by as many bytes.
// It runs inside the load's process.
type source struct {
	listener net.Listener
	addr     string
	piece    []byte
	serving  sync.WaitGroup
}

func newSource() (*source, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &source{listener: l, addr: l.Addr().String(), piece: make([]byte, 256<<10)}
	s.serving.Go(s.serve) // ends with close
	return s, nil
}

func (s *source) serve() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		go s.answer(c) // ends with its connection, at the latest with the process
	}
}

func (s *source) answer(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err != nil {
			return
		}
		for n > 0 {
			written, err := c.Write(s.piece[:min(n, int64(len(s.piece)))])
			if err != nil {
				return
			}
			n -= int64(written)
		}
	}
}

func (s *source) close() {
	_ = s.listener.Close() // ends serve
	s.serving.Wait()
}

// serveRelay is the least that a proxy does for CONNECT: two goroutines and
// io.Copy, which on Linux is splice.
func serveRelay(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go relayTo(c.(*net.TCPConn)) // ends with both connections
	}
}

func relayTo(c *net.TCPConn) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 1<<10)
	line, err := in.ReadString('\n')
	if err != nil {
		return
	}
	_, rest, _ := strings.Cut(line, " ")
	authority, _, _ := strings.Cut(rest, " ")
	for len(line) > 2 {
		if line, err = in.ReadString('\n'); err != nil {
			return
		}
	}
	conn, err := net.Dial("tcp", authority)
	if err != nil {
		return
	}
	far := conn.(*net.TCPConn)
	defer far.Close()
	if _, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { // ends when the client does
		_, _ = io.Copy(far, c)
		_ = far.CloseWrite()
	})
	_, _ = io.Copy(c, far)
	_ = c.CloseWrite()
	both.Wait()
}
