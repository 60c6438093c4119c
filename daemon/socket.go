package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// sunPath is how long the path of a Unix socket may be: 108 bytes on Linux and
// 104 elsewhere, among them the terminating zero.
const sunPath = 103

// withShortPath calls use with a path of the socket that fits in sun_path. A
// long one is reached through a symbolic link in a new folder of the temporary
// directory, which is needed only while use binds or connects.
func withShortPath(path string, use func(string) error) error {
	if len(path) <= sunPath {
		return use(path)
	}
	dir, err := os.MkdirTemp("", "larder-") // 0700, and of a name nobody can foresee
	if err != nil {
		return hinted("use a shorter --state", "socket %s: the path is too long and: %w", path, err)
	}
	defer os.RemoveAll(dir)
	link := filepath.Join(dir, "s")
	if err := os.Symlink(filepath.Dir(path), link); err != nil {
		return hinted("use a shorter --state", "socket %s: the path is too long and: %w", path, err)
	}
	return use(filepath.Join(link, filepath.Base(path)))
}

// listenSocket binds the control socket in place of any that is there. Only the
// holder of the daemon's lock may call it.
func listenSocket(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, folderError(path, err)
	}
	var l *net.UnixListener
	err := withShortPath(path, func(short string) error {
		var err error
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// The path that it knows may be the short one, which is gone.
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return &ownListener{UnixListener: l}, nil
}

// dialSocket connects to the control socket and makes sure that it is this
// user's daemon that answers: it is going to be trusted as an authority.
func dialSocket(ctx context.Context, path string) (net.Conn, error) {
	var c net.Conn
	err := withShortPath(path, func(short string) error {
		var err error
		c, err = new(net.Dialer).DialContext(ctx, "unix", short)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := checkPeer(c.(*net.UnixConn)); err != nil {
		c.Close()
		return nil, hinted("name a folder of your own with --state", "connect to %s: %w", path, err)
	}
	return c, nil
}

// ownListener accepts only this user and root. The folder's mode keeps others
// out already; this holds where modes do not, as on some network file systems.
type ownListener struct {
	*net.UnixListener
}

func (l *ownListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if checkPeer(c) == nil {
			return c, nil
		}
		c.Close()
	}
}

// checkPeer refuses a peer of another user. Where the system does not tell, the
// folder's mode must do.
func checkPeer(c *net.UnixConn) error {
	uid, _, ok, err := peerOf(c)
	if err != nil {
		return fmt.Errorf("ask for the peer's user: %w", err)
	}
	if me := os.Getuid(); ok && uid != me && uid != 0 {
		return fmt.Errorf("the other side is user %d, and this is user %d", uid, me)
	}
	return nil
}
