package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// child is a daemon that this process has started. Nobody waits for it but by
// asking, since it outlives the one who started it.
type child struct {
	pid      int
	logStart int64 // where its part of the log begins
}

// spawn starts the daemon detached: in a session and process group of its own, so
// that no signal of the terminal reaches it, in the root folder, so that it keeps
// no mount busy, with its output in the log and nothing else open.
func spawn(p Paths, argv, env []string) (*child, error) {
	log, start, err := openLog(p.Log())
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	restore := keepDescriptors()
	err = cmd.Start()
	restore()
	if err != nil {
		return nil, fmt.Errorf("start the background larder: %w", err)
	}
	c := &child{pid: cmd.Process.Pid, logStart: start}
	return c, cmd.Process.Release()
}

// exited tells whether the daemon has ended, and how.
func (c *child) exited() (string, bool) {
	if c.pid == 0 {
		return "", false
	}
	var ws unix.WaitStatus
	pid, err := unix.Wait4(c.pid, &ws, unix.WNOHANG, nil)
	if pid != c.pid || err != nil {
		return "", false
	}
	c.pid = 0
	if ws.Signaled() {
		return "it was killed: " + ws.Signal().String(), true
	}
	return "it ended with exit code " + strconv.Itoa(ws.ExitStatus()), true
}

// keepDescriptors marks the descriptors that this process has inherited to stay
// behind at the next exec, and returns what undoes it. Go marks its own; what a
// shell, make or a CI runner had open (3 and up) would live on in the daemon, and
// whoever waits for the end of such a pipe would wait for the daemon's. They are
// unmarked after, since the command of the run may want them.
func keepDescriptors() (restore func()) {
	var marked []int
	names, err := os.ReadDir("/dev/fd")
	if err != nil {
		return func() {}
	}
	for _, name := range names {
		fd, err := strconv.Atoi(name.Name())
		if err != nil || fd < 3 {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flags|unix.FD_CLOEXEC); err == nil {
			marked = append(marked, fd)
		}
	}
	return func() {
		for _, fd := range marked {
			_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		}
	}
}

// environment is what of the caller's environment a daemon gets, which serves
// runs from any: where things are, and how much of the machine Go takes. Above
// all it gets nothing that says whom it trusts, or how it verifies: what it
// fetches for one caller it serves to all, so SSL_CERT_FILE, SSL_CERT_DIR and
// GODEBUG of whoever happened to start it stay behind, and upstream is verified
// with the system's roots and upstream.ca_file alone. It gets no proxy either.
func environment(environ []string) []string {
	var env []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "HOME", "PATH", "USER", "LOGNAME", "TMPDIR", "LANG", "LC_ALL", "TZ",
			"XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR",
			"GOMAXPROCS", "GOMEMLIMIT", "GOGC", "GOTRACEBACK", "GOCOVERDIR":
			env = append(env, kv)
		default:
			if strings.HasPrefix(name, "LARDER_") {
				env = append(env, kv)
			}
		}
	}
	return env
}

// BuildID says which larder this process is: version, and size and time of the
// executable, so that a rebuilt one differs too. Call it early, for it names what
// is at the executable's path.
func BuildID(version string) string {
	// The link leads to the file that runs, even when another has its name now.
	exe := "/proc/self/exe"
	fi, err := os.Stat(exe)
	if err != nil {
		if exe, err = os.Executable(); err == nil {
			fi, err = os.Stat(exe)
		}
	}
	if err != nil {
		return version
	}
	return fmt.Sprintf("%s %x-%x", version, fi.Size(), fi.ModTime().UnixNano())
}
