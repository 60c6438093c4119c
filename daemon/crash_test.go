package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestKilledDaemonIsReplaced(t *testing.T) {
	r := newRole(t)
	c := connect(t, r)
	first := pidOf(t, c)
	kill(t, first)
	if _, err := os.Lstat(r.paths().Socket()); err != nil {
		t.Fatalf("the killed daemon should have left its socket: %v", err)
	}
	if second := pidOf(t, connect(t, r)); second == first {
		t.Errorf("still pid %d", second)
	}
	// A client from before finds the successor too.
	fetch(t, startRun(t, c), "hit", 1)
}

func TestStartRunReplacesADaemonKilledAfterConnect(t *testing.T) {
	r := newRole(t)
	c := connect(t, r)
	first := pidOf(t, c)
	kill(t, first)
	fetch(t, startRun(t, c), "hit", 1)
	if second := pidOf(t, c); second == first {
		t.Errorf("still pid %d", second)
	}
}

func TestRunOfAKilledDaemonIsLost(t *testing.T) {
	r := newRole(t)
	c := connect(t, r)
	run := startRun(t, c)
	kill(t, pidOf(t, c))
	lostRun(t, run)
	refused(t, run.ProxyAddr)
	// A successor knows nothing of the run.
	connect(t, r)
	lostRun(t, run)
}

func lostRun(t *testing.T, run *Run) {
	t.Helper()
	if sum, err := run.Finish(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("Finish = %v, %v; want ErrLost", sum, err)
	}
	n := 0
	for _, err := range run.Fetched(t.Context()) {
		if n++; !errors.Is(err, ErrLost) {
			t.Errorf("Fetched: %v, want ErrLost", err)
		}
	}
	if n != 1 {
		t.Errorf("Fetched yielded %d times, want once", n)
	}
}

// A list that is cut off must not look like a whole one.
func TestListOfADaemonKilledMidwayIsAnError(t *testing.T) {
	r := newRole(t)
	c := connect(t, r)
	run := startRun(t, c)
	// More than the socket's buffers hold, in few requests.
	long := strings.Repeat("x", 60<<10)
	for i := range 40 {
		fetch(t, run, "hit", i, "?"+long)
	}
	n, last := 0, error(nil)
	for _, err := range run.Fetched(t.Context()) {
		if n++; n == 1 {
			kill(t, pidOf(t, c))
		}
		last = err
	}
	if !errors.Is(last, ErrLost) {
		t.Errorf("the list ended after %d with %v, want ErrLost", n, last)
	}
	if n >= 40 {
		t.Errorf("all %d were listed: the test does not cut the list", n)
	}
}

func TestKilledClientFreesItsPort(t *testing.T) {
	r := newRole(t)
	c := connect(t, r)
	p := startClient(t, r)
	daemon, proxy := p.started(t)
	if daemon != pidOf(t, c) {
		t.Fatalf("the client found daemon %d, want %d", daemon, pidOf(t, c))
	}
	if conn, err := net.Dial("tcp", proxy); err != nil {
		t.Fatalf("the port of the run: %v", err)
	} else {
		conn.Close()
	}
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	refused(t, proxy)
	eventually(t, "the run is gone", func() bool {
		st, err := c.Status(t.Context())
		return err == nil && st.Runs == 0
	})
}

func TestStaleSocketIsReplaced(t *testing.T) {
	r := newRole(t)
	if err := r.paths().Create(); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.paths().Socket(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	connect(t, r)
	fi, err := os.Lstat(r.paths().Socket())
	if err != nil {
		t.Fatal(err)
	}
	if got := fi.Mode(); got != os.ModeSocket|0o600 {
		t.Errorf("mode of the socket is %v, want a socket of 0600", got)
	}
}

func TestFileInPlaceOfTheSocketIsReplaced(t *testing.T) {
	r := newRole(t)
	if err := r.paths().Create(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.paths().Socket(), []byte("no socket"), 0o600); err != nil {
		t.Fatal(err)
	}
	connect(t, r)
}

func TestLockOfAnotherProcessIsRespected(t *testing.T) {
	r := newRole(t)
	if err := r.paths().Create(); err != nil {
		t.Fatal(err)
	}
	lock, err := tryLock(r.paths().Lock())
	if lock == nil || err != nil {
		t.Fatalf("tryLock = %v, %v", lock, err)
	}
	defer lock.release()
	r.LockWait = 100 * time.Millisecond
	_, err = Connect(t.Context(), r.options(t))
	start, ok := errors.AsType[*StartError](err)
	if !ok {
		t.Fatalf("Connect: %v, want a *StartError", err)
	}
	want := fmt.Sprintf("start the background larder: lock %s: held by pid %d, which does not answer", r.paths().Lock(), os.Getpid())
	if start.Error() != want {
		t.Errorf("error:\n got %s\nwant %s", start, want)
	}
	if !strings.Contains(start.Hint(), "kill") {
		t.Errorf("hint: %s", start.Hint())
	}
}

func TestHangingDaemonIsNamed(t *testing.T) {
	r := newRole(t)
	pid := pidOf(t, connect(t, r))
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer kill(t, pid)
	eventually(t, "the daemon is stopped", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && strings.Contains(string(stat), ") T ")
	})
	r.Timeout = 300 * time.Millisecond
	_, err := Connect(t.Context(), r.options(t))
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("pid %d) does not answer", pid)) {
		t.Errorf("Connect: %v, want it to name pid %d", err, pid)
	}
	helpful, ok := errors.AsType[*Error](err)
	if !ok || !strings.Contains(helpful.Hint(), r.paths().Log()) {
		t.Errorf("no hint with the log in %v", err)
	}
}

func TestHangingStarterIsNamed(t *testing.T) {
	r := newRole(t)
	if err := r.paths().Create(); err != nil {
		t.Fatal(err)
	}
	lock, err := tryLock(r.paths().startLock())
	if lock == nil || err != nil {
		t.Fatalf("tryLock = %v, %v", lock, err)
	}
	defer lock.release()
	r.Timeout = 200 * time.Millisecond
	_, err = Connect(t.Context(), r.options(t))
	if want := fmt.Sprintf("another larder (pid %d) is starting", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Connect: %v, want %q in it", err, want)
	}
}

func TestRemovedStateFolderEndsTheDaemon(t *testing.T) {
	r := newRole(t)
	r.Upkeep = 5 * time.Millisecond
	first := pidOf(t, connect(t, r))
	if err := os.RemoveAll(r.State); err != nil {
		t.Fatal(err)
	}
	second := pidOf(t, connect(t, r))
	if first == second {
		t.Fatalf("still pid %d", second)
	}
	ended(t, first)
	if _, err := os.Lstat(r.paths().Socket()); err != nil {
		t.Errorf("the first daemon took the second's socket with it: %v", err)
	}
}
