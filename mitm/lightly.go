package mitm

import (
	"errors"
	"os"
	"slices"
	"time"
)

// startLightly serves a connection without an http.Server for as long as it asks
// for nothing but what is ready: net/http keeps two buffers and a goroutine's deep
// stack for every connection, waiting or not, which is most of what an idle one
// holds. With the first request that is not for openedConn, and when larder stops,
// the connection goes to the server and stays there.
func (s *Server) startLightly(o *openedConn) {
	c := o.client
	if s.ready == nil {
		s.handoff.deliver(o)
		return
	}
	s.setups.enter() // Shutdown hurries those that wait, see awaitHurried
	go func() {      // ends with the connection, or when the server takes over
		defer s.setups.leave()
		if err := contained(func() { s.lightly(o) }); err != nil {
			s.panicked(c, err)
		}
	}()
}

func (s *Server) lightly(o *openedConn) {
	if o.serveLightly() {
		s.handoff.deliver(o)
		return
	}
	_ = o.Close() // the client has gone, or is to go
}

// lightBuffer is the most of a head that is looked at without the server: package
// clients' heads have 150 to 700 bytes.
const lightBuffer = 1 << 10

// serveLightly answers what it can. It returns true when the server has to take
// over, to which Read then gives what was read here.
func (c *openedConn) serveLightly() bool {
	c.client.fresh.Store(true) // as noteState would have it
	c.client.idle.Store(true)
	wait := c.server.options.HeaderTimeout // net/http's time for a first request
	buffer := make([]byte, lightBuffer)
	for {
		if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return false
		}
		n, err := c.awaitHurried(buffer)
		if err != nil {
			// When larder stops, a client that has made no request yet still may.
			stopped := errors.Is(err, os.ErrDeadlineExceeded) && c.server.isStopping()
			return stopped && (n > 0 || c.client.fresh.Load()) && c.handOver(buffer[:n])
		}
		c.client.trusted()
		switch rest, err := c.answerAll(buffer[:n]); {
		case err != nil:
			return false
		case len(rest) > 0:
			return c.handOver(rest)
		}
		wait = c.server.options.KeepAlive
	}
}

// awaitHurried reads the beginning of a request, of which Shutdown hurries the wait.
func (c *openedConn) awaitHurried(p []byte) (int, error) {
	c.client.waiting.Store(true)
	defer c.client.waiting.Store(false)
	if c.server.isStopping() { // after waiting is set, or Shutdown may not see it
		return 0, os.ErrDeadlineExceeded
	}
	return c.tlsConn.Read(p)
}

// answerAll answers the requests in b and returns what it has no answer to. An error
// ends the connection.
func (c *openedConn) answerAll(b []byte) (rest []byte, err error) {
	for len(b) > 0 {
		h, ok := parsePlainHead(b)
		if ok {
			_, ok, err = c.answer(&h)
		}
		if !ok || err != nil {
			return b, err
		}
		b = b[h.length:]
	}
	return nil, nil
}

// handOver leaves b, and all that follows, to the server's reads.
func (c *openedConn) handOver(b []byte) bool {
	c.held = slices.Clone(b)
	return c.SetReadDeadline(time.Time{}) == nil
}
