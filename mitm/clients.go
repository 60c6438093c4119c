package mitm

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// clients counts the connections of each client, so that none of them takes every
// place. It is safe for concurrent use.
type clients struct {
	most     int
	loopback bool // it is counted too

	mu   sync.Mutex // guards open
	open map[netip.Prefix]int
}

func newClients(o Options) *clients {
	c := &clients{most: o.MaxConnectionsPerClient, loopback: true, open: map[netip.Prefix]int{}}
	if c.most <= 0 {
		c.most, c.loopback = max(16, o.MaxConnections/2), false
	}
	return c
}

// enter counts a connection and returns whose it is, the zero Prefix if it does not
// count; or false if the client has as many as it may.
func (c *clients) enter(a net.Addr) (netip.Prefix, bool) {
	of := clientOfAddr(a)
	if !of.IsValid() || of.Addr().IsLoopback() && !c.loopback {
		return netip.Prefix{}, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[of] >= c.most {
		return netip.Prefix{}, false
	}
	c.open[of]++
	return of, true
}

// errTooMany is the end of a connection beyond what its client may have, where the
// client is known only after the connection was accepted.
var errTooMany = errors.New("as many connections of this client are open as may be")

// countAs counts a connection as source's from now on: it came from a balancer, whose
// connections are its clients'.
func (s *Server) countAs(c *clientConn, source net.Addr) error {
	of, ok := s.clients.enter(source)
	if !ok {
		return errTooMany
	}
	s.mu.Lock()
	if _, open := s.conns[c]; open {
		of, c.of = c.of, of
	}
	s.mu.Unlock()
	s.clients.leave(of)
	return nil
}

// leave takes back what enter has counted.
func (c *clients) leave(of netip.Prefix) {
	if !of.IsValid() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[of]--; c.open[of] == 0 {
		delete(c.open, of)
	}
}

// clientOfAddr is an IPv4 address, or the network of 64 bits that an IPv6 client
// may choose its addresses from (RFC 4291, Section 2.5.1).
func clientOfAddr(a net.Addr) netip.Prefix {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{} // not over TCP
	}
	addr, bits := ap.Addr().Unmap().WithZone(""), 32
	if addr.Is6() {
		bits = 64
	}
	if addr.IsLoopback() {
		bits = addr.BitLen()
	}
	p, _ := addr.Prefix(bits) // no address has fewer bits
	return p
}

const (
	// maxTurnedAway is how many connections at once are told why they are closed.
	maxTurnedAway = 64
	// turnAwayTime is how long each of them has for reading it.
	turnAwayTime = time.Second
)

// turnAway answers a connection beyond what its client may have, and closes it. In
// a crowd nobody is answered.
func (s *Server) turnAway(c net.Conn) {
	s.metrics.failures.WithLabelValues("client_limit").Inc()
	select {
	case s.away <- struct{}{}:
	default:
		reset(c)
		return
	}
	if !s.enter(&s.turning) {
		<-s.away
		reset(c)
		return
	}
	go func() { // ends within turnAwayTime
		defer s.turning.leave()
		defer func() { <-s.away }()
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(turnAwayTime)) // a connection that is gone says so below
		if _, err := io.WriteString(c, tooMany(s.clients.most)); err != nil || closeWrite(c) != nil {
			return
		}
		// Closed with bytes unread, it would be reset and the answer lost.
		_, _ = io.Copy(io.Discard, io.LimitReader(c, 64<<10))
	}()
}

// tooMany is the answer to whatever would have been asked.
func tooMany(most int) string {
	f := failure{Type: "http_request_denied", Reason: fmt.Sprintf("%d connections of this client are open already, and no more are allowed", most)}
	body := "larder: " + f.Reason + "\n"
	return fmt.Sprintf("HTTP/1.1 %d %s\r\nConnection: close\r\nRetry-After: 1\r\nCache-Control: no-store\r\nProxy-Status: %s\r\n"+
		"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s",
		http.StatusTooManyRequests, http.StatusText(http.StatusTooManyRequests), f.proxyStatus(), len(body), body)
}
