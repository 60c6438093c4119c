package mitm

import (
	"net"
	"sync"
	"time"
)

// handoff is the listener through which connections that larder looks
// into reach their http.Server.
type handoff struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandoff() *handoff {
	return &handoff{conns: make(chan net.Conn), done: make(chan struct{})}
}

// deliver hands a connection over, or closes it if nobody takes it any more.
func (h *handoff) deliver(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		_ = c.Close() // the client will see the end either way
	}
}

func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handoff) Addr() net.Addr { return &net.UnixAddr{Name: "intercepted", Net: "larder"} }

// aLongTimeAgo is a deadline that makes a waiting read return at once.
func aLongTimeAgo() time.Time { return time.Unix(1, 0) }
