package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// finishWait is how long a finished run waits for what is under way. The command
// has ended by then, and the proxy closes the connections that are only kept, so
// what is left are transfers of processes that the command left behind.
const finishWait = 10 * time.Second

// serveWait is how long it then waits for the proxy to be done with what was cut.
const serveWait = 2 * time.Second

// hostedRun is the daemon's side of a run: its port, and its account.
type hostedRun struct {
	id      string
	label   string
	port    *port
	account *account
	served  chan struct{} // closed when the proxy is done with the port
	logger  *slog.Logger

	once    sync.Once // guards summary
	summary Summary
}

// openRun opens a port for whom the guard admits and has the proxy serve it. The
// caller calls close.
func openRun(req RunRequest, dir string, g guard, serve func(net.Listener, func(Exchange)) error, logger *slog.Logger) (*hostedRun, error) {
	r := &hostedRun{
		id:      rand.Text(),
		label:   req.Label,
		account: newAccount(dir),
		served:  make(chan struct{}),
	}
	r.logger = logger.With("run", r.id, "label", req.Label)
	p, err := listenPort(g, r.logger)
	if err != nil {
		return nil, fmt.Errorf("open a loopback port for the run: %w", err)
	}
	p.id, p.label, p.offline, p.har = r.id, r.label, req.Offline, req.HAR
	r.port = p
	// Ends when the port is closed, which close does and waits for.
	go func() {
		defer close(r.served)
		if err := serve(p, r.account.add); err != nil && !errors.Is(err, net.ErrClosed) {
			r.logger.Error("serve run", "err", err)
		}
	}()
	r.logger.Info("run begins", "addr", p.Addr().String())
	return r, nil
}

// finish closes the port, waits until the proxy has told of every exchange, for
// which those under way have a while, and adds up. Later calls return the same,
// and the list stays as it is, so that it goes with the sums.
func (r *hostedRun) finish(ctx context.Context, wait time.Duration) Summary {
	r.once.Do(func() {
		r.port.Close()
		under, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		cut := 0
		select {
		case <-r.served:
		case <-under.Done():
			cut = r.port.cut()
			select {
			case <-r.served:
			case <-time.After(serveWait):
				r.logger.Warn("proxy still serves the closed port of a run")
			}
		}
		r.summary = r.account.freeze()
		r.summary.Cut = cut
	})
	return r.summary
}

// close frees everything of the run, and waits until the proxy is done with it.
func (r *hostedRun) close() {
	r.port.Close()
	r.port.cut()
	<-r.served
	sum := r.account.summary()
	r.account.close()
	r.logger.Info("run ends", "requests", sum.Requests, "hits", sum.Hits,
		"cache_bytes", sum.CacheBytes, "upstream_bytes", sum.UpstreamBytes, "errors", sum.Errors)
}
