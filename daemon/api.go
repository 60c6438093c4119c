package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
)

// API is what a Proxy may have besides: a handler for requests below /api/, which
// the control socket then answers too. The daemon does not end while one is under
// way.
type API interface {
	API() http.Handler
}

// Recorded is what a listener of a run has besides, for a Proxy that can record.
type Recorded interface {
	// Recorded: what goes over the listener's connections shall be recorded.
	Recorded() bool
	// Keep is given what writes the record, before anything is served.
	Keep(record io.WriterTo)
}

// hold counts a request as a run would be, for the time that it takes.
func (c *control) hold(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		held := &hostedRun{id: rand.Text()}
		if err := c.register.add(held); err != nil {
			refuse(w, http.StatusServiceUnavailable, codeEnding, err)
			return
		}
		defer c.register.remove(held)
		next.ServeHTTP(w, r)
	})
}

// AdminSocket is where a larder in the foreground answers who owns the state folder.
func (p Paths) AdminSocket() string { return filepath.Join(p.Run(), "admin.sock") }

// ListenAdmin binds AdminSocket in place of any that is there; only the holder of the
// store may. It accepts connections of this user and of root. Closing it removes the
// socket.
func ListenAdmin(p Paths) (net.Listener, error) {
	l, err := listenSocket(p.AdminSocket())
	if err != nil {
		return nil, err
	}
	return &adminListener{Listener: l, path: p.AdminSocket()}, nil
}

type adminListener struct {
	net.Listener
	path string
}

// Close implements net.Listener.
func (l *adminListener) Close() error {
	err := l.Listener.Close()
	if !errors.Is(err, net.ErrClosed) {
		if rerr := os.Remove(l.path); !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

// ErrNoLarder says that no larder answers in a state folder.
var ErrNoLarder = errors.New("no larder is running with this state folder")

// DialAdmin connects to the larder that is at work in the state folder, in the
// foreground or in the background, and makes sure that it is this user's or root's;
// root may speak with anybody's. Where there is none the error is ErrNoLarder.
func DialAdmin(ctx context.Context, p Paths) (net.Conn, error) {
	for _, socket := range []string{p.AdminSocket(), p.Socket()} {
		c, err := dialAdmin(ctx, socket)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ENOTDIR) {
			return nil, err
		}
	}
	return nil, ErrNoLarder
}

// Serves reports whether a larder that is not the background one has the state folder.
func Serves(ctx context.Context, p Paths) bool {
	c, err := dialAdmin(ctx, p.AdminSocket())
	if err != nil {
		return false
	}
	_ = c.Close() // nothing was said
	return true
}

func dialAdmin(ctx context.Context, socket string) (net.Conn, error) {
	if os.Getuid() != 0 {
		return dialSocket(ctx, socket)
	}
	var c net.Conn
	err := withShortPath(socket, func(short string) error {
		var err error
		c, err = new(net.Dialer).DialContext(ctx, "unix", short)
		return err
	})
	return c, err
}
