package mitm

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Server is the proxy: it accepts on any number of listeners, answers CONNECT,
// opens TLS or tunnels, and serves plain and intercepted requests with one
// handler. All methods are safe for concurrent use.
type Server struct {
	options Options
	metrics *metrics
	rules   atomic.Pointer[ruleset]

	indexes  *indexes
	captures atomic.Pointer[[]*capture] // nil: none
	tls      *tls.Config

	proxy   *http.Server // what clients connect to
	opened  *http.Server // connections that larder looks into
	handoff *handoff
	ready   readyCache // nil: the Cache has no such answers
	buffers sync.Pool  // of *[]byte, copyBuffer long
	gathers sync.Pool  // of *[]byte, gatherSize long
	heads   sync.Pool  // of *[earlyBuffer]byte
	// contents is how much more may be held of request bodies that are read whole.
	contents allowance
	// distrust remembers which clients refuse larder's certificates.
	distrust *register

	// base ends when Shutdown cuts; what is dialled on nobody's request ends with it.
	base   context.Context
	cutAll context.CancelFunc

	places  chan struct{} // one per open connection
	clients *clients
	away    chan struct{} // one per connection that is turned away
	stop    chan struct{} // closed when Shutdown begins

	mu        sync.Mutex // guards the rest
	conns     map[*clientConn]struct{}
	listeners map[*listener]struct{}
	stopping  bool // Shutdown began: no new connection is taken over
	started   bool // the server of opened connections runs

	setups  count // connections between CONNECT and their server
	tunnels count
	active  count          // requests
	flushes count          // goroutines of gatherWriter
	turning count          // connections that are turned away
	running sync.WaitGroup // the server of opened connections
}

// copyBuffer is the size of the pooled buffers of passed bodies.
const copyBuffer = 64 << 10

// New checks the options and returns a Server that serves nothing yet.
func New(o Options) (*Server, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	s := &Server{
		options: o, metrics: m,
		handoff:   newHandoff(),
		places:    make(chan struct{}, o.MaxConnections),
		clients:   newClients(o),
		away:      make(chan struct{}, maxTurnedAway),
		stop:      make(chan struct{}),
		conns:     map[*clientConn]struct{}{},
		listeners: map[*listener]struct{}{},
		indexes:   newIndexes(),
	}
	s.base, s.cutAll = context.WithCancel(context.Background())
	s.ready, _ = o.Cache.(readyCache)
	s.contents.give(maxContents)
	s.distrust = newRegister(o, m)
	s.buffers.New = func() any { return new(make([]byte, copyBuffer)) }
	s.gathers.New = func() any { return new(make([]byte, gatherSize)) }
	s.heads.New = func() any { return new([earlyBuffer]byte) }
	s.SetPolicyAndAccess(o.Policy, o.Access)
	s.tls = s.tlsConfig()
	s.proxy = s.newHTTPServer(s.serveProxy, false)
	s.opened = s.newHTTPServer(s.serveOpened, true)
	return s, nil
}

// newHTTPServer has no ReadTimeout or WriteTimeout: a transfer may last as long
// as it moves, which timedConn watches.
func (s *Server) newHTTPServer(h http.HandlerFunc, h2 bool) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(h2)
	return &http.Server{
		Handler:   h,
		Protocols: protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: s.options.MaxStreams,
			// What a connection's buffer may grow to. net/http would allow 1 MiB.
			MaxReadFrameSize: maxRecord,
		},
		ReadHeaderTimeout:            s.options.HeaderTimeout,
		IdleTimeout:                  s.options.KeepAlive,
		MaxHeaderBytes:               s.options.MaxHeaderBytes,
		DisableGeneralOptionsHandler: true, // OPTIONS * belongs to the origin
		ErrorLog:                     slog.NewLogLogger(s.options.Logger.Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			framed(c)
			return withConn(ctx, clientOf(c))
		},
		ConnState: noteState,
	}
}

