package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// origin is what the caches are filled from. It runs inside the load's process,
// on the load's cores.
type origin struct {
	pattern pattern
	h1, h2  *http.Server
	addr    string // over HTTP/1.1
	addr2   string // over HTTP/2
	serving sync.WaitGroup

	mu      sync.Mutex // guards the rest
	fetches map[string]int
}

func newOrigin(p *pki) (*origin, error) {
	o := &origin{pattern: newPattern(8 << 20), fetches: map[string]int{}}
	var err error
	if o.h1, o.addr, err = o.listen(p, "http/1.1"); err != nil {
		return nil, err
	}
	o.h2, o.addr2, err = o.listen(p, "h2")
	return o, err
}

func (o *origin) listen(p *pki, protocol string) (*http.Server, string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	srv := &http.Server{Handler: o, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{p.pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{protocol},
	}}
	if protocol == "http/1.1" {
		srv.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	}
	o.serving.Go(func() { _ = srv.ServeTLS(l, "", "") }) // ends with close
	return srv, l.Addr().String(), nil
}

// ServeHTTP serves the object that the path names.
func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	obj, err := parseObject(r.URL.Path)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	o.mu.Lock()
	o.fetches[r.URL.Path]++
	o.mu.Unlock()
	setFields(w.Header(), obj.size)
	// A client that leaves is not the origin's concern.
	_ = obj.writeTo(w, o.pattern)
}

// fetched is how often path was asked for.
func (o *origin) fetched(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.fetches[path]
}

func (o *origin) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, s := range []*http.Server{o.h1, o.h2} {
		if s != nil && s.Shutdown(ctx) != nil {
			_ = s.Close() // connections that a cache keeps open
		}
	}
	o.serving.Wait()
}

// total is how many requests the origin answered.
func (o *origin) total() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	sum := 0
	for _, n := range o.fetches {
		sum += n
	}
	return sum
}

// setFields sets what origin and bare servers send with an object of n bytes: no
// more than package registries do.
func setFields(h http.Header, n int64) {
	h["Content-Type"] = []string{"application/octet-stream"}
	h["Content-Length"] = []string{strconv.FormatInt(n, 10)}
	h["Etag"] = []string{`"5e8f0c1d-bench"`}
	h["Last-Modified"] = []string{"Mon, 06 Jan 2025 10:00:00 GMT"}
	h["Cache-Control"] = []string{"public, max-age=31536000, immutable"}
}
