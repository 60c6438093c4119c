package mitm

import (
	"context"
	"net"
	"net/http"
	"time"
)

const (
	// overPoll is how often the connections of a closed listener are looked at.
	overPoll = 20 * time.Millisecond
	// quietTunnel is how long nothing moves in a tunnel that may be ended then.
	quietTunnel = time.Second
)

// drainListener waits, when a listener is closed, for everything that came over
// it. Connections on which nothing is under way are closed, and so are tunnels on
// which nothing moves: they are of clients that keep them for a next time, which
// there will not be.
func (s *Server) drainListener(left *count) error {
	for {
		s.closeQuiet(left)
		ctx, cancel := context.WithTimeout(context.Background(), overPoll)
		err := left.drain(ctx)
		cancel()
		if err == nil {
			return nil
		}
	}
}

func (s *Server) closeQuiet(left *count) {
	if s.isStopping() {
		return // Shutdown serves even those who speak up only now
	}
	for _, c := range s.connections() {
		if c.pending == left && (c.idle.Load() || c.tunnels.Load() && isQuiet(c.Conn)) {
			_ = c.Close() // there is nothing to lose
		}
	}
}

func isQuiet(c net.Conn) bool {
	since, known := sinceMoved(c)
	return !known || since >= quietTunnel
}

// noteState keeps for closeQuiet whether net/http waits for a request, and for
// drainServer whether it is the first.
func noteState(c net.Conn, state http.ConnState) {
	if client := clientOf(c); client != nil {
		client.fresh.Store(state == http.StateNew)
		client.idle.Store(state == http.StateNew || state == http.StateIdle)
		if state == http.StateActive {
			client.trusted()
		}
	}
	if o, ok := c.(*openedConn); ok {
		o.noteState(state)
	}
}
