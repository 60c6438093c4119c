package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// lastAnswers is how long Serve waits for answers under way when it ends.
const lastAnswers = 3 * time.Second

// Serve answers on l with h until ctx is done, and closes l. It bounds how long a
// request and an answer may take, logs through the logger of a handler made by
// New, and returns nil after an end by ctx.
//
// While larder drains, /-/ready is what tells the load balancer, so ctx should
// end after the drain.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	logger := slog.New(slog.DiscardHandler)
	if r, ok := h.(*root); ok {
		logger = r.logger
	}
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      time.Minute, // all metrics, to a scraper far away
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	// Ends when srv is shut down or its listener fails; served is read below.
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		srv.Close()
		return fmt.Errorf("serve admin on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastAnswers)
	defer cancel()
	if srv.Shutdown(last) != nil {
		srv.Close()
	}
	if r, ok := h.(*root); ok {
		// Their connections are closed, which ends long calls of the store API.
		r.active.Lock()
		defer r.active.Unlock()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin on %s: %w", l.Addr(), err)
	}
	return nil
}
