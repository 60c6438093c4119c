package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Exchange is one request that reached an origin, and what it was answered.
type Exchange struct {
	Method string
	Host   string      // of the request, without its port, in lower case
	Path   string      // escaped as sent, with the query
	Proto  string      // HTTP/1.1, HTTP/2.0
	TLS    bool        // came over TLS
	Header http.Header // of the request, as received
	Status int         // of the response; 0 while none has been sent
	Bytes  int64       // of the response's body that were handed to the connection
}

// URL is the target URI of the request.
func (e Exchange) URL() string {
	scheme := "http"
	if e.TLS {
		scheme = "https"
	}
	return scheme + "://" + e.Host + e.Path
}

// String shows an exchange the way a failing test wants to print it.
func (e Exchange) String() string {
	return fmt.Sprintf("%s %s %s → %d, %d bytes", e.Proto, e.Method, e.URL(), e.Status, e.Bytes)
}

// Server answers for any number of hosts on one TLS and one plain port of
// 127.0.0.1, and records each exchange. It is safe for concurrent use.
type Server struct {
	// Authority signs the certificates that the TLS port shows.
	Authority *Authority

	tlsAddr, plainAddr string

	mu        sync.Mutex // guards what follows
	hosts     map[string]http.Handler
	exchanges []*Exchange
	tamper    func(Exchange) bool
	servers   []*http.Server // none while down
	serving   sync.WaitGroup
}

// Start listens on two free ports of 127.0.0.1. The caller closes the server.
func Start() (*Server, error) {
	authority, err := NewAuthority()
	if err != nil {
		return nil, err
	}
	s := &Server{
		Authority: authority,
		tlsAddr:   "127.0.0.1:0",
		plainAddr: "127.0.0.1:0",
		hosts:     make(map[string]http.Handler),
	}
	if err := s.Up(); err != nil {
		return nil, err
	}
	return s, nil
}

// TLSAddr is the host and port that speak TLS.
func (s *Server) TLSAddr() string { return s.tlsAddr }

// PlainAddr is the host and port that speak HTTP without TLS.
func (s *Server) PlainAddr() string { return s.plainAddr }

// Handle serves a host, over TLS and plain alike. A host that nothing handles
// is answered 421 and recorded, so that a test notices stray requests.
func (s *Server) Handle(host string, h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts[host] = h
}

// Hosts are those that are handled, sorted.
func (s *Server) Hosts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.hosts))
}

// Silent returns a server that has nothing but 404 and logs nothing.
func Silent() *http.Server {
	return &http.Server{Handler: http.NotFoundHandler(), ErrorLog: log.New(io.Discard, "", 0)}
}

// addresses are the hosts that are IP addresses, which clients name in no handshake.
func (s *Server) addresses() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for host := range s.hosts {
		if net.ParseIP(strings.Trim(host, "[]")) != nil {
			list = append(list, host)
		}
	}
	slices.Sort(list)
	return list
}

// Up listens on the same ports as before; it does nothing for a server that is
// up already.
func (s *Server) Up() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.servers) > 0 {
		return nil
	}
	secure, err := net.Listen("tcp", s.tlsAddr)
	if err != nil {
		return fmt.Errorf("listen for origin over TLS: %w", err)
	}
	plain, err := net.Listen("tcp", s.plainAddr)
	if err != nil {
		secure.Close()
		return fmt.Errorf("listen for origin: %w", err)
	}
	s.tlsAddr, s.plainAddr = secure.Addr().String(), plain.Addr().String()
	// One http.Server each: one that serves both plain and TLS listeners sets up
	// HTTP/2 for whichever comes first.
	forTLS := s.newServer()
	forTLS.TLSConfig = &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName != "" {
				return s.Authority.Leaf(hello.ServerName)
			}
			if addresses := s.addresses(); len(addresses) > 0 {
				return s.Authority.Leaf(addresses...)
			}
			return nil, errors.New("client names no server")
		},
	}
	forPlain := s.newServer()
	s.servers = []*http.Server{forTLS, forPlain}
	s.serving.Go(func() { _ = forTLS.ServeTLS(secure, "", "") })
	s.serving.Go(func() { _ = forPlain.Serve(plain) })
	return nil
}

func (s *Server) newServer() *http.Server {
	return &http.Server{
		Handler: http.HandlerFunc(s.serve),
		// Connections that clients break off are part of the tests.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// Down closes the ports and every connection, as an upstream that died does.
func (s *Server) Down() {
	s.mu.Lock()
	servers := s.servers
	s.servers = nil
	s.mu.Unlock()
	for _, server := range servers {
		_ = server.Close() // the listeners are gone either way
	}
	s.serving.Wait()
}

// Close ends the server for good.
func (s *Server) Close() error {
	s.Down()
	return nil
}

// Exchanges returns copies of the recorded exchanges that match; a nil match
// means all of them.
func (s *Server) Exchanges(match func(Exchange) bool) []Exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []Exchange
	for _, e := range s.exchanges {
		if match == nil || match(*e) {
			found = append(found, *e)
		}
	}
	return found
}

// Forget empties the record.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exchanges = nil
}

// Stray returns the exchanges for hosts that nothing handles, in order.
func (s *Server) Stray() []Exchange {
	return s.Exchanges(func(e Exchange) bool { return e.Status == http.StatusMisdirectedRequest })
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	host := strings.ToLower(r.Host)
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	path := r.URL.EscapedPath()
	if r.URL.RawQuery != "" {
		path += "?" + r.URL.RawQuery
	}
	e := &Exchange{
		Method: r.Method,
		Host:   host,
		Path:   path,
		Proto:  r.Proto,
		TLS:    r.TLS != nil,
		Header: r.Header.Clone(),
	}
	s.mu.Lock()
	handler, tamper := s.hosts[host], s.tamper
	s.exchanges = append(s.exchanges, e)
	s.mu.Unlock()
	if handler == nil {
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "no origin of this test answers for "+host, http.StatusMisdirectedRequest)
		})
	}
	if tamper != nil && tamper(*e) {
		w = tampering{w}
	}
	handler.ServeHTTP(&recorder{ResponseWriter: w, server: s, exchange: e}, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Status == 0 {
		e.Status = http.StatusOK // net/http sends it for a handler that wrote nothing
	}
}

// recorder counts what a handler sends into its exchange.
type recorder struct {
	http.ResponseWriter
	server   *Server
	exchange *Exchange
}

func (r *recorder) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		r.server.mu.Lock()
		if r.exchange.Status == 0 {
			r.exchange.Status = status
		}
		r.server.mu.Unlock()
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	n, err := r.ResponseWriter.Write(p)
	r.server.mu.Lock()
	if r.exchange.Status == 0 {
		r.exchange.Status = http.StatusOK
	}
	r.exchange.Bytes += int64(n)
	r.server.mu.Unlock()
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Sum counts exchanges and their body bytes.
func Sum(exchanges []Exchange) (requests int, bytes int64) {
	for _, e := range exchanges {
		requests++
		bytes += e.Bytes
	}
	return requests, bytes
}

// WaitFor blocks until an exchange matches or the context ends.
func (s *Server) WaitFor(ctx context.Context, match func(Exchange) bool) error {
	for {
		if slices.ContainsFunc(s.Exchanges(nil), match) {
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for a request at the origin: %w", err)
		}
	}
}
