package mitm

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// panicError is a panic of larder's own code, on one connection's account.
// net/http contains those of handlers; what runs beside them is contained here,
// so that a bug that one connection brings out ends that connection alone.
type panicError struct {
	value any
	stack []byte // nil where net/http logs it
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// contain makes a panic the error of the function that defers it.
func contain(err *error) {
	if v := recover(); v != nil {
		*err = &panicError{v, debug.Stack()}
	}
}

// guarded runs what becomes of a connection after CONNECT. A panic ends the
// connection and is the exchange's failure, logged with its stack and counted.
func (s *Server) guarded(c *clientConn, x *exchange, run func()) {
	err := contained(run)
	if err == nil {
		return
	}
	if x.ended { // the panic is of its observer, or comes after the handing over
		s.panicked(c, err)
		return
	}
	c.abort()
	x.Err = "" // the panic is what an operator must see
	x.drop(c, err)
}

func contained(run func()) (err error) {
	defer contain(&err)
	run()
	return nil
}

// panicked ends a connection on whose account, but not one of its exchanges',
// larder has panicked.
func (s *Server) panicked(c *clientConn, err error) {
	c.abort()
	p, _ := errors.AsType[*panicError](err)
	s.metrics.failures.WithLabelValues("panic").Inc()
	s.options.Logger.Error("panic", "err", err.Error(), "client", c.remote, "stack", string(p.stack))
	_ = c.Close()
}