// SetPolicy replaces the policy for every decision from now on. Connections,
// transfers and tunnels that are under way go on.
func (s *Server) SetPolicy(p Policy) {
	for {
		old := s.rules.Load()
		if s.rules.CompareAndSwap(old, s.newRuleset(p, old.access)) {
			return
		}
	}
}

// SetPolicyAndAccess is SetPolicy that replaces Options.Access too, in one step: no
// request and no CONNECT is judged by one of the old and one of the new. What
// CONNECT has let in stays.
func (s *Server) SetPolicyAndAccess(p Policy, a Access) {
	s.rules.Store(s.newRuleset(p, a))
}

// Serve accepts connections from l until l is closed or Shutdown is called. What
// is under way on the connections that were accepted goes on; those on which
// nothing is are closed. When the last of them is closed and
// everything that came over them has been observed, Serve returns nil. It may be
// called for any number of listeners. observe, if not nil, gets every Exchange of
// the connections of this listener, concurrently and before the server moves on:
// it must be quick. It is not called once Serve has returned nil.
//
// Where l has a method Offline() bool that returns true, requests on its connections
// are answered from the store, whatever its age, or with 504: upstream is not asked.
// Where it has a method Run() (id, command string), its clients are that command's as
// far as Distrust goes.
func (s *Server) Serve(l net.Listener, observe func(Exchange)) error {
	return s.ServeRecorded(l, observe, nil)
}

// ServeRecorded is Serve, with what goes over its connections in r as well. A nil r
// keeps nothing.
func (s *Server) ServeRecorded(l net.Listener, observe func(Exchange), r *Recorder) error {
	return s.serve(l, &Entrance{}, observe, r)
}

// ServeEntrance is Serve for connections that begin in another way.
func (s *Server) ServeEntrance(l net.Listener, e Entrance, observe func(Exchange)) error {
	return s.serve(l, &e, observe, nil)
}

func (s *Server) serve(l net.Listener, e *Entrance, observe func(Exchange), r *Recorder) error {
	left := new(count)
	accepting := &listener{Listener: l, server: s, observe: observe, pending: left, offline: isOffline(l), run: runOf(l), recorder: r}
	if e != nil {
		accepting.uncounted = e.isBalancer
	}
	if !s.start(accepting) {
		_ = l.Close() // nothing was accepted
		return nil
	}
	defer s.forgetListener(accepting)
	s.options.Upstream.Refuse(l.Addr())
	defer s.options.Upstream.unrefuse(l.Addr())
	err := s.serveEntrance(accepting, e)
	if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err // of accepting: the caller is to know now
	}
	return s.drainListener(left)
}

// start notes a listener, and starts the server of opened connections once.
func (s *Server) start(l *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.listeners[l] = struct{}{}
	if !s.started {
		s.started = true
		s.running.Go(func() { _ = s.opened.Serve(s.handoff) }) // ends when handoff is closed
	}
	return true
}

func (s *Server) forgetListener(l *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

// Shutdown stops accepting, refuses CONNECT, and waits: for connections between
// CONNECT and their first request, for those that are open, and for tunnels.
// Requests that still come are served, and their answers say that the connection
// ends (Connection: close, GOAWAY). When ctx ends it cuts what is left and
// returns its error. In every case nothing of the Server runs when it returns.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	first := !s.stopping
	s.stopping = true
	listeners := slices.Collect(maps.Keys(s.listeners))
	s.mu.Unlock()
	if first {
		close(s.stop)
	}
	// Before the listeners go, so that who sees them gone gets answers that say so.
	s.proxy.SetKeepAlivesEnabled(false)
	s.opened.SetKeepAlivesEnabled(false)
	for _, l := range listeners {
		_ = l.Close() // Serve returns when it is
	}
	for _, c := range s.connections() {
		c.hurry()
	}
	err := s.drain(ctx)
	if err != nil {
		s.cut()
	}
	// Detached: after the cut each ends by itself.
	ctx = context.WithoutCancel(ctx)
	for _, c := range []*count{&s.setups, &s.tunnels, &s.active, &s.flushes, &s.turning} {
		err = errors.Join(err, c.drain(ctx))
	}
	_ = s.handoff.Close()
	s.running.Wait()
	return err
}

