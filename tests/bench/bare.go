package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"golang.org/x/net/http2"
)

// bareCommand, as first argument, makes this program a bare server: the least
// that a cache written in Go has to do, with the objects in memory.
const bareCommand = "bare-server"

// The kinds of bare server.
const (
	bareHTTP    = "net/http" // net/http over crypto/tls, HTTP/1.1
	bareLoop    = "loop"     // a hand-written HTTP/1.1 loop over crypto/tls
	bareH2      = "h2"       // golang.org/x/net/http2 over crypto/tls
	bareConnect = "connect"  // as net/http, behind CONNECT
	bareRelay   = "relay"    // a proxy that answers CONNECT with a tunnel
)

// serveBare serves; args are the kind, the address, the certificate and the key.
func serveBare(args []string) error {
	kind, addr := args[0], args[1]
	pair, err := tls.LoadX509KeyPair(args[2], args[3])
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	objects := newBareObjects()
	switch kind {
	case bareRelay:
		return serveRelay(l)
	case bareLoop:
		return serveLoop(l, config, objects)
	case bareH2:
		srv := &http.Server{Handler: objects, TLSConfig: config}
		//lint:ignore SA1019 it is x/net's server that the figure is about
		if err := http2.ConfigureServer(srv, nil); err != nil {
			return err
		}
		return srv.ServeTLS(l, "", "")
	case bareConnect:
		opened := newConnListener(l.Addr())
		inner := &http.Server{Handler: objects, TLSConfig: config, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
		go func() { _ = inner.ServeTLS(opened, "", "") }() // ends with the process
		return http.Serve(l, connectHandler(opened))
	default:
		srv := &http.Server{Handler: objects, TLSConfig: config, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
		return srv.ServeTLS(l, "", "")
	}
}

// bareObjects are the objects of the cases of hits, by path.
type bareObjects map[string][]byte

func newBareObjects() bareObjects {
	objects := bareObjects{}
	p := newPattern(8 << 20)
	for _, path := range []string{largeHit, smallHit} {
		o, err := parseObject(path)
		if err != nil {
			panic(err) // a constant of this program
		}
		var b bytes.Buffer
		b.Grow(int(o.size))
		_ = o.writeTo(&b, p) // a buffer takes everything
		objects[path] = b.Bytes()
	}
	return objects
}

// ServeHTTP writes in pieces of 256 KiB, as a cache would.
func (m bareObjects) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, ok := m[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	setFields(w.Header(), int64(len(b)))
	for len(b) > 0 {
		n, err := w.Write(b[:min(len(b), patternPiece)])
		if err != nil {
			return
		}
		b = b[n:]
	}
}

// loopHead is what setFields says, written out, up to the length.
const loopHead = "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=31536000, immutable\r\n" +
	"Content-Type: application/octet-stream\r\nDate: Mon, 06 Jan 2025 10:00:00 GMT\r\nEtag: \"5e8f0c1d-bench\"\r\n" +
	"Last-Modified: Mon, 06 Jan 2025 10:00:00 GMT\r\nContent-Length: "

// serveLoop answers GET over kept HTTP/1.1 connections with as little as a server
// can do: find the end of the head, find the path, one TLS write for a small object.
func serveLoop(l net.Listener, config *tls.Config, objects bareObjects) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go loop(tls.Server(c, config), objects) // ends with its connection
	}
}

func loop(c *tls.Conn, objects bareObjects) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 4<<10)
	var out []byte
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		method, rest, _ := bytes.Cut(line, []byte(" "))
		path, _, _ := bytes.Cut(rest, []byte(" "))
		body, ok := objects[string(path)]
		if !ok || string(method) != "GET" {
			return
		}
		for len(line) > 2 {
			if line, err = in.ReadSlice('\n'); err != nil {
				return
			}
		}
		out = append(out[:0], loopHead...)
		out = strconv.AppendInt(out, int64(len(body)), 10)
		out = append(out, "\r\n\r\n"...)
		if len(body) <= patternPiece {
			out = append(out, body...)
			body = nil
		}
		for _, err = c.Write(out); len(body) > 0 && err == nil; body = body[min(len(body), patternPiece):] {
			_, err = c.Write(body[:min(len(body), patternPiece)])
		}
		if err != nil {
			return
		}
	}
}

// connectHandler answers CONNECT and gives the connection to opened.
func connectHandler(opened *connListener) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
			return
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, fmt.Sprint(err), http.StatusInternalServerError)
			return
		}
		// A client that is gone shows at the next read.
		_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
		opened.conns <- c
	}
}

// connListener is a listener whose connections come from elsewhere.
type connListener struct {
	conns chan net.Conn
	addr  net.Addr
	ctx   context.Context
	end   context.CancelFunc
}

func newConnListener(addr net.Addr) *connListener {
	l := &connListener{conns: make(chan net.Conn), addr: addr}
	l.ctx, l.end = context.WithCancel(context.Background())
	return l
}

// Accept implements net.Listener.
func (l *connListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *connListener) Close() error { l.end(); return nil }

// Addr implements net.Listener.
func (l *connListener) Addr() net.Addr { return l.addr }
