package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	defaultIdle  = 10 * time.Minute
	defaultGrace = 10 * time.Second
	lockPoll     = 20 * time.Millisecond
	upkeep       = 30 * time.Second
)

// Proxy is what the daemon needs of the program.
type Proxy interface {
	// Serve accepts connections of l until l is closed. Then it closes those on
	// which nothing is under way, and returns nil or net.ErrClosed when all are
	// closed and each of their exchanges was given to observe: the sums of a run
	// count what was observed when Serve returns. Serve is called once for each
	// run, concurrently. Where l has a method Offline() bool that returns true, what
	// comes over it is answered without asking upstream; its method Run() (id, command
	// string) says whose connections these are.
	Serve(l net.Listener, observe func(Exchange)) error
	// Trust returns the files that a run's command needs, and what is called when
	// the run has ended and does not need them any more. Safe for concurrent use.
	Trust(r RunRequest) (files TrustFiles, release func(), err error)
	// Close drains what is still at work, within ctx, and closes the store.
	Close(ctx context.Context) error
}

// Options say what a daemon is made of.
type Options struct {
	Paths Paths
	// Build says which daemon this is; clients of another build replace it.
	// BuildID makes one.
	Build string
	// Idle is how long it lives without a run. 0: ten minutes; negative: for ever.
	// For its first run it waits ten seconds at least.
	Idle time.Duration
	// Grace is how long its end waits for runs, and again for what the proxy has
	// at work. 0: ten seconds.
	Grace time.Duration
	// LockWait is how long it waits for a predecessor that is ending. 0: thirty
	// seconds, for the predecessor may be writing a store to a slow disk.
	LockWait time.Duration
	// Open makes the proxy. It is called with the lock held, so that the store
	// and the authority are this process's alone, and before the socket answers,
	// so that its errors reach whoever starts the daemon.
	Open func(ctx context.Context) (Proxy, error)
	// Logger; nil: none.
	Logger *slog.Logger
}

// Server is the daemon's side.
type Server struct {
	o      Options
	logger *slog.Logger
	upkeep time.Duration // how often the log and the lock file are looked at

	finishWait time.Duration
}

// New makes a server of o.
func New(o Options) (*Server, error) {
	if o.Open == nil || o.Paths.State == "" || o.Paths.Store == "" {
		return nil, errors.New("daemon: Options need Open and Paths")
	}
	o.Idle = cmp.Or(o.Idle, defaultIdle)
	o.Grace = cmp.Or(o.Grace, defaultGrace)
	o.LockWait = cmp.Or(o.LockWait, 30*time.Second)
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Server{o: o, logger: logger, upkeep: upkeep, finishWait: finishWait}, nil
}

// Run is the life of the daemon: it takes the lock, opens the proxy, answers on
// the socket, and ends when it has been idle, when a client of another build asks
// for it, or when ctx is done. The lock is released last of all.
//
// A state folder that another daemon serves is a *HeldError. Errors that the
// user can mend have a method Hint() string.
func (s *Server) Run(ctx context.Context) error {
	if err := s.o.Paths.Create(); err != nil {
		return err
	}
	lock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.release()
	proxy, err := s.o.Open(ctx)
	if err != nil {
		return err
	}
	err = s.answer(ctx, lock, proxy)
	// What was cut short by ctx still has its grace.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.Grace)
	defer cancel()
	if cerr := proxy.Close(closing); cerr != nil {
		err = errors.Join(err, fmt.Errorf("close the proxy: %w", cerr))
	}
	s.logger.Info("background larder ended")
	return err
}

// lock waits for a predecessor that is ending, and refuses at once beside one
// that works.
func (s *Server) lock(ctx context.Context) (*fileLock, error) {
	path := s.o.Paths.Lock()
	deadline := time.Now().Add(s.o.LockWait)
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		lock, err := tryLock(path)
		if lock != nil || err != nil {
			return lock, err
		}
		if st, err := askStatus(ctx, s.o.Paths.Socket()); err == nil && !st.Ending {
			return nil, &HeldError{Lock: path, Holder: fmt.Sprintf("pid %d", st.PID), Answers: true}
		}
		if time.Now().After(deadline) {
			return nil, &HeldError{Lock: path, Holder: lockHolder(path)}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// answer has the socket open until the end.
func (s *Server) answer(ctx context.Context, lock *fileLock, proxy Proxy) error {
	l, err := listenSocket(s.o.Paths.Socket())
	if err != nil {
		return err
	}
	reg := newRegister(s.o.Idle)
	ctl := &control{
		build:    s.o.Build,
		started:  time.Now(),
		dir:      s.o.Paths.Run(),
		proxy:    proxy,
		register: reg,
		logger:   s.logger,

		finishWait: s.finishWait,
	}
	srv := &http.Server{
		Handler:     ctl.handler(),
		ConnContext: withRunner,
		// The stream of a run is silent by nature, hence no write timeout: the
		// kernel tells when the other side of a Unix socket is gone.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	// Ends when srv is closed, which shut does; failed is read after that.
	go func() { failed <- serveControl(srv, l) }()
	s.logger.Info("background larder answers", "socket", s.o.Paths.Socket(), "pid", os.Getpid(), "build", s.o.Build)

	served, err := s.watch(ctx, lock, reg, failed)
	s.shut(srv, reg, lock)
	if !served {
		err = <-failed
	}
	return err
}

// watch returns when the end has come, and whether the socket's server has
// ended (with err) already.
func (s *Server) watch(ctx context.Context, lock *fileLock, reg *register, failed <-chan error) (served bool, err error) {
	tick := time.NewTicker(s.upkeep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.logger.Info("background larder ends", "why", context.Cause(ctx))
			return false, nil
		case <-reg.ended:
			s.logger.Info("background larder ends", "why", "idle or replaced")
			return false, nil
		case err := <-failed:
			return true, fmt.Errorf("serve %s: %w", s.o.Paths.Socket(), err)
		case <-tick.C:
			if err := trimOwnLog(s.o.Paths.Log()); err != nil {
				s.logger.Warn("trim log", "err", err)
			}
			if !lock.current() {
				// Somebody removed the folder: no client finds this daemon any
				// more, and a new one may be at work there.
				s.logger.Warn("background larder ends", "why", "its lock file is gone")
				reg.end()
			}
		}
	}
}

// shut refuses new runs, gives those under way their grace, with the socket open
// for they need it to finish, and then closes everything.
func (s *Server) shut(srv *http.Server, reg *register, lock *fileLock) {
	reg.end()
	if runs, _ := reg.count(); runs > 0 {
		s.logger.Info("waiting for runs", "runs", runs, "grace", s.o.Grace)
		select {
		case <-reg.drained:
		case <-time.After(s.o.Grace):
		}
	}
	// Where the folder was removed, the socket there now is another daemon's.
	if lock.current() {
		if err := os.Remove(s.o.Paths.Socket()); err != nil {
			s.logger.Warn("remove socket", "err", err)
		}
	}
	// Answers that are being written, such as that to the request to end, get
	// out; then what is left is cut, which ends the runs.
	last, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if srv.Shutdown(last) != nil {
		srv.Close()
	}
	<-reg.drained
}
