package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"
)

// maxControlBody bounds what a client may send.
const maxControlBody = 1 << 20

// control answers on the socket.
type control struct {
	build    string
	started  time.Time
	dir      string
	proxy    Proxy
	register *register
	logger   *slog.Logger

	finishWait time.Duration
}

func (c *control) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", c.status)
	mux.HandleFunc("POST /v1/end", c.end)
	mux.HandleFunc("POST /v1/runs", c.run)
	mux.HandleFunc("POST /v1/runs/{id}/finish", c.finish)
	mux.HandleFunc("GET /v1/runs/{id}/exchanges", c.exchanges)
	mux.HandleFunc("GET /v1/runs/{id}/har", c.har)
	if p, ok := c.proxy.(API); ok {
		mux.Handle("/api/", c.hold(p.API()))
	}
	return mux
}

func (c *control) status(w http.ResponseWriter, _ *http.Request) {
	runs, ending := c.register.count()
	answer(w, Status{
		Build:   c.build,
		PID:     os.Getpid(),
		Started: c.started,
		Runs:    runs,
		Ending:  ending,
	})
}

func (c *control) end(w http.ResponseWriter, _ *http.Request) {
	if err := c.register.endIfQuiet(); err != nil {
		refuse(w, http.StatusConflict, codeBusy, err)
		return
	}
	answer(w, struct{}{})
}

// run opens a run and holds the answer open until the client goes away. The
// request's context is what tells: net/http reads on in the background, so a
// client that is killed is noticed at once.
func (c *control) run(w http.ResponseWriter, r *http.Request) {
	var req RunRequest
	body := http.MaxBytesReader(w, r.Body, maxControlBody)
	if err := json.NewDecoder(body).Decode(&req); err != nil {
		refuse(w, http.StatusBadRequest, codeFailed, err)
		return
	}
	// The background read begins at the end of the body, so it must be reached.
	if _, err := io.Copy(io.Discard, body); err != nil {
		refuse(w, http.StatusBadRequest, codeFailed, err)
		return
	}
	files, release, err := c.proxy.Trust(req)
	if err != nil {
		refuse(w, http.StatusInternalServerError, codeFailed, err)
		return
	}
	defer release()
	run, err := openRun(req, c.dir, newGuard(runnerOf(r.Context())), c.proxy.Serve, c.logger)
	if err != nil {
		refuse(w, http.StatusInternalServerError, codeFailed, err)
		return
	}
	if err := c.register.add(run); err != nil {
		run.close()
		refuse(w, http.StatusServiceUnavailable, codeEnding, err)
		return
	}
	// Removed when all of it has ended, for the end of the last run may be the
	// end of the proxy.
	defer c.register.remove(run)
	defer run.close()
	answer(w, opened{ID: run.id, Proxy: run.port.Addr().String(), Files: files})
	if err := http.NewResponseController(w).Flush(); err != nil {
		return
	}
	<-r.Context().Done()
}

func (c *control) finish(w http.ResponseWriter, r *http.Request) {
	run := c.register.find(r.PathValue("id"))
	if run == nil {
		refuse(w, http.StatusNotFound, codeUnknown, errors.New("no such run"))
		return
	}
	answer(w, run.finish(r.Context(), c.finishWait))
}

func (c *control) exchanges(w http.ResponseWriter, r *http.Request) {
	run := c.register.find(r.PathValue("id"))
	if run == nil {
		refuse(w, http.StatusNotFound, codeUnknown, errors.New("no such run"))
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	if err := run.account.writeTo(w); err != nil {
		if r.Context().Err() == nil {
			c.logger.Error("list exchanges", "run", run.id, "err", err)
		}
		// The status is out: only a cut connection tells a partial list from a
		// whole one.
		panic(http.ErrAbortHandler)
	}
}

func (c *control) har(w http.ResponseWriter, r *http.Request) {
	run := c.register.find(r.PathValue("id"))
	if run == nil || run.port == nil || run.port.kept() == nil {
		refuse(w, http.StatusNotFound, codeUnknown, errors.New("no such run, or nothing of it is recorded"))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := run.port.kept().WriteTo(w); err != nil {
		panic(http.ErrAbortHandler) // as of exchanges
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// A client that is gone is noticed by its connection's context.
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, code string, err error) {
	no := refusal{Code: code, Error: err.Error()}
	var helpful interface{ Hint() string }
	if errors.As(err, &helpful) {
		no.Hint = helpful.Hint()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(no)
}

// runnerKey is the context key of the process that a request is from.
type runnerKey struct{}

func withRunner(ctx context.Context, c net.Conn) context.Context {
	unix, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	// Where it cannot be asked, it is not known: see runnerOf.
	_, pid, _, _ := peerOf(unix)
	return context.WithValue(ctx, runnerKey{}, pid)
}

// runnerOf returns the process at the other end, or 0.
func runnerOf(ctx context.Context) int {
	pid, _ := ctx.Value(runnerKey{}).(int)
	return pid
}

// serveControl serves until the server is closed.
func serveControl(s *http.Server, l net.Listener) error {
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