// drain ends both servers at the same time: a long download on one must not
// keep the other from telling its clients.
func (s *Server) drain(ctx context.Context) error {
	var both sync.WaitGroup
	var openedErr error
	both.Go(func() { // ends when ctx does
		soon, cancel := context.WithTimeout(ctx, s.options.HandshakeTimeout)
		defer cancel()
		_ = s.setups.drain(soon) // whoever is late is closed by handoff
		openedErr = s.drainServer(ctx, s.opened)
	})
	err := s.drainServer(ctx, s.proxy)
	both.Wait()
	if err = errors.Join(err, openedErr); err != nil {
		return err
	}
	// Setups go first: one may be dialling, and what it becomes is a tunnel.
	for _, c := range []*count{&s.active, &s.setups, &s.tunnels} {
		if err := c.drain(ctx); err != nil {
			return err
		}
	}
	return nil
}

const (
	// freshGrace is how long a connection that has made no request may take to.
	freshGrace = 5 * time.Second
	freshPoll  = 20 * time.Millisecond
)

// drainServer lets a server's connections end with their next answer. Once
// net/http's own Shutdown has begun it hangs up on every request of HTTP/1 that
// it reads, so clients that have connected get to make theirs before.
func (s *Server) drainServer(ctx context.Context, h *http.Server) error {
	grace, cancel := context.WithTimeout(ctx, freshGrace)
	defer cancel()
	poll := time.NewTicker(freshPoll)
	defer poll.Stop()
	for slices.ContainsFunc(s.connections(), func(c *clientConn) bool { return c.fresh.Load() }) && grace.Err() == nil {
		select {
		case <-poll.C:
		case <-grace.Done():
		}
	}
	return h.Shutdown(ctx)
}

// cut closes every connection, upon which handlers and tunnels end.
func (s *Server) cut() {
	s.cutAll()
	_ = s.proxy.Close() // whatever fails to close is closed below
	_ = s.opened.Close()
	for _, c := range s.connections() {
		c.abort()
	}
}

// connections are those that are open now.
func (s *Server) connections() []*clientConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.conns))
}

// enter adds to a count unless the server is stopping.
func (s *Server) enter(c *count) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.stopping && c.enter()
}

func (s *Server) isStopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// closedPoll is how often a listener without a free place looks whether it was
// closed. Its owner may close what larder was given, and only Accept would hear.
const closedPoll = 50 * time.Millisecond

// place waits until one more connection may be open.
func (s *Server) place(l net.Listener) error {
	select {
	case s.places <- struct{}{}:
		return nil
	default:
	}
	poll := time.NewTicker(closedPoll)
	defer poll.Stop()
	for {
		select {
		case s.places <- struct{}{}:
			return nil
		case <-s.stop:
			return net.ErrClosed
		case <-poll.C:
			if isClosed(l) {
				return net.ErrClosed
			}
		}
	}
}

// isClosed reports whether a listener is closed, if it can tell.
func isClosed(l net.Listener) bool {
	t, ok := l.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := t.SyscallConn()
	return err != nil || raw.Control(func(uintptr) {}) != nil
}

func (s *Server) leave() { <-s.places }

func (s *Server) track(c *clientConn) {
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	s.metrics.connections.Inc()
}

func (s *Server) forget(c *clientConn) {
	s.mu.Lock()
	delete(s.conns, c)
	of := c.of
	s.mu.Unlock()
	s.metrics.connections.Dec()
	s.clients.leave(of)
	s.leave()
}
