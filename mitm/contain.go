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
	err := func() (err error) {
		defer contain(&err)
		run()
		return nil
	}()
	if err == nil {
		return
	}
	c.abort()
	if x.ended { // the panic is of its observer, or comes after the handing over
		p, _ := errors.AsType[*panicError](err)
		s.metrics.failures.WithLabelValues("panic").Inc()
		s.options.Logger.Error("panic", "err", err.Error(), "client", x.Client, "stack", string(p.stack))
		_ = c.Close()
		return
	}
	x.Err = "" // the panic is what an operator must see
	x.drop(c, err)
}
