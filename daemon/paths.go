package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Paths says where one larder keeps its things.
type Paths struct {
	// State is the folder of everything but, for a user's own larder, the store.
	State string
	// Store is the folder of the stored objects.
	Store string
}

// CA is the folder of the private authority, 0700.
func (p Paths) CA() string { return filepath.Join(p.State, "ca") }

// Trust is the folder of what others need to trust the authority. It is 0755,
// because apt reads it as its sandbox user.
func (p Paths) Trust() string { return filepath.Join(p.State, "trust") }

// Integrity is the folder of what larder knows of the digests of files, 0700.
func (p Paths) Integrity() string { return filepath.Join(p.State, "integrity") }

// Ledger is the folder of the digests under which URLs were first seen, 0700.
func (p Paths) Ledger() string { return filepath.Join(p.State, "ledger") }

// Run is the folder of the socket, the locks and the log, 0700.
func (p Paths) Run() string { return filepath.Join(p.State, "run") }

// Socket is the control socket. Its path may be longer than sun_path allows.
func (p Paths) Socket() string { return filepath.Join(p.Run(), "control.sock") }

// Lock is the file whose flock(2) makes a process the daemon.
func (p Paths) Lock() string { return filepath.Join(p.Run(), "daemon.lock") }

// Log is where a detached daemon's standard output and error go. What was in it
// before it grew too long is beside it, in daemon.log.1.
func (p Paths) Log() string { return filepath.Join(p.Run(), "daemon.log") }

func (p Paths) startLock() string { return filepath.Join(p.Run(), "start.lock") }

// DefaultPaths says where the larder of user uid keeps its things: below
// flagState if it is not empty, in /var/lib/larder for root, and otherwise in
// the folders of the XDG Base Directory Specification 0.8, which getenv names.
// It creates nothing.
func DefaultPaths(flagState string, getenv func(string) string, uid int) (Paths, error) {
	if flagState != "" {
		state, err := filepath.Abs(flagState)
		if err != nil {
			return Paths{}, fmt.Errorf("state folder %q: %w", flagState, err)
		}
		return Paths{State: state, Store: filepath.Join(state, "store")}, nil
	}
	if uid == 0 {
		return Paths{State: "/var/lib/larder", Store: "/var/lib/larder/store"}, nil
	}
	state, err := xdg(getenv, "XDG_STATE_HOME", ".local/state")
	if err != nil {
		return Paths{}, err
	}
	cache, err := xdg(getenv, "XDG_CACHE_HOME", ".cache")
	if err != nil {
		return Paths{}, err
	}
	return Paths{
		State: filepath.Join(state, "larder"),
		Store: filepath.Join(cache, "larder", "store"),
	}, nil
}

// xdg ignores a relative path in the variable, as the specification asks.
func xdg(getenv func(string) string, name, below string) (string, error) {
	if dir := getenv(name); filepath.IsAbs(dir) {
		return dir, nil
	}
	home := getenv("HOME")
	if !filepath.IsAbs(home) {
		return "", hinted("set HOME, or name a folder with --state",
			"find a state folder: neither %s nor HOME is an absolute path", name)
	}
	return filepath.Join(home, below), nil
}

// Create makes the folders that are missing, with their modes whatever the
// umask is, and checks those that exist: that they are folders, that this user
// can write in them, and that nobody else owns them or can write in them, since
// whoever can replaces the authority or the roots that runs trust. The state
// folder itself may belong to root (a mounted volume often does), and may be
// open to all if it is sticky, as /tmp is, for then nobody can move what is in it.
//
// Errors that the user can mend have a method Hint() string.
func (p Paths) Create() error {
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{
		{p.State, 0o755},
		{p.Run(), 0o700},
		{p.CA(), 0o700},
		{p.Trust(), 0o755},
		{p.Integrity(), 0o700},
		{p.Ledger(), 0o700},
		{p.Store, 0o700},
	} {
		if err := makeFolder(d.path, d.mode); err != nil {
			return err
		}
		if err := checkFolder(d.path, d.path == p.State); err != nil {
			return err
		}
		if d.path == p.Run() {
			continue // checkPrivate asks more of it
		}
		if err := checkWriters(d.path, d.path == p.State); err != nil {
			return err
		}
	}
	return checkPrivate(p.Run())
}

func makeFolder(path string, mode fs.FileMode) error {
	switch _, err := os.Stat(path); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return folderError(path, err)
	}
	// Parents such as ~/.local/state are the user's, hence not world-readable
	// where the state folder itself would be.
	parents := fs.FileMode(0o700)
	if os.Getuid() == 0 {
		parents = 0o755
	}
	if err := os.MkdirAll(filepath.Dir(path), parents); err != nil {
		return folderError(path, err)
	}
	if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return folderError(path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return folderError(path, err)
	}
	return nil
}

func checkFolder(path string, shared bool) error {
	fi, err := os.Stat(path)
	if err != nil {
		return folderError(path, err)
	}
	if !fi.IsDir() {
		return hinted("move it away, or name another folder with --state", "folder %s: is a file", path)
	}
	if owner, me := ownerOf(fi), os.Getuid(); owner != me && !(shared && owner == 0) {
		return hinted("run larder as that user, or name a folder of your own with --state",
			"folder %s: belongs to user %d, and this is user %d", path, owner, me)
	}
	if shared {
		return nil // making the folders in it has shown, or need not show, that it is writable
	}
	// Asked of the kernel by doing it: mode bits say nothing of a read-only
	// mount, and access(2) says nothing of a full quota.
	probe, err := os.CreateTemp(path, ".probe-*")
	if err != nil {
		return folderError(path, err)
	}
	err = errors.Join(probe.Close(), os.Remove(probe.Name()))
	if err != nil {
		return folderError(path, err)
	}
	return nil
}

// checkWriters refuses a folder that others can change.
func checkWriters(path string, stickyDoes bool) error {
	fi, err := os.Stat(path)
	if err != nil {
		return folderError(path, err)
	}
	if fi.Mode().Perm()&0o022 == 0 || stickyDoes && fi.Mode()&fs.ModeSticky != 0 {
		return nil
	}
	return hinted("chmod go-w "+path, "folder %s: mode %04o lets other users write in it", path, fi.Mode().Perm())
}

// checkPrivate refuses a run folder in which others could put a socket.
func checkPrivate(path string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return folderError(path, err)
	}
	if !fi.IsDir() {
		return hinted("remove it", "folder %s: is not a folder but %s", path, fi.Mode().Type())
	}
	if loose := fi.Mode().Perm() & 0o077; loose != 0 {
		return hinted("chmod 700 "+path, "folder %s: mode %04o lets other users in", path, fi.Mode().Perm())
	}
	return nil
}

func folderError(path string, err error) error {
	// The path that failed may be a parent; os names it, we name what for.
	var cause error = err
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		cause = pe.Err
		if pe.Path != path && filepath.Dir(pe.Path) != path {
			cause = fmt.Errorf("%s %s: %w", pe.Op, pe.Path, pe.Err)
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return hinted("make it writable for this user, or name another folder with --state",
			"folder %s: cannot write there: %w", path, cause)
	case errors.Is(err, syscall.ENOTDIR):
		return hinted("move the file away, or name another folder with --state", "folder %s: %w", path, cause)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return hinted("make room, or name a folder on another disk with --state", "folder %s: %w", path, cause)
	}
	return fmt.Errorf("folder %s: %w", path, cause)
}

func ownerOf(fi fs.FileInfo) int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return os.Getuid()
}
